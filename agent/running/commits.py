"""Transitions of runs, decided in memory and written together: those that come at the same moment share a transaction.

A database syncs to the disk once per transaction, and SQLite has one writer: fifty runs that end at once would wait for
each other's syncs. Each caller returns when its own transition is on disk, so nothing is less durable for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from sqlalchemy import RowMapping
from sqlmodel import Session

from agent import audit
from agent.database import Database
from agent.errors import ExeuntError, StoreError
from agent.running import statements
from agent.running.tree import RunTree


class SupersededError(ExeuntError):
    """Another worker has taken this segment over; what this one found out is not stored."""


class Changes:
    """What one transition changes: columns of runs and steps, contacts with computers, entries of the audit trail."""

    def __init__(self) -> None:
        self.rows: dict[tuple[statements.Kind, str], dict[str, Any]] = {}
        self.seen: dict[int, Any] = {}
        self.acts: list[tuple[str, audit.Act]] = []

    def change(self, kind: statements.Kind, row_id: str, values: dict[str, Any]) -> None:
        """Set columns of a run or a step."""
        self.rows.setdefault((kind, row_id), {}).update(values)

    def record(self, actor: str, act: audit.Act) -> None:
        """An entry of the audit trail."""
        self.acts.append((actor, act))

    def merge(self, other: Changes) -> None:
        """Take over the changes of another run."""
        self.rows.update(other.rows)
        self.seen.update(other.seen)
        self.acts += other.acts

    def write(self, session: Session) -> None:
        """All of it, each kind of change by one statement. The audit trail last: others wait for its head."""
        statements.write(session, self.rows)
        statements.computers_seen(session, self.seen)
        for actor, acts in groupby(self.acts, key=lambda entry: entry[0]):
            audit.record_all(session, [act for _, act in acts], actor=actor)


#: Decides on a transition, given the run's row as it is locked; changes nothing but the tree and `Changes`.
Decide = Callable[[RowMapping, Changes], Any]


def _held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass
class _Transition:
    tree: RunTree
    decide: Decide
    #: The first of a segment: the run must still be as it was loaded.
    first: bool
    over: bool = False
    result: Any = None
    error: BaseException | None = None
    changes: Changes = field(default_factory=Changes)
    #: Held until it is over, or the one that makes the next group.
    turn: threading.Lock = field(default_factory=_held)

    def check(self, row: RowMapping | None, fences: dict[str, int]) -> RowMapping:
        """Raises SupersededError unless this worker still has the run: same segment, same fencing numbers."""
        root = self.tree.root
        if row is None or row["segment"] != root.segment:
            raise SupersededError(f"segment {root.segment} of run {root.id} is over")
        if self.first and (row["state"], row["not_before"]) != (root.state, root.not_before):
            raise SupersededError(f"run {root.id} was taken, cancelled or woken by somebody else")
        if any(fences.get(step.id) != step.fence for step in self.tree.unfinished()):
            raise SupersededError(f"a step of run {root.id} was taken by another worker")
        return row


class GroupCommit:
    """Makes transitions. One per worker; safe to use from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: list[_Transition] = []
        #: Somebody makes a group, and will wake who makes the next one.
        self._busy = False

    def make(self, tree: RunTree, decide: Decide, *, first: bool = False) -> Any:
        """What `decide` returns, once everything that it changed is on disk.

        Raises SupersededError when the run is in other hands, StoreError when the database does not work; then nothing
        of it was stored, and `tree` must not be used any more.
        """
        mine = _Transition(tree, decide, first)
        with self._lock:
            self._waiting.append(mine)
            leads, self._busy = not self._busy, True
        if not leads:
            mine.turn.acquire()
        if not mine.over:
            self._make_all()
        if mine.error is not None:
            raise mine.error
        return mine.result

    def _make_all(self) -> None:
        """Make the transitions of all that wait by now, then wake them, and before them who makes the next group.

        Each is woken by a lock of its own: if all took one lock in turn, the next group would wait for all threads of
        the last one to be scheduled.
        """
        with self._lock:
            group, self._waiting = self._waiting, []
        try:
            self._make(group)
        finally:
            with self._lock:
                after = self._waiting[:1]
                self._busy = bool(after)
            for each in [*after, *group]:
                each.turn.release()

    def _make(self, group: Sequence[_Transition]) -> None:
        failure: BaseException = StoreError("the worker ended before this was stored")
        stored = False
        try:
            with self._database.session() as session:
                self._decide_and_write(session, group)
            stored = True
        except Exception as error:  # noqa: BLE001 - each of the group is told, in its own thread
            failure = error
        finally:
            for each in group:
                each.over = True
                if not stored and each.error is None:
                    each.error = failure

    def _decide_and_write(self, session: Session, group: Sequence[_Transition]) -> None:
        ids = sorted(each.tree.root.id for each in group)
        rows, fences = statements.locked_runs(session, ids), statements.fences(session, ids)
        changes = Changes()
        for each in group:
            root = each.tree.root
            try:
                row = each.check(rows.get(root.id), fences)
                each.result = each.decide(row, each.changes)
            except SupersededError as error:
                each.error = error
            else:
                changes.merge(each.changes)
        changes.write(session)
