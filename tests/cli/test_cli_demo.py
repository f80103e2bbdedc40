"""The demonstration: every claim holds, it can be repeated, and nothing outside its folder is touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import clean_environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the demonstration runs on Linux and macOS")


def demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent.cli", "demo", "--workspace", str(folder / "workspace"), *options]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, cwd=folder.parent, env=clean_environment(), stdin=subprocess.DEVNULL
    )  # fmt: skip


def test_it_shows_one_removal_proven_and_one_failed_twice(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with spaces" / "demo"
    folder.parent.mkdir()
    for options in ((), ("--fresh",)):
        done = demo(folder, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Removed and verified (1)\n  - Exeunt Demo Notes" in done.stdout
        assert "Failed (1)\n  - Exeunt Demo Stubborn" in done.stdout
        assert "Failed Uninstall Process: Ticket + Halt" in done.stdout
        assert "Offboarding status on" in done.stdout and "  NO " not in done.stdout
        assert "step App1: succeeded" in done.stderr and "step App2: failed" in done.stderr
        report = Path(done.stdout.rpartition("for a browser: ")[2].splitlines()[0])
        assert "Exeunt Demo Stubborn" in report.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == [folder.parent.name]
    assert [p.name for p in folder.parent.iterdir()] == ["demo"]
    assert "--fresh" in demo(folder).stderr


def test_a_folder_that_it_did_not_make_is_never_touched(tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "letter.txt").write_text("mine")
    done = demo(folder, "--fresh")
    assert done.returncode == 2 and "no demonstration made it" in done.stderr
    assert [p.name for p in folder.iterdir()] == ["letter.txt"]


def test_what_it_prints_are_the_commands_that_it_runs(tmp_path: Path) -> None:
    """The printed commands, typed by a person into a second workspace, parse and end alike."""
    done = demo(tmp_path / "demo")
    commands = [line[2:] for line in done.stdout.splitlines() if line.startswith("$ exeunt ")]
    assert [c.split()[1] for c in commands][:3] == ["init", "inventory", "inventory"]
    assert {"monitor run", "script use", "audit verify", "report evidence"} <= {
        " ".join(c.split()[1:3]) for c in commands
    }
