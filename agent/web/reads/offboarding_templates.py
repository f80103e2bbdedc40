"""Named templates of offboarding options, kept to those that one may know: what one says may name people of a client."""

from __future__ import annotations

from collections.abc import Iterable

from sqlmodel import Session

from agent.access.principal import Permission, Principal
from agent.errors import NotFound
from agent.model.contacts import OffboardingTemplate, OffboardingTemplateUse
from agent.running.offboarding_templates import templates


def known_templates(
    session: Session, who: Principal
) -> list[tuple[OffboardingTemplate, list[OffboardingTemplateUse]]]:  # fmt: skip
    """The templates that one may see, by name, each with those of its uses that one may see.

    Somebody who does not see the whole server knows those that everybody, a client of theirs or they themselves use.
    """
    whole = who.can(Permission.SEE)
    found = [(t, [u for u in uses if whole or _may_know(who, u)]) for t, uses in templates(session)]
    return [(template, uses) for template, uses in found if whole or uses]


def require_templates(session: Session, who: Principal, names: Iterable[str | None]) -> None:
    """Raises NotFound unless one may know each of the named templates, and so may read it; None and empty name none."""
    wanted = {name for name in names if name}
    missing = wanted - {t.name for t, _ in known_templates(session, who)} if wanted else set()
    if missing:
        raise NotFound(f"there is no template of offboarding options {min(missing)!r}")


def _may_know(who: Principal, use: OffboardingTemplateUse) -> bool:
    if use.kind == "client":
        return who.can(Permission.SEE, int(use.key))
    return use.kind == "everyone" or use.key == who.name
