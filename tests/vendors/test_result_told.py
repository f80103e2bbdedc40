"""The inputs notify_webhook, notify_psa and notify_email (CIPP-29 to CIPP-31): a whole offboarding, real receivers on loopback."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from leavers_help import Leavers, add_leavers
from made_packages import list_children, write_package
from peers import kept_port
from people_help import PlayedEngine
from psa_peers import ConnectWisePeer
from sqlmodel import select
from webhook_receiver import Receiver, receiving

from agent.content.packages import PHASES
from agent.installation import Installation
from agent.inventory import extra_fields, field_values
from agent.model.fields import Form
from agent.model.runs import RunStep, ScriptRun
from agent.model.tickets import Notification, Ticket, TicketComment
from agent.reporting.exit_store import write_exit_report
from agent.running import user_offboardings as offboardings
from agent.running import verbs
from agent.running.webhook_events import Collector
from agent.secrets import create_key
from agent.services import credentials, mail, properties, webhooks
from agent.services.rest import signing
from agent.services.webhook_sending import deliver

if TYPE_CHECKING:
    from conftest import Places

Told = tuple[ScriptRun, dict[str, RunStep]]
WEBHOOK, PSA, MAIL = "Result to Webhooks", "Result to PSA", "Result by Mail"
STILL = (
    "name: Closer - Offboarding\nrole: child\ntarget: contact\nsteps:\n"
    '  - {name: Close it, function: task.create, with: {title: "Close it", matter: other}}\n'
)


@pytest.fixture
def telling(
    installation: Installation, two_clients: Places, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Installation, PlayedEngine, Leavers]]:
    """It may send to loopback; phase 1 has somebody at both clients."""
    monkeypatch.setattr(signing, "_kept", {})
    create_key(installation.settings)
    found = Installation(installation.settings.model_copy(update={"webhook_loopback": True}))
    leavers = add_leavers(found, two_clients)
    write_package(found, "closer", phase=1, user="x", script=STILL)
    listed(found, ["Closer - Offboarding"])
    yield found, PlayedEngine(found), leavers
    found.database.close()


def listed(installation: Installation, first: list[str], last: list[str] | None = None) -> None:
    for client in ("contoso", "fabrikam"):
        list_children(installation, client, {PHASES[1]: first, **({PHASES[7]: last} if last else {})})


def offboard(installation: Installation, engine: PlayedEngine, person: str, **given: Any) -> Told:
    with installation.database.session() as session:
        row = offboardings.plan(session, offboardings.Request(person, given=given), actor="ann").row.id
    stored = offboardings.run_now(installation, engine, [row], actor="ann@msp.example")  # type: ignore[arg-type]
    if stored.state == "held":
        verbs.approve(installation, engine, stored.id, actor="bob", reason="test")  # type: ignore[arg-type]
    engine.work()
    with installation.database.reading() as session:
        run = session.get(ScriptRun, stored.run_ids[0])
        assert run is not None
        return run, {s.name: s for s in session.exec(select(RunStep).where(RunStep.root_id == run.id))}


def rows(installation: Installation, kind: Any) -> list[Any]:
    with installation.database.reading() as session:
        return list(session.exec(select(kind).order_by(kind.id)))


def test_the_result_arrives_signed_at_the_clients_webhook(
    telling: tuple[Installation, PlayedEngine, Leavers], two_clients: Places
) -> None:
    installation, engine, _ = telling
    with receiving() as ours, receiving() as theirs:
        secrets = {}
        for client_id, receiver in ((two_clients.contoso, ours), (two_clients.fabrikam, theirs)):
            # Neither asked for offboardings: the input alone is what sends it.
            _, secrets[client_id] = webhooks.add_target(
                installation, name=f"hook{client_id}", url=receiver.address, client_id=client_id, events=["run.held"],
                actor="ann",
            )  # fmt: skip
        collect = Collector()
        quiet, _ = offboard(installation, engine, "max@fabrikam.example")
        run, steps = offboard(installation, engine, "john@contoso.example", notify_webhook=True)
        assert (steps[WEBHOOK].state, (steps[WEBHOOK].result or {})["webhooks"]) == (
            "succeeded", [f"hook{two_clients.contoso}"]
        )  # fmt: skip
        assert run.state == quiet.state == "succeeded"
        ours.status = 503
        collect(installation)
        assert len(deliver(installation).waiting) == 1, "it did not arrive, so it is kept"
        ours.status = 200
        _due(installation)
        assert len(deliver(installation).delivered) == 1
        _check(ours, secrets[two_clients.contoso], run)
        assert theirs.received == []


def _due(installation: Installation) -> None:
    from sqlalchemy import update

    from agent.model.base import utcnow
    from agent.model.webhooks import WebhookDelivery

    with installation.database.session() as session:
        session.execute(update(WebhookDelivery).values(next_attempt_at=utcnow()))


def _check(receiver: Receiver, secret: str, run: ScriptRun) -> None:
    (_, first), (headers, body) = receiver.received
    assert first == body
    timestamp, given = (part.partition("=")[2] for part in headers["exeunt-signature"].split(","))
    assert given == hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    message = json.loads(body)
    assert message["event"] == "offboarding.finished" and message["client"]["slug"] == "contoso"
    assert message["data"]["run_id"] == run.id and message["data"]["state"] == "succeeded"
    assert message["data"]["success"][0] == "Close it (task for people)"


def test_who_asks_for_a_webhook_where_there_is_none_is_told(
    telling: tuple[Installation, PlayedEngine, Leavers], two_clients: Places
) -> None:
    installation, engine, _ = telling
    webhooks.add_target(
        installation, name="theirs", url="https://hooks.example.com/", client_id=two_clients.fabrikam, actor="ann"
    )
    run, steps = offboard(installation, engine, "john@contoso.example", notify_webhook=True)
    assert (steps[WEBHOOK].error or {})["type"] == "no_webhook" and run.state == "partial"


def test_the_result_is_a_note_on_the_psas_ticket(
    telling: tuple[Installation, PlayedEngine, Leavers], two_clients: Places, start_two: Any
) -> None:
    installation, engine, leavers = telling
    peer, other = start_two(ConnectWisePeer)
    for client_id, psa in ((two_clients.contoso, peer), (two_clients.fabrikam, other)):
        credentials.add(
            installation, kind="connectwise_psa", name=f"psa{client_id}", client_id=client_id, settings=psa.settings(),
            secret={"private_key": psa.private_key}, actor="ann",
        )  # fmt: skip
    defaults = {"Company": "contoso", "Board": "Help Desk", "Closed Status": "Completed"}
    with installation.database.session() as session:
        for name, value in defaults.items():
            extra_fields.define(session, form=Form.CLIENT, name=f"ConnectWise PSA {name}", actor="ann")
            field_values.set_value(
                session, Form.CLIENT, two_clients.contoso, f"ConnectWise PSA {name}", value, actor="ann"
            )
    listed(
        installation,
        ["ConnectWise PSA - Create Ticket", "Closer - Offboarding"],
        ["ConnectWise PSA - Close Ticket"],
    )
    with installation.database.session() as session:
        # He is nobody's contact in that PSA.
        session.get_one(_contact(), leavers.john).email = "mia@contoso.test"
    run, steps = offboard(installation, engine, "mia@contoso.test", notify_psa=True)
    assert steps[PSA].state == "succeeded", steps[PSA].error
    (number,) = set(peer.state["tickets"]) - {7}
    made = peer.state["tickets"][number]
    said = [note["text"] for note in made["notes"]]
    assert made["status"] == "Completed"
    assert sum("Offboarding status on John" in text and "Close it" in text for text in said) == 1, said
    report = write_exit_report(installation, run.id, actor="ann", formats=["json"]).document
    assert report["psa_updates"]["offboarding_ticket"] == {
        "created": True, "ticket_id": str(number), "status": "Completed", "assigned_to": None
    }  # fmt: skip
    assert not [c for c in rows(installation, TicketComment) if "kept by Exeunt" in c.text], "it is said once"
    # The other client lists the package and has no company in the PSA: it keeps no ticket there.
    run, steps = offboard(installation, engine, "max@fabrikam.example", notify_psa=True)
    assert steps[PSA].state == "skipped" and "made no ticket" in (steps[PSA].result or {})["reason"]
    assert steps["Comment result to PSA"].state == "skipped"
    assert other.requests == [] and len(peer.state["tickets"]) == 2
    (ticket,) = [t for t in rows(installation, Ticket) if t.key == f"offboarding:contact:{leavers.max}"]
    texts = ticket.body + "".join(c.text for c in rows(installation, TicketComment) if c.ticket_id == ticket.id)
    assert "ConnectWise PSA made no ticket in this offboarding" in texts


def _contact() -> Any:
    from agent.model.places import Contact

    return Contact


def test_without_a_psa_the_ticket_is_here_and_says_so(
    telling: tuple[Installation, PlayedEngine, Leavers], two_clients: Places
) -> None:
    installation, engine, leavers = telling
    properties.set_value(installation, properties.ALERT_TYPE, "", actor="ann")
    run, steps = offboard(installation, engine, "john@contoso.example", notify_psa=True)
    assert run.state == "succeeded"
    (ticket,) = [t for t in rows(installation, Ticket) if t.subject.startswith("Offboarding")]
    assert "no package of a PSA is listed for this client" in ticket.body and "Close it" in ticket.body
    assert ticket.client_id == two_clients.contoso and (steps[PSA].result or {})["ticket"] == str(ticket.id)
    with installation.database.reading() as session:
        assert field_values.effective_value(session, Form.CONTACT, leavers.john, "Offboarding Ticket").value == str(
            ticket.id
        )
    assert "Comment result to PSA" not in steps


class _Post:
    def __init__(self) -> None:
        self.taken: list[tuple[list[str], bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.taken.append((envelope.rcpt_tos, envelope.content))
        return "250 taken"


def test_the_result_arrives_by_mail(telling: tuple[Installation, PlayedEngine, Leavers], two_clients: Places) -> None:
    from aiosmtpd.controller import Controller

    installation, engine, _ = telling
    with installation.database.session() as session:
        field_values.set_value(
            session, Form.CLIENT, two_clients.contoso, "it_notification_recipients", "it@contoso.example", actor="ann"
        )
    _, silent = offboard(installation, engine, "max@fabrikam.example")
    assert silent[MAIL].state == "skipped"
    _, steps = offboard(installation, engine, "john@contoso.example", notify_email=True)
    assert steps[MAIL].state == "succeeded", steps[MAIL].error
    post = _Post()
    with kept_port() as port:
        controller = Controller(post, hostname="127.0.0.1", port=port, ready_timeout=120)
        controller.start()
    try:
        values = {"smtp_host": "127.0.0.1", "smtp_port": controller.port, "smtp_security": "none"}
        sending = Installation(installation.settings.model_copy(update=values))
        mail.deliver(sending)
        sending.database.close()
    finally:
        controller.stop()
    results = [(to, text) for to, text in post.taken if b"Offboarding status on John" in text]
    assert [to for to, _ in results] == [["it@contoso.example"]] and b"Close it" in results[0][1]
    # Who started it is told where nobody is named.
    _, steps = offboard(installation, engine, "max@fabrikam.example", notify_email=True)
    (last,) = [n for n in rows(installation, Notification) if n.id == (steps[MAIL].result or {}).get("mail")]
    assert last.recipient == "ann@msp.example"
