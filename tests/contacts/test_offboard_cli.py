"""`exeunt offboard`, `task` and `equipment` as a person uses them; the rest of the path is tested beside."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from click.testing import CliRunner
from people_help import People, add_people, write_children
from sqlmodel import select

from agent import audit
from agent.cli import progress
from agent.cli.main import main
from agent.cli.offboard_list import relative
from agent.content.user_inputs import INPUTS
from agent.installation import Installation
from agent.inventory import field_values, places
from agent.inventory.lookup import get
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding, ManualTask
from agent.model.fields import Form
from agent.model.places import Contact, Equipment
from agent.model.runs import ScriptRun

if TYPE_CHECKING:
    from conftest import Places

Run = Callable[..., str]
JOHN, MAX = "john@contoso.example", "max@fabrikam.example"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """The command line configures logging for its process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def staff(installation: Installation, two_clients: Places) -> People:
    """People and child scripts on SQLite."""
    write_children(installation)
    return add_people(installation, two_clients)


@pytest.fixture
def exeunt(installation: Installation, staff: People) -> Run:
    """`exeunt("offboard", "list", expect=0)`: what it printed on standard output, errors behind it."""

    def run(*arguments: str, expect: int = 0) -> str:
        everything = ["--workspace", str(installation.settings.workspace), "--user", "ann", *arguments]
        result = CliRunner().invoke(main, everything)
        assert result.exit_code == expect, f"{arguments}: {result.exit_code}\n{result.stdout}\n{result.stderr}"
        return result.stdout + (result.stderr if expect else "")

    return run


def rows(installation: Installation) -> list[ContactOffboarding]:
    with installation.database.reading() as session:
        return list(session.exec(select(ContactOffboarding)))


def test_one_person_now_from_preview_to_report(
    installation: Installation, staff: People, exeunt: Run, done: Callable[[int], list[str]]
) -> None:
    shown = exeunt("offboard", "user", JOHN, "--client", "contoso", "--type", "voluntary", "--dry-run")
    assert "John <john@contoso.example>: begins now" in shown
    assert "mailbox_delegate = jane@contoso.example  [manager_email (contact)]" in shown
    assert "Disable: disable the account" in shown
    assert rows(installation) == [] and done(staff.john) == []
    refused = exeunt("offboard", "user", JOHN, "--type", "voluntary", expect=2)
    assert "--yes" in refused and rows(installation) == []
    answer = json.loads(
        exeunt(
            "offboard",
            "user",
            JOHN,
            "--type",
            "voluntary",
            "--no-maintain-email-forwarding",
            "--yes",
            "--wait",
            "--json",
        )
    )
    assert [r["state"] for r in answer["runs"]] == ["succeeded"]
    assert done(staff.john) == ["disable", "revoke", "backup"]
    listing = exeunt("offboard", "list")
    assert re.search(r"ID\s+TENANT\s+USERNAME\s+STATE\s+SCHEDULED\s+EXECUTED", listing)
    assert re.search(r"Contoso\s+john@contoso\.example\s+Completed", listing)
    row_id = rows(installation)[0].id
    details = exeunt("offboard", "show", row_id[:8])
    assert "Disable" in details and "Collect keys" in details and "offboarding.plan" in details
    document = json.loads(exeunt("offboard", "show", row_id, "--json"))
    assert document["inputs"]["maintain_email_forwarding"] == {"value": "0", "source": "given"}
    assert document["run"]["state"] == "succeeded"
    assert done(staff.max) == []


def test_what_is_said_is_so(installation: Installation, staff: People, exeunt: Run) -> None:
    twice = exeunt("offboard", "user", JOHN, JOHN.upper(), "--type", "voluntary", "--yes", expect=2)
    assert "is named twice" in twice and rows(installation) == []
    assert ">, begins now\n" in exeunt("offboard", "user", JOHN, "--type", "voluntary", "--yes")


