"""Who is told of what: signed, once, tried again, never into an inner network."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from api_help import api_of
from sqlmodel import select, update
from web_help import Console
from webhook_receiver import Receiver, receiving

from agent.errors import UsageError
from agent.installation import Installation
from agent.model.administration import AuditEntry
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding
from agent.model.runs import Plan, ScriptRevision, ScriptRun
from agent.model.webhooks import WebhookDelivery
from agent.running.webhook_events import Collector, collect
from agent.secrets import create_key
from agent.services import tickets, webhooks
from agent.services.webhook_addresses import check_address
from agent.services.webhook_sending import MOST_ATTEMPTS, deliver

if TYPE_CHECKING:
    from conftest import Places


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture
def sender(installation: Installation) -> Iterator[Installation]:
    """The installation, but it may send to loopback."""
    create_key(installation.settings)
    found = Installation(installation.settings.model_copy(update={"webhook_loopback": True}))
    yield found
    found.database.close()


def open_ticket(installation: Installation, client_id: int, key: str = "k") -> None:
    with installation.database.session() as session:
        tickets.open_or_comment(
            session, key=key, client_id=client_id, subject="<script>alert(1)</script>", body="b", author="x"
        )


def log(installation: Installation) -> list[WebhookDelivery]:
    with installation.database.reading() as session:
        return list(reversed(webhooks.deliveries(session)))


def make_due(installation: Installation) -> None:
    with installation.database.session() as session:
        session.execute(update(WebhookDelivery).values(next_attempt_at=utcnow() - timedelta(seconds=1)))


def test_a_target_gets_signed_messages_of_its_client(
    sender: Installation, two_clients: Places, receiver: Receiver
) -> None:
    _, secret = webhooks.add_target(sender, name="psa", url=receiver.address, client_id=two_clients.contoso, actor="t")
    open_ticket(sender, two_clients.contoso)
    open_ticket(sender, two_clients.fabrikam, "other")
    done = deliver(sender)
    assert len(done.delivered) == 1 and len(receiver.received) == 1
    headers, body = receiver.received[0]
    timestamp, given = (part.partition("=")[2] for part in headers["exeunt-signature"].split(","))
    assert given == hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    message = json.loads(body)
    assert message["event"] == "ticket.created" and message["client"]["slug"] == "contoso"
    assert message["data"]["subject"] == "<script>alert(1)</script>" and "abrikam" not in body.decode()
    assert [(d.state, d.status_code, d.attempts) for d in log(sender)] == [("delivered", 204, 1)]
    assert deliver(sender).delivered == ()


def test_what_did_not_arrive_is_tried_again_and_then_given_up(
    sender: Installation, two_clients: Places, receiver: Receiver
) -> None:
    webhooks.add_target(sender, name="psa", url=receiver.address, actor="t")
    open_ticket(sender, two_clients.contoso)
    receiver.status = 500
    assert deliver(sender).waiting and not deliver(sender).waiting, "not before its pause is over"
    receiver.status = 200
    make_due(sender)
    assert deliver(sender).delivered
    assert [d.attempts for d in log(sender)] == [2]
    ids = {headers["exeunt-delivery"] for headers, _ in receiver.received}
    assert len(ids) == 1, "the receiver can tell a repetition"
    open_ticket(sender, two_clients.contoso, "second")
    receiver.status = 503
    for _ in range(MOST_ATTEMPTS):
        make_due(sender)
        last = deliver(sender)
    assert last.failed
    with sender.database.session() as session:
        webhooks.retry(session, last.failed[0], actor="ann")
    receiver.status = 200
    assert deliver(sender).delivered == last.failed


def test_a_redirect_is_not_followed(sender: Installation, two_clients: Places, receiver: Receiver) -> None:
    webhooks.add_target(sender, name="psa", url=receiver.address, actor="t")
    open_ticket(sender, two_clients.contoso)
    receiver.status = 302
    deliver(sender)
    assert len(receiver.received) == 1
    assert "redirect" in (log(sender)[0].error or "")


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/", "https://127.0.0.1/", "https://10.1.2.3/", "https://[::1]/", "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest/meta-data", "https://user:pw@hooks.example.com/", "file:///etc/passwd", "https://",
        "gopher://x", "https://0.0.0.0/", "https://100.64.0.1/", "https://224.0.0.1/", "https://[fe80::1]/",
        "https://hooks.example.com/#x", "https://hooks.example.com:99999/", "nonsense", "https://ex ample.com/",
    ],
)  # fmt: skip
def test_no_message_goes_into_an_inner_network(installation: Installation, url: str) -> None:
    with pytest.raises(UsageError):
        check_address(installation.settings, url)


def test_a_name_is_judged_by_what_it_means_when_it_is_sent(
    installation: Installation, sender: Installation, two_clients: Places, receiver: Receiver
) -> None:
    url = receiver.address.replace("127.0.0.1", "localhost")
    webhooks.add_target(sender, name="psa", url=url, actor="t")
    open_ticket(sender, two_clients.contoso)
    assert deliver(installation).failed and receiver.received == []
    assert "https only" in (log(sender)[0].error or "")


def add_run(installation: Installation, places: Places, client: str, **values: Any) -> str:
    with installation.database.session() as session:
        session.merge(ScriptRevision(digest="0" * 64, name="x", content={}))
        session.flush()
        given = {
            "script": "Offboarding Wrapper", "role": "wrapper", "revision": "0" * 64, "target_kind": "computer",
            "target_id": getattr(places, f"{client}_computers")[0], "target_name": f"{client}-pc", "started_by": "ann",
            "client_id": getattr(places, client), "state": "failed", "started_at": utcnow(), "finished_at": utcnow(),
        }  # fmt: skip
        run = ScriptRun(**{**given, **values})
        session.add(run)
        return run.id


def events(installation: Installation) -> list[str]:
    return sorted(d.event_id for d in log(installation))


def test_what_ended_and_what_is_held_is_told_once(sender: Installation, two_clients: Places) -> None:
    add_run(sender, two_clients, "contoso", finished_at=utcnow() - timedelta(minutes=5))
    webhooks.add_target(sender, name="all", url="https://hooks.example.com/", actor="t")
    webhooks.add_target(
        sender, name="theirs", url="https://hooks.example.com/", client_id=two_clients.fabrikam,
        events=["run.finished"], actor="t",
    )  # fmt: skip
    collecting = Collector()
    assert collecting(sender) == 0, "what ended before the first target was there is told to nobody"
    with sender.database.session() as session:
        plan = Plan(created_by="ann", state="held", holds=[{"guardrail": "first_run", "reason": "never confirmed"}])
        session.add(plan)
    ended = add_run(sender, two_clients, "contoso")
    add_run(sender, two_clients, "fabrikam", state="held", plan_id=plan.id, finished_at=None)
    assert collecting(sender) == 2
    expected = sorted([f"run.finished:{ended}", f"run.held:{plan.id}:{two_clients.fabrikam}"])
    assert events(sender) == expected
    assert collecting(sender) == 0 and Collector()(sender) == 0 and events(sender) == expected


def test_the_end_of_an_offboarding_goes_to_everybody_when_it_was_asked_for(
    sender: Installation, two_clients: Places
) -> None:
    """CIPP-29."""
    webhooks.add_target(sender, name="runs only", url="https://hooks.example.com/", events=["run.held"], actor="t")
    for asked in ("0", "1"):
        run_id = add_run(sender, two_clients, "contoso", target_kind="contact", target_id=5)
        with sender.database.session() as session:
            session.add(
                ContactOffboarding(
                    contact_id=5,
                    client_id=two_clients.contoso,
                    requested_by="ann",
                    run_id=run_id,
                    reference="case 7",
                    resolved={"notify_webhook": {"value": asked, "source": "given"}},
                )
            )
    with sender.database.session() as session:
        collect(session, utcnow() - timedelta(hours=1))
    found = log(sender)
    assert [d.event for d in found] == ["offboarding.finished"]
    assert found[0].body["data"]["reference"] == "case 7" and found[0].body["data"]["run_id"] == run_id


def test_only_administrators_of_the_place_manage_them(console: Console) -> None:
    create_key(console.installation.settings)
    places = console.places
    body = {"name": "psa", "url": "https://hooks.example.com/x", "client_id": places.contoso}
    with api_of(console, "colleague") as api:
        assert api.post("/webhooks", json=body).status_code == 403
        assert api.get("/webhooks").status_code == 403
    with api_of(console, "stranger") as api:
        assert api.post("/webhooks", json=body).status_code == 404
        assert api.post("/webhooks", json={**body, "client_id": None}).status_code == 403
    with api_of(console, "owner") as api:
        made = api.post("/webhooks", json=body)
        assert made.status_code == 201 and made.json()["secret"].startswith("whsec_")
        assert "secret" not in api.get(f"/webhooks/{made.json()['id']}").json()
        refused = api.post("/webhooks", json={**body, "name": "inner", "url": "https://192.168.1.1/"})
        assert refused.status_code == 400 and "inner network" in refused.json()["detail"]
        with api_of(console, "stranger") as other:
            assert other.get("/webhooks").json() == []
            assert other.delete(f"/webhooks/{made.json()['id']}").status_code == 404
        assert api.delete(f"/webhooks/{made.json()['id']}").status_code == 200
    with console.installation.database.reading() as session:
        assert session.exec(select(WebhookDelivery)).all() == []


@pytest.mark.parametrize("form", ["slack", "teams"])
def test_a_channel_gets_words_and_its_address_stays_secret(
    sender: Installation, two_clients: Places, receiver: Receiver, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The address of a channel is what lets anybody write to it, so it is kept like a password."""
    token = "T0ken-in-the-path"
    target, given = webhooks.add_target(
        sender, name="channel", url=f"{receiver.address}/{token}", client_id=two_clients.contoso, form=form, actor="t"
    )
    assert token in given and token not in target.url and token not in target.secret
    open_ticket(sender, two_clients.contoso)
    open_ticket(sender, two_clients.fabrikam, "other")
    assert len(deliver(sender).delivered) == 1
    headers, body = receiver.received[0]
    assert "exeunt-signature" not in headers, "there is no secret of its own to sign with"
    text = body.decode()
    assert "Contoso" in text and "abrikam" not in text
    message = json.loads(body)
    if form == "slack":
        assert [b["text"]["type"] for b in message["blocks"]] == ["plain_text"] * len(message["blocks"])
        assert "<script>" not in message["text"] and "&lt;script&gt;" in message["text"]
    else:
        card = message["attachments"][0]["content"]
        assert card["type"] == "AdaptiveCard" and {b["type"] for b in card["body"]} == {"RichTextBlock"}
    receiver.status = 500
    open_ticket(sender, two_clients.contoso, "second")
    deliver(sender)
    told = [*(d.error or "" for d in log(sender)), caplog.text]
    with sender.database.reading() as session:
        told += [str(e.details) for e in session.exec(select(AuditEntry))]
    assert any("500" in t for t in told) and not any(token in t for t in told)


def test_a_channel_s_address_that_cannot_be_is_refused_without_it(sender: Installation) -> None:
    for start in ("http://hooks.slack.com/", "https://10.0.0.1/", "https://u:p@h/", ""):
        url = f"{start}T0ken-in-the-path"
        with pytest.raises(UsageError) as refused:
            webhooks.add_target(sender, name="x", url=url, form="slack", actor="t")
        assert "T0ken" not in str(refused.value)
    with pytest.raises(UsageError, match="no form"):
        webhooks.add_target(sender, name="x", url="https://h.example/", form="fax", actor="t")
