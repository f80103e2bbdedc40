"""One summary per plan, written when all its runs are over, instead of one mail per computer (CWA-85).

The summary is stored with the plan. It is told only when the plan held several runs and one of them was started: the
end of a single one is told by its own `offboarding.report`. Mail goes out once for the whole plan; a ticket per client, as a
comment on the client's or location's informative ticket where that is open.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from agent.errors import NotFound, SettingsError
from agent.functions.offboarding import informative_key
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.places import Client, Computer, Location
from agent.model.runs import Plan, ScriptRun
from agent.reporting.run_report import iso
from agent.reporting.words import moment_text, one_line, state_word
from agent.services import mail, properties, tickets

_LISTS = ("success", "failure", "reboot_needed", "unknown")
_TITLES = {"success": "removed", "failure": "failed", "reboot_needed": "reboot needed", "unknown": "outcome unknown"}


def summarise(installation: Installation, plan_id: str) -> dict[str, Any] | None:
    """Store and tell the summary of a plan; the one that is stored already if there is one, None while runs go on.

    Doing it again tells nothing twice: it all happens in one transaction. Raises NotFound.
    """
    with installation.database.session() as session:
        plan = session.get(Plan, plan_id, with_for_update=True)
        if plan is None:
            raise NotFound(f"there is no plan {plan_id!r}")
        if plan.summary is not None:
            return plan.summary
        runs = _runs(session, plan_id)
        if plan.state in ("planned", "held") or any(r.finished_at is None for r in runs):
            return None
        document = _document(session, plan, runs)
        if len(runs) > 1 and any(r.exclusive and r.started_at is not None for r in runs):
            document["told"] = _tell(installation, session, plan, document)
        plan.summary, plan.summary_sent_at = document, utcnow()
        session.add(plan)
        return document


def summarise_finished(installation: Installation, *, limit: int = 100) -> list[str]:
    """Summarise plans whose runs are all over, oldest first, at most `limit`; their ids. Meant to be called regularly."""
    unfinished = select(ScriptRun.plan_id).where(
        col(ScriptRun.plan_id).is_not(None), col(ScriptRun.parent_id).is_(None), col(ScriptRun.finished_at).is_(None)
    )
    over = (
        select(Plan.id)
        .where(col(Plan.summary_sent_at).is_(None), col(Plan.state).in_(("released", "cancelled")))
        .where(col(Plan.id).not_in(unfinished))
        .order_by(col(Plan.created_at))
        .limit(limit)
    )
    with installation.database.reading() as session:
        ids = list(session.exec(over))
    return [plan_id for plan_id in ids if summarise(installation, plan_id) is not None]


def summary_text(document: Mapping[str, Any], *, client_id: int | None = None) -> str:
    """The summary in words; of one client only if `client_id` is given."""
    clients = [c for c in document["clients"] if client_id in (None, c["id"])]
    computers = [c for client in clients for c in client["computers"]]
    counted = Counter(c["state"] for c in computers)
    about = f"the monitor {document['monitor']}" if document["monitor"] else document["created_by"]
    lines = [
        f"Plan {document['plan']} of {one_line(about)}, {moment_text(document['created_at'])}.",
        f"{len(computers)} computers: " + ", ".join(f"{n} {state_word(s)}" for s, n in sorted(counted.items())) + ".",
    ]
    for client in clients:
        lines += ["", one_line(client["name"])]
        for computer in client["computers"]:
            lines.append(
                one_line(f"{computer['name']} ({computer['id']}): {state_word(computer['state'])}", indent="  ")
            )
            lines += [
                one_line(f"{_TITLES[key]}: {', '.join(computer[key])}", indent="    ")
                for key in _LISTS
                if computer[key]
            ]
        lines += [one_line(f"{s['computer']}: left out, {s['reason']}", indent="  ") for s in client["skipped"]]
    return "\n".join(lines) + "\n"


def _document(session: Session, plan: Plan, runs: list[ScriptRun]) -> dict[str, Any]:
    groups: dict[int, dict[str, Any]] = {}
    clients = {c.client_id: c for c in session.exec(select(Client).where(col(Client.client_id).in_(_client_ids(runs))))}

    def group(client_id: int) -> dict[str, Any]:
        client = clients.get(client_id) or session.get(Client, client_id)
        name = client.name if client else str(client_id)
        return groups.setdefault(client_id, {"id": client_id, "name": name, "computers": [], "skipped": []})

    for run in runs:
        result = run.result or {}
        group(run.client_id)["computers"].append(
            {
                "id": run.target_id, "name": run.target_name, "kind": run.target_kind, "run": run.id,
                "state": str(run.state), "levels": list(run.context.get("levels") or ()),
                **{key: list(result.get(key) or ()) for key in _LISTS},
            }
        )  # fmt: skip
    for skipped in plan.skipped:
        is_computer = skipped.get("kind", "computer") == "computer" and skipped.get("id") is not None
        computer = session.get(Computer, skipped["id"]) if is_computer else None
        if computer is not None:
            group(computer.client_id)["skipped"].append({k: skipped.get(k) for k in ("id", "computer", "reason")})
    return {
        "plan": plan.id, "monitor": plan.monitor, "created_by": plan.created_by, "created_at": iso(plan.created_at),
        "finished_at": iso(max((r.finished_at for r in runs if r.finished_at), default=None)),
        "counts": dict(sorted(Counter(str(r.state) for r in runs).items())),
        "clients": sorted(groups.values(), key=lambda g: (g["name"], g["id"])),
        "told": {"mail": None, "tickets": []},
    }  # fmt: skip


def _tell(installation: Installation, session: Session, plan: Plan, document: Mapping[str, Any]) -> dict[str, Any]:
    def value(name: str) -> str:
        return properties.value_of(installation, session, name) or ""

    try:
        types = properties.alert_types(value(properties.ALERT_TYPE))
    except ValueError as error:
        raise SettingsError(f"the system property {properties.ALERT_TYPE}: {error}") from error
    told: dict[str, Any] = {"mail": None, "tickets": []}
    if "Email" in types:
        ids = [c["id"] for c in document["clients"]]
        told["mail"] = mail.queue_mail(
            session, key=f"summary:plan:{plan.id}", client_id=ids[0] if len(ids) == 1 else None,
            recipient=value(properties.EMAIL_ADDRESS) or plan.created_by,
            subject=_subject(document["clients"]), body=summary_text(document),
        ).id  # fmt: skip
    if "Ticket" in types:
        for client in document["clients"]:
            if len(client["computers"]) > 1:
                told["tickets"] += _tell_client(session, plan, document, client, value(properties.TICKET_CATEGORY))
    return told


def _tell_client(
    session: Session, plan: Plan, document: Mapping[str, Any], client: Mapping[str, Any], category: str
) -> list[int]:
    """Comment the informative tickets that are open, else open a ticket for this plan."""
    text, origin, author = summary_text(document, client_id=client["id"]), f"summary:{plan.id}", "Offboarding summary"
    locations = select(Location.location_id).where(Location.client_id == client["id"])
    flagged: dict[str, list[int | None]] = defaultdict(list)
    for computer in client["computers"]:
        if "client" in computer["levels"]:
            flagged["client"] = [client["id"]]
        if "location" in computer["levels"] and not flagged["location"]:
            flagged["location"] = list(session.exec(locations))
    keys = [informative_key(level, place) for level, places in flagged.items() for place in places if place is not None]
    known = [t for t in (tickets.find_open(session, key) for key in keys) if t is not None and t.id is not None]
    for ticket in known:
        tickets.add_comment(session, ticket.id or 0, author=author, text=text, origin=origin, client_id=client["id"])
    if known:
        return [t.id or 0 for t in known]
    made = tickets.open_or_comment(
        session, key=f"{origin}:client:{client['id']}", client_id=client["id"], origin=origin,
        subject=_subject([client]), body=text, author=author, category=category,
    )  # fmt: skip
    return [made.id or 0]


def _subject(clients: list[Mapping[str, Any]]) -> str:
    count = sum(len(c["computers"]) for c in clients)
    return f"Offboarding summary: {count} computers of {', '.join(one_line(c['name']) for c in clients)}"


def _runs(session: Session, plan_id: str) -> list[ScriptRun]:
    query = select(ScriptRun).where(ScriptRun.plan_id == plan_id, col(ScriptRun.parent_id).is_(None))
    return list(session.exec(query.order_by(func.lower(ScriptRun.target_name), col(ScriptRun.id))))


def _client_ids(runs: list[ScriptRun]) -> set[int]:
    return {r.client_id for r in runs}
