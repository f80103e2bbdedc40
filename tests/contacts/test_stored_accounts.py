"""The plan of a deletion holds the ids of the accounts that were offboarded; the names of accounts decide nothing."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from people_help import CHILDREN, People, PlayedEngine, write_children
from sqlalchemy import update
from test_rollback_record import offboard

from agent.errors import StepError
from agent.functions import registry
from agent.functions.stored_accounts import stored_id, was_cloud_only
from agent.installation import Installation
from agent.inventory import places
from agent.inventory.lookup import get
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding
from agent.model.places import Contact
from agent.running.planning import draft_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.user_offboardings import DELETION

SNAPSHOT = "  - {name: Snapshot, function: ad.snapshot, with: {account: '@employee_email@'}}\n"
ONE, TWO = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


def test_the_plan_of_a_deletion_holds_what_was_offboarded(
    any_installation: Installation, people: People, engine: PlayedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.BUILT_IN, "ad.snapshot", "snapshot_functions:Take")
    script = CHILDREN["close_account"]
    monkeypatch.setitem(CHILDREN, "close_account", script.replace("steps:\n", f"steps:\n{SNAPSHOT}"))
    write_children(any_installation)
    for person in ("john@contoso.example", "max@fabrikam.example"):
        offboard(any_installation, engine, person, backup=True)
    with any_installation.database.session() as session:
        session.execute(update(ContactOffboarding).values(retention_until=utcnow() - timedelta(days=1)))
        # Somebody else has John's address by now.
        places.change(session, get(session, Contact, people.john), actor="hr", email="john.old@contoso.example")
    draft = draft_plan(any_installation, [RunRequest(DELETION, "contact", people.john)], PlanOrigin("ann"))
    assert draft.targets, draft.skipped
    assert draft.targets[0].run.context["accounts"] == [
        {"system": "ad", "place": "", "asked": "john@contoso.example", "id": f"guid-{people.john}"}
    ]


def test_the_plan_of_a_deletion_holds_who_was_cloud_only(
    any_installation: Installation, people: People, engine: PlayedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.BUILT_IN, "ad.snapshot", "snapshot_functions:Absent")
    script = CHILDREN["close_account"]
    monkeypatch.setitem(CHILDREN, "close_account", script.replace("steps:\n", f"steps:\n{SNAPSHOT}"))
    write_children(any_installation)
    offboard(any_installation, engine, "john@contoso.example", backup=True)
    with any_installation.database.session() as session:
        session.execute(update(ContactOffboarding).values(retention_until=utcnow() - timedelta(days=1)))
    draft = draft_plan(any_installation, [RunRequest(DELETION, "contact", people.john)], PlanOrigin("ann"))
    plan = draft.targets[0].run.context
    assert plan["accounts"] == [{"system": "ad", "place": "", "asked": "john@contoso.example", "id": ""}]
    context: Any = SimpleNamespace(plan=plan)
    assert was_cloud_only(context, "ad") and not was_cloud_only(context, "m365")
    with pytest.raises(StepError) as none:
        stored_id(context, "ad", "", "john@contoso.example", is_id=False)
    assert none.value.code == "no_stored_account"
    # Once the offboarding acted on an account there, that one counts.
    plan["accounts"].append({"system": "ad", "place": "", "asked": "john@contoso.example", "id": ONE})
    assert not was_cloud_only(context, "ad")
    assert stored_id(context, "ad", "", "john@contoso.example", is_id=False) == ONE


def account(key: str, asked: str = "john@x.test", place: str = "t1", system: str = "m365") -> dict[str, str]:
    return {"system": system, "place": place, "asked": asked, "id": key}


def ask(known: list[dict[str, str]] | None, asked: str, *, is_id: bool = False) -> str | None:
    context: Any = SimpleNamespace(plan={} if known is None else {"accounts": known})
    return stored_id(context, "m365", "t1", asked, is_id=is_id)


def test_the_stored_id_counts_whatever_the_name_is_now() -> None:
    assert ask(None, "john@x.test") is None, "no offboarding came before"
    assert ask([account(ONE)], "john@x.test") == ONE
    assert ask([account(ONE)], "renamed@x.test") == ONE
    assert ask([account(ONE)], ONE.upper(), is_id=True) == ONE.upper()
    both = [account(ONE), account(TWO, "admin@x.test")]
    assert ask(both, "admin@x.test") == TWO and ask(both, "JOHN@x.test") == ONE
    assert ask([account(ONE), account(TWO, place="t2"), account(TWO, system="ad")], "john@x.test") == ONE


@pytest.mark.parametrize(
    ("known", "asked", "is_id", "error"),
    [
        ([account(ONE)], TWO, True, ("PERMISSION_DENIED", "account_mismatch")),
        ([], "john@x.test", False, ("ACCOUNT_NOT_FOUND", "no_stored_account")),
        ([account(ONE, place="other tenant")], "john@x.test", False, ("ACCOUNT_NOT_FOUND", "no_stored_account")),
        ([account(ONE), account(TWO)], "john@x.test", False, ("PERMISSION_DENIED", "ambiguous")),
        ([account(ONE), account(TWO, "b@x.test")], "c@x.test", False, ("PERMISSION_DENIED", "ambiguous")),
    ],
)
def test_what_does_not_fit_is_refused_by_type(known: Any, asked: str, is_id: bool, error: tuple[str, str]) -> None:
    with pytest.raises(StepError) as refused:
        ask(known, asked, is_id=is_id)
    assert (refused.value.type, refused.value.code) == error and refused.value.remediation
