"""What happens around the child scripts of packages: criteria, sequence, ticket, mail, and `{{ ... }}` in their steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from leavers_help import Hand, Leavers
from made_packages import CRITERIA, list_children, write_package
from sqlalchemy import text
from sqlmodel import select
from system_functions import Comment, acts

from agent.content.packages import PHASES, WRAPPER
from agent.functions import registry
from agent.installation import Installation
from agent.inventory import extra_fields, field_values
from agent.model.contacts import ContactOffboarding
from agent.model.fields import FieldType, Form
from agent.model.runs import RunStep, ScriptRun
from agent.model.tickets import Notification, Ticket, TicketComment
from agent.running import user_offboardings as offboardings
from agent.running import verbs
from agent.running.planning import draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.services import properties

TWO = PHASES[2]


@pytest.fixture
def closer(installation: Installation, leavers: Leavers) -> None:
    """Phase 1 must have somebody; and the fields that the packages bring."""
    write_package(installation, "closer", phase=1, user="x", script=_still("Closer"))
    for client in ("contoso", "fabrikam"):
        list_children(installation, client, {PHASES[1]: ["Closer - Offboarding"]})
    with installation.database.session() as session:
        for name in ("Aero Id", "Brio Id", "Desk Id"):
            extra_fields.define(session, form=Form.CONTACT, name=name, actor="ann")
        extra_fields.define(
            session, form=Form.CONTACT, name="Employee Type", type=FieldType.DROPDOWN,
            options=("Employee", "Contractor"), actor="ann",
        )  # fmt: skip


def _still(name: str) -> str:
    return (
        f"name: {name} - Offboarding\nrole: child\ntarget: contact\nsteps:\n"
        '  - {name: Note, function: task.create, with: {title: "Close it", matter: other}}\n'
    )


def use(installation: Installation, *names: str, client: str = "contoso") -> None:
    listed = [f"{n} - Offboarding" for n in names]
    list_children(installation, client, {PHASES[1]: ["Closer - Offboarding"], TWO: listed})


def set_field(installation: Installation, contact_id: int, name: str, value: str) -> None:
    with installation.database.session() as session:
        field_values.set_value(session, Form.CONTACT, contact_id, name, value, actor="ann")


def field(installation: Installation, contact_id: int, name: str) -> str | None:
    with installation.database.reading() as session:
        return field_values.values_of(session, Form.CONTACT, contact_id)[name].value


def offboard(installation: Installation, hand: Hand, person: str = "john@contoso.example") -> ScriptRun:
    with installation.database.session() as session:
        row = offboardings.plan(session, offboardings.Request(person), actor="ann").row.id
    stored = offboardings.run_now(installation, hand, [row], actor="ann")  # type: ignore[arg-type]
    if stored.state == "held":
        verbs.approve(installation, hand, stored.id, actor="ann", reason="test")  # type: ignore[arg-type]
    hand.work()
    with installation.database.reading() as session:
        run = session.get(ScriptRun, stored.run_ids[0])
        assert run is not None
        return run


def comments(installation: Installation) -> list[str]:
    with installation.database.reading() as session:
        ticket = session.exec(select(Ticket).where(Ticket.subject == "Offboarding of John")).one()
        query = select(TicketComment).where(TicketComment.ticket_id == ticket.id).order_by(TicketComment.id)  # type: ignore[arg-type]
        return [c.text for c in session.exec(query)]


@pytest.mark.usefixtures("closer")
def test_a_package_whose_criterion_fails_says_so_and_the_others_go_on(
    installation: Installation, hand: Hand, leavers: Leavers, tmp_path: Path
) -> None:
    more = "criteria:\n  - {field: Employee Type, in: [Employee]}\n  - {field: Aero Id, not_empty: true}\n"
    write_package(installation, "aero", folder=tmp_path, more=more)
    write_package(installation, "brio", folder=tmp_path, more=CRITERIA.format(name="Brio"))
    use(installation, "Aero", "Brio")
    properties.set_value(installation, properties.TICKET_ON_SUCCESS, "1", actor="ann")
    set_field(installation, leavers.john, "Employee Type", "Contractor")
    set_field(installation, leavers.john, "Brio Id", "S1")
    set_field(installation, leavers.max, "Aero Id", "Z9")
    run = offboard(installation, hand)
    assert run.state == "succeeded"
    assert [line.split()[1:] for line in acts(tmp_path)] == [[str(leavers.john), "brio", "S1"]]
    with installation.database.reading() as session:
        steps = {s.name: s for s in session.exec(select(RunStep).where(RunStep.root_id == run.id))}
    reason = "the package Aero does not start: Employee Type is Contractor, not one of Employee; Aero Id is empty"
    assert (steps["Criteria of Aero - Offboarding"].result or {})["reason"] == reason
    assert steps["Close Aero"].state == "skipped"
    assert steps["Close Brio"].state == "succeeded"
    said = comments(installation)
    assert f"Aero - Offboarding (2 of 3): did not start\n- {reason}" in said
    assert any(c.startswith("Brio - Offboarding (3 of 3): succeeded\n- Close Brio: succeeded") for c in said)
    # And the final report says so too.
    assert any(f"Not started (1):\n  - Criteria of Aero - Offboarding: {reason}" in c for c in said)
    assert field(installation, leavers.john, "Offboarding Sequence") == "3"
    assert field(installation, leavers.max, "Offboarding Sequence") == "0"
    with installation.database.reading() as session:
        kept = session.exec(select(Ticket).where(Ticket.subject == "Offboarding of John")).one()
        assert field(installation, leavers.john, "Offboarding Ticket") == str(kept.id)
        assert {t.client_id for t in session.exec(select(Ticket))} == {kept.client_id}


@pytest.mark.usefixtures("closer")
def test_all_criteria_are_asked_when_a_monitor_starts_it(
    installation: Installation, hand: Hand, leavers: Leavers, tmp_path: Path
) -> None:
    more = (
        "criteria:\n  - {status: Offboarding}\n  - {date_reached: Termination Date}\n"
        "  - {field: contact.department, is: Sales}\n  - {field: Aero Id, is_not: none}\n"
    )
    write_package(installation, "aero", folder=tmp_path, more=more)
    use(installation, "Aero")
    set_field(installation, leavers.john, "Aero Id", "Z1")
    with installation.database.session() as session:
        row = offboardings.plan(session, offboardings.Request("john@contoso.example"), actor="ann").row
        contact_id, row_id = row.contact_id, row.id
        session.exec(select(ContactOffboarding)).one()
    request = RunRequest(WRAPPER, "contact", contact_id, alert_id=7, levels=("planned",), known={"offboarding": row_id})
    with installation.database.session() as session:
        session.execute(text("update contacts set terminationdate = '2999-12-31'"))
    stored = store_plan(installation, draft_plan(installation, [request], PlanOrigin("ann")))
    verbs.release(installation, hand, stored.id, actor="ann")  # type: ignore[arg-type]
    hand.work()
    with installation.database.reading() as session:
        query = select(RunStep).where(RunStep.name == "Criteria of Aero - Offboarding")
        reason = (session.exec(query).one().result or {})["reason"]
    assert reason == (
        "the package Aero does not start: Termination Date is 2999-12-31, which is not reached; "
        "contact.department is empty, not Sales"
    )
    assert acts(tmp_path) == []


@pytest.mark.usefixtures("closer")
def test_a_script_of_a_package_on_its_own_asks_what_does_not_belong_to_the_day(
    installation: Installation, hand: Hand, leavers: Leavers, tmp_path: Path
) -> None:
    more = "criteria:\n  - {status: Offboarding}\n  - {field: Aero Id, not_empty: true}\n"
    write_package(installation, "aero", folder=tmp_path, more=more, user="{{ email }}")
    states = []
    for value in ("", "Z1"):
        set_field(installation, leavers.john, "Aero Id", value)
        request = RunRequest("Aero - Offboarding", "contact", leavers.john)
        stored = store_plan(installation, draft_plan(installation, [request], PlanOrigin("ann")))
        verbs.release(installation, hand, stored.id, actor="ann")  # type: ignore[arg-type]
        hand.work()
        with installation.database.reading() as session:
            steps = session.exec(select(RunStep).where(RunStep.root_id == stored.run_ids[0])).all()
            states.append({s.name: s.state for s in steps})
    assert [s["Close Aero"] for s in states] == ["skipped", "succeeded"]
    assert [line.split()[-1] for line in acts(tmp_path)] == ["john@contoso.example"]


@pytest.mark.usefixtures("closer")
def test_the_package_that_keeps_the_ticket_goes_first_and_later_ones_comment_there(
    installation: Installation, hand: Hand, leavers: Leavers, tmp_path: Path
) -> None:
    ticketing = "ticketing:\n  function: demo.comment\n  with: {issue: '{{ offboarding_ticket }}'}\n  text: body\n"
    opens = (
        "name: Desk - Offboarding\nrole: child\ntarget: contact\nsteps:\n  - name: Open\n    function: demo.open_issue\n"
        "    with: {folder: x, act: open, user: x}\n"
    )
    write_package(installation, "desk", more=ticketing, script=opens)
    write_package(installation, "aero", folder=tmp_path)
    use(installation, "Desk", "Aero")
    # A ticket of an earlier offboarding is not taken for this one's.
    set_field(installation, leavers.john, "Offboarding Ticket", "DESK-old")
    set_field(installation, leavers.john, "Aero Id", "Z1")
    offboard(installation, hand)
    assert [issue for issue, _ in Comment.said] == [f"DESK-{leavers.john}"]
    assert Comment.said[0][1].startswith("Aero - Offboarding (3 of 3): succeeded")
    # The report at the end leaves it there.
    assert field(installation, leavers.john, "Offboarding Ticket") == f"DESK-{leavers.john}"


@pytest.mark.usefixtures("closer")
@pytest.mark.parametrize(("fail", "on", "mails"), [("no answer", "failure", 1), ("", "failure", 0), ("", "always", 1)])
def test_its_recipients_are_told(
    installation: Installation, hand: Hand, leavers: Leavers, tmp_path: Path, fail: str, on: str, mails: int
) -> None:
    more = f"notify: {{on: {on}, recipients: ['{{{{ manager }}}}', 'it@msp.example', '{{{{ no_such_field }}}}']}}\n"
    write_package(installation, "aero", folder=tmp_path, more=more, fail=fail, user="u")
    use(installation, "Aero")
    run = offboard(installation, hand)
    with installation.database.reading() as session:
        query = select(Notification).where(Notification.subject == "Aero - Offboarding on John")
        found = session.exec(query).all()
        notes = session.exec(select(RunStep).where(RunStep.name == "After Aero - Offboarding")).all()
    assert [m.recipient for m in found] == ["boss@contoso.example, it@msp.example"] * mails
    assert all(fail in m.body for m in found)
    assert run.state == ("partial" if fail else "succeeded")
    if mails:
        assert (notes[0].result or {})["empty_recipients"] == ["{{ no_such_field }}"]
    # The sequence goes on after a failure: the next package is not kept from its work.
    assert field(installation, leavers.john, "Offboarding Sequence") == "2"


@pytest.mark.usefixtures("closer")
def test_the_plan_fixes_what_it_knows_and_what_is_missing_fails_its_step(
    installation: Installation, hand: Hand, leavers: Leavers, tmp_path: Path
) -> None:
    write_package(installation, "aero", folder=tmp_path)
    set_field(installation, leavers.john, "Aero Id", "Z1")
    request = RunRequest("Aero - Offboarding", "contact", leavers.john)
    stored = store_plan(installation, draft_plan(installation, [request], PlanOrigin("ann")))
    # Approved with Z1: a later edit does not send the deletion to somebody else.
    set_field(installation, leavers.john, "Aero Id", "Z2")
    verbs.release(installation, hand, stored.id, actor="ann")  # type: ignore[arg-type]
    hand.work()
    assert [line.split()[-1] for line in acts(tmp_path)] == ["Z1"]
    set_field(installation, leavers.john, "Aero Id", "")
    stored = store_plan(installation, draft_plan(installation, [request], PlanOrigin("ann")))
    verbs.release(installation, hand, stored.id, actor="ann")  # type: ignore[arg-type]
    hand.work()
    with installation.database.reading() as session:
        steps = session.exec(select(RunStep).where(RunStep.root_id == stored.run_ids[0])).all()
    failed = {s.name: s for s in steps}["Close Aero"]
    assert (failed.state, (failed.error or {})["type"]) == ("failed", "missing_value")
    assert "{{ aero_id }}" in (failed.error or {})["message"]
    assert len(acts(tmp_path)) == 1


def test_the_preview_says_in_words_who_is_told_and_when() -> None:
    note = {"child": "Zoom - Offboarding", "package": "Zoom", "steps": 1, "number": 3, "comment": False}
    told = {"on": "failure", "recipients": ["{{ manager }}", "it@x.example"]}
    function = registry.get("package.note_child")
    said = function.preview(function.Parameters.model_validate({**note, "notify": told}))
    assert said.endswith("tell the person's manager and it@x.example if it was not done")
    said = function.preview(function.Parameters.model_validate({**note, "notify": {**told, "on": "always"}}))
    assert said.endswith("tell the person's manager and it@x.example")
