"""A second distribution that brings a package called `agent` is noticed at start and named."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from command_line import clean_environment

from agent.cli import foreign
from agent.errors import SettingsError


def _distribution(site: Path, name: str, *, record: str | None = None, top_level: str | None = None) -> None:
    folder = site / f"{name}-0.1.3.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.3\n")
    if record is not None:
        (folder / "RECORD").write_text(record)
    if top_level is not None:
        (folder / "top_level.txt").write_text(top_level)


@pytest.mark.parametrize(
    "files",
    [
        {"top_level": "agent\n"},
        {"top_level": "other\nagent\n"},
        {"record": "agent/__init__.py,,\n"},
        {"record": "zebra.py,,\nagent/core.py,,\n"},
        {"record": "zebra.py,,\nagent.py,,\n"},
    ],
)
def test_the_other_owner_is_named(tmp_path: Path, files: dict[str, str]) -> None:
    _distribution(tmp_path, "some_agent", **files)
    with pytest.raises(SettingsError, match="also belongs to some-agent"):
        foreign.check([str(tmp_path)])


@pytest.mark.parametrize(
    "files", [{"top_level": "agents\nmy_agent\n"}, {"record": "agents/__init__.py,,\nmy/agent/x.py,,\n"}, {}]
)
def test_names_that_only_look_alike_are_no_owners(tmp_path: Path, files: dict[str, str]) -> None:
    _distribution(tmp_path, "innocent", **files)
    foreign.check([str(tmp_path), str(tmp_path / "not there"), __file__])


def test_it_agrees_with_the_standard_library() -> None:
    assert foreign.owners(sys.path) == set(packages_distributions().get("agent", []))


def test_every_command_refuses_to_start(tmp_path: Path) -> None:
    _distribution(tmp_path, "agent", top_level="agent\n")
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli", "--help"], capture_output=True, text=True, timeout=60,
        env=clean_environment(PYTHONPATH=str(tmp_path)),
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: the import name `agent` also belongs to agent") and "own" in done.stderr
