"""What a message about a leaver can say, and its wording: shipped, or a client's own.

A template is the file `NAME.j2`: the first line is `Subject: ...`, then an empty line, then the body. A client's own stands
in `<workspace>/content/messages/clients/<slug>/NAME.j2` and takes the place of the shipped one. Jinja2 in its sandbox; a name
that is missing is an error. Values are one line each, so nobody's name adds a line to a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlmodel import Session

from agent import shipped
from agent.errors import StepError
from agent.functions import exit_people as people
from agent.functions.base import Context
from agent.functions.exit_facts import Facts, gather
from agent.functions.exit_table import TABLE
from agent.model.places import Contact
from agent.model.runs import ScriptRun
from agent.services.tickets import one_line

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
BODY_LENGTH, VALUE_LENGTH = 100_000, 2_000


def values(context: Context, session: Session) -> dict[str, Any]:
    """Everything that a template may use, cleaned; as it is now, so a message tells the steps before it."""
    run = session.get(ScriptRun, context.root_id)
    inputs = people.inputs_of(session, run)
    contact = session.get(Contact, context.target_id) if context.target_kind == "contact" else None
    name = str((context.places.get(context.target_kind) or {}).get("name", context.target_id))
    info = people.employee_info(session, contact, name, inputs)
    facts = gather(context.finished_steps(), TABLE)
    equipment = [] if contact is None else people.equipment_of(session, context.target_id)
    kept = people.retention(session, context.places, context.root_id, inputs)
    high = is_high_risk(info, inputs, contact)
    found = {
        "person": info,
        "client": str((context.places.get("client") or {}).get("name", "")),
        "run": context.root_id,
        "script": context.root_script,
        "started_by": context.started_by,
        "done": facts.completed_labels,
        "failed": [_failed(f) for f in facts.failed],
        "access": _access(facts),
        "equipment": [_thing(e) for e in people.pending_return(equipment)],
        "tasks": [] if run is None else [_task(t) for t in people.tasks_of(session, run) if t.state == "open"],
        "deductions": [_thing(e) for e in equipment if e.state in ("missing", "damaged")],
        "retention": {"days": kept.days, "deletion_on": kept.deletion_on, "legal_hold": bool(kept.legal_hold)},
        "risk_level": "high" if high else "standard",
        "privileged": bool(contact and contact.is_privileged),
        "exit_document": str(inputs.get("exit_document_template") or ""),
        "account_disabled": facts.account_disabled,
        "data_at_risk": facts.data_at_risk,
    }
    cleaned: dict[str, Any] = _clean(found)
    return cleaned


def is_high_risk(info: Mapping[str, Any], inputs: Mapping[str, Any], contact: Contact | None) -> bool:
    """Not the leaver's own wish, at once, or somebody with administrator rights (seed 002, "High-Risk Terminations")."""
    at_once = str(inputs.get("immediate_disable")).lower() in ("true", "1")
    return info.get("termination_type") == "involuntary" or at_once or bool(contact and contact.is_privileged)


def render(workspace: Path, slug: str, name: str, found: Mapping[str, Any]) -> tuple[str, str]:
    """Subject and body of a message. Raises StepError naming the file and what is wrong with it."""
    from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if not _NAME.fullmatch(name):
        raise _fault(Path(f"{name}.j2"), "its name may hold letters, digits, hyphens and underscores only")
    own = own_file(workspace, slug, name)
    file = own if own.is_file() else shipped.path("alert_templates", "messages", f"{name}.j2")
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    try:
        text = environment.from_string(file.read_text(encoding="utf-8")).render(found)
    except TemplateSyntaxError as error:
        raise _fault(file, f"line {error.lineno}: {error.message}") from error
    except (TemplateError, ArithmeticError, TypeError, ValueError, OSError) as error:
        raise _fault(file, str(error)) from error
    first, _, body = text.partition("\n")
    if not first.startswith("Subject:") or not one_line(first[8:]):
        raise _fault(file, "the first line must be `Subject: ...`")
    return one_line(first[8:])[:500], body.strip("\n")[:BODY_LENGTH] + "\n"


def own_file(workspace: Path, slug: str, name: str) -> Path:
    """Where a client's own wording stands. The database lets only letters, digits and hyphens into a slug."""
    return workspace / "content" / "messages" / "clients" / slug / f"{name}.j2"


def _fault(file: Path, reason: str) -> StepError:
    return StepError(
        f"the message {file.name} cannot be filled in: {one_line(reason)}", type="wrong_template",
        impact="Nobody was told by this step.", remediation=f"Mend {file}, then retry the run",
    )  # fmt: skip


def _failed(failed: Any) -> dict[str, Any]:
    said = failed.failure
    return {
        "label": failed.label, "message": said.message, "impact": said.impact, "remediation": said.remediation,
        "critical": said.critical,
    }  # fmt: skip


def _access(facts: Facts) -> dict[str, Any]:
    """What somebody was given of the leaver's."""
    data = "data_preservation"
    return {
        "delegates": [d for d in facts.get(f"{data}.mailbox_conversion.delegates_granted") or [] if d.get("granted")],
        "mailbox": facts.get(f"{data}.mailbox_conversion.shared_mailbox_email"),
        "forward_to": facts.get(f"{data}.email_forwarding.forward_to"),
        "forwarding_expires": facts.get(f"{data}.email_forwarding.forwarding_expires"),
        "onedrive_to": facts.get(f"{data}.onedrive_transfer.transferred_to"),
        "onedrive_url": facts.get(f"{data}.onedrive_transfer.onedrive_url"),
        "out_of_office": facts.get(f"{data}.out_of_office.enabled"),
    }


def _thing(thing: Any) -> dict[str, Any]:
    return {
        "kind": thing.kind or thing.name, "name": thing.name, "asset_tag": thing.asset_tag, "serial": thing.serial,
        "quantity": thing.quantity, "state": thing.state, "due": thing.due, "value": thing.value,
    }  # fmt: skip


def _task(task: Any) -> dict[str, Any]:
    return {"title": task.title, "owner": task.owner, "due": task.due, "matter": task.matter}


def _clean(found: Any) -> Any:
    if isinstance(found, str):
        return one_line(found[: VALUE_LENGTH * 2])[:VALUE_LENGTH]
    if isinstance(found, Mapping):
        return {k: _clean(v) for k, v in found.items()}
    return [_clean(v) for v in found] if isinstance(found, list | tuple) else found
