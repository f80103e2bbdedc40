"""One run as its page shows it: the tree of scripts and steps, what each wrote, and what one may do now."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sqlmodel import Session, col, func, select

from agent.access.principal import Permission, Principal
from agent.audit import mask
from agent.errors import NotFound
from agent.functions.results import unverified
from agent.installation import Installation
from agent.inventory.lookup import MODELS
from agent.model.base import utcnow
from agent.model.fields import Form
from agent.model.runs import RunState, RunStep, ScriptRun, StepState
from agent.running.tree import RunTree, load_tree

STREAMS = ("stdout", "stderr")
#: Characters of an output that the page itself shows; the rest is behind a link.
SHOWN = 4_000


class Output(BaseModel):
    """What one body of a step wrote to one stream."""

    title: str
    body: int
    stream: str
    text: str
    bytes: int
    #: `text` is its end, and there is more.
    more: bool
    live: bool = False


class StepView(BaseModel):
    """One step."""

    id: str
    name: str
    label: str
    function: str | None
    state: str
    attempts: int
    started_at: datetime | None
    finished_at: datetime | None
    not_before: datetime | None
    seconds: float | None
    error: dict[str, Any] | None
    #: Why it was skipped.
    reason: str | None
    result: dict[str, Any] | None
    outputs: list[Output]


class Group(BaseModel):
    """Steps of one script, one after the other. `depth`: 0 is the wrapper itself."""

    script: str
    depth: int
    state: str
    steps: list[StepView]


class RunDetail(BaseModel):
    """The live part of a run's page."""

    id: str
    target_kind: str
    state: str
    over: bool
    waits_until: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    seconds: float | None
    done: int
    total: int
    success: list[str]
    failure: list[str]
    reboot_needed: list[str]
    unknown: list[str]
    #: whether all that succeeded was verified, too
    verified: bool
    groups: list[Group]
    #: cancel, resume, retry, rollback: what the run's state allows
    can: list[str]


def root_run(session: Session, who: Principal, run_id: str, *, need: Permission = Permission.SEE) -> ScriptRun:
    """The root run of that id. Raises NotFound when there is none that one may see, Forbidden."""
    run = session.get(ScriptRun, run_id)
    while run is not None and run.parent_id is not None:
        run = session.get(ScriptRun, run.parent_id)
    if run is None:
        raise NotFound(f"there is no run {run_id}")
    who.require(need, run.client_id, what=f"run {run_id}")
    return run


def repeatable_run(session: Session, who: Principal, run_id: str) -> ScriptRun:
    """The root run of that id, for whoever may act at its client and where its target is now. Raises NotFound, Forbidden."""
    run = root_run(session, who, run_id, need=Permission.OPERATE)
    target: Any = session.get(MODELS[Form[run.target_kind.upper()]], run.target_id)
    if target is not None:
        who.require(
            Permission.OPERATE, target.client_id, what=f"{run.target_kind} {run.target_id} at this client any more"
        )
    return run


def run_detail(installation: Installation, session: Session, run: ScriptRun) -> RunDetail:
    """What the page shows now. `run`: a root run."""
    tree = load_tree(session, run.id)
    end = run.finished_at or (utcnow() if run.started_at else None)
    over = run.finished_at is not None
    waiting = {StepState.WAITING, StepState.RUNNING}
    return RunDetail(
        id=run.id, target_kind=run.target_kind, state=run.state, over=over, waits_until=None if over else run.not_before,
        started_at=run.started_at, finished_at=run.finished_at,
        seconds=(end - run.started_at).total_seconds() if end and run.started_at else None,
        done=sum(s.state not in waiting for s in tree.steps), total=len(tree.steps), **tree.lists(),
        verified=not any(unverified(s.state, s.result) for s in tree.steps),
        groups=_groups(installation, tree), can=_can(run, tree),
    )  # fmt: skip


def fingerprint(installation: Installation, session: Session, run_id: str) -> str:
    """Changes whenever the live part would look different."""
    run = session.exec(
        select(ScriptRun.state, ScriptRun.not_before, ScriptRun.finished_at).where(ScriptRun.id == run_id)
    ).one()
    steps = session.exec(
        select(RunStep.state, func.count(), func.sum(RunStep.attempts), func.max(RunStep.finished_at))
        .where(RunStep.root_id == run_id).group_by(RunStep.state).order_by(RunStep.state)
    ).all()  # fmt: skip
    sizes: list[tuple[str, int]] = []
    if run[0] == RunState.RUNNING:
        running = session.exec(
            select(RunStep.id).where(RunStep.root_id == run_id, col(RunStep.state) == StepState.RUNNING)
        ).all()
        sizes = [(f.name, f.stat().st_size) for step in running for f in _live_files(installation, run_id, step)]
    return hashlib.sha256(repr((run, steps, sizes)).encode()).hexdigest()


