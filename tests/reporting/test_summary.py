"""agent.reporting.summary: one word about a plan when it is over, and nothing twice."""

from __future__ import annotations

from typing import Any

import pytest
from sqlmodel import col, select

from agent.errors import NotFound
from agent.functions import registry
from agent.installation import Installation
from agent.model.runs import Plan
from agent.model.tickets import Notification, Ticket, TicketComment
from agent.reporting.summary import summarise, summarise_finished, summary_text
from agent.services import properties

GOOD: Any = [("Datto AV", "succeeded", None)]


@pytest.fixture(autouse=True)
def _told_by_both(installation: Installation) -> None:
    properties.set_value(installation, "_sysOffboardingAlertType", "Ticket, Email", actor="jane")
    properties.set_value(installation, "_sysOffboardingDefaultEmailAddress", "msp@example.com", actor="jane")


def stored(installation: Installation) -> tuple[list[Ticket], list[TicketComment], list[Notification]]:
    with installation.database.reading() as session:
        return (
            list(session.exec(select(Ticket).order_by(col(Ticket.id)))), list(session.exec(select(TicketComment))),
            list(session.exec(select(Notification))),
        )  # fmt: skip


def test_one_mail_for_the_whole_plan_and_a_ticket_per_client(
    installation: Installation, two_clients: Any, story: Any
) -> None:
    skipped = {
        "computer": "FABRIKAM-PC2",
        "id": two_clients.fabrikam_computers[1],
        "client": "Fabrikam",
        "reason": "no alerts",
    }
    plan = story.plan(skipped=[skipped])
    first, second = two_clients.contoso_computers
    story.run(first, GOOD, plan_id=plan)
    story.run(two_clients.fabrikam_computers[0], GOOD, plan_id=plan)
    last = story.run(second, story.mixed, plan_id=plan, finished_at=None)
    assert summarise(installation, plan) is None and summarise_finished(installation) == []
    assert stored(installation) == ([], [], [])
    story.end(last)
    assert summarise_finished(installation) == [plan]
    assert summarise_finished(installation) == []
    document = summarise(installation, plan)
    assert document is not None and document["counts"] == {"partial": 1, "succeeded": 2}
    tickets, comments, (mail,) = stored(installation)
    assert (
        mail.subject == "Offboarding summary: 3 computers of Contoso, Fabrikam" and mail.recipient == "msp@example.com"
    )
    for text in ("CONTOSO-PC2 (", "removed: Datto AV", "failed: Sentinel", "reboot needed: VPN", "outcome unknown: Backup",
                 "FABRIKAM-PC2: left out, no alerts", "3 computers: 1 partial, 2 succeeded."):  # fmt: skip
        assert text in mail.body, text
    (ticket,) = tickets  # Fabrikam had one computer only
    assert ticket.client_id == two_clients.contoso and "FABRIKAM" not in ticket.body and comments == []
    assert document["told"] == {"mail": mail.id, "tickets": [ticket.id]}
    properties.set_value(installation, "_sysOffboardingAlertType", "", actor="jane")
    assert summarise(installation, plan) == document  # what was told stays as it was told


def test_the_informative_ticket_takes_the_summary(installation: Installation, two_clients: Any, story: Any) -> None:
    plan = story.plan()
    function = registry.get("offboarding.informative_ticket")
    for computer in two_clients.contoso_computers:
        root = story.run(computer, GOOD, plan_id=plan, levels=["client"], finished_at=None)
        function.do(story.context(root, "Informative Ticket"), function.Parameters())
        story.end(root)
    summarise(installation, plan)
    (ticket,), (comment,), _ = stored(installation)
    assert ticket.subject == "Offboarding initiated on client - Contoso"
    assert comment.ticket_id == ticket.id and "2 computers: 2 succeeded." in comment.text


def test_a_plan_of_one_run_is_stored_and_not_told_again(
    installation: Installation, two_clients: Any, story: Any
) -> None:
    plan = story.plan()
    story.run(two_clients.contoso_computers[0], GOOD, plan_id=plan)
    document = summarise(installation, plan)
    assert document is not None and "CONTOSO-PC1" in summary_text(document)
    assert stored(installation) == ([], [], [])
    with installation.database.reading() as session:
        row = session.get(Plan, plan)
        assert row is not None and row.summary == document and row.summary_sent_at is not None


@pytest.mark.parametrize(("types", "mails", "tickets"), [("", 0, 0), ("Ticket", 0, 1), ("Email", 1, 0)])
def test_the_properties_decide(
    installation: Installation, two_clients: Any, story: Any, types: str, mails: int, tickets: int
) -> None:
    properties.set_value(installation, "_sysOffboardingAlertType", types, actor="jane")
    plan = story.plan()
    for computer in two_clients.contoso_computers:
        story.run(computer, GOOD, plan_id=plan)
    summarise(installation, plan)
    made = stored(installation)
    assert (len(made[2]), len(made[0])) == (mails, tickets)


def test_a_plan_that_never_began_is_not_told(installation: Installation, two_clients: Any, story: Any) -> None:
    plan = story.plan(state="held")
    for computer in two_clients.contoso_computers:
        story.run(computer, GOOD, plan_id=plan, state="held", started_at=None, finished_at=None)
    assert summarise(installation, plan) is None
    with pytest.raises(NotFound):
        summarise(installation, "nope")


def test_a_mail_of_several_clients_belongs_to_none(installation: Installation, two_clients: Any, story: Any) -> None:
    plan = story.plan()
    for computer in (two_clients.contoso_computers[0], two_clients.fabrikam_computers[0]):
        story.run(computer, GOOD, plan_id=plan)
    summarise(installation, plan)
    (mail,) = stored(installation)[2]
    assert mail.client_id is None and stored(installation)[0] == []
