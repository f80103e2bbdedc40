"""Named templates of offboarding options, and who uses them without naming them: clients, a user, everybody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlmodel import Session, col, select

from agent import audit
from agent.content.user_inputs import INPUTS, parameter
from agent.errors import Conflict, NotFound, UsageError
from agent.inventory.lookup import get
from agent.model.base import utcnow
from agent.model.contacts import OffboardingTemplate, OffboardingTemplateUse
from agent.model.places import Client
from agent.running.input_layers import Layer, combine, read

#: Inputs that belong to one person, so that no template has them.
PERSONAL = (
    "employee_email",
    "employee_id",
    "termination_date",
    "last_working_day",
    "company_name",
    "equipment_to_return",
)


def save(
    session: Session, name: str, options: Mapping[str, Any], *, actor: str, description: str | None = None
) -> OffboardingTemplate:
    """Store a template, or replace its options. Raises UsageError for an option that cannot be, or that is personal."""
    if not name.strip() or not name.isprintable() or name != name.strip():
        raise UsageError(f"{name!r} is no name of a template: one line of printable characters")
    personal = sorted(set(options) & set(PERSONAL))
    if personal:
        raise UsageError(f"{personal[0]} belongs to one person and cannot stand in a template")
    layer = Layer(f"template {name}", dict(options))
    combine([layer])
    stored = {n: parameter(v) for n, v in read(layer).items()}
    template = session.get(OffboardingTemplate, name)
    old = template.options if template else None
    template = template or OffboardingTemplate(name=name, changed_by=actor)
    template.options, template.changed_at, template.changed_by = stored, utcnow(), actor
    if description is not None:
        template.description = description
    session.add(template)
    session.flush()
    _record(session, "offboarding_template.save", name, actor, {"old": old, "new": stored})
    return template


def remove(session: Session, name: str, *, actor: str) -> None:
    """Remove a template. Raises NotFound; Conflict while somebody uses it."""
    template = _get(session, name)
    uses = session.exec(select(OffboardingTemplateUse).where(OffboardingTemplateUse.template == name)).all()
    if uses:
        raise Conflict(f"{len(uses)} clients or users use the template {name!r}: unassign it first")
    session.delete(template)
    session.flush()
    _record(session, "offboarding_template.remove", name, actor, {"old": template.options})


def assign(
    session: Session, name: str, *, actor: str, client_ids: Iterable[int] = (), users: Iterable[str] = (),
    everyone: bool = False,
) -> int:  # fmt: skip
    """Let clients (many at once), users or everybody use a template; how many did not before. Raises NotFound."""
    _get(session, name)
    keys = [("client", str(get(session, Client, c).client_id)) for c in client_ids]
    keys += [("user", user) for user in users] + ([("everyone", "")] if everyone else [])
    if not keys:
        raise UsageError("say who uses it: clients, users or everybody")
    changed = 0
    for kind, key in keys:
        use = session.get(OffboardingTemplateUse, (kind, key))
        if use is not None and use.template == name:
            continue
        old = use.template if use else None
        use = use or OffboardingTemplateUse(kind=kind, key=key, template=name, assigned_by=actor)
        use.template, use.assigned_by, use.assigned_at = name, actor, utcnow()
        session.add(use)
        session.flush()
        changed += 1
        client_id = int(key) if kind == "client" else None
        details = {"kind": kind, "key": key, "old": old}
        _record(session, "offboarding_template.assign", name, actor, details, client_id)
    return changed


def unassign(
    session: Session, *, actor: str, client_ids: Iterable[int] = (), users: Iterable[str] = (), everyone: bool = False
) -> int:
    """The opposite, whatever template it is; how many used one."""
    keys = [("client", str(c)) for c in client_ids] + [("user", u) for u in users]
    gone = 0
    for kind, key in [*keys, *([("everyone", "")] if everyone else [])]:
        use = session.get(OffboardingTemplateUse, (kind, key))
        if use is not None:
            session.delete(use)
            session.flush()
            gone += 1
            client_id = int(key) if kind == "client" else None
            _record(
                session, "offboarding_template.unassign", use.template, actor, {"kind": kind, "key": key}, client_id
            )
    return gone


def templates(session: Session) -> list[tuple[OffboardingTemplate, list[OffboardingTemplateUse]]]:
    """All templates by name, each with who uses it."""
    uses: dict[str, list[OffboardingTemplateUse]] = {}
    order = (col(OffboardingTemplateUse.kind), col(OffboardingTemplateUse.key))
    for use in session.exec(select(OffboardingTemplateUse).order_by(*order)):
        uses.setdefault(use.template, []).append(use)
    found = session.exec(select(OffboardingTemplate).order_by(col(OffboardingTemplate.name)))
    return [(template, uses.get(template.name, [])) for template in found]


def read_options(pairs: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE` as given on a command line. Raises UsageError."""
    options: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in INPUTS:
            raise UsageError(f"{pair!r} sets no input: write NAME=VALUE; `exeunt offboard inputs` lists the names")
        options[name] = value
    return options


def _get(session: Session, name: str) -> OffboardingTemplate:
    template = session.get(OffboardingTemplate, name)
    if template is None:
        raise NotFound(f"there is no template of offboarding options {name!r}: exeunt offboard template list")
    return template


def _record(
    session: Session, action: str, name: str, actor: str, details: Mapping[str, Any], client_id: int | None = None
) -> None:
    audit.record(
        session, actor=actor, action=action, object_kind="offboarding template", object_id=name, client_id=client_id,
        details=dict(details),
    )  # fmt: skip
