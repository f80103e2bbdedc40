"""The statements that run for every target and every step, made once: building them anew costs more than executing them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

from sqlalchemy import RowMapping, Table, Update, and_, bindparam, func, or_, select, update
from sqlmodel import Session, SQLModel

from agent.model import places, runs
from agent.model.base import utcnow
from agent.model.runs import ACTIVE_RUN_STATES, RunState, StepState

#: These bring the tables into SQLModel.metadata.
_MODULES = (places, runs)
_TABLES = SQLModel.metadata.tables
_RUN: Table = _TABLES["script_run"]
_STEP: Table = _TABLES["run_step"]
_COMPUTER: Table = _TABLES["computers"]
#: Targets that are asked about by one statement.
_AT_ONCE = 500
Kind = Literal["run", "step"]
_BY_KIND: dict[Kind, Table] = {"run": _RUN, "step": _STEP}


@cache
def _set(kind: Kind, columns: tuple[str, ...]) -> Update:
    """An update of one row by its id; a value's name is its column's."""
    table = _BY_KIND[kind]
    found = update(table).where(table.c.id == bindparam("of_id"))
    return found.values({name: bindparam(name, type_=table.c[name].type) for name in columns})


_LOCKED = (
    select(_RUN.c.id, _RUN.c.segment, _RUN.c.state, _RUN.c.not_before, _RUN.c.cancel_requested_at, _RUN.c.cancelled_by)
    .where(_RUN.c.id.in_(bindparam("ids", expanding=True)))
    # Always in the same order, so that two workers cannot wait for each other.
    .order_by(_RUN.c.id)
    .with_for_update()
)
_FENCES = select(_STEP.c.id, _STEP.c.fence).where(
    _STEP.c.root_id.in_(bindparam("ids", expanding=True)),
    _STEP.c.state.in_([StepState.WAITING.value, StepState.RUNNING.value]),
)
#: The state alone may choose the index: a client's runs, and those without a parent, are all that there ever were.
_DUE = (
    select(_RUN.c.id)
    .where(
        _RUN.c.state.in_([RunState.QUEUED.value, RunState.RUNNING.value]),
        func.coalesce(_RUN.c.parent_id, "") == "",
        _RUN.c.client_id + 0 == bindparam("of_client"),
        # What is under way and does not wait is in somebody's hands.
        or_(
            and_(_RUN.c.state == RunState.QUEUED.value, _RUN.c.not_before.is_(None)),
            _RUN.c.not_before <= bindparam("now", type_=_RUN.c.not_before.type),
        ),
        _RUN.c.id.not_in(bindparam("known", expanding=True)),
    )
    .order_by(_RUN.c.created_at, _RUN.c.id)
    .limit(bindparam("most"))
)
_ACTIVE = select(_RUN.c.target_id, _RUN.c.id, _RUN.c.script, _RUN.c.state, _RUN.c.exclusive).where(
    _RUN.c.target_kind == bindparam("of_kind"), _RUN.c.target_id.in_(bindparam("of_ids", expanding=True)),
    _RUN.c.parent_id.is_(None), _RUN.c.state.in_([state.value for state in ACTIVE_RUN_STATES]),
)  # fmt: skip
_SEEN = (
    update(_COMPUTER)
    .where(
        _COMPUTER.c.computerid == bindparam("of_id"),
        or_(_COMPUTER.c.lastcontact.is_(None), _COMPUTER.c.lastcontact < bindparam("at", type_=_COMPUTER.c.lastcontact.type)),
    )
    .values(lastcontact=bindparam("at", type_=_COMPUTER.c.lastcontact.type))
)  # fmt: skip


def locked_runs(session: Session, ids: Sequence[str]) -> dict[str, RowMapping]:
    """`segment`, `state`, `not_before`, `cancel_requested_at` and `cancelled_by` of root runs by id, locked until the
    transaction ends. On SQLite it holds the one write lock by then.
    """
    rows = session.connection().execute(_LOCKED, {"ids": ids}).mappings()
    return {row["id"]: row for row in rows}


def fences(session: Session, root_ids: Sequence[str]) -> dict[str, int]:
    """The fencing number of each step of these root runs that is not over."""
    return {row.id: row.fence for row in session.connection().execute(_FENCES, {"ids": root_ids})}


def due_runs(session: Session, client_id: int, known: Sequence[str], limit: int) -> list[str]:
    """Ids of the root runs of a client that may be executed now and are not `known`, the oldest first."""
    values = {"of_client": client_id, "now": utcnow(), "known": known, "most": limit}
    return [row.id for row in session.connection().execute(_DUE, values)]


def active_runs(session: Session, targets: Iterable[tuple[str, int]]) -> dict[tuple[str, int], list[Any]]:
    """`id`, `script`, `state` and `exclusive` of the root runs that are not over, by target (kind, id)."""
    by_kind: dict[str, list[int]] = {}
    for kind, target_id in targets:
        by_kind.setdefault(kind, []).append(target_id)
    found: dict[tuple[str, int], list[Any]] = {}
    for kind, ids in by_kind.items():
        for start in range(0, len(ids), _AT_ONCE):
            values = {"of_kind": kind, "of_ids": ids[start : start + _AT_ONCE]}
            for row in session.connection().execute(_ACTIVE, values):
                found.setdefault((kind, row.target_id), []).append(row)
    return found


def write(session: Session, rows: Mapping[tuple[Kind, str], Mapping[str, Any]]) -> None:
    """Set columns of runs and steps by (kind, id): one statement for all rows with the same columns."""
    alike: dict[tuple[Kind, tuple[str, ...]], list[dict[str, Any]]] = {}
    for (kind, row_id), values in rows.items():
        alike.setdefault((kind, tuple(sorted(values))), []).append({"of_id": row_id, **values})
    for (kind, columns), values_of in alike.items():
        session.connection().execute(_set(kind, columns), values_of)


def computers_seen(session: Session, seen: Mapping[int, Any]) -> None:
    """Bodies ran on these computers at these times: that is a contact."""
    if seen:
        rows = [{"of_id": computer, "at": at} for computer, at in sorted(seen.items())]
        session.connection().execute(_SEEN, rows)
