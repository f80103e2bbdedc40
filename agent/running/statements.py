"""The statements that run for every target and every step, made once: building them anew costs more than executing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Executable, Row, RowMapping, Table, Update, bindparam, or_, select, update
from sqlmodel import Session, SQLModel

from agent.model import places, runs
from agent.model.runs import ACTIVE_RUN_STATES, StepState

#: These bring the tables into SQLModel.metadata.
_MODULES = (places, runs)
_TABLES = SQLModel.metadata.tables
_RUN: Table = _TABLES["script_run"]
_STEP: Table = _TABLES["run_step"]
_COMPUTER: Table = _TABLES["computers"]


def _set(table: Table, *columns: str) -> Update:
    """An update of one row by its id; a value's name is its column's."""
    found = update(table).where(table.c.id == bindparam("of_id"))
    return found.values({name: bindparam(name, type_=table.c[name].type) for name in columns})


_SEGMENT = select(_RUN.c.segment, _RUN.c.cancel_requested_at, _RUN.c.cancelled_by).where(
    _RUN.c.id == bindparam("of_id")
)
_ACTIVE = select(_RUN.c.id, _RUN.c.script, _RUN.c.state, _RUN.c.exclusive).where(
    _RUN.c.target_kind == bindparam("of_kind"), _RUN.c.target_id == bindparam("of_id"), _RUN.c.parent_id.is_(None),
    _RUN.c.state.in_([state.value for state in ACTIVE_RUN_STATES]),
)  # fmt: skip
_RUN_STARTED = _set(_RUN, "state", "started_at")
_RUN_ENDED = _set(_RUN, "state", "finished_at", "result")
_FENCE = _STEP.c.fence == bindparam("of_fence")
_STEP_TAKEN = _set(_STEP, "state", "fence", "attempts", "not_before", "started_at").where(
    _FENCE, _STEP.c.state.in_([StepState.WAITING.value, StepState.RUNNING.value])
)
_STEP_STORED = _set(_STEP, "state", "finished_at", "result", "error", "output").where(_FENCE)
_SEEN = (
    update(_COMPUTER)
    .where(
        _COMPUTER.c.computerid == bindparam("of_id"),
        or_(_COMPUTER.c.lastcontact.is_(None), _COMPUTER.c.lastcontact < bindparam("at", type_=_COMPUTER.c.lastcontact.type)),
    )
    .values(lastcontact=bindparam("at", type_=_COMPUTER.c.lastcontact.type))
)  # fmt: skip


def segment_of(session: Session, run_id: str) -> RowMapping | None:
    """`segment`, `cancel_requested_at` and `cancelled_by` of a root run; None when there is no such run."""
    return session.connection().execute(_SEGMENT, {"of_id": run_id}).mappings().first()


def active_runs(session: Session, kind: str, target_id: int) -> Sequence[Row[Any]]:
    """`id`, `script`, `state` and `exclusive` of the root runs of a target that are not over."""
    return session.execute(_ACTIVE, {"of_kind": kind, "of_id": target_id}).all()


def run_started(session: Session, run_id: str, values: Mapping[str, Any]) -> None:
    """`state` and `started_at`."""
    session.connection().execute(_RUN_STARTED, {"of_id": run_id, **values})


def run_ended(session: Session, run_id: str, values: Mapping[str, Any]) -> None:
    """`state`, `finished_at` and `result`."""
    session.connection().execute(_RUN_ENDED, {"of_id": run_id, **values})


def take_step(session: Session, step_id: str, fence: int, values: Mapping[str, Any]) -> bool:
    """Take a step that waits or was under way, with its new `fence`. False when its fence is not this one."""
    return _changed(session, _STEP_TAKEN, {"of_id": step_id, "of_fence": fence, **values})


def store_step(session: Session, step_id: str, fence: int, values: Mapping[str, Any]) -> bool:
    """Store what became of a step. False when it was taken under another fence since."""
    return _changed(session, _STEP_STORED, {"of_id": step_id, "of_fence": fence, **values})


def computer_seen(session: Session, computer_id: int, at: Any) -> None:
    """A body ran on the computer: that is a contact."""
    session.connection().execute(_SEEN, {"of_id": computer_id, "at": at})


def _changed(session: Session, statement: Executable, values: Mapping[str, Any]) -> bool:
    return session.connection().execute(statement, dict(values)).rowcount == 1
