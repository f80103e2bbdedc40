"""SCIM 2.0 against a real server of that protocol: one that has everything, and one without PATCH and versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scim_peer import OldScimPeer, ScimPeer
from vendor_matrix import Case, FaultMatrix
from vendor_peer import Answer, Asked

from agent.functions import registry
from agent.functions.systems.scim import SYSTEM, find_user

CASES = [
    Case("scim.deactivate_user", "(PATCH|PUT) .*/Users/", lambda s: s.user(s.alex)["active"] is False),
    Case("scim.remove_roles", "(PATCH|PUT) .*/Users/", lambda s: not {"roles", "entitlements"} & set(s.user(s.alex))),
    Case("scim.remove_from_groups", "(PATCH|PUT) .*/Groups/", lambda s: s.memberships(s.alex) == [] and len(s.memberships(s.mia)) == 2),
    Case("scim.delete_user", "DELETE .*/Users/", lambda s: not s.user(s.alex)),
]  # fmt: skip


class TestScim(FaultMatrix):
    """The matrix on a server that has everything."""

    peer: Any = ScimPeer
    cases, kind = CASES, "scim"
    contoso: ScimPeer

    def credential(self, peer: Any) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        return peer.settings(), {"token": peer.token}

    def test_the_credential_is_tested(self) -> None:
        assert SYSTEM.test(*self.credential(self.contoso)) == "it reads 2 accounts"
        with pytest.raises(Exception, match="answered 401"):
            SYSTEM.test(self.contoso.settings(), {"token": "wrong"})

    @pytest.mark.parametrize("asked", ["ALEX@contoso.test", "alex.mail@contoso.test", "E'1"])
    def test_it_is_found_by_name_address_and_external_id(self, asked: str) -> None:
        assert self.context.run("scim.deactivate_user", user=asked).result["user"]["id"] == self.contoso.alex

    def test_it_is_found_by_its_id(self) -> None:
        outcome = self.context.run("scim.deactivate_user", user=self.contoso.alex)
        assert outcome.result["user"]["name"] == "alex@contoso.test"

    def test_an_address_of_two_accounts_is_nobodys(self) -> None:
        self.contoso._made("Users", {**self.contoso._user("sam", "E3"), "emails": [{"value": "mia.mail@contoso.test"}]})
        self.failed(self.context.run("scim.deactivate_user", user="mia.mail@contoso.test"), "ACCOUNT_NOT_FOUND")

    @pytest.mark.parametrize("name", ['a" or active eq true or userName eq "b', 'quo"te\\', "ümläut@contoso.test"])
    def test_a_name_never_becomes_a_filter(self, name: str) -> None:
        self.failed(self.context.run("scim.deactivate_user", user=name), "ACCOUNT_NOT_FOUND")
        assert self.contoso.written() == []

    @given(name=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20))
    @settings(max_examples=60, deadline=None)
    def test_every_name_is_found_again(self, name: str) -> None:
        """Whatever a user name holds, the filter finds that account and no other."""
        if name in (".", ".."):
            return
        made = self.contoso.ask(
            "POST", "/v2/Users", {**self.contoso._user("x", "E9"), "userName": name, "externalId": None}
        )
        key = json.loads(made.data).get("id")
        if made.status != 201:
            return
        try:
            with SYSTEM.open(*self.credential(self.contoso), run_id="r") as client:
                found = find_user(client, name)
            assert found is not None and found.id == key
        finally:
            self.contoso.ask("DELETE", f"/v2/Users/{key}")

    def test_a_server_that_knows_no_filter_gives_everybody(self) -> None:
        """What it gives is looked at; nobody is taken for somebody else."""
        acted = self.contoso._acted

        def deaf(asked: Asked) -> Answer:
            return acted(Asked(asked.method, asked.path, {}, asked.headers, asked.body))

        self.contoso._acted = deaf  # type: ignore[method-assign]
        assert self.run(CASES[0]).result["user"]["id"] == self.contoso.alex
        self.failed(self.run(CASES[0], user="nobody@contoso.test"), "ACCOUNT_NOT_FOUND")
        assert self.run(CASES[2]).state == "succeeded" and self.contoso.memberships(self.contoso.alex) == []

    def test_somebody_else_is_quicker(self) -> None:
        """The version that was seen is gone: it is read anew, and nothing of the other change is lost."""
        left = [2]

        def quicker(asked: Asked) -> None:
            if left[0] and asked.method == "PATCH":
                left[0] -= 1
                body = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
                        "Operations": [{"op": "replace", "path": "title", "value": f"other {left[0]}"}]}  # fmt: skip
                self.contoso.ask("PATCH", f"/v2/Users/{self.contoso.alex}", body)

        self.contoso.meanwhile = quicker
        assert self.run(CASES[0]).state == "succeeded"
        user = self.contoso.user(self.contoso.alex)
        assert (user["active"], user["title"]) == (False, "other 0")
        assert sum(c.startswith("PATCH") for c in self.contoso.calls) == 3

    def test_somebody_who_is_always_quicker(self) -> None:
        self.contoso.meanwhile = lambda asked: self.contoso.ask(
            "PATCH", f"/v2/Users/{self.contoso.alex}",
            {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
             "Operations": [{"op": "replace", "path": "title", "value": str(len(self.contoso.calls))}]},
        )  # fmt: skip
        outcome = self.run(CASES[0])
        self.failed(outcome, "INTEGRATION_ERROR")
        assert "412" in str(outcome.error)

    def test_one_that_says_it_has_patch_and_has_not(self) -> None:
        acted = self.contoso._acted
        self.contoso._acted = lambda asked: Answer(405) if asked.method == "PATCH" else acted(asked)  # type: ignore[method-assign]
        for case in CASES[:3]:
            assert self.run(case).state == "succeeded" and case.done(self.contoso)

    def test_a_second_application_of_the_same_client(self) -> None:
        """Each has a credential of its own kind, and a step names which."""
        secrets = {"token": self.fabrikam.token}
        self.context.credentials["scim_github"] = (self.contoso.settings(), self.context.credentials["scim"][1])
        self.context.credentials["scim"] = (self.fabrikam.settings(), secrets)
        assert self.run(CASES[0], application="github").state == "succeeded"
        del self.context.credentials["scim_github"]
        outcome = self.context.run("scim.deactivate_user", user=self.leaver, application="github")
        assert "scim_github" in str(outcome.error)

    def test_only_the_deletion_is_held_by_retention(self) -> None:
        assert {c.function for c in CASES if registry.get(c.function).deletes_account} == {"scim.delete_user"}

    @pytest.mark.parametrize(
        ("more", "header"),
        [({"sign_in": "basic", "username": "u"}, "Authorization"), ({"sign_in": "header", "header": "X-Key"}, "X-Key")],
    )
    def test_other_ways_to_sign_in(self, more: dict[str, str], header: str) -> None:
        self.context.credentials["scim"] = (self.contoso.settings(**more), {"token": "s3cret"})
        self.context.run("scim.deactivate_user", user=self.leaver)
        sent = self.contoso.requests[0].headers[header]
        assert sent == {"Authorization": "Basic dTpzM2NyZXQ=", "X-Key": "s3cret"}[header]

    def test_client_credentials_need_an_address(self) -> None:
        self.context.credentials["scim"] = (self.contoso.settings(sign_in="client_credentials"), {"token": "x"})
        self.failed(self.context.run("scim.deactivate_user", user=self.leaver), "PERMISSION_DENIED")


class TestOldScim(FaultMatrix):
    """The matrix on a server without PATCH and versions: the whole resource is replaced, and nothing else in it changes."""

    peer: Any = OldScimPeer
    cases, kind = CASES, "scim"
    contoso: OldScimPeer

    def credential(self, peer: Any) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        return peer.settings(), {"token": peer.token}

    def test_nothing_else_changes(self) -> None:
        before = self.contoso.user(self.contoso.alex)
        assert self.run(CASES[0]).state == "succeeded"
        after = self.contoso.user(self.contoso.alex)
        assert {**before, "active": False, "meta": 0} == {**after, "meta": 0}
        assert not any(c.startswith("PATCH") for c in self.contoso.calls)
