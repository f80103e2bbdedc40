"""One of everything at Contoso, for the test that goes through all routes. Its names hold a word to look for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from web_help import Console

from agent.access import links, tokens, users
from agent.inventory import contacts, extra_fields, field_values, groups, places
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding
from agent.model.fields import Form
from agent.model.monitors import Alert
from agent.model.places import Client, Computer, Contact
from agent.model.runs import Plan, RunStep, ScriptRevision, ScriptRun
from agent.model.tickets import Ticket
from agent.model.webhooks import WebhookDelivery
from agent.secrets import create_key
from agent.services import credentials, mail, manual_tasks, properties, tickets, webhooks

#: Stands in every name of the one and of the other client.
OURS, THEIRS = "quintessa", "umbrosa"
DIGEST = "a" * 64


def make_world(console: Console) -> dict[str, str]:
    """Placeholder -> id or name of something of Contoso. What ends in 2 is for routes that take it away."""
    installation, sites = console.installation, console.places
    create_key(installation.settings)
    ids: dict[str, Any] = {
        "client_id": sites.contoso, "location_id": sites.contoso_site, "computer_id": sites.contoso_computers[0],
        "other_computer_id": sites.contoso_computers[1], "slug": "contoso", "monitor": "Offboarding",
        "script": "Remove Application", "package": "Microsoft 365", "digest": DIGEST,
        "alert_template": "△ Custom - Execute Script - Offboarding Wrapper",
    }  # fmt: skip
    with installation.database.session() as session:
        for client, computers, word in (
            (sites.contoso, sites.contoso_computers, OURS),
            (sites.fabrikam, sites.fabrikam_computers, THEIRS),
        ):
            places.change(session, session.get_one(Client, client), actor="t", name=f"{word} <b>Ltd</b>")
            for number in computers:
                computer = session.get_one(Computer, number)
                places.change(session, computer, actor="t", name=f"{word}-pc{number}")
        person = places.add_contact(
            session, client_id=sites.contoso, name=f"Ada {OURS}", actor="t", email=f"ada@{OURS}.example"
        )
        places.add_contact(session, client_id=sites.fabrikam, name=f"Bob {THEIRS}", actor="t", email="b@x.example")
        extra_fields.define(session, form=Form.CLIENT, name="Own", actor="t")
        extra_fields.define(session, form=Form.CLIENT, name="Own2", actor="t")
        field_values.set_value(session, Form.CLIENT, sites.contoso, "Own", OURS, actor="t")
        groups.add_group(session, "Pilot", actor="t")
        groups.add_group(session, "Pilot2", actor="t")
        task = manual_tasks.create(session, client_id=sites.contoso, title=f"keys of {OURS}", author="t")
        task2 = manual_tasks.create(session, client_id=sites.contoso, title=f"badge of {OURS}", author="t")
        item = contacts.assign(session, person, f"laptop of {OURS}", actor="t")
        letter = mail.queue_mail(session, key="k", client_id=sites.contoso, recipient="", subject=OURS, body="b")
        ids |= {
            "contact_id": person.contact_id, "task_id": task.id, "task_id2": task2.id,
            "equipment_id": item.equipment_id, "mail_id": letter.id, "ticket_id": _ticket(session, sites.contoso),
        }  # fmt: skip
        ids |= _runs(session, console, person)
    properties.set_value(installation, "own", "1", actor="t")
    for name in ("credential_id", "credential_id2"):
        made = credentials.add(
            installation, kind="ssh", name=f"{OURS} {name}", client_id=sites.contoso, settings={"username": "x"},
            secret={"password": "x"}, actor="t",
        )  # fmt: skip
        ids[name] = made.id
    for number in ("", "2"):
        target, _ = webhooks.add_target(
            installation, name=f"{OURS}{number}", url="https://h.example/", client_id=sites.contoso, actor="t"
        )
        source, _ = webhooks.add_source(
            installation, name=f"{OURS}{number}", kind="hr", client_id=sites.contoso, actor="t"
        )
        ids |= {f"target_id{number}": target.id, f"source_id{number}": source.id}
        spare = users.create(installation, f"spare{number or 1}", actor="t")
        ids[f"user_id{number}"] = spare.id
        ids[f"token_id{number}"] = tokens.create(installation, spare.id, name="t", scopes=None, days=1, actor="t")[0]
    ids["link"] = links.password_link(installation, ids["user_id"], actor="t").rpartition("/")[2]
    with installation.database.session() as session:
        delivery = WebhookDelivery(target_id=ids["target_id"], event_id="e", event="run.held", state="failed", client_id=sites.contoso)  # fmt: skip
        session.add(delivery)
        ids["delivery_id"] = delivery.id
    return {name: str(value) for name, value in ids.items()}


def _ticket(session: Any, client_id: int) -> int | None:
    made: Ticket = tickets.open_or_comment(
        session, key="k", client_id=client_id, subject=f"about {OURS}", body="<script>alert(1)</script>", author="t"
    )
    return made.id


def _runs(session: Any, console: Console, person: Contact) -> dict[str, Any]:
    """A run that is over, one that waits, a plan that is held, an alert, a planned offboarding."""
    sites = console.places
    for digest in (DIGEST, "b" * 64):
        content = {"definition": {"name": "x"}, "bodies": {}}
        session.add(ScriptRevision(digest=digest, name="Remove Application", content=content))
    alert = Alert(
        monitor="Offboarding", target_kind="computer", target_id=sites.contoso_computers[0], identity=OURS,
        client_id=sites.contoso,
    )  # fmt: skip
    plan = Plan(created_by="t", state="held", holds=[{"guardrail": "first_run", "reason": f"of {OURS}"}])
    plan2 = Plan(created_by="t", state="held", holds=[{"guardrail": "first_run", "reason": f"of {OURS}"}])
    planned = ContactOffboarding(
        contact_id=person.contact_id, client_id=sites.contoso, requested_by="t", reference=OURS
    )
    session.add_all([alert, plan, plan2, planned])
    session.flush()
    over = _run(sites, "contoso", 0, state="failed", started_at=utcnow(), finished_at=utcnow(), result={})
    waiting = _run(sites, "contoso", 0, state="queued", not_before=utcnow() + timedelta(days=1))
    held = _run(sites, "contoso", 1, state="held", plan_id=plan.id)
    held2 = _run(sites, "contoso", 1, state="held", plan_id=plan2.id, script="Other")
    session.add_all([over, waiting, held, held2, _run(sites, "fabrikam", 0, state="running")])
    session.flush()
    step = RunStep(
        root_id=over.id, ordinal=1, run_id=over.id, position=1, name="Step", state="failed",
        output={"bodies": [{
            "body": "body", "script": "x", "exit_code": 1, "stdout": {"text": OURS, "bytes": 9}, "stderr": {},
        }]},
    )  # fmt: skip
    session.add(step)
    return {
        "run_id": over.id, "waiting_run_id": waiting.id, "step_id": step.id, "plan_id": plan.id, "plan_id2": plan2.id,
        "alert_id": alert.id, "offboarding_id": planned.id,
    }  # fmt: skip


def _run(sites: Any, client: str, number: int, **values: Any) -> ScriptRun:
    computer = getattr(sites, f"{client}_computers")[number]
    word = OURS if client == "contoso" else THEIRS
    revision = DIGEST if client == "contoso" else "b" * 64
    given = {
        "script": f"Remove Application {values['state']}", "role": "child", "revision": revision, "target_kind": "computer",
        "target_id": computer, "target_name": f"{word}-pc{computer}", "client_id": getattr(sites, client), "started_by": "t",
    }  # fmt: skip
    return ScriptRun(**{**given, **values})
