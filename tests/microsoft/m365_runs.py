"""Runs of the shipped scripts, planned and executed by the engine on a contact, whatever the delays."""

from __future__ import annotations

from agent.installation import Installation
from agent.model.runs import RunState, ScriptRun
from agent.running.executor import Executor
from agent.running.tree import RunTree, load_tree


class Queue:
    """What would be queued; every segment is executed at once, whatever its delay."""

    def __init__(self) -> None:
        self.queued: list[tuple[str, int, float]] = []

    def enqueue(self, run_id: str, segment: int, client_id: int, *, delay_seconds: float = 0.0) -> None:
        self.queued.append((run_id, segment, delay_seconds))


def execute(installation: Installation, run_id: str) -> RunTree:
    """Run a stored run to its end."""
    queue = Queue()
    with installation.database.session() as session:
        found = session.get(ScriptRun, run_id)
        assert found is not None
        found.state = RunState.QUEUED
        session.add(found)
        queue.enqueue(run_id, found.segment, found.client_id)
    executor = Executor(installation, queue)  # type: ignore[arg-type]
    while queue.queued:
        queued_run, segment, _ = queue.queued.pop(0)
        executor.execute(queued_run, segment)
    with installation.database.reading() as session:
        return load_tree(session, run_id)


def states(tree: RunTree) -> dict[str, str]:
    return {s.name: f"{s.state}: {(s.error or {}).get('message')}" for s in tree.steps if s.state != "skipped"}
