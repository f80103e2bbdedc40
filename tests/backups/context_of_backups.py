"""What a step of a stored run sees."""

from __future__ import annotations

from agent.installation import Installation
from agent.running.context import Machine, RunContext
from agent.running.targets import load_target
from agent.running.tree import load_tree


def context_of(installation: Installation, run_id: str) -> RunContext:
    """What a step of the run sees."""
    with installation.database.reading() as session:
        tree = load_tree(session, run_id)
        target = load_target(session, "contact", tree.root.target_id)
    return RunContext(installation, tree, tree.steps[-1], Machine(installation, target))
