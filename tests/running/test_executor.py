"""Plans executed as real local processes: order, conditions, failures, fallbacks, retries, interruption."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlmodel import Session, select

from agent.installation import Installation
from agent.model.runs import RunState, ScriptRun, StepState
from agent.running.executor import Executor
from agent.running.planning import StoredPlan, draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.tree import RunTree, load_tree

if TYPE_CHECKING:
    from conftest import Places


class RecordingPort:
    """Stands where the engine stands: remembers what would be queued, so that a test can play the worker itself."""

    def __init__(self) -> None:
        self.queued: list[tuple[str, int, float]] = []

    def enqueue(self, run_id: str, segment: int, client_id: int, *, delay_seconds: float = 0.0) -> None:
        self.queued.append((run_id, segment, delay_seconds))


def plan(installation: Installation, script: str, computer: int, **parameters: str) -> StoredPlan:
    request = RunRequest(script, "computer", computer, parameters)
    draft = draft_plan(installation, [request], PlanOrigin("tester"))
    assert draft.targets, draft.skipped
    return store_plan(installation, draft)


def execute(installation: Installation, run_id: str, port: RecordingPort | None = None) -> RunTree:
    """Release the run and execute every segment at once, whatever its delay."""
    port = port or RecordingPort()
    with installation.database.session() as session:
        run = session.get(ScriptRun, run_id)
        assert run is not None
        if run.state == RunState.PLANNED:
            run.state = RunState.QUEUED
        session.add(run)
        port.enqueue(run_id, run.segment, run.client_id)
    executor = Executor(installation, port)  # type: ignore[arg-type]
    while port.queued:
        queued_run, segment, _ = port.queued.pop(0)
        executor.execute(queued_run, segment)
    return tree_of(installation, run_id)


def tree_of(installation: Installation, run_id: str) -> RunTree:
    with installation.database.reading() as session:
        return load_tree(session, run_id)


def states(tree: RunTree) -> dict[str, str]:
    return {s.name: str(s.state) for s in tree.steps}


BODY = """name: {name}
parameters: {{Marker: {{required: true}}}}
body: run.sh
repeatable: {repeatable}
"""


def test_a_body_runs_on_its_computer_and_its_output_is_kept(
    installation: Installation, two_clients: Places, write_script, tmp_path: Path
) -> None:
    write_script("mark", BODY.format(name="Mark", repeatable="true"), {"run.sh": 'printf "hello %s" "$EXEUNT_MARKER"'})
    hostile = "a'b\"c $(touch pwned)\n`id` ☃"
    tree = execute(
        installation, plan(installation, "Mark", two_clients.contoso_computers[0], Marker=hostile).run_ids[0]
    )
    assert tree.root.state == RunState.SUCCEEDED
    step = tree.steps[0]
    assert step.output is not None
    assert step.output["bodies"][0]["stdout"]["text"] == f"hello {hostile}"
    with installation.database.reading() as session:
        assert not session.exec(select(ScriptRun).where(ScriptRun.client_id == two_clients.fabrikam)).all()


STEPS = """name: Chain
steps:
  - {name: First, script: Ok}
  - {name: Second, script: Bad, on_failure: %s}
  - {name: Third, script: Ok2}
