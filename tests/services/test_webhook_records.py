"""Webhooks and repeated calls keep their promises on both databases, whoever comes at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from sqlmodel import select

from agent.access import idempotency
from agent.access.idempotency import Kept
from agent.errors import Conflict, NotSignedIn
from agent.installation import Installation
from agent.model.webhooks import WebhookDelivery, WebhookReceipt
from agent.secrets import create_key
from agent.services import webhooks
from agent.services.webhook_sending import deliver

if TYPE_CHECKING:
    from conftest import Places


def test_a_message_is_written_once_per_target(any_installation: Installation, any_two_clients: Places) -> None:
    create_key(any_installation.settings)
    for name, client in (("all", None), ("ours", any_two_clients.contoso), ("theirs", any_two_clients.fabrikam)):
        webhooks.add_target(any_installation, name=name, url="https://h.example.invalid/", client_id=client, actor="t")
    with pytest.raises(Conflict):
        webhooks.add_target(any_installation, name="all", url="https://h.example/", actor="t")
    counts = []
    for _ in range(2):
        with any_installation.database.session() as session:
            counts.append(
                webhooks.enqueue(session, webhooks.RUN_FINISHED, "run.finished:1", any_two_clients.contoso, {"n": 1})
            )
    assert counts == [2, 0]
    done = deliver(any_installation)
    assert len(done.waiting) == 2, "the name cannot be looked up: both wait for their next attempt"
    with any_installation.database.reading() as session:
        assert {d.attempts for d in session.exec(select(WebhookDelivery))} == {1}


def test_a_message_is_taken_once_even_when_it_comes_twice_at_once(
    any_installation: Installation, any_two_clients: Places
) -> None:
    create_key(any_installation.settings)
    source, secret = webhooks.add_source(
        any_installation, name="hr", kind="hr", client_id=any_two_clients.contoso, actor="t"
    )
    with pytest.raises(NotSignedIn):
        webhooks.verify(any_installation, source.id, webhooks.sign(secret, 0, b"x"), b"x")
    taken: list[bool] = []

    def take() -> None:
        try:
            with any_installation.database.session() as session:
                webhooks.take_in(session, source, "m1")
            taken.append(True)
        except Conflict:
            taken.append(False)

    at_once(take)
    assert sorted(taken) == [False, False, False, True]
    with any_installation.database.reading() as session:
        assert len(session.exec(select(WebhookReceipt)).all()) == 1


def test_one_of_many_claims_a_key(any_installation: Installation) -> None:
    results: list[str] = []

    def claim() -> None:
        try:
            results.append("acts" if idempotency.claim(any_installation, "u", "k", "d") is None else "answer")
        except Conflict:
            results.append("unknown")

    at_once(claim)
    assert sorted(results) == ["acts", "unknown", "unknown", "unknown"]
    idempotency.keep(any_installation, "u", "k", status=201, body={"id": 1})
    assert idempotency.claim(any_installation, "u", "k", "d") == Kept(201, {"id": 1})
    assert idempotency.claim(any_installation, "other", "k", "d") is None
    with pytest.raises(Conflict):
        idempotency.claim(any_installation, "u", "k", "another")
    idempotency.give_back(any_installation, "u", "k")
    assert idempotency.claim(any_installation, "u", "k", "another") is None


def at_once(act: object) -> None:
    barrier = threading.Barrier(4)

    def run() -> None:
        barrier.wait(120)
        act()  # type: ignore[operator]

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
