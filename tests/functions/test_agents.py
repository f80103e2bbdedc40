"""Removing an agent by a detached task, for real: the agent, its service file and its health tasks are the test's own."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from transport_help import wait_for

from agent.errors import CannotConnect, StepError
from agent.functions.agents import Remove, RemoveParameters, Retire, RetireParameters
from agent.model.places import Computer
from agent.model.runs import StepState

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="an agent is removed by root only")


@dataclass
class Agent:
    """An agent of the test's own making: a folder, a running process from it, an uninstaller."""

    folder: Path
    service: str
    state: Path
    process: subprocess.Popen[bytes]

    def parameters(self, **more: Any) -> RemoveParameters:
        given = {
            "folder": str(self.folder),
            "service": self.service,
            "state_folder": str(self.state),
            "delay": 1,
            "wait": 300.0,
        }
        return RemoveParameters(**{**given, **more})

    def tasks(self) -> set[int]:
        """Processes of this agent's removal: another worker of the test run may have one of its own."""
        script = str(self.state / "agent-removal-a0.sh")
        return {p.pid for p in psutil.process_iter() if script in _command(p)}


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    name = f"exeunt-test-{secrets.token_hex(4)}"
    folder = tmp_path / name
    folder.mkdir()
    program = folder / "agent"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    (folder / "uninstaller.sh").write_text("#!/bin/sh\necho uninstalled > ../uninstaller-ran\n")
    (folder / "uninstaller.sh").chmod(0o755)
    process = subprocess.Popen([str(program), "600"])
    made = Agent(folder, name, tmp_path / "state", process)
    yield made
    process.kill()
    process.wait()
    for left in (*Path("/etc/cron.d").glob(f"{name}*"), *Path("/etc/systemd/system").glob(f"{name}*")):
        left.unlink()
    for running in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(made.state) in " ".join(running.cmdline()):
                running.kill()


@root_only
class TestRemove:
    def test_the_task_outlives_us_and_leaves_a_marker(self, agent: Agent, local_context: Any, tmp_path: Path) -> None:
        context = local_context()
        outcome = Remove().do(context, agent.parameters())
        assert (outcome.state, outcome.result["outcome"]) == (StepState.SUCCEEDED, "removed"), outcome
        assert agent.process.wait(60) != 0
        assert not agent.folder.exists() and (tmp_path / "uninstaller-ran").exists()
        assert (agent.state / "agent-removal-a0").read_text() == "done\n"
        assert not (agent.state / "agent-removal-a0.sh").exists(), "the task cleans up after itself"
        assert Remove().verify(context, agent.parameters()) is True
        assert Remove().do(context, agent.parameters()).result["outcome"] == "removed"
        assert [c for c in context.calls if c[2]["Mode"] == "plant"] == [context.calls[1]], "planted more than once"

    def test_the_task_is_no_child_of_the_worker(self, agent: Agent, local_context: Any) -> None:
        context = local_context()
        outcome = Remove().do(context, agent.parameters(delay=600, wait=0.0))
        assert outcome.state is StepState.UNKNOWN and outcome.result["marker"] == "planted"
        # It is planted in the background: its process may not be there yet.
        wait_for(agent.tasks)
        ours, tasks = os.getpgid(0), agent.tasks()
        assert tasks and all(os.getsid(pid) not in (os.getsid(0), ours) for pid in tasks)
        # Planting again, as after a crash of the worker, starts no second task.
        assert Remove().do(context, agent.parameters(delay=600, wait=0.0)).state is StepState.UNKNOWN
        assert agent.tasks() == tasks
        assert agent.folder.exists()

    def test_health_tasks_go_first(self, agent: Agent, local_context: Any) -> None:
        mine = Path(f"/etc/cron.d/{agent.service}")
        mine.write_text(f"* * * * * root {agent.folder}/install.sh\n")
        named = Path(f"/etc/cron.d/{agent.service}-heal")
        named.write_text("# heals by other means\n")
        bystander = Path(f"/etc/cron.d/{agent.service}-bystander")
        bystander.write_text("# has nothing to do with it\n")
        context = local_context()
        outcome = Remove().do(context, agent.parameters(health_tasks=f"other;;{named.name}"))
        assert outcome.state is StepState.SUCCEEDED
        assert sorted(outcome.result["health_tasks"]) == sorted([str(mine), str(named)])
        assert not mine.exists() and not named.exists() and bystander.exists()
        assert (agent.state / "health-tasks-a0" / mine.name).exists(), "what was removed is kept beside the marker"

    def test_a_task_that_fails_is_a_failure(self, agent: Agent, local_context: Any) -> None:
        # A mount point cannot be removed; in its place: a folder whose removal the test's rm refuses.
        stubborn = agent.folder.parent / "bin"
        stubborn.mkdir()
        (stubborn / "rm").write_text('#!/bin/sh\n[ "$1" != -rf ] && exec /bin/rm "$@"\n')
        (stubborn / "rm").chmod(0o755)
        context = local_context()
        context.environment["PATH"] = f"{stubborn}:{os.environ['PATH']}"
        outcome = Remove().do(context, agent.parameters())
        assert outcome.state is StepState.FAILED and outcome.result["marker"] == "failed"

    def test_a_computer_that_goes_silent_is_unknown(self, agent: Agent, local_context: Any) -> None:
        context = local_context()

        def silent(parameters: Any) -> None:
            if any(c[2]["Mode"] == "plant" for c in context.calls[:-1]):
                raise CannotConnect("refused")

        context.before = silent
        outcome = Remove().do(context, agent.parameters(delay=600, wait=0.0))
        assert outcome.state is StepState.UNKNOWN and "does not answer any more" in str(outcome.error)

    def test_a_probe_is_refused_unless_opted_in(self, agent: Agent, local_context: Any) -> None:
        context = local_context()
        computer = {**context.places["computer"], "is_probe": True}
        context.places = {**context.places, "computer": computer}
        with pytest.raises(StepError, match="probe"):
            Remove().do(context, agent.parameters())
        assert context.calls == [] and agent.folder.exists()

    @pytest.mark.parametrize(
        "folder",
        ["/usr", "/opt", "/usr/bin/x", "/etc/x/y", "relative/a/b", "/opt/../etc/x", "/opt/a b", "/opt/$(id)/x"],
    )
    def test_a_folder_of_the_system_is_refused(self, local_context: Any, folder: str) -> None:
        outcome = Remove().do(local_context(), RemoveParameters(folder=folder, delay=0, wait=0.0))
        assert outcome.state is StepState.FAILED and "could not be planted" in str(outcome.error)


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return list(process.cmdline())
    return []


class TestRetire:
    def test_keeps_the_computer_and_its_first_time(self, local_context: Any, two_clients: Any) -> None:
        context = local_context()
        first = Retire().do(context, RetireParameters())
        second = Retire().do(context, RetireParameters())
        assert first.result["retired_at"] == second.result["retired_at"]
        assert (first.result["already"], second.result["already"]) == (False, True)
        assert Retire().verify(context, RetireParameters()) is True
        with context.installation.database.reading() as session:
            retired = [c for i in (1, 2, 3, 4) if (c := session.get(Computer, i)) and c.retired_at is not None]
        assert [c.computer_id for c in retired] == [two_clients.contoso_computers[0]]

    def test_another_clients_computer_is_refused(self, local_context: Any, two_clients: Any) -> None:
        context = local_context()
        context.target_id = two_clients.fabrikam_computers[0]
        with pytest.raises(StepError):
            Retire().do(context, RetireParameters())
