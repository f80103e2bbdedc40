"""Zoom's functions against an account that is held to Zoom's own contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from vendor_matrix import Case, FaultMatrix
from zoom_peer import ZoomPeer

from agent.functions import registry
from agent.functions.systems.zoom import SYSTEM
from agent.services.rest import signing

MIA = {"transfer_to": "mia@contoso.test"}


def alex(zoom: ZoomPeer) -> dict[str, Any]:
    found: dict[str, Any] = zoom.state["users"]["u-alex"]
    return found


def _handed_over(zoom: ZoomPeer) -> bool:
    mia = zoom.state["users"]["u-mia"]
    has = mia["meetings"] == ["201", "101", "102", "103", "104", "105"]
    return (
        "u-alex" not in zoom.state["users"]
        and has
        and mia["webinars"] == ["301"]
        and mia["recordings"] == ["401", "402"]
    )


CASES = [
    Case("zoom.deactivate_user", "PUT .*/status", lambda z: alex(z)["status"] == "inactive"),
    Case("zoom.revoke_sessions", "DELETE .*/token", lambda z: not alex(z)["signed_in"], writes_again=True, tells=False),
    Case(
        "zoom.remove_scheduling_privileges", "DELETE .*/(assistants|schedulers)",
        lambda z: not alex(z)["assistants"] and not alex(z)["schedulers"] and z.state["users"]["u-mia"]["schedulers"] == ["alex"],
    ),
    Case(
        "zoom.remove_from_groups", "DELETE /v2/groups",
        lambda z: not alex(z)["groups"] and z.state["users"]["u-mia"]["groups"] == ["g-all"],
    ),
    Case(
        "zoom.delete_user", "DELETE /v2/users/[^/]+$",
        lambda z: _handed_over(z) and z.state["deleted"] == {"u-alex": "delete"}, MIA,
    ),
    Case(
        "zoom.disassociate_user", "DELETE /v2/users/[^/]+$",
        lambda z: _handed_over(z) and z.state["deleted"] == {"u-alex": "disassociate"}, MIA,
    ),
]  # fmt: skip
DELETE = CASES[4]


class TestZoom(FaultMatrix):
    """The matrix."""

    peer, cases, kind = ZoomPeer, CASES, "zoom"
    contoso: ZoomPeer

    def credential(self, peer: Any) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        return peer.settings(), {"client_secret": peer.secret}

    @pytest.fixture(autouse=True)
    def _no_tokens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(signing, "_kept", {})

    def test_the_credential_is_tested(self) -> None:
        assert SYSTEM.test(*self.credential(self.contoso)) == "it reads the 3 users of the account"
        with pytest.raises(Exception, match="invalid_client") as raised:
            SYSTEM.test(self.contoso.settings(), {"client_secret": "wrong"})
        assert "wrong" not in str(raised.value)

    def test_a_token_that_was_taken_back_is_renewed(self) -> None:
        assert self.run(CASES[0]).state == "succeeded"
        self.contoso.tokens[:] = []
        outcome = self.run(DELETE)
        assert outcome.state == "succeeded", outcome
        # Zoom's contract has no 401.
        self.contoso.violations.clear()

    @pytest.mark.parametrize(
        ("transfer_to", "why"),
        [("", "nobody is named"), ("nobody@contoso.test", "no user"), ("alex@contoso.test", "is the leaver"), ("u-sam", "pending")],
    )  # fmt: skip
    def test_without_a_manager_nothing_is_deleted(self, transfer_to: str, why: str) -> None:
        for case in CASES[4:]:
            outcome = self.run(case, transfer_to=transfer_to)
            self.failed(outcome, "MANAGER_NOT_FOUND")
            assert why in str(outcome.error)
        assert [c for c in self.contoso.written() if "oauth" not in c] == []

    def test_nothing_to_hand_over_needs_no_manager(self) -> None:
        nothing = {f"transfer_{kind}": "0" for kind in ("meetings", "webinars", "recordings")}
        outcome = self.run(DELETE, transfer_to="", **nothing)
        assert outcome.state == "succeeded" and outcome.result["handed_over"] == []
        assert self.contoso.state["users"]["u-mia"]["meetings"] == ["201"]

    def test_only_what_is_chosen_is_handed_over(self) -> None:
        outcome = self.run(DELETE, transfer_meetings=False, transfer_webinars=False)
        mia = self.contoso.state["users"]["u-mia"]
        assert (mia["meetings"], mia["webinars"], mia["recordings"]) == (["201"], [], ["401", "402"])
        assert outcome.result["handed_over"] == ["recordings"]

    def test_what_was_done_is_told(self) -> None:
        outcome = self.run(DELETE)
        assert outcome.result["transferred_to"] == "mia@contoso.test" and outcome.result["meetings"] == 5
        assert outcome.result["handed_over"] == ["meetings", "webinars", "recordings"]

    def test_a_meeting_that_got_lost_is_named(self) -> None:
        self.contoso.loses = {"103"}
        outcome = self.run(DELETE)
        self.failed(outcome, "DATA_TRANSFER_FAILED")
        assert "103" in str(outcome.error) and "101" not in str(outcome.error)

    def test_who_never_accepted_the_invitation_is_released(self) -> None:
        assert self.run(DELETE, user="sam@contoso.test").state == "succeeded"
        assert self.contoso.state["deleted"] == {"u-sam": "disassociate"}

    def test_a_deactivated_user_can_be_deleted(self) -> None:
        alex(self.contoso)["status"] = "inactive"
        assert self.run(DELETE).state == "succeeded"

    def test_an_address_that_changed_hands_is_not_deleted(self) -> None:
        """The run found u-alex first; meanwhile the address is somebody else's."""
        assert self.run(DELETE).state == "succeeded"
        self.contoso.state["users"]["u-new"] = self.contoso._user("alex")
        before = self.contoso.snapshot()
        again = self.run(DELETE)
        assert again.state == "succeeded" and again.result["outcome"] == "already"
        assert self.contoso.snapshot() == before

    def test_the_preview_names_the_call(self) -> None:
        function = registry.get("zoom.delete_user")
        shown = function.preview(
            function.Parameters.model_validate({"user": "a/b?c", **MIA, "transfer_webinars": False})
        )
        assert shown.startswith(
            "DELETE /users/a%2Fb%3Fc?action=delete&transfer_email=mia@contoso.test&transfer_meeting=true"
        )
        assert "transfer_webinar=false" in shown

    def test_only_the_deletions_are_held_by_retention(self) -> None:
        held = {c.function for c in CASES if registry.get(c.function).deletes_account}
        assert held == {"zoom.delete_user", "zoom.disassociate_user"}

    @pytest.mark.parametrize("status", [429, 500])
    def test_a_question_after_the_change_that_nobody_answers_leaves_it_unknown(self, status: int) -> None:
        """Throttled for an hour, or broken: the change was accepted, and asking does not tell."""
        self.run(CASES[3])
        fault = self.contoso.fault("GET", status, retry_after=3600)
        fault.match = "nothing yet"
        change = self.contoso._acted

        def acted(asked: Any) -> Any:
            fault.match = "GET" if asked.method == "PUT" else fault.match
            return change(asked)

        self.contoso._acted = acted  # type: ignore[method-assign]
        outcome = self.run(CASES[0])
        assert outcome.state == "unknown", outcome
        assert alex(self.contoso)["status"] == "inactive"
