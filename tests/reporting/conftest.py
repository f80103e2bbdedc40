"""Stored runs as the engine leaves them, to be told and reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.installation import Installation
from agent.model.places import Client, Computer, Location
from agent.model.runs import Plan, RunStep, ScriptRevision, ScriptRun, StepState
from agent.running.context import Machine, RunContext
from agent.running.targets import load_target
from agent.running.tree import load_tree

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
HALT = {"screenconnect": "keep", "agent": "keep", "failure_ticket": True}
BEST_EFFORT = {"screenconnect": "remove", "agent": "remove", "failure_ticket": False}
#: Two computers' worth of results: what came off, what did not, and the two that are neither.
MIXED: list[tuple[str, str, dict[str, Any] | None]] = [
    ("Datto AV", "succeeded", None),
    ("Sentinel", "failed", {"type": "still_installed", "message": "it is still installed", "impact": "it stays",
                            "remediation": "reboot and run again"}),
    ("VPN", "reboot_needed", None),
    ("Backup", "unknown", {"type": "answer_lost", "message": "the connection ended"}),
    ("Old Tool", "skipped", None),
]  # fmt: skip


class Story:
    """Writes plans and runs."""

    mixed = MIXED

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        with installation.database.session() as session:
            session.add(ScriptRevision(digest="d" * 64, name="any", content={}))

    def plan(self, **values: Any) -> str:
        with self.installation.database.session() as session:
            plan = Plan(
                **{"monitor": "Offboarding", "created_by": "monitor Offboarding", "state": "released", **values}
            )
            session.add(plan)
            session.flush()
            return plan.id

    def run(
        self, computer_id: int, children: Sequence[tuple[str, str, dict[str, Any] | None]] = (), **values: Any
    ) -> str:
        """A wrapper's run whose children came to `children` (label, state, error), ended unless `finished_at=None`."""
        outcome = values.pop("outcome", HALT)
        option = values.pop("option", "Ticket + Halt")
        levels = values.pop("levels", ["computer"])
        with self.installation.database.session() as session:
            computer = session.get(Computer, computer_id)
            assert computer is not None
            context = {
                "levels": levels, "columns": {},
                "children": {"source": "client", "reason": "listed for this client",
                             "scripts": [{"name": "Offboarding Scripts", "digest": "d" * 64}]},
                "fallback": {"option": option, "script": "Halt", "outcome": outcome, "literal": False},
            }  # fmt: skip
            root = ScriptRun(
                **{
                    "script": "Offboarding Wrapper", "role": "wrapper", "revision": "d" * 64, "target_kind": "computer",
                    "target_id": computer_id, "target_name": computer.name, "client_id": computer.client_id,
                    "exclusive": True, "context": context, "started_by": "jane@example.com", "state": "running",
                    "created_at": NOON, "started_at": NOON, **values,
                }
            )  # fmt: skip
            session.add(root)
            session.flush()
            child = ScriptRun(
                script="Offboarding Scripts", role="child", revision="d" * 64, parent_id=root.id, position=1,
                target_kind="computer", target_id=computer_id, target_name=computer.name, client_id=computer.client_id,
                context={"part": "children", "on_failure": "collect"}, started_by="engine", state="running",
            )  # fmt: skip
            session.add(child)
            session.flush()
            self._step(
                session, root, root, 0, "Informative Ticket", "offboarding.informative_ticket", "succeeded", None
            )
            for n, (label, state, error) in enumerate(children, 1):
                self._step(session, root, child, n, label, "remove_application", state, error, in_child=True)
            self._step(session, root, root, len(children) + 1, "Report", "offboarding.report", "running", None)
            root_id = root.id
        if "finished_at" not in values:
            self.end(root_id)
        return root_id

    def _step(
        self, session: Any, root: ScriptRun, run: ScriptRun, n: int, name: str, function: str, state: str,
        error: Any, in_child: bool = False,
    ) -> None:  # fmt: skip
        over = state not in ("waiting", "running")
        session.add(
            RunStep(
                root_id=root.id, ordinal=n, run_id=run.id, position=n, name=name if not in_child else f"App{n}",
                function=function, options={"label": name, "in_child": in_child, "on_failure": "collect"}, state=state,
                attempts=0 if state == "skipped" else 1, started_at=NOON + timedelta(seconds=n),
                finished_at=NOON + timedelta(seconds=n + 1.5) if over else None, error=error,
                result={"reason": "its condition does not hold"} if state == "skipped" else None,
            )
        )  # fmt: skip

    def end(self, root_id: str) -> None:
        """Finish the run as the engine does."""
        with self.installation.database.session() as session:
            tree = load_tree(session, root_id)
            for step in tree.steps:
                if step.state == "running":
                    step.state, step.finished_at = StepState.SUCCEEDED, NOON + timedelta(minutes=1)
                    session.add(step)
            root = session.get(ScriptRun, root_id)
            assert root is not None
            root.state, root.finished_at = str(tree.state_of(root)), NOON + timedelta(minutes=1)
            root.result = {**tree.lists(), "outcome": tree.outcome(), "children_state": tree.children_state()}
            session.add(root)

    def context(self, root_id: str, name: str = "Report") -> RunContext:
        """What the step of that name sees."""
        with self.installation.database.reading() as session:
            tree = load_tree(session, root_id)
            target = load_target(session, tree.root.target_kind, tree.root.target_id)
        step = next(s for s in tree.steps if s.name == name)
        return RunContext(self.installation, tree, step, Machine(self.installation, target))

    def rename(self, computer_id: int, name: str) -> None:
        """Give a computer, its location and its client the same name, from whoever is allowed to."""
        with self.installation.database.session() as session:
            computer = session.get(Computer, computer_id)
            assert computer is not None
            for place in (
                computer,
                session.get(Location, computer.location_id),
                session.get(Client, computer.client_id),
            ):
                assert place is not None
                place.name = name
                session.add(place)


@pytest.fixture
def story(installation: Installation) -> Story:
    """Writes plans and runs."""
    return Story(installation)


@pytest.fixture
def flag(installation: Installation) -> Callable[..., None]:
    """Set a field as somebody: flag("Offboard Client", 3, client_id, by="jane")."""
    from sqlmodel import select

    from agent.model.fields import ExtraField, ExtraFieldData

    def set_field(name: str, form: int, place_id: int, value: str = "1", by: str | None = "jane") -> None:
        with installation.database.session() as session:
            field = session.exec(select(ExtraField).where(ExtraField.name == name, ExtraField.form == form)).one()
            row = session.get(ExtraFieldData, (field.id, place_id))
            row = row or ExtraFieldData(extra_field_id=field.id or 0, id=place_id, value=value)
            row.value, row.changed_by = value, by
            session.add(row)

    return set_field
