"""agent.services.tickets: one open ticket per key, comments instead of a second, nothing twice, nothing of others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import select

from agent.errors import ClientMismatch, Conflict, NotFound
from agent.installation import Installation
from agent.model.tickets import Ticket, TicketComment
from agent.services import tickets


def report(installation: Installation, places: Any, run: str | None, **changes: Any) -> Ticket:
    values: dict[str, Any] = {
        "key": f"offboarding:computer:{places.contoso_computers[0]}", "client_id": places.contoso,
        "location_id": places.contoso_site, "computer_id": places.contoso_computers[0], "run_id": run,
        "subject": "Offboarding status", "body": f"result of {run}", "author": "system",
    }  # fmt: skip
    with installation.database.session() as session:
        return tickets.open_or_comment(session, **{**values, **changes})


def counts(installation: Installation) -> tuple[int, int]:
    with installation.database.reading() as session:
        return len(session.exec(select(Ticket)).all()), len(session.exec(select(TicketComment)).all())


def test_a_later_result_becomes_a_comment(installation: Installation, two_clients: Any) -> None:
    first = report(installation, two_clients, "run1")
    second = report(installation, two_clients, "run2", comment="second result")
    assert first.id == second.id and counts(installation) == (1, 1)
    with installation.database.reading() as session:
        shown = tickets.show(session, first.id or 0)
    assert shown.ticket.body == "result of run1" and [c.text for c in shown.comments] == ["second result"]


def test_the_same_run_adds_nothing_a_second_time(installation: Installation, two_clients: Any) -> None:
    for run in ("run1", "run1", "run2", "run2", "run1"):
        report(installation, two_clients, run)
    assert counts(installation) == (1, 1)


def test_the_same_run_adds_nothing_after_the_ticket_was_closed(installation: Installation, two_clients: Any) -> None:
    first = report(installation, two_clients, "run1")
    with installation.database.session() as session:
        tickets.close(session, first.id or 0, author="jane", comment="done by hand")
    assert report(installation, two_clients, "run1").id == first.id
    later = report(installation, two_clients, "run2")
    assert later.id != first.id and later.closed_at is None and counts(installation) == (2, 1)


def test_two_steps_of_a_run_are_two_origins(installation: Installation, two_clients: Any) -> None:
    report(installation, two_clients, "run1", origin="step1")
    report(installation, two_clients, "run1", origin="step2")
    report(installation, two_clients, "run1", origin="step2")
    assert counts(installation) == (1, 1)


def test_without_a_run_each_call_counts(installation: Installation, two_clients: Any) -> None:
    report(installation, two_clients, None)
    report(installation, two_clients, None)
    assert counts(installation) == (1, 1)


@pytest.mark.parametrize("place", ["location_id", "computer_id"])
def test_a_place_of_another_client_is_refused(installation: Installation, two_clients: Any, place: str) -> None:
    other = {"location_id": two_clients.fabrikam_site, "computer_id": two_clients.fabrikam_computers[0]}
    with pytest.raises(ClientMismatch):
        report(installation, two_clients, "run1", **{place: other[place]})
    assert counts(installation) == (0, 0)


def test_an_open_ticket_of_another_client_is_not_commented(installation: Installation, two_clients: Any) -> None:
    report(installation, two_clients, "run1", key="same")
    places = {"location_id": None, "computer_id": None}
    with pytest.raises(ClientMismatch):
        report(installation, two_clients, "run2", key="same", client_id=two_clients.fabrikam, **places)
    with pytest.raises(ClientMismatch), installation.database.session() as session:
        tickets.add_comment(session, 1, author="x", text="y", client_id=two_clients.fabrikam)
    assert counts(installation) == (1, 0)


def test_closing_twice_and_what_does_not_exist(installation: Installation, two_clients: Any) -> None:
    ticket = report(installation, two_clients, "run1")
    with installation.database.session() as session:
        tickets.close(session, ticket.id or 0, author="jane")
    with pytest.raises(Conflict, match="was closed at"), installation.database.session() as session:
        tickets.close(session, ticket.id or 0, author="jane")
    with pytest.raises(NotFound), installation.database.session() as session:
        tickets.close(session, 99, author="jane")


def test_the_list_is_filtered(installation: Installation, two_clients: Any) -> None:
    ticket = report(installation, two_clients, "run1", category="234")
    with installation.database.reading() as session:
        assert [t.id for t in tickets.list_tickets(session, client_id=two_clients.contoso, status="open")] == [
            ticket.id
        ]
        assert tickets.list_tickets(session, client_id=two_clients.fabrikam) == []
        assert tickets.list_tickets(session, status="closed") == []
        assert tickets.list_tickets(session, run_id="run1")[0].category == "234"


def test_a_subject_is_one_line(installation: Installation, two_clients: Any) -> None:
    ticket = report(installation, two_clients, "run1", subject="Offboarding status on PC\r\nBcc: x\x00\u2028(7)")
    assert ticket.subject == "Offboarding status on PC Bcc: x (7)"


@given(st.text())
def test_one_line_has_no_line_break(text: str) -> None:
    flat = tickets.one_line(text)
    assert len(flat.splitlines()) <= 1 and flat == flat.strip() and flat == tickets.one_line(flat)
