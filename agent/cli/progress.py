"""Showing runs while they are executed: a live table on a terminal, else one line per change, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlmodel import col, select

from agent.cli.output import cell, clean, tell
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.places import Client
from agent.model.runs import FINISHED_STEP_STATES, RunStep, ScriptRun
from agent.reporting.summary import summarise_finished
from agent.running.liveness import Liveness
from agent.services.mail import deliver

_POLL_SECONDS = 0.15
#: A run that waits longer than this for its computer is not waited for.
LONG_WAIT = timedelta(minutes=1)


@dataclass(frozen=True)
class Progress:
    """How far a run has come. `steps` are (name, state) in their order."""

    id: str
    #: `Contoso/PC1`
    name: str
    target: str
    state: str
    finished: bool
    waits_until: datetime | None
    steps: tuple[tuple[str, str], ...]

    @property
    def done(self) -> int:
        """Number of steps that are over."""
        return sum(state in FINISHED_STEP_STATES for _, state in self.steps)

    @property
    def current(self) -> str:
        """The step that is under way."""
        return next((name for name, state in self.steps if state == "running"), "")


class _View(Protocol):
    def show(self, runs: Sequence[Progress]) -> None:
        """Show the present state."""


def progress(installation: Installation, run_ids: Sequence[str]) -> list[Progress]:
    """The present state of root runs, in the given order."""
    found: dict[str, Progress] = {}
    with installation.database.reading() as session:
        for start in range(0, len(run_ids), 500):
            ids = run_ids[start : start + 500]
            steps: dict[str, list[tuple[str, str]]] = {i: [] for i in ids}
            query = select(RunStep.root_id, RunStep.name, RunStep.state).where(col(RunStep.root_id).in_(ids))
            for root_id, name, state in session.exec(query.order_by(col(RunStep.root_id), col(RunStep.ordinal))):
                steps[root_id].append((name, str(state)))
            runs = (
                select(ScriptRun, Client.name)
                .join(Client, col(Client.client_id) == ScriptRun.client_id)
                .where(col(ScriptRun.id).in_(ids))
            )
            for run, client in session.exec(runs):
                found[run.id] = Progress(
                    run.id, f"{client}/{run.target_name}", run.target_name, str(run.state), run.finished_at is not None, run.not_before,
                    tuple(steps[run.id]),
                )  # fmt: skip
    return [found[i] for i in run_ids if i in found]


def follow(installation: Installation, run_ids: Sequence[str]) -> list[Progress]:
    """Show runs until each is over, held, or waits longer than a minute; their last state."""
    with _view() as view:
        while True:
            runs = progress(installation, run_ids)
            view.show(runs)
            if all(_settled(run) for run in runs):
                return runs
            time.sleep(_POLL_SECONDS)


def execute(installation: Installation, run_ids: Sequence[str]) -> list[Progress]:
    """Follow runs to their end; without a worker that is alive they are executed in this process."""
    if not run_ids:
        return []
    if Liveness(installation).any_alive():
        return follow(installation, run_ids)
    from agent.running.worker import Worker

    with Worker(installation):
        runs = follow(installation, run_ids)
    # Without a worker nobody else would do this.
    summarise_finished(installation)
    deliver(installation)
    return runs


def _settled(run: Progress) -> bool:
    waits = run.waits_until is not None and run.state != "running" and run.waits_until > utcnow() + LONG_WAIT
    return run.finished or run.state in ("held", "planned") or waits


@contextmanager
def _view() -> Iterator[_View]:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=8, transient=False) as live:
        yield _Table(live)


class _Lines:
    """One line for each state that changed."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, int], str] = {}
        self.waits: dict[str, datetime] = {}

    def show(self, runs: Sequence[Progress]) -> None:
        for run in runs:
            for number, (name, state) in enumerate((("", run.state), *run.steps)):
                if state != self.known.get((run.id, number), "waiting"):
                    self.known[run.id, number] = state
                    what = f"step {name}: {state}" if number else f"run {run.id} {state}"
                    tell(clean(f"{utcnow():%H:%M:%S}  {run.name}  {what}"))
            if run.waits_until and not run.finished and self.waits.get(run.id) != run.waits_until:
                self.waits[run.id] = run.waits_until
                why = f"waits until {cell(run.waits_until)} UTC: `exeunt run show {run.id}` says for what"
                tell(clean(f"{utcnow():%H:%M:%S}  {run.name}  {why}"))


class _Table:
    """A table that is drawn anew in place."""

    def __init__(self, live: Any) -> None:
        self.live = live

    def show(self, runs: Sequence[Progress]) -> None:
        from rich.table import Table
        from rich.text import Text

        from agent.cli.output import STYLES

        table = Table(box=None, pad_edge=False)
        for column in ("run", "target", "state", "steps", "now"):
            table.add_column(column, style="bold" if column == "target" else "")
        for run in runs:
            now = run.current or (
                f"waits until {cell(run.waits_until)}" if run.waits_until and not run.finished else ""
            )
            steps = f"{run.done}/{len(run.steps)}"
            state = Text(run.state, style=STYLES.get(run.state, ""))
            table.add_row(run.id, Text(clean(run.name)), state, steps, Text(clean(now)))
        self.live.update(table)
