"""What is looked at once more when the first step of an offboarding is due.

Between the plan and that moment may lie days: a plan was held, or the computer was offline. What runs is what was
planned; but a computer that somebody has excluded, unflagged or retired in the meantime is left out (CWA-10).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import select, update
from sqlmodel import Session, col

from agent.installation import Installation
from agent.inventory.effective import effective_values
from agent.inventory.flags import EXCLUDE, FieldSets, cleared_since
from agent.inventory.reach import Outcome, outcome
from agent.model.base import utcnow
from agent.model.monitors import Alert
from agent.model.places import Computer
from agent.model.runs import Plan, ScriptRun
from agent.running.targets import Target

_REASONS = {
    Outcome.RETIRED: "it was retired",
    Outcome.EXCLUDED: f"the extra field {EXCLUDE!r} was set",
    Outcome.SERVER: "it is a server now: set the extra field 'Allow Server Offboarding' to offboard it",
    Outcome.PROBE: "it is a probe now: set the extra field 'Allow Probe Offboarding' to offboard it",
}
_SINCE = "after this was planned; nothing was done"


def left_out(installation: Installation, run: ScriptRun, target: Target) -> str | None:
    """Why a planned offboarding must not begin any more, or None. Its alert asks for it again at the next scan."""
    if not run.exclusive:
        return None
    with installation.database.reading() as session:
        reason = _reason(session, run, target, installation.settings.zone)
    if reason is None:
        return None
    # Before the run ends: if this process dies in between, the run is found in the queue again.
    with installation.database.session() as session:
        again = update(Alert).where(col(Alert.id) == run.alert_id, col(Alert.closed_at).is_(None))
        session.execute(again.values(script_pending=True))
    return f"{reason} {_SINCE}"


def rests(installation: Installation, run: ScriptRun) -> str | None:
    """Why an offboarding that a monitor set off has to wait now (CWA-43), or None. A person by hand need not wait."""
    if not run.exclusive or run.target_kind != "computer":
        return None
    zone = installation.settings.zone
    with installation.database.reading() as session:
        quiet = _of_monitor(session, run) and _outcome(session, run.target_id, utcnow(), zone) is Outcome.QUIET
    return "left alone: maintenance mode, NoAlerts, or outside its hours" if quiet else None


def _reason(session: Session, run: ScriptRun, target: Target, zone: ZoneInfo) -> str | None:
    if target.kind != "computer":
        excluded = effective_values(session, target.places).is_set_anywhere(EXCLUDE)
        return _REASONS[Outcome.EXCLUDED] if excluded else None
    found = _REASONS.get(_outcome(session, target.id, utcnow(), zone))
    if found is None and run.context.get("levels") and _of_monitor(session, run):
        return "its offboarding flag was cleared" if cleared_since(session, target.id, run.created_at) else None
    return found


def _of_monitor(session: Session, run: ScriptRun) -> bool:
    plan = session.get(Plan, run.plan_id) if run.plan_id is not None else None
    return plan is not None and plan.monitor is not None


def _outcome(session: Session, computer_id: int, now: datetime, zone: ZoneInfo) -> Outcome:
    # Whether it is online is asked elsewhere, with a look at the computer itself.
    found = outcome(FieldSets(session), now - timedelta(days=36_500), zone, now)
    return Outcome(session.execute(select(found).where(col(Computer.computer_id) == computer_id)).scalar_one())