def output_file(installation: Installation, step: RunStep, body: int, stream: str) -> Path | str:
    """The whole of an output: its file, or the text where the database holds it. Raises NotFound."""
    bodies = (step.output or {}).get("bodies") or []
    kept = bodies[body].get(stream) if 0 <= body < len(bodies) and stream in STREAMS else None
    if kept is None:
        raise NotFound(f"step {step.name!r} has no such output")
    file = installation.settings.workspace / "output" / step.root_id / kept["file"] if kept.get("file") else None
    return file if file is not None and file.is_file() else str(kept["text"])


def _groups(installation: Installation, tree: RunTree) -> list[Group]:
    found: list[Group] = []
    last: str | None = None
    for step in tree.steps:
        path = tree.path(step)
        if step.run_id != last:
            found.append(Group(script=path[0].script, depth=len(path) - 1, state=_state(tree, path[0]), steps=[]))
            last = step.run_id
        found[-1].steps.append(_step(installation, tree, step))
    return found


def _state(tree: RunTree, run: ScriptRun) -> str:
    """A script inside the wrapper has no state of its own before the wrapper is over: its steps tell."""
    states = [s.state for s in tree.steps if s.run_id == run.id]
    if any(s == StepState.RUNNING for s in states):
        return StepState.RUNNING
    waiting = [s for s in states if s == StepState.WAITING]
    if waiting:
        return StepState.WAITING if len(waiting) == len(states) else StepState.RUNNING
    for state in (
        StepState.UNKNOWN,
        StepState.FAILED,
        StepState.REBOOT_NEEDED,
        StepState.CANCELLED,
        StepState.SUCCEEDED,
    ):
        if state in states:
            return state
    return StepState.SKIPPED


def _step(installation: Installation, tree: RunTree, step: RunStep) -> StepView:
    end = step.finished_at or (utcnow() if step.started_at and step.state == StepState.RUNNING else None)
    result = None if step.result is None else dict(mask(step.result))
    return StepView(
        id=step.id, name=step.name, label=step.options.get("label") or step.name, function=step.function,
        state=step.state, attempts=step.attempts, started_at=step.started_at, finished_at=step.finished_at,
        not_before=step.not_before if step.state == StepState.WAITING else None,
        seconds=(end - step.started_at).total_seconds() if end and step.started_at else None, error=step.error,
        reason=str(result["reason"]) if step.state == StepState.SKIPPED and result and result.get("reason") else None,
        result=result if step.state != StepState.SKIPPED else None, outputs=_outputs(installation, tree.root.id, step),
    )  # fmt: skip


def _outputs(installation: Installation, root_id: str, step: RunStep) -> list[Output]:
    if step.state == StepState.RUNNING:
        return [_live(f) for f in _live_files(installation, root_id, step.id)]
    found = []
    for number, body in enumerate((step.output or {}).get("bodies") or ()):
        code = body.get("exit_code")
        for stream in STREAMS:
            kept = body.get(stream) or {}
            if not kept.get("bytes"):
                continue
            title = f"{body['script']}: {body['body']}, {stream}, exit code {'unknown' if code is None else code}"
            more = bool(kept.get("truncated")) or len(kept["text"]) > SHOWN
            found.append(
                Output(
                    title=title, body=number, stream=stream, text=kept["text"][-SHOWN:], bytes=kept["bytes"], more=more
                )
            )
    return found


def _live_files(installation: Installation, root_id: str, step_id: str) -> Sequence[Path]:
    """Files that a running step writes, if its worker shares this workspace."""
    folder = installation.settings.workspace / "output" / root_id
    return sorted(f for stream in STREAMS for f in folder.glob(f"{step_id}-*.{stream}"))


def _live(file: Path) -> Output:
    size = file.stat().st_size
    with file.open("rb") as opened:
        opened.seek(max(0, size - SHOWN))
        text = opened.read(SHOWN).decode("utf-8", "replace")
    stream = file.suffix[1:]
    return Output(
        title=f"{stream}, as it comes", body=0, stream=stream, text=text, bytes=size, more=size > SHOWN, live=True
    )


def _can(run: ScriptRun, tree: RunTree) -> list[str]:
    if run.finished_at is None:
        cancel = [] if run.cancel_requested_at is not None else ["cancel"]
        return cancel + (["resume"] if run.not_before is not None and run.state != RunState.HELD else [])
    snapshot = any((s.result or {}).get("snapshot") for s in tree.steps)
    return ["retry", "rollback"] if snapshot and run.target_kind == "contact" else ["retry"]