"""


def _chain(write_script, policy: str) -> None:
    write_script("ok", "name: Ok\nbody: a.sh\n", {"a.sh": "exit 0"})
    write_script("ok2", "name: Ok2\nbody: a.sh\n", {"a.sh": "exit 0"})
    write_script("bad", "name: Bad\nbody: a.sh\n", {"a.sh": "echo no >&2; exit 4"})
    write_script("chain", STEPS % policy)


def test_a_failed_block_does_not_stop_the_blocks_after_it(installation, two_clients, write_script) -> None:
    _chain(write_script, "collect")
    tree = execute(installation, plan(installation, "Chain", two_clients.contoso_computers[0]).run_ids[0])
    assert states(tree) == {"Ok": "succeeded", "Bad": "failed", "Ok2": "succeeded"}
    assert tree.root.state == RunState.PARTIAL
    assert tree.root.result is not None
    assert tree.root.result["failure"] == ["Bad"]
    failed = tree.steps[1].error
    assert failed is not None and failed["code"] == "4" and "no" in failed["message"]


def test_stop_skips_the_rest_and_continue_does_not_count(installation, two_clients, write_script) -> None:
    _chain(write_script, "stop")
    tree = execute(installation, plan(installation, "Chain", two_clients.contoso_computers[0]).run_ids[0])
    assert states(tree)["Ok2"] == "skipped"
    write_script("chain2", (STEPS % "continue").replace("Chain", "Chain2"))
    tree = execute(installation, plan(installation, "Chain2", two_clients.contoso_computers[0]).run_ids[0])
    assert states(tree)["Ok2"] == "succeeded"
    assert tree.root.state == RunState.SUCCEEDED


def test_retries_end_the_segment_and_count_attempts(installation, two_clients, write_script, tmp_path: Path) -> None:
    counter = tmp_path / "count"
    write_script(
        "flaky",
        "name: Flaky\nparameters: {File: {required: true}}\nbody: a.sh\nretries: {attempts: 3, wait: 7 seconds}\n",
        {"a.sh": 'echo x >> "$EXEUNT_FILE"; test "$(wc -l < "$EXEUNT_FILE")" -ge 3'},
    )
    stored = plan(installation, "Flaky", two_clients.contoso_computers[0], File=str(counter))
    port = RecordingPort()
    delays = []
    real = port.enqueue
    port.enqueue = lambda *a, **k: (delays.append(k.get("delay_seconds", 0)), real(*a, **k))[1]  # type: ignore[method-assign]
    tree = execute(installation, stored.run_ids[0], port)
    assert tree.root.state == RunState.SUCCEEDED
    assert tree.steps[0].attempts == 3
    assert delays == [0, 7, 14]
    assert tree.root.segment == 2


def _interrupt(installation: Installation, run_id: str) -> None:
    """What a worker leaves behind that died after it claimed the first step."""
    with installation.database.session() as session:
        tree = load_tree(session, run_id)
        tree.root.state = RunState.RUNNING
        tree.steps[0].state, tree.steps[0].fence, tree.steps[0].attempts = StepState.RUNNING, 1, 1
        session.add_all([tree.root, tree.steps[0]])


VERIFIED = """name: Verified
parameters: {{Folder: {{required: true}}}}
body: act.sh
verify: {{body: check.sh}}
repeatable: {repeatable}
"""


def _verified(write_script, repeatable: str) -> None:
    write_script(
        "verified", VERIFIED.format(repeatable=repeatable),
        {"act.sh": 'echo x >> "$EXEUNT_FOLDER/acted"; touch "$EXEUNT_FOLDER/done"', "check.sh": 'test -e "$EXEUNT_FOLDER/done"'},
    )  # fmt: skip


def test_an_interrupted_step_that_was_done_is_not_done_again(installation, two_clients, write_script, tmp_path) -> None:
    _verified(write_script, "false")
    run_id = plan(installation, "Verified", two_clients.contoso_computers[0], Folder=str(tmp_path)).run_ids[0]
    (tmp_path / "done").touch()
    _interrupt(installation, run_id)
    tree = execute(installation, run_id)
    assert tree.root.state == RunState.SUCCEEDED
    assert not (tmp_path / "acted").exists()


def test_an_interrupted_step_is_repeated_only_when_it_may_be(installation, two_clients, write_script, tmp_path) -> None:
    _verified(write_script, "false")
    run_id = plan(installation, "Verified", two_clients.contoso_computers[0], Folder=str(tmp_path)).run_ids[0]
    _interrupt(installation, run_id)
    tree = execute(installation, run_id)
    assert tree.steps[0].state == StepState.UNKNOWN
    assert tree.root.state == RunState.UNKNOWN
    # Its verification could tell: nothing says that it could not.
    assert "it is not done, and is not said to be `repeatable`" in (tree.steps[0].error or {})["message"]
    assert not (tmp_path / "acted").exists()


def test_a_repeatable_interrupted_step_is_repeated_once(installation, two_clients, write_script, tmp_path) -> None:
    _verified(write_script, "true")
    run_id = plan(installation, "Verified", two_clients.contoso_computers[0], Folder=str(tmp_path)).run_ids[0]
    _interrupt(installation, run_id)
    tree = execute(installation, run_id)
    assert tree.root.state == RunState.SUCCEEDED
    assert (tmp_path / "acted").read_text() == "x\n"


def test_an_old_segment_can_store_nothing(installation, two_clients, write_script, tmp_path) -> None:
    _verified(write_script, "true")
    run_id = plan(installation, "Verified", two_clients.contoso_computers[0], Folder=str(tmp_path)).run_ids[0]
    with installation.database.session() as session:
        run = session.get(ScriptRun, run_id)
        assert run is not None
        run.state, run.segment = RunState.QUEUED, 3
        session.add(run)
    Executor(installation, RecordingPort()).execute(run_id, 2)  # type: ignore[arg-type]
    assert tree_of(installation, run_id).steps[0].state == StepState.WAITING
    assert not (tmp_path / "acted").exists()


def test_cancel_takes_effect_at_the_next_step(installation, two_clients, write_script) -> None:
    _chain(write_script, "collect")
    run_id = plan(installation, "Chain", two_clients.contoso_computers[0]).run_ids[0]
    with installation.database.session() as session:
        _request_cancel(session, run_id)
    tree = execute(installation, run_id)
    assert set(states(tree).values()) == {"cancelled"}
    assert tree.root.state == RunState.CANCELLED


def _request_cancel(session: Session, run_id: str) -> None:
    from agent.model.base import utcnow

    run = session.get(ScriptRun, run_id)
    assert run is not None
    run.cancel_requested_at, run.cancelled_by = utcnow(), "tester"
    session.add(run)


def test_a_script_without_children_has_lists_of_its_own(installation, two_clients, write_script) -> None:
    """Remove Application by hand is about applications, although no child script called it."""
    write_script(
        "own",
        'name: Own\nsteps:\n  - {name: Remove, function: remove_application, with: {application: "Nothing;;Here"}}\n',
    )
    tree = execute(installation, plan(installation, "Own", two_clients.contoso_computers[0]).run_ids[0])
    assert tree.root.result is not None and tree.root.result["success"] == ["Nothing", "Here"]
    told = "  - {name: Told, function: ticket.create, with: {subject: s, body: b}}\n"
    write_script("calls", "name: Calls\nsteps:\n  - {name: Inner, script: Own}\n" + told)
    tree = execute(installation, plan(installation, "Calls", two_clients.fabrikam_computers[0]).run_ids[0])
    assert tree.root.result is not None and tree.root.result["success"] == ["Nothing", "Here"]
