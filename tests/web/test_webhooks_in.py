"""Signed messages of HR and of the PSA: carried out once, for one client, or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sqlmodel import select
from web_help import Console

from agent.inventory import places
from agent.model.contacts import ContactOffboarding
from agent.model.places import Contact
from agent.model.tickets import Ticket, TicketComment
from agent.model.webhooks import WebhookReceipt
from agent.secrets import create_key
from agent.services import tickets, webhooks


class System:
    """A system outside, with its secret."""

    def __init__(self, console: Console, kind: str, client_id: int) -> None:
        self.console = console
        source, self.secret = webhooks.add_source(
            console.installation, name=kind, kind=kind, client_id=client_id, actor="test"
        )
        self.path = f"/api/v1/hooks/{source.id}"

    def send(
        self,
        message: Mapping[str, Any] | bytes,
        *,
        now: int | None = None,
        age: int = 0,
        secret: str | None = None,
        **headers: str,
    ) -> httpx.Response:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        signature = webhooks.sign(secret or self.secret, (now or int(time.time())) - age, body)
        sent = {"content-type": "application/json", "exeunt-signature": signature, **headers}
        return self.console.nobody.client.post(self.path, content=body, headers=sent)


@pytest.fixture
def people(console: Console) -> tuple[int, int]:
    """A person at each client."""
    create_key(console.installation.settings)
    with console.installation.database.session() as session:
        ids = [
            places.add_contact(
                session, client_id=client, name=f"Ada {number}", actor="test", email=f"ada{number}@x.example",
                external_id=f"hr-{number}",
            ).contact_id
            for number, client in enumerate((console.places.contoso, console.places.fabrikam), 1)
        ]  # fmt: skip
    return ids[0] or 0, ids[1] or 0


def contact(console: Console, contact_id: int) -> Contact:
    with console.installation.database.reading() as session:
        return session.get_one(Contact, contact_id)


def count(console: Console, model: type[Any]) -> int:
    with console.installation.database.reading() as session:
        return len(session.exec(select(model)).all())


CHANGE = {
    "id": "1", "type": "contact.changed", "person": "external:hr-1",
    "changes": {"termination_date": "2031-01-31", "termination_type": "voluntary", "status": "Offboarding"},
}  # fmt: skip


def test_hr_says_when_somebody_leaves_and_a_replay_changes_nothing(console: Console, people: tuple[int, int]) -> None:
    hr = System(console, "hr", console.places.contoso)
    answer = hr.send(CHANGE)
    assert answer.status_code == 200 and answer.json()["outcome"] == {"contact_id": people[0], "done": "changed"}
    assert contact(console, people[0]).termination_date == "2031-01-31"
    with console.installation.database.session() as session:
        places.change(session, session.get_one(Contact, people[0]), actor="test", termination_date="2032-01-01")
    replay = hr.send(CHANGE)
    assert replay.status_code == 409 and replay.headers["content-type"] == "application/problem+json"
    assert contact(console, people[0]).termination_date == "2032-01-01"


def test_what_is_not_signed_as_it_must_be_is_refused_alike(
    console: Console, people: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One clock for both sides, and it stands still: the limit is a second, and a request takes some of it.
    now = int(time.time())
    monkeypatch.setattr(webhooks, "time", SimpleNamespace(time=lambda: now))
    hr = System(console, "hr", console.places.contoso)
    body = json.dumps(CHANGE).encode()
    good = webhooks.sign(hr.secret, now, body)
    answers = [
        hr.send(CHANGE, secret="whsec_other"),
        hr.send(CHANGE, now=now, age=301),
        hr.send(CHANGE, now=now, age=-301),
        hr.send(body + b" ", **{"exeunt-signature": good}),
        hr.send(CHANGE, **{"exeunt-signature": "v1=0"}),
        hr.send(CHANGE, **{"exeunt-signature": good.upper()}),
        console.nobody.client.post(hr.path, content=body),
        console.nobody.client.post("/api/v1/hooks/" + "0" * 16, content=body, headers={"exeunt-signature": good}),
    ]
    assert {a.status_code for a in answers} == {401} and len({a.json()["detail"] for a in answers}) == 1
    assert contact(console, people[0]).termination_date is None and count(console, WebhookReceipt) == 0
    for number, age in enumerate((300, -300)):
        assert hr.send({**CHANGE, "id": f"at the limit {number}"}, now=now, age=age).status_code == 200


WRONG: tuple[Mapping[str, Any] | bytes, ...] = (
    b"", b"nonsense", b"[]", b"null", {"id": "1"}, {**CHANGE, "type": "x"}, {**CHANGE, "more": 1}, {**CHANGE, "id": ""},
    {**CHANGE, "changes": {}}, {**CHANGE, "changes": {"status": "Gone"}}, {**CHANGE, "changes": {"legal_hold": False}},
    {**CHANGE, "changes": {"termination_date": "31.01.2031"}}, {**CHANGE, "person": "hr-1"}, {**CHANGE, "person": 1},
    {**CHANGE, "person": "external:hr-2"}, {**CHANGE, "person": "ada2@x.example"}, {**CHANGE, "person": "id:2"},
    {"id": "1", "type": "ticket.closed", "ticket_id": 1, "author": "x"},
)  # fmt: skip


def test_a_message_that_cannot_be_is_told_and_changes_nothing(console: Console, people: tuple[int, int]) -> None:
    hr = System(console, "hr", console.places.contoso)
    for message in WRONG:
        answer = hr.send(message)
        assert answer.status_code in (400, 404), message
        assert answer.headers["content-type"] == "application/problem+json"
    assert [contact(console, p).termination_date for p in people] == [None, None]
    assert hr.send(CHANGE).status_code == 200, "a refused message may be corrected and sent again"


def test_hr_plans_an_offboarding(console: Console, people: tuple[int, int]) -> None:
    """REWST-91."""
    with console.installation.database.session() as session:
        places.add_contact(session, client_id=console.places.contoso, name="Boss", actor="test", email="boss@x.example")
    hr = System(console, "hr", console.places.contoso)
    message = {
        "id": "a", "type": "offboarding.requested", "person": "ada1@x.example", "at": "2031-01-31T17:00",
        "inputs": {"termination_type": "voluntary", "manager_email": "boss@x.example", "keep_copy": False,
                   "remove_groups": True},
    }  # fmt: skip
    answer = hr.send(message)
    assert answer.status_code == 200, answer.text
    with console.installation.database.reading() as session:
        row = session.exec(select(ContactOffboarding)).one()
    assert row.id == answer.json()["outcome"]["offboarding_id"] and row.contact_id == people[0]
    assert row.requested_by == "webhook:hr" and row.inputs["keep_copy"] == "0"
    assert hr.send(message).status_code == 409
    assert hr.send({**message, "id": "b"}).status_code == 409, "it is planned already"
    assert count(console, ContactOffboarding) == 1 and count(console, WebhookReceipt) == 1


def test_the_psa_comments_and_closes_its_own_tickets_only(console: Console, people: tuple[int, int]) -> None:
    with console.installation.database.session() as session:
        ids = [
            tickets.open_or_comment(session, key=f"k{c}", client_id=c, subject="s", body="b", author="x").id
            for c in (console.places.contoso, console.places.fabrikam)
        ]
    psa = System(console, "psa", console.places.contoso)
    said = {"id": "1", "type": "ticket.commented", "ticket_id": ids[0], "author": "Bea", "text": "<b>done</b>"}
    assert psa.send(said).status_code == 200
    assert psa.send({"id": "2", "type": "ticket.closed", "ticket_id": ids[0], "author": "Bea"}).status_code == 200
    refused = psa.send({"id": "3", "type": "ticket.closed", "ticket_id": ids[1], "author": "Bea"})
    assert refused.status_code == 404
    with console.installation.database.reading() as session:
        assert [t.status for t in session.exec(select(Ticket).order_by(Ticket.id))] == ["closed", "open"]
        comment = session.exec(select(TicketComment)).one()
    assert comment.text == "Bea: <b>done</b>" and comment.author == "webhook:psa"
