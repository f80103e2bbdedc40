"""Who calls: a name given at the command line is kept together with the system's account that gave it (CWA-83)."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli.command_line import clean_environment

ACCOUNT = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    made = tmp_path / "workspace"
    run(made, "init")
    run(made, "inventory", "add-client", "Contoso")
    return made


def run(workspace: Path, *arguments: str, **environment: str) -> str:
    command = [sys.executable, "-m", "agent.cli", "--workspace", str(workspace), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(**environment), check=True)
    return done.stdout


def last(workspace: Path) -> Any:
    return json.loads(run(workspace, "audit", "list", "--limit", "1", "--json"))[0]


def test_a_name_that_is_given_is_kept_with_the_account(workspace: Path) -> None:
    run(workspace, "--user", "ann", "inventory", "add-location", "HQ", "--client", "contoso")
    assert (last(workspace)["actor"], last(workspace)["details"]["os_user"]) == ("ann", ACCOUNT)
    run(workspace, "edf", "set", "Offboard Client", "1", "--client", "contoso", EXEUNT_USER="ann")
    entry = last(workspace)
    assert (entry["action"], entry["actor"], entry["details"]["os_user"]) == ("edf.change", "ann", ACCOUNT)
    run(workspace, "edf", "clear", "Offboard Client", "--client", "contoso")
    assert last(workspace)["actor"] == ACCOUNT and "os_user" not in last(workspace)["details"]
    assert "no faults" in run(workspace, "audit", "verify")


def test_the_account_is_not_what_the_environment_says(workspace: Path) -> None:
    environment = {"USER": "ann", "LOGNAME": "ann", "USERNAME": "ann"}
    run(workspace, "inventory", "add-location", "HQ", "--client", "contoso", **environment)
    assert last(workspace)["actor"] == ACCOUNT
