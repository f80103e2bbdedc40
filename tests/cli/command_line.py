"""The command line in this process and as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from agent.cli.main import main

TEMPLATE = "△ Custom - Execute Script - Offboarding Wrapper"
WRAPPER = "Test Wrapper"


@dataclass
class Cli:
    """`cli("inventory", "list")` runs a command on the workspace; `json` also reads what it printed."""

    workspace: Path

    def __call__(self, *arguments: str, expect: int | None = 0, input: str | None = None) -> Result:
        runner = CliRunner()
        everything = ["--workspace", str(self.workspace), "--user", "tester", *arguments]
        result = runner.invoke(main, everything, input=input)
        if expect is not None:
            assert result.exit_code == expect, f"{arguments}: {result.exit_code}\n{result.stdout}\n{result.stderr}"
        return result

    def json(self, *arguments: str, expect: int | None = 0) -> Any:
        return json.loads(self(*arguments, "--json", expect=expect).stdout)

    def process(self, *arguments: str, **keywords: Any) -> subprocess.Popen[str]:
        """The command as a process of its own."""
        command = [
            sys.executable,
            "-m",
            "agent.cli",
            "--workspace",
            str(self.workspace),
            "--user",
            "tester",
            *arguments,
        ]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(), **keywords
        )


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without settings of the person who runs the tests."""
    return {n: v for n, v in os.environ.items() if not n.startswith("EXEUNT_")} | more


def write_script(cli: Cli, folder: str, text: str, bodies: dict[str, str] | None = None) -> None:
    """Write a script into the workspace's own content."""
    place = cli.workspace / "content" / "scripts" / folder
    place.mkdir(parents=True)
    (place / "script.yaml").write_text(text, encoding="utf-8")
    for name, body in (bodies or {}).items():
        (place / name).write_text(body, encoding="utf-8")
