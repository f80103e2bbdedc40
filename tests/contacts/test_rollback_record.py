"""After a rollback the person's record is what it was: status, and no retention that would delete the account again."""

from __future__ import annotations

from datetime import timedelta

import pytest
import snapshot_functions
from people_help import CHILDREN, People, PlayedEngine, write_children
from sqlmodel import select

from agent.errors import Conflict
from agent.functions import registry
from agent.installation import Installation
from agent.inventory import places
from agent.inventory.lookup import get
from agent.inventory.retention import deletion_refusal
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding
from agent.model.places import Contact
from agent.running import user_offboardings as offboardings
from agent.running import verbs
from agent.running.rollback import draft_rollback, store_rollback
from agent.running.user_offboardings import Request

SNAPSHOT = "  - {name: Snapshot, function: ad.snapshot, with: {account: '@employee_email@'}}\n"


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, attribute in (("snapshot", "Take"), ("restore_from_snapshot", "Restore")):
        monkeypatch.setitem(registry.BUILT_IN, f"ad.{name}", f"snapshot_functions:{attribute}")
    script = CHILDREN["close_account"]
    monkeypatch.setitem(CHILDREN, "close_account", script.replace("steps:\n", f"steps:\n{SNAPSHOT}"))
    snapshot_functions.RESTORED.clear()
    snapshot_functions.BROKEN.clear()


def offboard(installation: Installation, engine: PlayedEngine, person: str, backup: bool = False) -> str:
    with installation.database.session() as session:
        given = {"backup_user_data": backup, "termination_type": "voluntary"}
        row = offboardings.plan(session, Request(person, given=given), actor="ann").row.id
    stored = offboardings.run_now(installation, engine, [row], actor="ann")  # type: ignore[arg-type]
    engine.work()
    return stored.run_ids[0]


def roll_back(installation: Installation, engine: PlayedEngine, run: str) -> tuple[str, ...]:
    found = draft_rollback(installation, run, actor="ann", reason="she stays")
    stored = store_rollback(installation, found, actor="ann", reason="she stays")
    verbs.release(installation, engine, stored.id, actor="ann")  # type: ignore[arg-type]
    engine.work()
    return found.cannot_be_restored


def status(installation: Installation, contact_id: int) -> str:
    with installation.database.reading() as session:
        return get(session, Contact, contact_id).status


@pytest.mark.parametrize("before", ["Active", "On Leave", "Terminated"])
def test_the_status_is_what_it_was_and_nothing_deletes_the_account(
    any_installation: Installation, people: People, engine: PlayedEngine, directory: None, before: str
) -> None:
    write_children(any_installation)
    with any_installation.database.session() as session:
        for person in (people.john, people.max):
            places.change(session, get(session, Contact, person), actor="hr", status=before)
    run = offboard(any_installation, engine, "john@contoso.example")
    offboard(any_installation, engine, "max@fabrikam.example")
    assert status(any_installation, people.john) == status(any_installation, people.max) == "Former Employee"
    lost = roll_back(any_installation, engine, run)
    assert f"the status, which becomes {before}" in lost[-1]
    assert [people.john] == snapshot_functions.RESTORED
    assert status(any_installation, people.john) == before
    assert status(any_installation, people.max) == "Former Employee", "the other client's person stays offboarded"
    later = utcnow() + timedelta(days=4000)
    with any_installation.database.reading() as session:
        refusal = deletion_refusal(session, people.john, now=later)
        assert refusal is not None and refusal.code == "not_offboarded"
        rows = {r.contact_id: r for r in session.exec(select(ContactOffboarding))}
        assert rows[people.john].retention_until is None and rows[people.max].retention_until is not None


def test_nothing_goes_back_to_what_another_client_had(
    any_installation: Installation, people: People, engine: PlayedEngine, directory: None
) -> None:
    """Max was moved: what was kept of Fabrikam's accounts is nothing for Contoso's systems."""
    write_children(any_installation)
    run = offboard(any_installation, engine, "max@fabrikam.example")
    with any_installation.database.session() as session:
        john, max_ = get(session, Contact, people.john), get(session, Contact, people.max)
        fabrikam, max_.client_id, max_.location_id = max_.client_id, john.client_id, None
        row = session.exec(select(ContactOffboarding).where(ContactOffboarding.run_id == run)).one().id
    with pytest.raises(Conflict, match="moved to another client since: move the person back to Fabrikam first"):
        draft_rollback(any_installation, run, actor="ann", reason="she stays")
    with pytest.raises(Conflict, match="moved to another client"):
        offboardings.draft_now(any_installation, [row], actor="ann")
    with any_installation.database.session() as session:
        get(session, Contact, people.max).client_id = fabrikam
    assert draft_rollback(any_installation, run, actor="ann", reason="she stays").draft.targets


def test_while_the_account_is_not_back_the_record_says_so(
    installation: Installation, two_clients: object, directory: None
) -> None:
    from people_help import add_people

    write_children(installation)
    people, engine = add_people(installation, two_clients), PlayedEngine(installation)  # type: ignore[arg-type]
    run = offboard(installation, engine, "john@contoso.example")
    snapshot_functions.BROKEN.add(people.john)
    roll_back(installation, engine, run)
    assert status(installation, people.john) == "Former Employee"
    snapshot_functions.BROKEN.clear()
    roll_back(installation, engine, run)
    assert status(installation, people.john) == "Active"
