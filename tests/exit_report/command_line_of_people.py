"""The command line in this process."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from agent.cli.main import main


def invoke(workspace: Path, *arguments: str, expect: int = 0) -> str:
    """What a command prints."""
    result = CliRunner().invoke(main, ["--workspace", str(workspace), "--user", "tester", *arguments])
    assert result.exit_code == expect, f"{arguments}: {result.exit_code}\n{result.stdout}\n{result.stderr}"
    return str(result.stdout if expect == 0 else result.stderr)
