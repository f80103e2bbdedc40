"""Okta's functions against an organisation that is held to Okta's own contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from okta_peer import OktaPeer
from vendor_matrix import Case, FaultMatrix

from agent.functions import registry
from agent.functions.base import FinishedStep
from agent.functions.systems.okta import SYSTEM
from agent.model.runs import StepState


def alex(org: OktaPeer) -> dict[str, Any]:
    found: dict[str, Any] = org.state["users"]["00ualex"]
    return found


def _deactivated(org: OktaPeer) -> None:
    alex(org)["status"] = "DEPROVISIONED"


CASES = [
    Case("okta.deactivate_user", "deactivate", lambda o: not alex(o)["apps"]),
    Case("okta.suspend_user", "suspend", lambda o: alex(o)["status"] == "SUSPENDED"),
    Case("okta.clear_sessions", "DELETE .*/sessions", lambda o: alex(o)["sessions"] == 0, writes_again=True, tells=False),
    Case("okta.reset_password", r"POST /api/v1/users/\w+$", lambda o: alex(o)["password"] != "old", writes_again=True),
    Case("okta.reset_factors", "reset_factors", lambda o: not alex(o)["factors"]),
    Case(
        "okta.remove_from_groups", "DELETE /api/v1/groups",
        lambda o: {i for i, g in o.state["groups"].items() if "00ualex" in g[2]} == {"00gevery", "00gad"},
    ),
    Case("okta.remove_admin_roles", "DELETE .*/roles/", lambda o: not alex(o)["roles"] and bool(alex(o)["role_by_group"])),
    Case(
        "okta.delete_user", r"DELETE /api/v1/users/\w+$", lambda o: "00ualex" not in o.state["users"],
        before=_deactivated,
    ),
]  # fmt: skip


class TestOkta(FaultMatrix):
    """The matrix."""

    peer, cases, kind = OktaPeer, CASES, "okta"
    contoso: OktaPeer

    def credential(self, peer: Any) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        return peer.settings(), {"token": peer.token}

    def test_the_credential_is_tested(self) -> None:
        assert SYSTEM.test(*self.credential(self.contoso)) == "signed in as admin@contoso.test"
        with pytest.raises(Exception, match="answered 401") as raised:
            SYSTEM.test(self.contoso.settings(), {"token": "wrong"})
        assert "wrong" not in str(raised.value)
        # Okta's contract has no 401; that its answer is one is in the general part of its manual.
        self.contoso.violations.clear()

    def test_a_token_of_another_customer_is_refused(self) -> None:
        self.context.credentials["okta"] = (self.contoso.settings(), {"token": self.fabrikam.token})
        self.failed(self.run(CASES[0]), "PERMISSION_DENIED")
        assert self.contoso.written() == []
        self.contoso.violations.clear()

    def test_it_is_found_by_its_address_where_the_login_is_another(self) -> None:
        outcome = self.context.run("okta.suspend_user", user="sam@contoso.test")
        assert outcome.result["user"]["id"] == "00usam"
        assert outcome.result["user"]["name"] == "sam.o'neil@contoso.test"

    def test_an_address_of_two_accounts_is_nobodys(self) -> None:
        for name in ("mia", "sam"):
            self.contoso.state["users"][f"00u{name}"]["email"] = 'two"\\@contoso.test'
        outcome = self.context.run("okta.suspend_user", user='two"\\@contoso.test')
        self.failed(outcome, "ACCOUNT_NOT_FOUND")
        assert "00umia, 00usam" in str(outcome.error)

    def test_later_steps_act_on_the_id_that_the_first_found(self) -> None:
        first = self.run(CASES[1])
        self.context.finished.append(
            FinishedStep("1", "s", CASES[1].function, StepState.SUCCEEDED, "1", first.result, None, True)
        )
        alex(self.contoso)["login"], alex(self.contoso)["email"] = "gone@contoso.test", "gone@contoso.test"
        self.contoso.state["users"]["00umia"]["login"] = self.leaver
        assert self.run(CASES[2]).result["user"]["id"] == "00ualex"
        assert self.contoso.state["users"]["00umia"]["sessions"] == 2

    def test_what_was_taken_away_is_named(self) -> None:
        assert self.run(CASES[0]).result["apps"] == ["GitHub", "Salesforce"]
        groups = {g["name"]: g["outcome"] for g in self.run(CASES[5]).result["groups"]}
        assert groups == {"Everyone": "kept"}

    def test_groups_that_another_directory_keeps_are_named(self) -> None:
        groups = {g["name"]: g["outcome"] for g in self.run(CASES[5]).result["groups"]}
        assert groups == {"Everyone": "kept", 'Sales "west" & <east>': "removed", "VPN": "removed", "From AD": "kept"}

    def test_a_deactivation_that_takes_its_time_is_waited_for(self, waits: list[float]) -> None:
        self.contoso.slow = 2
        assert self.run(CASES[0]).state == "succeeded"
        assert len(waits) == 2
        self.contoso.state["users"]["00umia"]["target"] = None
        self.contoso.slow = 100
        outcome = self.context.run("okta.deactivate_user", user="00umia")
        self.failed(outcome, "INTEGRATION_ERROR")
        assert outcome.error is not None and outcome.error.code == "not_confirmed"

    def test_an_account_that_is_not_deactivated_is_not_deleted(self) -> None:
        outcome = self.context.run("okta.delete_user", user=self.leaver)
        assert outcome.error is not None and outcome.error.code == "not_deactivated"
        assert self.contoso.written() == []

    def test_a_deletion_means_the_account_that_was_offboarded(self) -> None:
        """After the retention somebody else has the address, who is deactivated as well."""
        users = self.contoso.state["users"]
        kept = {"system": "okta", "place": self.contoso.url, "asked": self.leaver, "id": "00ualex"}
        self.context.plan = {"accounts": [kept]}
        users["00ualex"]["login"] = users["00ualex"]["email"] = "gone@contoso.test"
        users["00umia"]["login"] = users["00umia"]["email"] = self.leaver
        for user in ("00ualex", "00umia"):
            users[user]["status"] = "DEPROVISIONED"
        outcome = self.context.run("okta.delete_user", user="00umia")
        self.failed(outcome, "PERMISSION_DENIED")
        assert outcome.error is not None and outcome.error.code == "account_mismatch"
        assert self.context.run("okta.delete_user", user=self.leaver).state == "succeeded"
        assert "00ualex" not in users and "00umia" in users
        assert self.context.run("okta.delete_user", user=self.leaver).result["outcome"] == "already"

    def test_nobody_is_deleted_under_the_name_of_one_who_was(self) -> None:
        """The same address in another organisation, or of another person, was not deleted here."""
        _deactivated(self.contoso)
        assert self.run(CASES[7]).state == "succeeded"
        self.failed(self.context.run("okta.delete_user", user="other@contoso.test"), "ACCOUNT_NOT_FOUND")

    def test_only_the_deletion_is_held_by_retention(self) -> None:
        assert {c.function for c in CASES if registry.get(c.function).deletes_account} == {"okta.delete_user"}

    def test_ahead_of_an_offboarding_it_says_who_it_is(self) -> None:
        class Ahead:
            root_id = "r"
            asked: dict[Any, Any] = {}

            def credential(self, kind: str) -> Any:
                return None

            def system_property(self, name: str) -> str | None:
                return None

            def once(self, key: Any, ask: Any) -> Any:
                return self.asked.setdefault(key, None) or self.asked.update({key: ask()}) or self.asked[key]

        ahead, function = Ahead(), registry.get("okta.suspend_user")
        ahead.credential = self.context.credential  # type: ignore[method-assign]
        found = function.preflight(ahead, function.Parameters.model_validate({"user": self.leaver}))  # type: ignore[arg-type]
        assert [f.message for f in found] == ["the account is alex@contoso.test (00ualex)"]
        assert self.contoso.written() == []
