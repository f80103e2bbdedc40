"""Every command of README.md and of the authoring manual runs, in the order in which it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import clean_environment
from warm_exeunt import warm_exeunt

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.M | re.S)


def commands(file: Path) -> Iterator[str]:
    """Commands of the `console` blocks: lines that begin with `$ `, with the lines that a backslash continues."""
    for block in _BLOCK.findall(file.read_text(encoding="utf-8")):
        lines = iter(block.splitlines())
        for line in lines:
            if line.startswith("$ "):
                command = line[2:]
                while command.endswith("\\"):
                    command = command[:-1] + next(lines).removeprefix("> ")
                yield command


@pytest.fixture(scope="session")
def warm() -> Iterator[Path]:
    """A folder with the program `exeunt`, which starts at once."""
    # The address of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="exeunt-") as folder, warm_exeunt(Path(folder)) as programs:
        yield programs


@pytest.fixture
def cold(tmp_path: Path) -> Path:
    """A folder with the program `exeunt`, as users start it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "exeunt").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agent.cli "$@"\n')
    (programs / "exeunt").chmod(0o755)
    return programs


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("README.md", "cold"), ("scripts/README.md", "warm"), ("docs/packages.md", "warm"), ("docs/console.md", "warm"),
        ("docs/windows.md", "warm"),
    ],
)  # fmt: skip
def test_every_command_runs(name: str, start: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    programs: Path = request.getfixturevalue(start)
    found = [c for c in commands(ROOT / name) if c.split()[0] not in ("make", "git", "pip", "pipx", "python3", ".")]
    assert found, f"{name} shows no commands"
    script = "set -eu\n" + "".join(f"echo {number}: >&2\n{command}\n" for number, command in enumerate(found, 1))
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL,
        env=clean_environment(PATH=f"{programs}{os.pathsep}{os.environ['PATH']}", EXEUNT_WORKSPACE=str(tmp_path / "workspace")),
    )  # fmt: skip
    reached = [line for line in done.stderr.splitlines() if re.fullmatch(r"\d+:", line)]
    at = int(reached[-1][:-1]) if reached else 0
    assert done.returncode == 0, f"{name}: $ {found[at - 1]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_the_parser_finds_commands(tmp_path: Path) -> None:
    file = tmp_path / "x.md"
    file.write_text("```console\n$ exeunt init\nworkspace ...\n$ exeunt edf set \\\n> X 1\n```\n```yaml\n$ no\n```\n")
    assert list(commands(file)) == ["exeunt init", "exeunt edf set X 1"]


def test_a_warm_command_is_one_of_its_own(warm: Path, tmp_path: Path) -> None:
    """Its code, streams, folder and environment; and what one command changes the next does not see."""
    script = (
        'exeunt init; printf "name,slug\\n" | exeunt inventory import -; echo "code $?"; cd /; exeunt inventory list'
    )
    environment = clean_environment(PATH=f"{warm}{os.pathsep}{os.environ['PATH']}", EXEUNT_WORKSPACE="mine")
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300, env=environment
    )
    assert (tmp_path / "mine" / "exeunt.env").exists()
    assert "code 2" in done.stdout
    assert done.returncode == 2 and "there is no workspace at /mine" in done.stderr
