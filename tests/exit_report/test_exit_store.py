"""Exit reports as files: HTML, JSON and PDF, their digests in the audit trail, once per offboarding, nobody else's."""

from __future__ import annotations

import hashlib
import json
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from command_line_of_people import invoke
from peers import require

from agent import audit
from agent.errors import SettingsError, StoreError
from agent.inventory import contacts
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding, ManualTask
from agent.model.places import Client, Equipment
from agent.model.tickets import Notification, Ticket
from agent.reporting import exit_store, pdf
from agent.reporting.exit_report import exit_document
from agent.reporting.exit_store import write_due, write_exit_report
from agent.reporting.exit_tickets import close_settled
from agent.reporting.exit_view import view_of
from agent.services import manual_tasks, tickets

STEPS: list[Any] = [
    ("m365.disable_sign_in", "succeeded", {"outcome": "changed"}, None),
    ("m365.set_out_of_office", "succeeded", {"message": "Zażółć gęślą jaźń"}, None),
]


def entries(people: Any) -> list[Any]:
    with people.installation.database.session() as session:
        return audit.entries(session, action="report.write")


def test_the_files_are_the_owners_and_their_digests_are_in_the_trail(people: Any, two_clients: Any) -> None:
    run = people.run(people.contact(two_clients.contoso), STEPS)
    written = write_exit_report(people.installation, run, actor="jane", formats=("json", "html", "pdf"))
    (entry,) = entries(people)
    assert (entry.actor, entry.object_id, entry.client_id) == ("jane", run, two_clients.contoso)
    for path in written.files.values():
        assert path.parent == people.installation.settings.workspace / "reports"
        assert path.stat().st_mode & 0o777 == 0o600
        assert entry.details["sha256"][path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    stored = json.loads(written.files["json"].read_text(encoding="utf-8"))
    assert stored["compliance_documentation"]["report_location"] == str(written.files["pdf"])
    assert stored["compliance_documentation"]["offboarding_report_generated"] is True
    with people.installation.database.reading() as session:
        assert exit_document(people.installation, session, run) == stored, "asked for again, it says where it lies"
    with people.installation.database.session() as session:
        noted = audit.Head.parse(stored["compliance_documentation"]["audit_trail_id"])
        assert audit.verify(session, noted=noted) == []


def test_names_lead_nowhere_else(people: Any, two_clients: Any) -> None:
    with people.installation.database.session() as session:
        client = session.get(Client, two_clients.contoso)
        client.name = "../../../etc"
        session.add(client)
    run = people.run(people.contact(two_clients.contoso, name="../../../../tmp/evil\n", external_id="../x"), STEPS)
    written = write_exit_report(people.installation, run, actor="jane")
    folder = people.installation.settings.workspace / "reports"
    assert set(folder.iterdir()) == set(written.files.values())
    assert all(p.parent == folder and p.name.startswith("exit-contoso-2026-") for p in folder.iterdir())


def test_another_folder_and_one_that_cannot_be_written(people: Any, two_clients: Any, tmp_path: Path) -> None:
    run = people.run(people.contact(two_clients.contoso), STEPS)
    settings = people.installation.settings
    object.__setattr__(
        people.installation, "settings", settings.model_copy(update={"report_folder": tmp_path / "kept"})
    )
    assert write_exit_report(people.installation, run, actor="x").files["html"].parent == tmp_path / "kept"
    (tmp_path / "file").write_text("")
    object.__setattr__(
        people.installation, "settings", settings.model_copy(update={"report_folder": tmp_path / "file"})
    )
    with pytest.raises(StoreError, match="cannot be written"):
        write_exit_report(people.installation, run, actor="x")


def test_the_pdf_has_the_names(people: Any, two_clients: Any, tmp_path: Path) -> None:
    pdftotext = require("pdftotext", "poppler-utils")
    steps = [
        *STEPS,
        ("m365.backup_mailbox", "failed", None, {"type": "x", "message": "Ελληνικά и кириллица " * 200}),
        (
            "zoom.suspend",
            "failed",
            None,
            {"type": "x", "message": "W" * 3000, "impact": "", "remediation": "\x00\x1b[31m"},
        ),
    ]
    run = people.run(people.contact(two_clients.contoso, name="Łukasz Ångström", job_title="主任"), steps)
    file = write_exit_report(people.installation, run, actor="x", formats=("pdf",)).files["pdf"]
    text = subprocess.run(
        [pdftotext, "-layout", str(file), "-"], capture_output=True, check=True, timeout=60
    ).stdout.decode()
    assert "Łukasz Ångström" in text and "Zażółć gęślą jaźń" in text and "Ελληνικά" in text
    # The font has no Chinese: the number stands there, and the report says so.
    assert "[U+4E3B][U+4EFB]" in text and "Characters that the font lacks" in text


def test_a_pdf_without_its_library_is_refused(people: Any, two_clients: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "find_spec", lambda name: None)
    run = people.run(people.contact(two_clients.contoso), STEPS)
    with pytest.raises(SettingsError, match=r"exeunt\[pdf\]"):
        write_exit_report(people.installation, run, actor="x", formats=("pdf",))
    assert entries(people) == []
    assert write_due(people.installation) == [run]
    assert [p.suffix for p in sorted((people.installation.settings.workspace / "reports").iterdir())] == [
        ".html",
        ".json",
    ]


def test_a_further_font_is_asked_for_what_is_lacking(people: Any, two_clients: Any, tmp_path: Path) -> None:
    run = people.run(people.contact(two_clients.contoso), STEPS)
    with people.installation.database.reading() as session:
        view = view_of(exit_document(people.installation, session, run), "C")
    bold = Path(pdf.__file__).parent / "fonts" / "DejaVuSans-Bold.ttf"
    assert pdf.exit_pdf(view, further_font=bold).startswith(b"%PDF")
    (tmp_path / "no.ttf").write_text("no font")
    with pytest.raises(SettingsError, match="EXEUNT_PDF_FONT"):
        pdf.exit_pdf(view, further_font=tmp_path / "no.ttf")


def test_every_offboarding_gets_one_report(people: Any, two_clients: Any) -> None:
    over = people.run(people.contact(two_clients.contoso), STEPS)
    other = people.run(people.contact(two_clients.fabrikam, name="Other"), STEPS)
    people.run(people.contact(two_clients.contoso, name="Running"), [("x", "running", None, None)], over=False)
    people.run(people.contact(two_clients.contoso, name="No offboarding"), STEPS, exclusive=False)
    assert sorted(write_due(people.installation)) == sorted([over, other])
    assert write_due(people.installation) == []
    assert {e.object_id: e.client_id for e in entries(people)} == {
        over: two_clients.contoso,
        other: two_clients.fabrikam,
    }


def test_a_crash_between_the_files_and_the_trail_is_mended(
    people: Any, two_clients: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = people.run(people.contact(two_clients.contoso), STEPS)

    class Died(BaseException):
        """The process is gone."""

    def die(*_: Any, **__: Any) -> int:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(exit_store.audit, "record", die)
        with pytest.raises(Died):
            write_due(people.installation)
    folder = people.installation.settings.workspace / "reports"
    before = sorted(p.name for p in folder.iterdir())
    assert before and entries(people) == []
    assert write_due(people.installation) == [run]
    assert sorted(p.name for p in folder.iterdir()) == before
    (entry,) = entries(people)
    for name, digest in entry.details["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_it_waits_for_the_mails_of_the_run_but_not_for_ever(people: Any, two_clients: Any) -> None:
    run = people.run(people.contact(two_clients.contoso), STEPS, created_at=utcnow())
    with people.installation.database.session() as session:
        session.add(Notification(key="k", run_id=run, recipient="a@x.test", subject="S", body="B", state="sending"))
        session.get(type(_run(session, run)), run).finished_at = utcnow()
    assert write_due(people.installation) == []
    assert write_due(people.installation, now=utcnow() + timedelta(minutes=16)) == [run]


def _run(session: Any, run: str) -> Any:
    from agent.model.runs import ScriptRun

    return session.get(ScriptRun, run)


@pytest.mark.parametrize(("steps", "status"), [(STEPS, "closed"), ([*STEPS, ("x", "failed", None, None)], "open")])
def test_the_ticket_of_a_full_success_is_closed(people: Any, two_clients: Any, steps: Any, status: str) -> None:
    contact = people.contact(two_clients.contoso)
    other = people.contact(two_clients.fabrikam, name="Other")
    run = people.run(contact, steps)
    with people.installation.database.session() as session:
        for person, client, of in ((contact, two_clients.contoso, run), (other, two_clients.fabrikam, None)):
            tickets.open_or_comment(
                session, key=f"offboarding:contact:{person}", client_id=client, contact_id=person, run_id=of,
                subject="S", body="B", author="x",
            )  # fmt: skip
    write_due(people.installation)
    with people.installation.database.reading() as session:
        mine, theirs = (
            tickets.show(session, t.id) for t in session.exec(__import__("sqlmodel").select(Ticket).order_by(Ticket.id))
        )
    assert mine.ticket.status == status and "exit-contoso-" in mine.comments[-1].text
    assert theirs.ticket.status == "open" and theirs.comments == []


def test_the_ticket_is_closed_once_nothing_is_left_to_do(people: Any, two_clients: Any) -> None:
    """Tasks and equipment of the person; another client's ticket and one whose run failed stay open."""
    kept = []
    for client, name, steps in (
        (two_clients.contoso, "Ann", STEPS), (two_clients.contoso, "Bob", [("x", "failed", None, None)]),
        (two_clients.fabrikam, "Eve", STEPS),
    ):  # fmt: skip
        contact = people.contact(client, name=name)
        run = people.run(contact, steps)
        with people.installation.database.session() as session:
            session.add(
                ContactOffboarding(
                    contact_id=contact, client_id=client, requested_by="x", run_id=run, started_at=utcnow()
                )
            )
            ticket = tickets.open_or_comment(
                session, key=f"offboarding:contact:{contact}", client_id=client, contact_id=contact, run_id=run,
                subject="S", body="B", author="x",
            )  # fmt: skip
            task = ManualTask(client_id=client, contact_id=contact, title="Keys", created_by="x")
            thing = Equipment(contact_id=contact, external_id=name, name="Laptop")
            session.add_all([task, thing])
            session.flush()
            kept.append((ticket.id, task.id, thing.equipment_id))
    assert close_settled(people.installation) == []
    write_due(people.installation)
    (ann, task, thing), (bob, his_task, his_thing), _ = kept
    for done in (task, his_task):
        with people.installation.database.session() as session:
            manual_tasks.close(session, done, actor="x")
    assert close_settled(people.installation) == []
    for back in (thing, his_thing):
        with people.installation.database.session() as session:
            contacts.give_back(session, back, "returned", actor="x")
    assert close_settled(people.installation) == [ann] and close_settled(people.installation) == []
    with people.installation.database.reading() as session:
        assert tickets.show(session, ann).comments[-1].text.startswith("All tasks")
        assert tickets.show(session, bob).ticket.status == "open"


def test_one_report_that_does_not_fit_keeps_no_other_back(people: Any, two_clients: Any) -> None:
    bad = people.run(
        people.contact(two_clients.contoso), [("m365.set_forwarding", "succeeded", {"forward_to": ["no text"]}, None)]
    )
    good = people.run(people.contact(two_clients.fabrikam, name="Other"), STEPS)
    assert write_due(people.installation) == [good]
    assert bad not in {e.object_id for e in entries(people)}


def test_the_command_line(people: Any, two_clients: Any) -> None:
    run = people.run(people.contact(two_clients.contoso), STEPS)
    workspace = people.installation.settings.workspace
    document = json.loads(invoke(workspace, "offboard", "report", run[:6], "--json"))
    assert document["audit_trail"]["workflow_run_id"] == run and not (workspace / "reports").exists()
    printed = invoke(workspace, "offboard", "report", document["offboarding_id"], "--format", "pdf")
    assert ".pdf  sha256 " in printed and len(list((workspace / "reports").iterdir())) == 1
