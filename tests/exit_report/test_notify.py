"""Messages about a leaver and the escalation: to whom, what they say, once per run, and a client's own wording."""

from __future__ import annotations

from typing import Any

import pytest
from sqlmodel import select

from agent.errors import StepError
from agent.functions.escalation import Escalate
from agent.functions.notify import (
    KINDS,
    Notify,
    NotifyEmployee,
    NotifyHr,
    NotifyIt,
    NotifyManager,
    NotifyPayroll,
    NotifySecurity,
)
from agent.model.contacts import ManualTask
from agent.model.places import Equipment
from agent.model.runs import RunStep
from agent.model.tickets import Notification, Ticket, TicketComment
from agent.services import properties

ALL = (NotifyManager, NotifyIt, NotifySecurity, NotifyHr, NotifyEmployee, NotifyPayroll)
STEPS: list[Any] = [
    ("m365.disable_sign_in", "succeeded", {"outcome": "changed"}, None),
    ("m365.grant_full_access", "succeeded",
     {"delegates": [{"delegate": "boss@x.test", "permission_level": "Full Access", "granted": True}]}, None),
    ("m365.set_forwarding", "succeeded", {"forward_to": "boss@x.test", "expires": "2026-04-13"}, None),
]  # fmt: skip
FAILED: Any = (
    "m365.backup_onedrive",
    "failed",
    None,
    {"type": "BACKUP_STORAGE_UNAVAILABLE", "message": "the disk is full"},
)


def rows(people: Any, kind: Any) -> list[Any]:
    with people.installation.database.reading() as session:
        return list(session.exec(select(kind).order_by(kind.id)))


def tell(function: type[Notify], people: Any, run: str, **parameters: Any) -> Any:
    return function().do(people.context(run), function.Parameters(**parameters))


def test_each_kind_gets_its_message(people: Any, two_clients: Any) -> None:
    contact = people.contact(
        two_clients.contoso,
        manager_email="boss@x.test",
        email="l@x.test",
        is_privileged=True,
        termination_type="retirement",
    )
    with people.installation.database.session() as session:
        session.add(Equipment(contact_id=contact, external_id="1", name="Notebook", kind="Laptop", asset_tag="LAP-1"))
        session.add(Equipment(contact_id=contact, external_id="2", name="Phone", state="missing", value="250.00"))
        session.add(ManualTask(client_id=two_clients.contoso, contact_id=contact, title="Collect keys", created_by="x"))
    run = people.run(contact, [*STEPS, FAILED], over=False)
    outcomes = {f.name: tell(f, people, run, **({} if f is NotifyManager else {"to": "team@x.test"})) for f in ALL}
    mails = {m.key.split(":")[0]: m for m in rows(people, Notification)}
    assert set(mails) == {k.function for k in KINDS}
    assert all(m.client_id == two_clients.contoso and m.run_id == run for m in mails.values())
    manager = mails["notify.manager"]
    assert manager.recipient == "boss@x.test" and manager.subject == "Offboarding of Łukasz Ångström needs attention"
    for text in (
        "boss@x.test has Full Access",
        "New mail goes to boss@x.test until 2026-04-13",
        "1 x Laptop: Notebook (LAP-1)",
        "was carried out in part.",
    ):
        assert text in manager.body
    assert outcomes["notify.manager"].result["includes"] == ["mailbox_access_instructions", "asset_return_status"]
    assert "Collect keys" in mails["notify.it"].body and "the disk is full" in mails["notify.it"].body
    assert "Data is at risk" in mails["notify.it"].body
    assert mails["notify.it"].subject.endswith(": 4 to do")
    assert mails["notify.security"].subject == "High-risk offboarding of Łukasz Ångström"
    assert outcomes["notify.security"].result["special_monitoring_required"] is True
    assert (
        "Phone, missing, value: 250.00" in mails["notify.payroll"].body and "Laptop" not in mails["notify.payroll"].body
    )


