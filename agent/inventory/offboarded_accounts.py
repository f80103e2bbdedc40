"""Which accounts an offboarding acted on, by the ids that their systems gave: addresses may be somebody else's by now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlmodel import Session, col, select

from agent.inventory.retention import last_offboarding
from agent.model.contacts import ContactOffboarding
from agent.model.runs import RunStep, ScriptRun


def offboarded_accounts(session: Session, contact_id: int) -> list[dict[str, str]] | None:
    """The accounts of the last offboarding of a person, with the runs that it repeated and its security phase.

    Each as `system` (how the functions begin: `ad`, `m365`), `place` (tenant or address, empty for `ad`), `asked` (the name
    that it was found by) and `id`, empty where the person was proven to have no account. None when nobody offboarded the person.
    """
    row = last_offboarding(session, contact_id)
    if row is None:
        return None
    steps = session.exec(
        select(RunStep).where(col(RunStep.root_id).in_(_roots(session, row))).order_by(col(RunStep.ordinal))
    )
    found = [a for step in steps for a in _of(step)]
    return [dict(known) for known in dict.fromkeys(tuple(a.items()) for a in found)]


def _roots(session: Session, row: ContactOffboarding) -> list[str]:
    roots: list[str] = []
    run_id = row.run_id
    while run_id is not None and run_id not in roots:
        roots.append(run_id)
        run = session.get(ScriptRun, run_id)
        run_id = run.retry_of if run is not None and run.target_id == row.contact_id else None
    if row.security_plan_id is not None:
        query = select(ScriptRun.id).where(
            ScriptRun.plan_id == row.security_plan_id, ScriptRun.target_kind == "contact",
            ScriptRun.target_id == row.contact_id,
        )  # fmt: skip
        roots += session.exec(query).all()
    return roots


def _of(step: RunStep) -> Iterator[dict[str, str]]:
    system, result = (step.function or "").partition(".")[0], step.result or {}
    user = result.get("user")
    if system == "ad" and result.get("cloud_only") is True:
        yield {"system": system, "place": "", "asked": str(result.get("asked")), "id": ""}
    elif system == "ad" and result.get("object_guid"):
        yield {"system": system, "place": "", "asked": str(result.get("asked")), "id": str(result["object_guid"])}
    elif isinstance(user, Mapping) and user.get("id"):
        place = str(user.get("tenant") or user.get("at") or "")
        yield {"system": system, "place": place, "asked": str(user.get("asked")), "id": str(user["id"])}
