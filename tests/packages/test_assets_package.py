"""The package Assets: who is found, what is sent, and how the return ticket ends."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from leavers_help import Leavers
from people_help import PlayedEngine
from sqlmodel import col, select

from agent import shipped
from agent.functions import registry
from agent.functions.systems import assets
from agent.installation import Installation
from agent.inventory import contacts, field_values
from agent.model.base import utcnow
from agent.model.fields import Form
from agent.model.places import Contact, Equipment
from agent.model.runs import RunStep
from agent.model.tickets import Notification, Ticket, TicketComment
from agent.monitoring.query import Query, run_query
from agent.running import verbs
from agent.running.planning import draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.services import tickets

if TYPE_CHECKING:
    from conftest import Places


def found(installation: Installation, monitor: str) -> list[tuple[str, int]]:
    """Value and contact of every row of one of the package's monitors."""
    file = shipped.path("scripts") / "packages" / "assets" / "monitors" / f"{monitor}.sql"
    rows = run_query(installation.database, Query(file.read_text(encoding="utf-8"), {})).rows
    return [(row[0], row[2]) for row in rows]


def started(
    installation: Installation, hand: PlayedEngine, script: str, contact: int, **parameters: str
) -> dict[str, RunStep]:
    """Run a script on a person."""
    request = RunRequest(script, "contact", contact, parameters=parameters)
    stored = store_plan(installation, draft_plan(installation, [request], PlanOrigin("ann", confirmed=True)))
    verbs.release(installation, hand, stored.id, actor="ann")  # type: ignore[arg-type]
    hand.work()
    with installation.database.reading() as session:
        return {s.name: s for s in session.exec(select(RunStep).where(RunStep.root_id == stored.run_ids[0]))}


@pytest.fixture
def hand(installation: Installation) -> PlayedEngine:
    return PlayedEngine(installation)


@pytest.fixture
def day(monkeypatch: pytest.MonkeyPatch) -> date:
    """The day on which all of a test happens, for reminders too: midnight may pass."""
    now = utcnow()
    monkeypatch.setattr(assets, "utcnow", lambda: now)
    return now.date()


@pytest.fixture
def things(installation: Installation, two_clients: Places, leavers: Leavers, day: date) -> dict[str, int]:
    """John has two things, one overdue and one due in a month; Max has one that is overdue. Both have a ticket."""
    with installation.database.session() as session:
        made = {}
        for who, name, due in (
            (leavers.john, "Laptop\n<b>", -1),
            (leavers.john, "Badge", 30),
            (leavers.max, "Phone", -1),
        ):
            contact = session.get(Contact, who)
            assert contact is not None
            item = contacts.assign(
                session, contact, name, actor="hr", serial="S'1", due=(day + timedelta(days=due)).isoformat()
            )
            made[name.split("\n")[0]] = item.equipment_id or 0
        for who, client in ((leavers.john, two_clients.contoso), (leavers.max, two_clients.fabrikam)):
            tickets.open_or_comment(
                session, key=f"equipment:contact:{who}", client_id=client, contact_id=who, origin=f"o{who}",
                subject="Equipment to return", body="x", author="t",
            )  # fmt: skip
    return made


def give_back(installation: Installation, item: int, state: str, note: str = "") -> None:
    with installation.database.session() as session:
        contacts.give_back(session, item, state, actor="ann", note=note)


def test_who_has_something_due_is_found_once(
    installation: Installation, leavers: Leavers, things: dict[str, int], day: date
) -> None:
    first = day - timedelta(days=1)
    assert found(installation, "assets_due") == [
        (f"1 to return, first due {first}", leavers.john), (f"1 to return, first due {first}", leavers.max),
    ]  # fmt: skip
    give_back(installation, things["Laptop"], "returned")
    assert [who for _, who in found(installation, "assets_due")] == [leavers.max]


def test_somebody_who_stays_is_not_found(installation: Installation, leavers: Leavers, things: dict[str, int]) -> None:
    with installation.database.session() as session:
        contact = session.get(Contact, leavers.max)
        assert contact is not None
        contact.termination_date = None
        session.add(contact)
    assert [who for _, who in found(installation, "assets_due")] == [leavers.john]


