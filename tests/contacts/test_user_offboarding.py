"""The path of a person: planned or flagged, found by a monitor, seven phases, retention, deletion that the engine refuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import account_functions
import pytest
from people_help import CHILDREN, LISTS, PHASE_3, People, PlayedEngine, write_children
from sqlalchemy import text
from sqlmodel import select

from agent import audit
from agent.errors import Conflict, NotFound, UsageError
from agent.functions import registry
from agent.installation import Installation
from agent.inventory import contacts, field_values, places
from agent.inventory.contacts import day_begins
from agent.inventory.lookup import get
from agent.inventory.retention import deletion_refusal
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding, ManualTask
from agent.model.fields import Form
from agent.model.places import Contact
from agent.model.runs import RunStep, ScriptRun
from agent.model.tickets import Notification, Ticket
from agent.monitoring.dispatching import MonitorRun, run_monitor
from agent.running import user_offboardings as offboardings
from agent.running import verbs
from agent.running.planning import draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.user_offboardings import DELETION, Request
from agent.services import manual_tasks

Done = Callable[[int], list[str]]
GIVEN = {"termination_type": "voluntary"}


def plan(installation: Installation, person: str = "john@contoso.example", at: str | None = None, **given: Any) -> str:
    with installation.database.session() as session:
        request = Request(person, given={**GIVEN, **given}, at=at)
        return offboardings.plan(session, request, actor="ann").row.id


def monitor(
    installation: Installation, engine: PlayedEngine, name: str = "User Offboarding", **options: Any
) -> MonitorRun:
    done = run_monitor(installation, name, actor="ann", port=engine, **{"confirmed": True, **options})  # type: ignore[arg-type]
    engine.work()
    return done


def row_of(installation: Installation, contact_id: int) -> ContactOffboarding:
    with installation.database.reading() as session:
        return session.exec(select(ContactOffboarding).where(ContactOffboarding.contact_id == contact_id)).one()


def contact(installation: Installation, contact_id: int) -> Contact:
    with installation.database.reading() as session:
        return get(session, Contact, contact_id)


def sql(installation: Installation, statement: str, **values: Any) -> None:
    with installation.database.session() as session:
        session.execute(text(statement), values)


def day(distance: int) -> str:
    return (utcnow() + timedelta(days=distance)).date().isoformat()


def states(installation: Installation, contact_id: int) -> dict[str, str]:
    with installation.database.reading() as session:
        return {line.username: line.state for line in offboardings.listed(session, contact_id=contact_id)}


def test_a_planned_offboarding_waits_for_its_date_and_then_goes_all_the_way(
    any_installation: Installation, people: People, engine: PlayedEngine, done: Done
) -> None:
    row_id = plan(any_installation, termination_date=day(3), reference="HR-7", equipment_to_return="Laptop; Badge 7")
    assert states(any_installation, people.john) == {"john@contoso.example": "Planned"}
    assert monitor(any_installation, engine).evaluation.matched == ()
    assert done(people.john) == []
    # HR moves the date: the planned offboarding moves along.
    with any_installation.database.session() as session:
        places.change(session, get(session, Contact, people.john), actor="hr", termination_date=day(-1))
    # It was asked for and confirmed when it was planned: the guardrail of the first run is for flags and imports.
    found = monitor(any_installation, engine, confirmed=False)
    assert [(m.place.name, m.row.levels) for m in found.evaluation.matched] == [("John", ("planned",))]
    assert found.stored is not None and found.stored.holds == ()
    assert done(people.john) == ["disable", "revoke HR-7", "backup", "forward jane@contoso.example"]
    row = row_of(any_installation, people.john)
    assert row.id == row_id and row.run_id is not None
    assert row.resolved is not None
    assert row.resolved["mailbox_delegate"] == {"value": "jane@contoso.example", "source": "manager_email (contact)"}
    assert states(any_installation, people.john) == {"john@contoso.example": "Completed"}
    left = contact(any_installation, people.john)
    assert (left.status, left.termination_type) == ("Former Employee", "voluntary")
    assert row.retention_until is not None and row.closed_at is not None and row.forwarding_until is not None
    assert (row.retention_until - row.closed_at).days == 90
    # Found once: the next scan starts nothing.
    assert monitor(any_installation, engine).evaluation.matched == ()
    with any_installation.database.reading() as session:
        runs = session.exec(select(ScriptRun).where(ScriptRun.target_kind == "contact")).all()
        assert {r.target_id for r in runs} == {people.john}
        matters = {t.matter: t for t in session.exec(select(ManualTask))}
        assert {"keys", "parking", "badge", "phone_line", "credit_card", "subscription"} <= set(matters)
        assert all(t.state == "open" and t.contact_id == people.john and t.owner for t in matters.values())
        subjects = {t.subject for t in session.exec(select(Ticket))}
        assert "Equipment to return - John" in subjects
        values = field_values.values_of(session, Form.CONTACT, people.john)
        # Two child scripts: one closes the account, one keeps the data.
        assert values["Offboarding Sequence"].value == "2"
        assert "reference=HR-7" in (values["Offboarding Options"].value or "")
    with any_installation.database.session() as session:
        assert audit.verify(session) == []
    assert done(people.max) == []


@pytest.mark.parametrize(
    "change",
    [
        {"status": "Terminated"}, {"status": "Inactive"}, {"status": "Offboarding"},
        {"termination_date": (utcnow() - timedelta(days=2)).date().isoformat()},
    ],
)  # fmt: skip
def test_what_hr_changes_starts_an_offboarding_of_that_person_only(
    any_installation: Installation, people: People, engine: PlayedEngine, done: Done, change: dict[str, str]
) -> None:
    with any_installation.database.session() as session:
        places.change(session, get(session, Contact, people.max), actor="hr", **change)
    found = monitor(any_installation, engine)
    assert [m.place.id for m in found.evaluation.matched] == [people.max]
    # Nobody gave a reason or type: the accounts are closed all the same, and it is told.
    assert done(people.max)[:2] == ["disable", "revoke"]
    assert done(people.john) == []
    with any_installation.database.reading() as session:
        row = session.exec(select(ContactOffboarding)).one()
        run = session.get(ScriptRun, row.run_id)
        assert run is not None and "termination_type is not known" in run.context["input_warnings"]
    # The same HR export once more: nothing new.
    with any_installation.database.session() as session:
        places.change(session, get(session, Contact, people.max), actor="hr", **change)
    assert monitor(any_installation, engine).evaluation.matched == ()
    # A person who comes back and leaves again on another day is found again.
    with any_installation.database.session() as session:
        fields = {"status": "Terminated", "termination_date": day(-1)}
        places.change(session, get(session, Contact, people.max), actor="hr", **fields)
    assert monitor(any_installation, engine).stored is not None


def test_the_flag_starts_it_and_is_taken_off(
    any_installation: Installation, people: People, engine: PlayedEngine, done: Done
) -> None:
    sql(
        any_installation,
        "INSERT INTO extrafielddata (extrafieldid, id, value) SELECT id, :c, '1' FROM extrafield"
        " WHERE form = 4 AND name = 'Offboard Contact'",
        c=people.max,
    )
    found = monitor(any_installation, engine)
    assert [(m.place.id, m.row.levels) for m in found.evaluation.matched] == [(people.max, ("contact",))]
    assert done(people.max)[0] == "disable"
    with any_installation.database.reading() as session:
        assert not field_values.effective_value(session, Form.CONTACT, people.max, "Offboard Contact").is_set


def test_who_gets_something_and_leaves_too_does_not_keep_the_account_open(
    any_installation: Installation, people: People, engine: PlayedEngine, done: Done
) -> None:
    plan(any_installation, termination_date=day(1), mailbox_delegate="other1@contoso.example")
    sql(any_installation, "UPDATE contacts SET status = 'Former Employee' WHERE name IN ('Other1', 'Jane')")
    sql(any_installation, "UPDATE contacts SET terminationdate = :d WHERE name = 'John'", d=day(-1))
    monitor(any_installation, engine)
    assert done(people.john) == ["disable", "revoke", "backup", "forward"], "nobody gets the mail"
    row = row_of(any_installation, people.john)
    assert row.resolved is not None and row.resolved["mailbox_delegate"]["value"] == ""
    with any_installation.database.reading() as session:
        run = session.get(ScriptRun, row.run_id)
        assert run is not None
        told = " ".join(run.context["input_warnings"])
        assert "mailbox_delegate: other1@contoso.example (given) belongs to somebody who is Former Employee" in told


def test_a_wrong_default_of_the_client_does_not_keep_the_account_open(
    any_installation: Installation, people: People, engine: PlayedEngine, done: Done
) -> None:
    with any_installation.database.session() as session:
        john = get(session, Contact, people.john)
        for name, value in (("mailbox_delegation_default", john.email), ("out_of_office_default", "%whom% knows")):
            field_values.set_value(session, Form.CLIENT, john.client_id, name, value, actor="ann")
    with pytest.raises(UsageError, match=r"client field out_of_office_default: .*there is no variable %whom%"):
        plan(any_installation, termination_date=day(1))
    sql(any_installation, "UPDATE contacts SET status = 'Terminated' WHERE name = 'John'")
    monitor(any_installation, engine)
    assert done(people.john)[0] == "disable"
    with any_installation.database.reading() as session:
        run = session.get(ScriptRun, row_of(any_installation, people.john).run_id)
        assert run is not None
        told = " ".join(run.context["input_warnings"])
    assert "is the person who leaves: left out" in told and "there is no variable %whom%" in told


def test_an_exclusion_wins_at_every_level(
    any_installation: Installation, people: People, engine: PlayedEngine, done: Done
) -> None:
    with any_installation.database.session() as session:
        john = get(session, Contact, people.john)
        places.change(session, john, actor="hr", status="Terminated")
        field_values.set_value(session, Form.CLIENT, john.client_id, "Exclude From Offboarding", "1", actor="ann")
    found = monitor(any_installation, engine)
    assert [s["reason"] for s in found.skipped] == ["Exclude From Offboarding is set on the client"]
    assert done(people.john) == []
    with pytest.raises(Conflict, match="excluded"):
        plan(any_installation)
    request = RunRequest(offboardings.WRAPPER, "contact", people.john)
    assert "excluded" in draft_plan(any_installation, [request], PlanOrigin("ann")).skipped[0]["reason"]


def test_guardrails_count_people(
    any_installation: Installation, people: People, engine: PlayedEngine, done: Done
) -> None:
    sql(any_installation, "UPDATE contacts SET status = 'Terminated'")
    found = monitor(any_installation, engine)
    assert {r["guardrail"] for r in found.refusals} == {"whole_fleet"}
    sql(any_installation, "UPDATE contacts SET status = 'Active' WHERE name LIKE 'Other%'")
    found = monitor(any_installation, engine, confirmed=False)
    assert found.stored is not None
    assert {h["guardrail"] for h in found.stored.holds} == {"first_run", "share_of_fleet"}
    assert any("4 of 10 contacts" in h["reason"] for h in found.stored.holds)
    assert account_functions.DONE == {}
    verbs.approve(any_installation, engine, found.stored.id, actor="eve", reason="checked")  # type: ignore[arg-type]
    engine.work()
    assert len(account_functions.DONE) == 4


def test_a_default_flag_is_refused_and_only_that_of_people(
    any_installation: Installation, people: People, engine: PlayedEngine
) -> None:
    default = "INSERT INTO extrafielddata (extrafieldid, id, value) SELECT id, 0, '1' FROM extrafield WHERE name = :n"
    sql(any_installation, default, n="Offboard Computer")
    plan(any_installation, at=(utcnow() + timedelta(hours=1)).isoformat())
    sql(any_installation, "UPDATE contact_offboarding SET scheduled_for = :t", t=_stored(any_installation, -60))
    assert monitor(any_installation, engine).refusals == ()
    sql(any_installation, default, n="Offboard Contact")
    found = monitor(any_installation, engine)
    assert {r["guardrail"] for r in found.refusals} == {"default_flag", "whole_fleet"}


def _stored(installation: Installation, seconds: float) -> Any:
    moment = utcnow() + timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f") if installation.settings.is_sqlite else moment


def test_a_privileged_person_waits_for_an_approval_even_by_hand(
    any_installation: Installation, people: People, engine: PlayedEngine, done: Done
) -> None:
    with any_installation.database.session() as session:
        places.change(session, get(session, Contact, people.john), actor="hr", is_privileged="1")
    row_id = plan(any_installation)
    stored = offboardings.run_now(any_installation, engine, [row_id], actor="ann")  # type: ignore[arg-type]
    assert [h["guardrail"] for h in stored.holds] == ["privileged"]
    engine.work()
    assert done(people.john) == [] and states(any_installation, people.john)["john@contoso.example"] == "Planned"
    verbs.approve(any_installation, engine, stored.id, actor="eve", reason="reviewed")  # type: ignore[arg-type]
    engine.work()
    assert done(people.john)[0] == "disable"


def test_high_risk_starts_the_security_phase_at_once_and_tells_security(
    any_installation: Installation, people: People, engine: PlayedEngine, done: Done
) -> None:
    with any_installation.database.session() as session:
        john = get(session, Contact, people.john)
        field_values.set_value(
            session, Form.CLIENT, john.client_id, "security_notification_recipients", "soc@contoso.example", actor="ann"
        )
    row_id = plan(any_installation, termination_date=day(0), immediate_disable=True, termination_type="involuntary")
    sql(any_installation, "UPDATE contact_offboarding SET scheduled_for = :t", t=_stored(any_installation, -60))
    draft = offboardings.draft_security(any_installation, row_id, actor="ann")
    stored = offboardings.start_security(any_installation, engine, draft, row_id, actor="ann")  # type: ignore[arg-type]
    assert stored.state == "planned" and len(stored.run_ids) == 1
    # The notice and the task are there before anything is executed, and the rest waits for the security phase.
    with any_installation.database.reading() as session:
        mails = session.exec(select(Notification)).all()
        assert [(m.recipient, m.subject) for m in mails] == [("soc@contoso.example", "High-risk offboarding - John")]
        assert [t.matter for t in session.exec(select(ManualTask))] == ["badge"]
    assert run_monitor(any_installation, "User Offboarding", actor="ann", dry_run=True).evaluation.matched == ()
    engine.work()
    assert done(people.john) == ["disable", "revoke"]
    monitor(any_installation, engine)
    assert done(people.john)[:3] == ["disable", "revoke", "backup"], "what is so is not done again"
    with any_installation.database.reading() as session:
        assert len(session.exec(select(Notification).where(Notification.subject == mails[0].subject)).all()) == 1
        row = row_of(any_installation, people.john)
        assert row.resolved is not None and row.resolved["mobile_device_action"]["value"] == "wipe"
        steps = session.exec(select(RunStep).where(RunStep.root_id == row.run_id)).all()
        said = {s.name: s.result or {} for s in steps if s.function == "test.account" and s.state == "succeeded"}
        at_once = select(RunStep).where(RunStep.root_id == stored.run_ids[0], RunStep.name == "Disable")
        assert said["Disable"]["done_at"] == session.exec(at_once).one().finished_at.isoformat()  # type: ignore[union-attr]
        assert {n: r.get("done_by") for n, r in said.items()} == {
            "Disable": stored.run_ids[0], "Revoke": stored.run_ids[0], "Forward": None
        }  # fmt: skip
        assert [t.title for t in session.exec(select(ManualTask)) if t.title.startswith("Disable the badge")] == [
            "Disable the badge and physical access of John now"
        ]


@pytest.mark.parametrize("since", ["enabled again", "another run", "another person"])
def test_what_the_security_phase_did_and_is_not_so_any_more_is_done_again(
    any_installation: Installation, people: People, engine: PlayedEngine, done: Done, since: str
) -> None:
    row_id = plan(any_installation, termination_date=day(0), immediate_disable=True)
    draft = offboardings.draft_security(any_installation, row_id, actor="ann")
    offboardings.start_security(any_installation, engine, draft, row_id, actor="ann")  # type: ignore[arg-type]
    engine.work()
    (acts,) = account_functions.DONE.values()
    expected = ["disable", "revoke", "disable", "revoke"]
    if since == "enabled again":
        acts.remove("disable")
        expected = ["revoke", "disable"]
    elif since == "another run":
        other = draft_plan(any_installation, [RunRequest("End Forwarding", "contact", people.john)], PlanOrigin("ann"))
        verbs.release(any_installation, engine, store_plan(any_installation, other).id, actor="ann")  # type: ignore[arg-type]
        engine.work()
        acts.remove("end_forwarding")
    else:
        row_id = plan(any_installation, "max@fabrikam.example")
        expected = ["disable", "revoke"]
    offboardings.run_now(any_installation, engine, [row_id], actor="ann")  # type: ignore[arg-type]
    engine.work()
    target = people.max if since == "another person" else people.john
    assert [a for a in done(target) if a in ("disable", "revoke")] == expected


def test_a_failed_phase_leaves_the_person_offboarding_and_run_now_repeats_it(
    any_installation: Installation, people: People, engine: PlayedEngine, done: Done
) -> None:
    account_functions.BROKEN.add("disable")
    row_id = plan(any_installation, reference="HR-1")
    offboardings.run_now(any_installation, engine, [row_id], actor="ann")  # type: ignore[arg-type]
    engine.work()
    assert states(any_installation, people.john)["john@contoso.example"] == "Failed"
    with any_installation.database.reading() as session:
        (ticket,) = session.exec(select(Ticket).where(Ticket.contact_id == people.john)).all()
        assert ticket.subject == f"Offboarding status on John({people.john}) - Reference: HR-1"
        assert "Failed (1):\n  - Disable: disable does not work" in ticket.body and "run-now" in ticket.body
        value = field_values.effective_value(session, Form.CONTACT, people.john, "Offboarding Ticket")
        assert value.value == str(ticket.id)
    assert contact(any_installation, people.john).status == "Offboarding"
    assert "backup" in done(people.john), "the other phases go on"
    assert monitor(any_installation, engine).evaluation.matched == ()
    account_functions.BROKEN.clear()
    offboardings.run_now(any_installation, engine, [row_id], actor="ann")  # type: ignore[arg-type]
    engine.work()
    assert states(any_installation, people.john)["john@contoso.example"] == "Completed"
    assert contact(any_installation, people.john).status == "Former Employee"


def test_what_is_off_the_list_does_not_start_by_its_date(
    any_installation: Installation, people: People, engine: PlayedEngine, done: Done
) -> None:
    row_id = plan(any_installation, termination_date=day(0))
    with any_installation.database.session() as session:
        assert offboardings.remove(session, [row_id], actor="ann") == [row_id]
        places.change(session, get(session, Contact, people.john), actor="hr", termination_date=day(-1))
    sql(any_installation, "UPDATE contact_offboarding SET termination_date = :d", d=day(-1))
    assert monitor(any_installation, engine).evaluation.matched == ()
    assert done(people.john) == [] and states(any_installation, people.john) == {}
    with any_installation.database.session() as session, pytest.raises(NotFound):
        offboardings.remove(session, ["nothing"], actor="ann")


def test_a_client_without_a_security_list_is_refused_and_found_again(
    any_installation: Installation, people: People, engine: PlayedEngine, done: Done
) -> None:
    write_children(any_installation, {PHASE_3: ["Keep Data"]})
    plan(any_installation, at=(utcnow() + timedelta(hours=1)).isoformat())
    sql(any_installation, "UPDATE contact_offboarding SET scheduled_for = :t", t=_stored(any_installation, -60))
    found = monitor(any_installation, engine)
    assert found.stored is None and "1 Initial Security Actions" in found.skipped[0]["reason"]
    write_children(any_installation)
    assert monitor(any_installation, engine).stored is not None
    assert done(people.john)[0] == "disable"


def test_a_body_for_a_person_is_refused_clearly(any_installation: Installation, people: People) -> None:
    root = any_installation.settings.workspace / "content" / "scripts" / "with_body"
    root.mkdir(parents=True)
    (root / "script.yaml").write_text("name: With Body\ntarget: contact\nbody: run.sh\n")
    (root / "run.sh").write_text("true\n")
    write_children(any_installation)
    draft = draft_plan(any_installation, [RunRequest("With Body", "contact", people.john)], PlanOrigin("ann"))
    assert draft.targets == () and "runs on a computer, and this is a contact" in draft.skipped[0]["reason"]


# --- deletion


@pytest.fixture
def offboarded(any_installation: Installation, people: People, engine: PlayedEngine) -> People:
    """John is offboarded, and his retention over."""
    offboardings.run_now(any_installation, engine, [plan(any_installation)], actor="ann")  # type: ignore[arg-type]
    engine.work()
    sql(any_installation, "UPDATE contact_offboarding SET retention_until = :t", t=_stored(any_installation, -60))
    return people


def refusal(installation: Installation, contact_id: int) -> str | None:
    with installation.database.reading() as session:
        found = deletion_refusal(session, contact_id)
    return found.code if found else None


def test_the_account_is_deleted_when_nothing_stands_against_it(
    any_installation: Installation, offboarded: People, engine: PlayedEngine, done: Done
) -> None:
    assert refusal(any_installation, offboarded.john) is None
    held = monitor(any_installation, engine, "Retention Over", confirmed=False)
    assert held.stored is not None and held.stored.holds[0]["guardrail"] == "first_run"
    assert "delete" not in done(offboarded.john)
    verbs.approve(any_installation, engine, held.stored.id, actor="eve", reason="checked")  # type: ignore[arg-type]
    engine.work()
    assert done(offboarded.john)[-1] == "delete"
    assert row_of(any_installation, offboarded.john).deleted_at is not None
    assert monitor(any_installation, engine, "Retention Over").evaluation.matched == ()


def _hold(installation: Installation, contact_id: int) -> None:
    sql(installation, "UPDATE contacts SET legalhold = :t WHERE contactid = :c", t=True, c=contact_id)


def _retention(installation: Installation, contact_id: int) -> None:
    sql(installation, "UPDATE contact_offboarding SET retention_until = :t", t=_stored(installation, 3600))


def _no_backup(installation: Installation, contact_id: int) -> None:
    sql(installation, "UPDATE run_step SET state = 'skipped' WHERE name = 'Backup'")


def _failed_backup(installation: Installation, contact_id: int) -> None:
    sql(installation, "UPDATE run_step SET state = 'failed' WHERE name = 'Backup'")


def _open_task(installation: Installation, contact_id: int) -> None:
    with installation.database.session() as session:
        client_id = get(session, Contact, contact_id).client_id
        manual_tasks.create(
            session, client_id=client_id, contact_id=contact_id, title="Export the mailbox", author="ann",
            matter="backup", blocks_deletion=True,
        )  # fmt: skip


def _came_back(installation: Installation, contact_id: int) -> None:
    sql(installation, "UPDATE contacts SET status = 'Active' WHERE contactid = :c", c=contact_id)


STANDS = [
    (_hold, "legal_hold"), (_retention, "retention"), (_no_backup, "backup"), (_failed_backup, "backup"),
    (_open_task, "backup"), (_came_back, "not_offboarded"),
]  # fmt: skip


@pytest.mark.parametrize(("stand", "code"), STANDS)
def test_the_plan_of_a_deletion_is_refused(
    any_installation: Installation, offboarded: People, engine: PlayedEngine, done: Done, stand: Any, code: str
) -> None:
    stand(any_installation, offboarded.john)
    assert refusal(any_installation, offboarded.john) == code
    monitor(any_installation, engine, "Retention Over")
    draft = draft_plan(any_installation, [RunRequest(DELETION, "contact", offboarded.john)], PlanOrigin("ann"))
    assert draft.targets == () and code in draft.skipped[0]["reason"]
    # The child alone, without the wrapper around it, is refused likewise.
    draft = draft_plan(any_installation, [RunRequest("Delete Account", "contact", offboarded.john)], PlanOrigin("ann"))
    assert draft.targets == () and code in draft.skipped[0]["reason"]
    assert "delete" not in done(offboarded.john)


@pytest.mark.parametrize(("stand", "code"), STANDS)
def test_the_engine_refuses_a_deletion_that_was_planned_before(
    any_installation: Installation, offboarded: People, engine: PlayedEngine, done: Done, stand: Any, code: str
) -> None:
    """What came up between plan and act counts, even where the script itself does not ask."""
    draft = draft_plan(any_installation, [RunRequest("Delete Account", "contact", offboarded.john)], PlanOrigin("ann"))
    stored = offboardings.start(any_installation, engine, draft, actor="ann")  # type: ignore[arg-type]
    stand(any_installation, offboarded.john)
    engine.work()
    assert "delete" not in done(offboarded.john)
    with any_installation.database.reading() as session:
        step = session.exec(select(RunStep).where(RunStep.root_id == stored.run_ids[0])).one()
    assert step.state == "failed" and step.error is not None
    assert (step.error["type"], step.error["code"], step.error["critical"]) == ("deletion_refused", code, True)


def test_a_task_that_a_deletion_waits_for_counts_as_the_backup_when_done(
    any_installation: Installation, offboarded: People
) -> None:
    _failed_backup(any_installation, offboarded.john)
    _open_task(any_installation, offboarded.john)
    with any_installation.database.session() as session:
        task = session.exec(select(ManualTask).where(ManualTask.matter == "backup")).one()
        assert task.id is not None
        with pytest.raises(Conflict):
            manual_tasks.close(session, task.id, actor="ann", state="cancelled")
        with pytest.raises(UsageError):
            manual_tasks.close(session, task.id, actor="ann")
        manual_tasks.close(session, task.id, actor="ann", note="PST in the vault")
    assert refusal(any_installation, offboarded.john) is None


def test_a_backup_that_no_system_made_becomes_a_task_until_one_does(
    any_installation: Installation, people: People, engine: PlayedEngine
) -> None:
    account_functions.BROKEN.add("backup")
    row_id = plan(any_installation)
    offboardings.run_now(any_installation, engine, [row_id], actor="ann")  # type: ignore[arg-type]
    engine.work()
    with any_installation.database.reading() as session:
        task = session.exec(select(ManualTask).where(ManualTask.matter == "backup")).one()
        assert (task.state, task.blocks_deletion, task.contact_id) == ("open", True, people.john)
    sql(any_installation, "UPDATE contact_offboarding SET retention_until = :t", t=_stored(any_installation, -60))
    assert refusal(any_installation, people.john) == "backup"
    account_functions.BROKEN.clear()
    offboardings.run_now(any_installation, engine, [row_id], actor="ann")  # type: ignore[arg-type]
    engine.work()
    sql(any_installation, "UPDATE contact_offboarding SET retention_until = :t", t=_stored(any_installation, -60))
    assert refusal(any_installation, people.john) is None
    with any_installation.database.reading() as session:
        assert session.exec(select(ManualTask.state).where(ManualTask.matter == "backup")).all() == ["done"]


def test_a_step_that_deletes_has_no_place_in_an_offboarding(any_installation: Installation, people: People) -> None:
    root = any_installation.settings.workspace / "content" / "scripts" / "sly"
    root.mkdir(parents=True)
    (root / "script.yaml").write_text(
        CHILDREN["delete_account"].replace("Delete Account", "Sly").replace("deletes_account: true\n", "")
    )
    write_children(any_installation, {**LISTS, offboardings.SECURITY_PHASE: ["Close Account", "Sly"]})
    draft = offboardings.draft_now(any_installation, [plan(any_installation)], actor="ann")
    assert draft.targets == () and "deletes_account: true" in draft.skipped[0]["reason"]
    assert registry.get("test.delete").deletes_account


def test_a_wished_deletion_is_answered_with_the_way(any_installation: Installation, people: People) -> None:
    with pytest.raises(UsageError, match="retention is over; now it is refused: John is Active"):
        plan(any_installation, delete_user=True)


def test_a_wished_deletion_that_nothing_holds_back_is_told_how(
    any_installation: Installation, offboarded: People
) -> None:
    with pytest.raises(
        UsageError, match=f"nothing holds it back now: exeunt script run .* --contact id:{offboarded.john}"
    ):
        plan(any_installation, delete_user=True)


# --- the other monitors


def test_reminders_forwarding_and_equipment(
    any_installation: Installation, people: People, engine: PlayedEngine, done: Done
) -> None:
    plan(any_installation, termination_date=day(5), equipment_to_return="Laptop")
    monitor(any_installation, engine, "Upcoming Offboardings")
    with any_installation.database.reading() as session:
        to = {m.recipient for m in session.exec(select(Notification)) if "John leaves on" in m.subject}
        assert to == {"jane@contoso.example"}
        assert [t.matter for t in session.exec(select(ManualTask))] == ["knowledge_transfer"]
    assert monitor(any_installation, engine, "Upcoming Offboardings").stored is None
    offboardings.run_now(any_installation, engine, [row_of(any_installation, people.john).id], actor="ann")  # type: ignore[arg-type]
    engine.work()
    sql(any_installation, "UPDATE contact_offboarding SET forwarding_until = :t", t=_stored(any_installation, -60))
    monitor(any_installation, engine, "Forwarding Expired")
    assert done(people.john)[-1] == "end_forwarding"
    assert monitor(any_installation, engine, "Forwarding Expired").evaluation.matched == ()
    assert monitor(any_installation, engine, "Equipment Not Returned").evaluation.matched == ()
    sql(any_installation, "UPDATE equipment SET due = '2020-01-01'")
    monitor(any_installation, engine, "Equipment Not Returned")
    with any_installation.database.reading() as session:
        assert [t.contact_id for t in session.exec(select(Ticket)) if "is not back" in t.subject] == [people.john]


def test_the_retention_counts_from_the_last_day_of_who_is_offboarded_before_it(
    any_installation: Installation, people: People, engine: PlayedEngine
) -> None:
    """Else the account would be deleted earlier than that of somebody who was offboarded in time."""
    last = day(20)
    row_id = plan(any_installation, termination_date=last)
    offboardings.run_now(any_installation, engine, [row_id], actor="ann")  # type: ignore[arg-type]
    engine.work()
    row = row_of(any_installation, people.john)
    assert row.retention_until is not None and row.forwarding_until is not None and row.closed_at is not None
    assert row.retention_until == day_begins(last) + timedelta(days=90)
    assert (row.forwarding_until - row.closed_at).days == 90


def test_an_offboarding_that_is_repeated_asks_nobody_twice(
    any_installation: Installation, people: People, engine: PlayedEngine
) -> None:
    """Open tasks stay as they are, but for a date that moved; what is done already is not asked for again."""

    def tasks() -> dict[str, list[tuple[str, str | None]]]:
        found: dict[str, list[tuple[str, str | None]]] = {}
        with any_installation.database.reading() as session:
            for task in manual_tasks.list_tasks(session, contact_id=people.john):
                found.setdefault(task.matter, []).append((task.state, task.due))
        return found

    days = day(20), day(21)
    row_id = plan(any_installation, termination_date=days[0], it_offboarding_checklist_template="Wipe desk; Archive")
    for again in range(2):
        offboardings.run_now(any_installation, engine, [row_id], actor="ann")  # type: ignore[arg-type]
        engine.work()
        assert tasks()["keys"] == [("open", days[again])]
        assert len(tasks()["checklist"]) == 2
        with any_installation.database.session() as session:
            for task in manual_tasks.list_tasks(session, contact_id=people.john, state="open"):
                if task.matter == "badge":
                    manual_tasks.close(session, task.id or 0, actor="ann")
            row = get(session, ContactOffboarding, row_id)
            row.inputs = {**row.inputs, "termination_date": days[1]}
            session.add(row)
    assert [state for state, _ in tasks()["badge"]] == ["done"]


def test_backups_go_when_the_policy_says_so_and_no_hold_stands(
    any_installation: Installation, offboarded: People, engine: PlayedEngine, tmp_path: Path
) -> None:
    john, store = offboarded.john, tmp_path / "store"
    for name in ("contoso/r-mailbox", "contoso/other-mailbox", "fabrikam/r-mailbox"):
        (store / name).mkdir(parents=True)
        for file in ("header.json", "00000001", "manifest"):
            (store / name / file).write_text("x")
    with any_installation.database.session() as session:
        step = session.exec(select(RunStep).where(RunStep.name == "Backup", RunStep.state == "succeeded")).one()
        step.result = {"backup": "contoso/r-mailbox", "backup_store": str(store)}
        session.add(step)
        client = get(session, Contact, john).client_id
        field_values.set_value(session, Form.CLIENT, client, "backup_retention_days", "365", actor="ann")
    monitor(any_installation, engine, "Retention Over")
    row = row_of(any_installation, john)
    assert row.deleted_at is not None and row.data_until == row.deleted_at + timedelta(days=365)
    assert monitor(any_installation, engine, "Backups Over").evaluation.matched == ()
    run = RunRequest("User Offboarding - Backups Over", "contact", john)
    by_hand = store_plan(any_installation, draft_plan(any_installation, [run], PlanOrigin("ann")))
    verbs.release(any_installation, engine, by_hand.id, actor="ann")  # type: ignore[arg-type]
    engine.work()
    assert len(list(store.glob("*/*/*"))) == 9, "not before its time, by hand neither"
    sql(any_installation, "UPDATE contact_offboarding SET data_until = :t", t=_stored(any_installation, -60))
    _hold(any_installation, john)
    assert monitor(any_installation, engine, "Backups Over").evaluation.matched == ()
    assert draft_plan(any_installation, [run], PlanOrigin("ann")).targets == ()
    assert len(list(store.glob("*/*/*"))) == 9
    sql(any_installation, "UPDATE contacts SET legalhold = :t", t=False)
    monitor(any_installation, engine, "Backups Over")
    assert {p.parent.relative_to(store).as_posix() for p in store.glob("*/*/*")} == {
        "contoso/other-mailbox", "fabrikam/r-mailbox"
    }  # fmt: skip
    assert row_of(any_installation, john).data_deleted_at is not None
    with any_installation.database.session() as session:
        (entry,) = audit.entries(session, action="backup.delete", object_kind="backup", object_id="contoso/r-mailbox")
        assert entry.details["store"] == str(store)
    assert monitor(any_installation, engine, "Backups Over").evaluation.matched == ()


def test_how_things_come_back_is_the_clients_own(
    any_installation: Installation, people: People, engine: PlayedEngine
) -> None:
    """Who collects them and until when; the other client's people keep what is shipped."""
    with any_installation.database.session() as session:
        client = get(session, Contact, people.john).client_id
        for name, value in (("asset_return_owner", "Reception"), ("asset_return_days", "5")):
            field_values.set_value(session, Form.CLIENT, client, name, value, actor="ann")
        contacts.assign(session, get(session, Contact, people.john), "Old phone", actor="hr")
    rows = [
        plan(any_installation, person, termination_date=day(3), equipment_to_return="Laptop")
        for person in ("john@contoso.example", "max@fabrikam.example")
    ]
    offboardings.run_now(any_installation, engine, rows, actor="ann")  # type: ignore[arg-type]
    engine.work()
    with any_installation.database.reading() as session:
        for person, owner, due in ((people.john, "Reception", day(8)), (people.max, "Facilities", day(3))):
            tasks = {t.matter: (t.owner, t.due) for t in manual_tasks.list_tasks(session, contact_id=person)}
            assert {tasks[m] for m in ("badge", "keys", "parking")} == {(owner, due)}
            assert {e.due for e in contacts.equipment_of(session, contact_id=person)} == {due}
