"""agent.running.tree: which steps the lists of a run's result name."""

from __future__ import annotations

import pytest

from agent.model.runs import RunStep, ScriptRun, StepState
from agent.running.tree import RunTree


@pytest.mark.parametrize(("kind", "failures"), [("computer", []), ("contact", ["Write the report"])])
def test_only_a_persons_lists_name_what_the_wrapper_itself_could_not_do(kind: str, failures: list[str]) -> None:
    root = ScriptRun(id="root", script="Wrapper", target_kind=kind)
    steps = [
        RunStep(
            id="1", run_id="root", ordinal=0, name="Disable", state=StepState.SUCCEEDED, options={"in_child": True}
        ),
        RunStep(id="2", run_id="root", ordinal=1, name="Notify", state=StepState.SUCCEEDED, options={}),
        RunStep(id="3", run_id="root", ordinal=2, name="Write the report", state=StepState.FAILED, options={}),
    ]
    lists = RunTree(root, [root], steps).lists()
    assert lists["success"] == ["Disable"] and lists["failure"] == failures