def test_a_reminder_goes_out_once_a_day(
    installation: Installation, hand: PlayedEngine, leavers: Leavers, things: dict[str, int]
) -> None:
    for _ in range(2):
        steps = started(installation, hand, "Assets - Reminder", leavers.john)
        assert steps["Remind Manager"].state == "succeeded", steps["Remind Manager"].error
        assert steps["Remind Others"].state == "skipped"
    with installation.database.reading() as session:
        [mail] = session.exec(select(Notification)).all()
        [note] = session.exec(select(TicketComment)).all()
    assert (mail.recipient, mail.subject) == ("boss@contoso.example", "Equipment of John is to be returned")
    assert "1 x Laptop <b>, serial S'1, until" in mail.body and "Badge" in mail.body and "Phone" not in mail.body
    assert note.text.startswith("boss@contoso.example was reminded of:")


def test_who_has_nothing_is_not_reminded(
    installation: Installation, hand: PlayedEngine, leavers: Leavers, things: dict[str, int]
) -> None:
    for name in ("Laptop", "Badge"):
        give_back(installation, things[name], "returned")
    assert started(installation, hand, "Assets - Reminder", leavers.john)["Remind Manager"].state == "skipped"
    with installation.database.reading() as session:
        assert session.exec(select(Notification)).all() == []


def test_the_ticket_is_noted_and_then_closed(
    installation: Installation, hand: PlayedEngine, leavers: Leavers, things: dict[str, int]
) -> None:
    give_back(installation, things["Laptop"], "returned")
    assert found(installation, "assets_received") == []
    assert started(installation, hand, "Assets - Received", leavers.john)["Note Received"].result["outcome"] == "open"
    give_back(installation, things["Badge"], "missing")
    assert found(installation, "assets_received") == []
    give_back(installation, things["Badge"], "damaged", "bent")
    assert [who for _, who in found(installation, "assets_received")] == [leavers.john]
    step = started(installation, hand, "Assets - Received", leavers.john)["Note Received"]
    assert step.result["outcome"] == "closed"
    assert found(installation, "assets_received") == []
    with installation.database.reading() as session:
        states = {t.contact_id: t.status for t in session.exec(select(Ticket))}
        texts = [c.text for c in session.exec(select(TicketComment).order_by(col(TicketComment.id)))]
    assert states == {leavers.john: "closed", leavers.max: "open"}
    assert "Still out:\n  - 1 x Badge" in texts[0]
    assert "1 x Badge, serial S'1, damaged, bent" in texts[1] and "Still out" not in texts[1]
    again = started(installation, hand, "Assets - Received", leavers.john)["Note Received"]
    assert (again.state, again.result["reason"]) == ("skipped", "no return ticket is open")


def test_nothing_is_found_where_there_never_was_equipment(installation: Installation, leavers: Leavers) -> None:
    with installation.database.session() as session:
        assert session.exec(select(Equipment)).all() == []
        tickets.open_or_comment(
            session, key=f"equipment:contact:{leavers.john}", client_id=1, contact_id=leavers.john, origin="o",
            subject="Equipment to return", body="x", author="t",
        )  # fmt: skip
    assert found(installation, "assets_received") == []


@pytest.mark.parametrize("to", ["no address", "a@b.example, nobody", "a@b.example\nBcc: x@y.example"])
def test_what_is_no_address_is_refused(to: str) -> None:
    with pytest.raises(ValueError):
        registry.get("assets.remind").Parameters.model_validate({"to": to})


def test_the_built_in_function_of_that_name_stays(installation: Installation) -> None:
    names: Any = registry.names()
    assert {"assets.create_return_list", "assets.remind", "assets.note_received"} <= set(names)
    assert registry.get("assets.create_return_list").summary


def test_whom_the_client_names_is_reminded_too(
    installation: Installation, hand: PlayedEngine, leavers: Leavers, things: dict[str, int], two_clients: Places
) -> None:
    with installation.database.session() as session:
        field_values.set_value(
            session,
            Form.CLIENT,
            two_clients.contoso,
            "asset_reminder_recipients",
            "a@x.example, b@x.example",
            actor="ann",
        )
    for person in (leavers.john, leavers.max):
        started(installation, hand, "Assets - Reminder", person)
    with installation.database.reading() as session:
        told = {(m.client_id, m.recipient) for m in session.exec(select(Notification))}
    assert {r for c, r in told if c == two_clients.contoso} == {"boss@contoso.example", "a@x.example; b@x.example"}
    assert not any("x.example" in r for c, r in told if c == two_clients.fabrikam)