def test_a_message_goes_out_once_per_run(people: Any, two_clients: Any) -> None:
    contact = people.contact(two_clients.contoso, manager_email="boss@x.test")
    first, second = (people.run(contact, STEPS, state=s, exclusive=False) for s in ("running", "running"))
    for run in (first, first, second):
        tell(NotifyManager, people, run)
    assert [m.run_id for m in rows(people, Notification)] == [first, second]


def test_nobody_configured_and_nothing_to_tell(people: Any, two_clients: Any) -> None:
    run = people.run(people.contact(two_clients.contoso, email="l@x.test"), STEPS, over=False)
    for function in (NotifySecurity, NotifyHr, NotifyEmployee, NotifyIt):
        outcome = tell(function, people, run)
        assert outcome.state == "skipped" and "no recipient" in outcome.result["reason"]
    assert "private address" in tell(NotifyEmployee, people, run).result["reason"]
    assert tell(NotifyPayroll, people, run, to="p@x.test").result["reason"] == "nothing is missing or damaged"
    with pytest.raises(StepError) as caught:
        tell(NotifyManager, people, run)
    assert caught.value.type == "MANAGER_NOT_FOUND"
    assert rows(people, Notification) == []
    properties.set_value(people.installation, properties.EMAIL_ADDRESS, "it@x.test", actor="x")
    tell(NotifyIt, people, run)
    assert rows(people, Notification)[0].recipient == "it@x.test"


def test_a_clients_own_wording_and_nobody_elses(people: Any, two_clients: Any) -> None:
    folder = people.installation.settings.workspace / "content" / "messages" / "clients" / "contoso"
    folder.mkdir(parents=True)
    (folder / "hr.j2").write_text("Subject: Tschüss {{ person.full_name }}\n\nOwn {{ client }}\n", encoding="utf-8")
    for client, name in ((two_clients.contoso, "Contoso"), (two_clients.fabrikam, "Fabrikam")):
        run = people.run(people.contact(client, name=name), STEPS, over=False)
        tell(NotifyHr, people, run, to="hr@x.test")
    ours, theirs = rows(people, Notification)
    assert (ours.subject, ours.body) == ("Tschüss Contoso", "Own Contoso\n")
    assert theirs.subject == "Offboarding of Fabrikam is complete"


def test_the_manager_gets_the_address_of_the_files(people: Any, two_clients: Any) -> None:
    address = "https://contoso-my.sharepoint.com/personal/john"
    granted = [{"delegate": "boss@x.test", "granted": True, "outcome": "granted"}]
    steps: list[Any] = [
        ("m365.grant_onedrive_access", "succeeded", {"delegates": granted, "onedrive_url": address}, None)
    ]
    contact = people.contact(two_clients.contoso, manager_email="boss@x.test")
    tell(NotifyManager, people, people.run(contact, steps, over=False))
    (mail,) = rows(people, Notification)
    assert f"boss@x.test has access to the files: {address}\n" in mail.body