def test_the_preview_of_a_monitor_shows_the_steps_of_people(
    installation: Installation, staff: People, exeunt: Run, done: Callable[[int], list[str]]
) -> None:
    with installation.database.session() as session:
        places.change(session, get(session, Contact, staff.john), actor="hr", status="Terminated")
    shown = exeunt("monitor", "run", "User Offboarding", "--dry-run")
    title, person, steps = shown.index("\nBy status\n"), shown.index("/John (id "), shown.index("Disable: disable the account")
    assert title < person < steps and done(staff.john) == []


def test_a_run_that_waits_says_until_when(capsys: pytest.CaptureFixture[str]) -> None:
    view, until = progress._Lines(), datetime(2026, 1, 31, 17, tzinfo=UTC)
    run = progress.Progress("4f2a", "Contoso/John", "John", "running", False, until, (("Backup", "waiting"),))
    for _ in range(3):
        view.show([run])
    view.show([replace(run, finished=True, waits_until=until + timedelta(hours=1))])
    told = [line for line in capsys.readouterr().err.splitlines() if "waits until" in line]
    assert len(told) == 1 and "2026-01-31 17:00:00 UTC" in told[0] and "exeunt run show 4f2a" in told[0]


def test_a_date_plans_and_no_date_means_now(installation: Installation, staff: People, exeunt: Run) -> None:
    later = (utcnow() + timedelta(days=4)).date().isoformat()
    exeunt(
        "offboard",
        "user",
        JOHN,
        "--type",
        "voluntary",
        "--date",
        f"{later}T17:00+02:00",
        "--reference",
        "HR-9",
        "--yes",
    )
    line = json.loads(exeunt("offboard", "list", "--json"))[0]
    assert (line["state"], line["executed_at"], line["reference"]) == ("Planned", None, "HR-9")
    assert line["scheduled_for"].endswith("T15:00:00Z")
    listing = exeunt("offboard", "list")
    assert "No Data" in listing and re.search(r"in [34] days", listing)
    again = exeunt("offboard", "user", JOHN, "--type", "voluntary", "--date", later, "--yes", expect=2)
    assert "planned already" in again
    exeunt("offboard", "user", JOHN, "--type", "retirement", "--date", later, "--replace", "--yes")
    (row,) = rows(installation)
    assert row.scheduled_for is None and row.inputs["termination_type"] == "retirement"
    with installation.database.reading() as session:
        person = get(session, Contact, staff.john)
        assert (person.termination_date, person.termination_type) == (later, "retirement")
    assert exeunt("offboard", "delete", row.id, "--yes").startswith("deleted:")
    assert "(no offboardings)" in exeunt("offboard", "list")
    assert exeunt("offboard", "list", "--all").count("john@contoso.example") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((JOHN,), "termination_type is not known"),
        ((JOHN, "--type", "fired"), "is not one of"),
        ((JOHN, "--type", "voluntary", "--date", "2020-01-01"), "past"),
        ((JOHN, "--type", "voluntary", "--date", "2020-01-01T10:00"), "past"),
        ((JOHN, "--type", "voluntary", "--date", "soon-or-later"), "is no time"),
        ((JOHN, "--type", "voluntary", "--mailbox-delegate", JOHN), "the person who leaves"),
        ((JOHN, "--type", "voluntary", "--mailbox-delegate", MAX), "is no contact of the client"),
        ((JOHN, "--type", "voluntary", "--full-access-automap", "nobody@contoso.example"), "is no contact of the client"),
        ((JOHN, "--type", "voluntary", "--manager", "nobody@contoso.example"), "is no contact of the client"),
        ((JOHN, "--type", "voluntary", "--disable-forwarding", "--maintain-email-forwarding"), "contradict"),
        ((JOHN, "--type", "voluntary", "--no-backup-user-data", "--backup-location", "x"), "contradict"),
        ((JOHN, "--type", "voluntary", "--delete-user"), "retention"),
        ((JOHN, "--type", "voluntary", "--company-name", "Fabrikam"), "not the person's client"),
        ((JOHN, "--type", "voluntary", "--client", "fabrikam"), "no contact with the address"),
        ((JOHN, "--type", "voluntary", "--template", "None"), "no template"),
        (("nobody@contoso.example", "--type", "voluntary"), "there is no contact"),
        ((JOHN, "--type", "voluntary", "--last-working-day", "2999-01-01"), "after the termination date"),
        (("jane@contoso.example", "--type", "voluntary"), "manager_email is not known"),
        ((), "name the people"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_reason(
    installation: Installation, staff: People, exeunt: Run, options: tuple[str, ...], said: str
) -> None:
    # The message is folded by the terminal's width.
    told = " ".join(exeunt("offboard", "user", *options, "--yes", expect=2).split())
    assert said in told
    assert rows(installation) == []


def test_a_file_of_people_with_their_own_values(
    installation: Installation, staff: People, exeunt: Run, tmp_path: Path, done: Callable[[int], list[str]]
) -> None:
    file = tmp_path / "leavers.csv"
    file.write_text(
        "email,termination_type,date,mailbox_delegate,forwarding_duration_days\n"
        "john@contoso.example,retirement,,other1@contoso.example,30\n"
        f"{MAX},,2990-01-31,,\n"
        "other0@contoso.example,,,,\n"
    )
    answer = json.loads(
        exeunt("offboard", "user", "--from", str(_with_manager(file)), "--type", "voluntary", "--yes", "--json")
    )  # fmt: skip
    by_email = {p["email"]: p["inputs"] for p in answer["planned"]}
    assert by_email[JOHN]["mailbox_delegate"] == {"value": "other1@contoso.example", "source": "given"}
    assert by_email[JOHN]["termination_type"]["value"] == "retirement"
    assert by_email[MAX]["mailbox_delegate"] == {"value": "mia@fabrikam.example", "source": "manager_email (contact)"}
    assert by_email[MAX]["termination_type"] == {"value": "voluntary", "source": "given"}
    # Three are planned, and the monitor starts them.
    assert answer["runs"] == [] and done(staff.john) == []
    found = json.loads(exeunt("monitor", "run", "User Offboarding", "--yes", "--wait", "--json"))
    assert sorted(m["computer"] for m in found["matched"]) == ["John", "Other0"]
    assert done(staff.john)[:2] == ["disable", "revoke"] and done(staff.max) == []


def _with_manager(file: Path) -> Path:
    lines = file.read_text().splitlines()
    lines[0] += ",manager_email"
    managers = ["", "", "other2@contoso.example"]
    made = file.with_name("with_manager.csv")
    made.write_text("\n".join([lines[0], *(f"{x},{m}" for x, m in zip(lines[1:], managers, strict=True))]) + "\n")
    return made


def test_faults_of_a_file_name_line_and_column_and_nothing_is_planned(
    installation: Installation, exeunt: Run, tmp_path: Path
) -> None:
    file = tmp_path / "leavers.csv"
    file.write_text(
        "email,termination_type,mailbox_delegate\n"
        f"{JOHN},voluntary,\n"
        f"{MAX},fired,\n"
        f"nobody@x.example,voluntary,\n"
        f"{JOHN},voluntary,\n"
        "other0@contoso.example,voluntary,john@nowhere.example\n"
    )
    said = exeunt("offboard", "user", "--from", str(file), "--yes", expect=2)
    assert "nothing was stored" in said
    for place in (
        ":3: termination_type: Input should be",
        ":4: email:",
        ":5: email: line 2 is about the same person",
        ":6: manager_email:",
    ):
        assert place in said, said
    assert rows(installation) == []
    file.write_text("email,terminaton_type\nx,y\n")
    assert "did you mean 'termination_type'" in exeunt("offboard", "user", "--from", str(file), "--yes", expect=2)


def test_run_now_several_and_held_ones(
    installation: Installation, staff: People, exeunt: Run, done: Callable[[int], list[str]]
) -> None:
    for person in (JOHN, MAX):
        exeunt("offboard", "user", person, "--type", "voluntary", "--date", "2990-01-31", "--yes")
    ids = [r.id for r in rows(installation)]
    exeunt("offboard", "run-now", *ids, "--yes", "--wait")
    assert done(staff.john)[0] == done(staff.max)[0] == "disable"
    with installation.database.session() as session:
        places.change(session, get(session, Contact, staff.john), actor="hr", is_privileged="1", status="Active")
    held = exeunt(
        "offboard", "run-now", ids[0] if rows(installation)[0].contact_id == staff.john else ids[1], "--yes", expect=3
    )
    assert "exeunt run approve" in held
    with installation.database.reading() as session:
        assert {r.state for r in session.exec(select(ScriptRun).where(ScriptRun.target_id == staff.john)) if not r.parent_id} == {
            "succeeded", "held",
        }  # fmt: skip


def test_high_risk_by_command(
    installation: Installation, staff: People, exeunt: Run, done: Callable[[int], list[str]]
) -> None:
    answer = json.loads(
        exeunt(
            "offboard",
            "user",
            JOHN,
            "--type",
            "involuntary",
            "--immediate-disable",
            "--date",
            "2990-01-31",
            "--yes",
            "--wait",
            "--json",
        )
    )
    assert [r["state"] for r in answer["security_runs"]] == ["succeeded"] and answer["runs"] == []
    assert done(staff.john) == ["disable", "revoke"]
    assert json.loads(exeunt("offboard", "list", "--json"))[0]["state"] == "Planned"
    with installation.database.reading() as session:
        # Nobody is named who is to be told: that is a task, not a silence.
        assert {t.matter for t in session.exec(select(ManualTask))} == {"badge", "security_review"}


def test_templates_count_between_what_is_given_and_the_client_s_fields(
    installation: Installation, staff: People, exeunt: Run
) -> None:
    exeunt(
        "offboard",
        "template",
        "save",
        "Short",
        "forwarding_duration_days=30",
        "remove_rules=no",
        "onedrive_retention_days=7",
    )
    exeunt("offboard", "template", "save", "Named", "forwarding_duration_days=10")
    exeunt("offboard", "template", "save", "Mine", "calendar_window_days=5", "remove_rules=yes")
    exeunt("offboard", "template", "assign", "Short", "--all-clients")
    exeunt("offboard", "template", "assign", "Mine", "--for-user", "ann")
    with installation.database.session() as session:
        client = get(session, Contact, staff.john).client_id
        field_values.set_value(session, Form.CLIENT, client, "onedrive_retention_days", "14", actor="ann")
        field_values.set_value(session, Form.CLIENT, client, "offboarding_retention_days", "45", actor="ann")
    say = ("offboard", "user", JOHN, "--type", "voluntary", "--template", "Named", "--dry-run", "--json")
    inputs: dict[str, Any] = json.loads(exeunt(*say))[0]["inputs"]
    assert inputs["forwarding_duration_days"] == {"value": "10", "source": "template Named (named)"}
    assert inputs["remove_rules"] == {"value": "0", "source": "template Short (of contoso)"}
    assert inputs["onedrive_retention_days"] == {"value": "7", "source": "template Short (of contoso)"}
    assert inputs["offboarding_retention_days"] == {"value": "45", "source": "client field offboarding_retention_days"}
    assert inputs["calendar_window_days"] == {"value": "5", "source": "template Mine (of ann)"}
    assert inputs["reset_password"] == {"value": "1", "source": "default"}
    given = json.loads(exeunt(*say, "--forwarding-duration-days", "3"))[0]["inputs"]
    assert given["forwarding_duration_days"] == {"value": "3", "source": "given"}
    assert "unassign it first" in exeunt("offboard", "template", "delete", "Short", expect=2)
    exeunt("offboard", "template", "unassign", "--all-clients")
    exeunt("offboard", "template", "delete", "Short")
    assert {t["name"] for t in json.loads(exeunt("offboard", "template", "list", "--json"))} == {"Named", "Mine"}
    assert "belongs to one person" in exeunt("offboard", "template", "save", "X", "employee_id=7", expect=2)
    assert "sets no input" in exeunt("offboard", "template", "save", "X", "foo=7", expect=2)


def test_tasks_and_equipment(installation: Installation, staff: People, exeunt: Run) -> None:
    exeunt("task", "add", "Collect $(keys)\nnow", "--contact", JOHN, "--owner", "Front desk", "--due", "2020-01-01")
    exeunt("task", "add", "Export the mailbox", "--contact", JOHN, "--backup")
    tasks = json.loads(exeunt("task", "list", "--client", "contoso", "--json"))
    assert [(t["title"], t["blocks_deletion"]) for t in tasks] == [
        ("Collect $(keys) now", False),
        ("Export the mailbox", True),
    ]
    assert [t["owner"] for t in json.loads(exeunt("task", "list", "--overdue", "--json"))] == ["Front desk"]
    assert json.loads(exeunt("task", "list", "--client", "fabrikam", "--json")) == []
    assert "--note" in exeunt("task", "done", "2", expect=2)
    assert "not cancelled" in exeunt("task", "cancel", "2", expect=2)
    exeunt("task", "done", "1", "2", "--note", "done")
    assert "already" in exeunt("task", "done", "1", expect=2)
    exeunt(
        "equipment", "assign", "Laptop", "--contact", JOHN, "--kind", "laptop", "--serial", "S1", "--value", "900.00"
    )
    exeunt("equipment", "set", "1", "damaged", "--note", "screen")
    with installation.database.reading() as session:
        item = session.exec(select(Equipment)).one()
        assert (item.state, item.note, item.value, item.contact_id) == ("damaged", "screen", "900.00", staff.john)
        assert item.returned_at is not None
    assert "is no amount" in exeunt("equipment", "assign", "X", "--contact", JOHN, "--value", "much", expect=2)


def test_every_input_is_an_option_and_is_listed(exeunt: Run) -> None:
    listed = {i["name"]: i for i in json.loads(exeunt("offboard", "inputs", "--json"))}
    assert set(listed) == set(INPUTS)
    help_text = exeunt("offboard", "user", "--help")
    for name in set(INPUTS) - {"employee_email"}:
        assert f"--{name.replace('_', '-')}" in help_text


def test_relative_times() -> None:
    now = utcnow()
    assert relative(None) == "No Data"
    assert relative(now, now=now) == "now"
    assert relative(now + timedelta(days=3, minutes=1), now=now) == "in 3 days"
    assert relative(now - timedelta(hours=1), now=now) == "1 hour ago"
    assert relative(now - timedelta(days=400), now=now) == "1 year ago"


def test_a_person_moves_within_the_client_only(
    exeunt: Run, installation: Installation, staff: People, two_clients: Places
) -> None:
    with installation.database.session() as session:
        ours = places.add_location(session, client_id=two_clients.contoso, name="Branch", actor="ann").location_id
        theirs = places.add_location(session, client_id=two_clients.fabrikam, name="Depot", actor="ann").location_id
    exeunt("inventory", "move", "--contact", f"id:{staff.john}", "--to", f"id:{ours}")
    assert "stays with the client" in exeunt(
        "inventory", "move", "--contact", f"id:{staff.john}", "--to", f"id:{theirs}", "--allow-move", expect=2
    )
    with installation.database.reading() as session:
        john = get(session, Contact, staff.john)
        assert (john.client_id, john.location_id) == (two_clients.contoso, ours)
        assert [e.details["new"] for e in audit.entries(session, action="contact.move")] == [{"location_id": ours}]
