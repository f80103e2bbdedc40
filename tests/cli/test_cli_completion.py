"""Shell completion: each shell gets a text that it can read, and names are completed."""

from __future__ import annotations

import subprocess
import sys

import peers
import pytest
from click.testing import CliRunner
from command_line import clean_environment

from agent.cli.main import main


def complete(words: str, cword: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", "from agent.cli.main import main; main(prog_name='exeunt')"], capture_output=True, text=True,
        timeout=60, env=clean_environment(_EXEUNT_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(cword)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_groups_commands_and_options_are_completed() -> None:
    assert complete("exeunt mon", 1) == ["monitor"]
    assert complete("exeunt monitor pre", 2) == ["preview"]
    assert "--confirm-client" in complete("exeunt monitor run --con", 3)
    assert complete("exeunt completion z", 2) == ["zsh"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_text(shell: str) -> None:
    text = CliRunner().invoke(main, ["completion", shell]).stdout
    assert "_EXEUNT_COMPLETE" in text and "exeunt" in text
    if shell != "fish":
        program = peers.require(shell, shell)
        subprocess.run([program, "-n"], input=text, text=True, check=True, timeout=30)


def test_another_shell_is_refused() -> None:
    assert CliRunner().invoke(main, ["completion", "tcsh"]).exit_code == 2