def test_hr_gets_the_clients_exit_document(people: Any, two_clients: Any) -> None:
    """The shipped one by its name, the client's own in its place; a name that leads elsewhere is refused."""
    contact = people.contact(two_clients.contoso, name="Ann", department="Sales")
    with people.installation.database.session() as session:
        session.add(ManualTask(client_id=two_clients.contoso, contact_id=contact, title="Collect keys", created_by="x"))

    def told(name: str) -> Any:
        run = people.run(contact, STEPS, exclusive=False, parameters={"exit_document_template": {"value": name}})
        return tell(NotifyHr, people, run, to="hr@x.test")

    assert told("").result["exit_documentation_attached"] is False
    assert told("exit_document").result["exit_documentation_attached"] is True
    folder = people.installation.settings.workspace / "content" / "messages" / "clients" / "contoso"
    folder.mkdir(parents=True)
    (folder / "letter.j2").write_text("Subject: Letter\n\nGoodbye {{ person.full_name }}\n", encoding="utf-8")
    told("letter")
    plain, shipped, own = (m.body for m in rows(people, Notification))
    head = plain.rpartition(" ")[0]
    assert shipped.startswith(head) and "Department: Sales" in shipped and "Open: Collect keys" in shipped
    assert own.startswith(head) and own.endswith("\n\nLetter\n\nGoodbye Ann\n")
    for wrong in ("nobody", "../fabrikam/hr", "a/b"):
        with pytest.raises(StepError) as caught:
            told(wrong)
        assert caught.value.type == "wrong_template"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Subject: {{ nobody }}\n\nx", "nobody"), ("Subject: x\n\n{% for %}", "line 3"), ("no subject\n", "first line"),
        ("Subject: x\n\n{{ person.__class__.__mro__ }}", "unsafe|__class__"), ("Subject: x\n\n{{ 1 / 0 }}", "division"),
    ],
)  # fmt: skip
def test_a_wrong_wording_is_named(people: Any, two_clients: Any, text: str, says: str) -> None:
    folder = people.installation.settings.workspace / "content" / "messages" / "clients" / "contoso"
    folder.mkdir(parents=True)
    (folder / "hr.j2").write_text(text, encoding="utf-8")
    run = people.run(people.contact(two_clients.contoso), STEPS, over=False)
    with pytest.raises(StepError, match=says) as caught:
        tell(NotifyHr, people, run, to="hr@x.test")
    assert str(folder / "hr.j2") in str(caught.value.remediation)
    assert rows(people, Notification) == []


def test_a_name_adds_no_line_and_is_no_template(people: Any, two_clients: Any) -> None:
    name = "{{ 7 * 7 }}\r\nBcc: all@x.test\n\n%s $(id)"
    run = people.run(people.contact(two_clients.contoso, name=name, manager_email="boss@x.test"), STEPS, over=False)
    tell(NotifyManager, people, run)
    (mail,) = rows(people, Notification)
    assert mail.subject == "Offboarding of {{ 7 * 7 }} Bcc: all@x.test %s $(id) is complete"
    assert not any(line.startswith("Bcc") for line in mail.body.splitlines())


def test_escalation_is_one_ticket_with_the_reason(people: Any, two_clients: Any) -> None:
    contact = people.contact(two_clients.contoso)
    properties.set_value(people.installation, properties.EMAIL_ADDRESS, "it.manager@x.test", actor="x")
    run = people.run(contact, [*STEPS, FAILED], over=False)
    for _ in range(2):
        outcome = Escalate().do(people.context(run), Escalate.Parameters())
    (ticket,), mails = rows(people, Ticket), rows(people, Notification)
    assert (ticket.priority, ticket.client_id, ticket.contact_id) == ("High", two_clients.contoso, contact)
    assert [m.recipient for m in mails] == ["it.manager@x.test"] and rows(people, TicketComment) == []
    assert "the disk is full" in ticket.body and "Data is at risk" in ticket.body
    with people.installation.database.session() as session:
        step = session.exec(select(RunStep).where(RunStep.root_id == run)).first()
        step.function, step.result, step.state = "offboarding.escalate", dict(outcome.result), "succeeded"
        session.add(step)
    people.end(run)
    from agent.reporting.exit_report import exit_document

    with people.installation.database.reading() as session:
        document = exit_document(people.installation, session, run)
    assert document["escalation"] == {
        "escalated_to": "it.manager@x.test", "escalation_ticket": str(ticket.id), "priority": "High",
        "reason": "m365.backup_onedrive: the disk is full",
    }  # fmt: skip


def test_nothing_is_escalated_without_need(people: Any, two_clients: Any) -> None:
    minor: Any = ("m365.hide_from_address_lists", "failed", None, {"type": "x", "message": "m"})
    run = people.run(people.contact(two_clients.contoso), [*STEPS, minor], over=False)
    assert Escalate().do(people.context(run), Escalate.Parameters()).state == "skipped"
    assert rows(people, Ticket) == []
    outcome = Escalate().do(people.context(run), Escalate.Parameters(on="any", to="a@x.test"))
    assert outcome.result["priority"] == "Normal"
    assert "a critical step" in Escalate().preview(Escalate.Parameters())
