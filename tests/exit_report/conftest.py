"""Runs on people as the engine leaves them, to be reported."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent import audit
from agent.installation import Installation
from agent.model.places import Contact
from agent.model.runs import RunStep, ScriptRevision, ScriptRun
from agent.running.context import Machine, RunContext
from agent.running.targets import load_target
from agent.running.tree import load_tree

FOUR = datetime(2026, 1, 13, 16, 0, tzinfo=UTC)
Step = tuple[str, str, dict[str, Any] | None, dict[str, Any] | None]


class People:
    """Writes contacts and their runs."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        with installation.database.session() as session:
            session.add(ScriptRevision(digest="e" * 64, name="any", content={}))

    def contact(self, client_id: int, **values: Any) -> int:
        name = values.get("name", "Łukasz Ångström")
        with self.installation.database.session() as session:
            contact = Contact(**{"client_id": client_id, "external_id": f"{client_id}-{name}", "name": name, **values})
            session.add(contact)
            session.flush()
            assert contact.contact_id is not None
            return contact.contact_id

    def run(self, contact_id: int, steps: Sequence[Step], *, over: bool = True, **values: Any) -> str:
        """A run of one child script with these steps: (function or name, state, result, error)."""
        with self.installation.database.session() as session:
            contact = session.get(Contact, contact_id)
            assert contact is not None
            shared: dict[str, Any] = {
                "revision": "e" * 64, "target_kind": "contact", "target_id": contact_id, "target_name": contact.name,
                "client_id": contact.client_id, "state": "running",
            }  # fmt: skip
            root = ScriptRun(
                **{
                    **shared, "script": "User Offboarding", "role": "wrapper", "exclusive": True, "started_by": "hr.admin",
                    "created_at": FOUR, "started_at": FOUR, "context": {}, **values,
                }
            )  # fmt: skip
            session.add(root)
            session.flush()
            child = ScriptRun(
                **shared, script="User Offboarding Steps", role="child", parent_id=root.id, started_by="engine",
                context={"part": "children", "on_failure": "collect"},
            )  # fmt: skip
            session.add(child)
            session.flush()
            for n, (function, state, result, error) in enumerate(steps, 1):
                session.add(self._step(root, child, n, function, state, result, error))
            audit.record(
                session, actor="hr.admin", action="run.start", object_kind="run", object_id=root.id,
                client_id=contact.client_id,
            )  # fmt: skip
            root_id = root.id
        if over:
            self.end(root_id)
        return root_id

    def _step(
        self, root: ScriptRun, child: ScriptRun, n: int, function: str, state: str, result: Any, error: Any
    ) -> RunStep:
        return RunStep(
            root_id=root.id, ordinal=n, run_id=child.id, position=n, name=f"Step{n}", function=function,
            options={"label": function, "in_child": True, "on_failure": "collect"}, state=state,
            attempts=int(state not in ("waiting", "cancelled")),
            started_at=FOUR + timedelta(seconds=n),
            finished_at=None if state in ("waiting", "running") else FOUR + timedelta(minutes=n),
            result=result, error=error,
        )  # fmt: skip

    def end(self, root_id: str) -> None:
        """Finish the run as the engine does."""
        with self.installation.database.session() as session:
            tree = load_tree(session, root_id)
            root = session.get(ScriptRun, root_id)
            assert root is not None
            root.state, root.finished_at = str(tree.state_of(root)), FOUR + timedelta(minutes=47)
            root.result = {**tree.lists()}
            session.add(root)

    def context(self, root_id: str) -> RunContext:
        """What a step after all others sees."""
        with self.installation.database.reading() as session:
            tree = load_tree(session, root_id)
            target = load_target(session, tree.root.target_kind, tree.root.target_id)
        return RunContext(self.installation, tree, tree.steps[-1], Machine(self.installation, target))


@pytest.fixture
def people(installation: Installation) -> People:
    """Writes contacts and their runs."""
    return People(installation)
