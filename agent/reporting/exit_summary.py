"""The figures of an exit report. Each is counted from the steps; what was not measured is None."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from sqlmodel import Session

from agent.functions.base import FinishedStep
from agent.functions.exit_facts import NOT_DONE, Facts
from agent.functions.exit_people import pending_return
from agent.installation import Installation
from agent.model.contacts import ManualTask
from agent.model.places import Equipment
from agent.model.runs import StepState
from agent.services import properties

_GROUPS = ("active_directory_groups", "microsoft365_groups", "teams_removed")
_BACKUPS = ("email_backup", "onedrive_backup")


def summary(
    facts: Facts, *, pending: int, tasks: int, saved: str | None, percentage: int | None, expected: str | None
) -> dict[str, Any]:
    """The section `summary`."""
    groups = [facts.get(f"group_memberships_removed.{name}") for name in _GROUPS]
    sizes = [facts.get(f"data_preservation.{name}.backup_size_gb") for name in _BACKUPS]
    licences = facts.get("licenses_reclaimed")
    return {
        "total_accounts_disabled": sum(a is True for a in facts.accounts.values()) if facts.accounts else None,
        "total_groups_removed": _sum(
            [facts.groups_elsewhere, *(None if g is None else sum(_is_out(e) for e in g) for g in groups)]
        ),
        "total_permissions_revoked": facts.permissions_revoked,
        "total_licenses_reclaimed": None if licences is None else sum(e["removed"] is True for e in licences),
        "total_assets_pending_return": pending,
        "data_backup_size_gb": None if (size := _sum(sizes)) is None else round(size, 3),
        "estimated_cost_savings_annual": saved,
        "offboarding_completion_percentage": percentage,
        "pending_manual_tasks": tasks,
        "estimated_completion_date": expected,
    }


def completion(steps: Iterable[FinishedStep]) -> int | None:
    """Steps that were done, in percent of those that had something to do, rounded down; None when none had."""
    states = [s.state for s in steps if s.state != StepState.SKIPPED]
    if not states:
        return None
    return 100 * sum(s not in NOT_DONE for s in states) // len(states)


def saving(installation: Installation, session: Session, licences: Sequence[dict[str, Any]] | None) -> str | None:
    """What the reclaimed licences cost in a year, such as `$2,340.00`; None unless every one of them has a price."""
    configured = properties.value_of(installation, session, properties.LICENCE_PRICES)
    gone = [e for e in licences or () if e.get("removed") is True]
    if not configured or not gone:
        return None
    sign, prices = properties.licence_prices(configured)
    found = [_price(prices, e) for e in gone]
    known = [price for price in found if price is not None]
    return f"{sign}{sum(known):,.2f}" if len(known) == len(found) else None


def _price(prices: dict[str, Decimal], licence: dict[str, Any]) -> Decimal | None:
    names = (licence.get(n) for n in ("sku_id", "sku_name", "license_type"))
    return next((prices[str(n).casefold()] for n in names if str(n).casefold() in prices), None)


def estimated_completion(equipment: Iterable[Equipment], tasks: Iterable[ManualTask]) -> str | None:
    """The last day on which something is due; None when nothing is open, or something has no such day."""
    due = [e.due for e in pending_return(equipment)] + [t.due for t in tasks]
    known = [d for d in due if d]
    return max(known) if known and len(known) == len(due) else None


def _is_out(entry: dict[str, Any]) -> bool:
    return entry.get("removed") is True


def _sum(values: Iterable[Any]) -> Any:
    known = [v for v in values if v is not None]
    return sum(known) if known else None
