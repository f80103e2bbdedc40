"""The rights that functions declare: enough for the calls that they make, by the contract; and what a token lacks is named."""

from __future__ import annotations

import base64
import json

import graph_contract
import pytest
from m365_cases import CASES, Case
from m365_context import UserContext
from tenant_server import Server
from tenant_state import TestTenant

from agent.functions import registry
from agent.functions.microsoft365 import rights
from agent.functions.microsoft365.rights import NEEDED, Right
from agent.services.microsoft.tokens import roles_of_token

#: The contract has only the calls below `/users` for these, and the manuals another right for the call itself.
_EXCEPT = {
    # "Update user": `accountEnabled` by User.EnableDisableAccount.All, which the contract leaves out for PATCH /users/{id}.
    ("disable_sign_in", "PATCH"): "User.EnableDisableAccount.All",
}


def test_every_function_declares_its_rights() -> None:
    assert set(NEEDED) == {n.removeprefix("m365.") for n in registry.names() if n.startswith("m365.")}
    for name in NEEDED:
        assert registry.get(f"m365.{name}").rights == rights.text_of(name)


@pytest.mark.parametrize("case", CASES, ids=[c.id or c.name for c in CASES])
def test_the_declared_rights_suffice_for_every_call(
    context: UserContext, contoso: TestTenant, server: Server, case: Case
) -> None:
    case.before(contoso)
    assert context.run(f"m365.{case.name}", **case.values).state == "succeeded"
    declared = {r.name for r in NEEDED[case.name] if r.service == "graph"}
    # The rights of reading the manager and somebody who takes over are those of reading accounts.
    for call in sorted({c for _, c in server.calls if c.partition(" ")[2].startswith("/")}):
        named = graph_contract.permissions(call)
        if named is None or _EXCEPT.get((case.name, call.split()[0])) in declared:
            continue
        held = declared | {"User.ReadBasic.All"}
        assert held & named, f"{case.name}: {call} needs one of {sorted(named)}"
    services = {r.service for r in NEEDED[case.name]}
    used = {service for service, _, _ in server.requests} & {"graph", "exchange", "sharepoint"}
    assert used <= services


def test_broader_rights_count_and_others_do_not() -> None:
    wanted = (Right("User.RevokeSessions.All"), Right("Exchange.ManageAsApp", "exchange"))
    assert rights.lacking(wanted, {"graph": {"User.ReadWrite.All"}, "exchange": {"Exchange.ManageAsApp"}}) == []
    assert rights.lacking(wanted, {"graph": {"User.Read.All"}, "exchange": set()}) == list(wanted)
    assert rights.lacking(wanted, {"graph": None, "exchange": None}) == [], "nobody knows"


@pytest.mark.parametrize(
    "token", ["", "opaque", "a.b", "a.!!!.c", "a.W10.c", "a." + base64.b64encode(b'{"roles":1}').decode() + ".c"]
)
def test_a_token_that_is_no_jwt_says_nothing(token: str) -> None:
    assert roles_of_token(token) is None


def test_the_roles_of_a_token_are_read() -> None:
    payload = base64.urlsafe_b64encode(json.dumps({"roles": ["User.Read.All", "ü"]}).encode()).decode().rstrip("=")
    assert roles_of_token(f"x.{payload}.y") == {"User.Read.All", "ü"}
    assert roles_of_token("x.e30.y") == frozenset()
