"""Google's functions against a Workspace that is held to the Directory API's own contract; google_peer says what is beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from google_peer import CALENDAR, DRIVE, GooglePeer
from vendor_matrix import Case, FaultMatrix

from agent.functions import registry
from agent.functions.systems.google import SYSTEM

MIA = {"transfer_to": "mia@contoso.test"}


def alex(workspace: GooglePeer) -> dict[str, Any]:
    found: dict[str, Any] = workspace.state["users"]["100"]
    return found


def _handed_over(workspace: GooglePeer) -> bool:
    found = list(workspace.state["transfers"].values())
    parts = {p["applicationId"] for t in found for p in t["applicationDataTransfers"]}
    return len(found) == 1 and found[0]["newOwnerUserId"] == "200" and parts == {DRIVE, CALENDAR}


def _wiped(state: str) -> Any:
    return lambda w: [d[1] for d in w.state["devices"].values()] == [state, state, "APPROVED"]


PATCH = r"PATCH /admin/directory/v1/users/"
CASES = [
    Case("google.suspend_user", PATCH, lambda w: alex(w)["suspended"]),
    Case("google.sign_out", "signOut", lambda w: not alex(w)["signed_in"], writes_again=True, tells=False),
    Case("google.reset_password", PATCH, lambda w: alex(w)["password"] != "old", writes_again=True, tells=False),
    Case("google.revoke_tokens", "DELETE .*/tokens/", lambda w: not alex(w)["tokens"]),
    Case("google.remove_app_passwords", "DELETE .*/asps/", lambda w: not alex(w)["asps"]),
    Case("google.invalidate_backup_codes", "invalidate", lambda w: not alex(w)["codes"], writes_again=True, tells=False),
    Case("google.remove_second_factor", "turnOff", lambda w: not alex(w)["second_factor"]),
    Case("google.wipe_devices", "/action", _wiped("ACCOUNT_WIPING")),
    Case("google.wipe_devices", "/action", _wiped("WIPING"), {"wipe": "device"}, id="google.wipe_devices-device"),
    Case("google.remove_from_groups", "DELETE .*/members/", lambda w: not any("100" in g[1] for g in w.state["groups"].values())),
    Case("google.remove_admin_roles", "DELETE .*/roleassignments/", lambda w: w.state["roles"] == {"7003": "200"}),
    Case("google.remove_aliases", "DELETE .*/aliases/", lambda w: not alex(w)["aliases"]),
    Case("google.hide_from_directory", PATCH, lambda w: not alex(w)["listed"]),
    Case("google.move_to_org_unit", PATCH, lambda w: alex(w)["unit"] == "/Leavers & Co", {"org_unit": "/Leavers & Co"}),
    Case("google.transfer_data", "POST .*/transfers", _handed_over, MIA),
    Case("google.delete_user", r"DELETE /admin/directory/v1/users/\d+$", lambda w: "100" not in w.state["users"]),
]  # fmt: skip


class TestGoogle(FaultMatrix):
    """The matrix."""

    peer, cases, kind = GooglePeer, CASES, "google"
    contoso: GooglePeer

    def credential(self, peer: Any) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        return peer.settings(), {"service_account": peer.key_file()}

    def test_the_credential_is_tested(self) -> None:
        assert SYSTEM.test(*self.credential(self.contoso)) == "it acts as admin@contoso.test"
        assert self.contoso.sign_ins == ["admin@contoso.test"]

    def test_the_key_of_another_customer_is_refused(self) -> None:
        self.context.credentials["google"] = (self.contoso.settings(), {"service_account": self.fabrikam.key_file()})
        outcome = self.run(CASES[0])
        self.failed(outcome, "PERMISSION_DENIED")
        assert outcome.error is not None and outcome.error.code == "invalid_grant"
        assert self.contoso.sign_ins == []

    def test_an_administrator_that_the_delegation_does_not_cover(self) -> None:
        self.context.credentials["google"] = (
            self.contoso.settings(admin="other@contoso.test"), {"service_account": self.contoso.key_file()}
        )  # fmt: skip
        outcome = self.run(CASES[0])
        self.failed(outcome, "PERMISSION_DENIED")
        assert outcome.error is not None and outcome.error.code == "unauthorized_client"

    @pytest.mark.parametrize(
        "key", ["", "no json", "[]", "{}", '{"private_key": 1}', '{"private_key": "-----", "client_email": "a"}']
    )
    def test_a_key_file_that_is_none(self, key: str) -> None:
        self.context.credentials["google"] = (self.contoso.settings(), {"service_account": key} if key else {})
        outcome = self.context.run("google.suspend_user", user=self.leaver)
        self.failed(outcome, "PERMISSION_DENIED")
        assert outcome.error is not None and outcome.error.code == "wrong_credential"

    def test_the_address_in_the_key_file_does_not_count(self) -> None:
        """Whoever changes the file must not send the assertion elsewhere."""
        assert "somewhere.else" in json.loads(self.contoso.key_file())["token_uri"]
        assert self.run(CASES[0]).state == "succeeded"
        assert self.contoso.sign_ins == ["admin@contoso.test"]

    def test_one_token_serves_many_steps(self) -> None:
        for case in CASES[:4]:
            assert self.run(case).state == "succeeded"
        assert len(self.contoso.sign_ins) == 1

    def test_too_many_requests_are_told_by_a_403_as_well(self, waits: list[float]) -> None:
        error = self.contoso.error
        self.contoso.error = lambda status, code, message: (  # type: ignore[method-assign]
            {"error": {"code": 403, "message": "Quota", "errors": [{"reason": "userRateLimitExceeded"}]}}
            if status == 403 else error(status, code, message)
        )  # fmt: skip
        self.contoso.fault(PATCH, 403, 2)
        assert self.run(CASES[0]).state == "succeeded"
        assert len(waits) == 2

    def test_a_group_that_has_no_owner_then_is_named(self) -> None:
        groups = {g["name"]: g.get("warning", "") for g in self.run(CASES[9]).result["groups"]}
        assert len(groups) == 5 and "no owner" in groups["sales@contoso.test"]
        assert sum(map(bool, groups.values())) == 1

    def test_only_the_leavers_phones_are_wiped(self) -> None:
        assert [d["id"] for d in self.run(CASES[7]).result["devices"]] == ["dev1", "dev2"]

    def test_a_unit_that_there_is_not(self) -> None:
        self.failed(
            self.context.run("google.move_to_org_unit", user=self.leaver, org_unit="/Nowhere"), "INTEGRATION_ERROR"
        )

    def test_a_transfer_that_takes_its_time_is_begun_once(self) -> None:
        self.contoso.transfer_takes = 3
        for _ in range(2):
            outcome = self.run(CASES[14])
            self.failed(outcome, "DATA_TRANSFER_FAILED")
            assert outcome.error is not None and outcome.error.code == "in_progress"
        assert self.run(CASES[14]).state == "succeeded"
        assert _handed_over(self.contoso)

    def test_nothing_is_deleted_while_data_is_handed_over(self) -> None:
        self.contoso.transfer_takes = 100
        self.run(CASES[14])
        outcome = self.run(CASES[15])
        self.failed(outcome, "DATA_TRANSFER_FAILED")
        assert "100" in self.contoso.state["users"]

    @pytest.mark.parametrize("who", ["nobody@contoso.test", "alex@contoso.test", "mia@contoso.test"])
    def test_a_successor_who_cannot_be(self, who: str) -> None:
        self.contoso.state["users"]["200"]["suspended"] = True
        self.failed(self.context.run("google.transfer_data", user=self.leaver, transfer_to=who), "MANAGER_NOT_FOUND")
        assert self.contoso.state["transfers"] == {}

    def test_an_application_that_cannot_be_handed_over(self) -> None:
        outcome = self.run(CASES[14], applications="Drive and Docs; Sites")
        self.failed(outcome, "DATA_TRANSFER_FAILED")
        assert "Sites" in str(outcome.error) and self.contoso.state["transfers"] == {}

    def test_only_the_deletion_is_held_by_retention(self) -> None:
        assert {c.function for c in CASES if registry.get(c.function).deletes_account} == {"google.delete_user"}
