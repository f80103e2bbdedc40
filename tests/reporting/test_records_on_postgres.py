"""Tickets, mail, credentials and reports on PostgreSQL, where writers really run at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from postgres import create_tables
from sqlmodel import select

from agent.errors import Conflict
from agent.functions import registry
from agent.installation import Installation
from agent.inventory.flags import standing_flags
from agent.model.tickets import Notification, Ticket, TicketComment
from agent.reporting.evidence import write_evidence
from agent.reporting.leftovers import leftovers
from agent.reporting.run_report import run_document
from agent.reporting.summary import summarise, summarise_finished
from agent.secrets import create_key
from agent.services import credentials, mail, properties, tickets
from agent.settings import Settings


@pytest.fixture
def installation(settings: Settings, postgres_url: str) -> Iterator[Installation]:
    """In this module the installation stands on PostgreSQL."""
    create_tables(postgres_url)
    create_key(settings)
    installation = Installation(settings.model_copy(update={"database_url": postgres_url}))
    yield installation
    installation.database.close()


def test_many_results_at_once_make_one_ticket(installation: Installation, two_clients: Any) -> None:
    together = Barrier(6)

    def tell(n: int) -> int | None:
        with installation.database.session() as session:
            together.wait(timeout=120)
            return tickets.open_or_comment(
                session, key="offboarding:computer:1", client_id=two_clients.contoso, run_id=f"run{n}",
                subject="status", body="a\x00b \ud800", author="system",
            ).id  # fmt: skip

    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(tell, range(6)))
    with installation.database.reading() as session:
        (ticket,) = session.exec(select(Ticket)).all()
        assert ids == {ticket.id} and len(session.exec(select(TicketComment)).all()) == 5
        assert ticket.body == "ab \\ud800"


def test_many_workers_take_each_mail_once(installation: Installation) -> None:
    with installation.database.session() as session:
        for n in range(12):
            mail.queue_mail(session, key=f"k{n}", client_id=None, recipient="a@b.c", subject="s", body="b")
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: mail.deliver(installation).failed, range(4)))
    assert sorted(i for part in done for i in part) == list(range(1, 13))
    with installation.database.reading() as session:
        assert {m.attempts for m in session.exec(select(Notification))} == {1}


def test_a_name_is_taken_once_per_scope(installation: Installation, two_clients: Any) -> None:
    def add(**scope: Any) -> None:
        credentials.add(installation, kind="secret", name="x", secret={"value": "s"}, actor="jane", **scope)

    scopes: list[dict[str, Any]] = [
        {}, {"client_id": two_clients.contoso}, {"client_id": two_clients.fabrikam},
        {"client_id": two_clients.contoso, "location_id": two_clients.contoso_site},
    ]  # fmt: skip
    for scope in scopes:
        add(**scope)
        with pytest.raises(Conflict):
            add(**scope)


def test_from_the_flag_to_the_evidence(installation: Installation, two_clients: Any, story: Any, flag: Any) -> None:
    properties.set_value(installation, "_sysOffboardingAlertType", "Ticket, Email", actor="jane")
    flag("Offboard Client", 3, two_clients.contoso)
    plan, report = story.plan(), registry.get("offboarding.report")
    roots = []
    for computer in two_clients.contoso_computers:
        root = story.run(computer, story.mixed, plan_id=plan, levels=["client"], finished_at=None)
        report.do(story.context(root), report.Parameters())
        story.end(root)
        roots.append(root)
    assert summarise_finished(installation) == [plan] and summarise_finished(installation) == []
    document = summarise(installation, plan)
    assert document is not None and document["told"]["mail"] is not None
    with installation.database.reading() as session:
        assert run_document(session, roots[0])["failure"] == ["Sentinel"]
        assert leftovers(session, installation.settings) == [] and len(standing_flags(session)) == 1
    assert write_evidence(installation, two_clients.contoso, actor="jane").json.exists()
