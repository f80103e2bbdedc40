"""Help: every command has one with examples that parse, and the first page answers without heavy libraries."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner
from command_line import clean_environment

from agent.cli import main as entry
from agent.cli.lazy import Command, LazyGroup
from agent.cli.main import PLACES, main

HEAVY = ("dbos", "sqlmodel", "sqlalchemy", "pydantic", "rich", "structlog", "yaml", "jinja2", "paramiko", "winrm", "pypsrp",
         "httpx", "alembic", "apscheduler", "psutil")  # fmt: skip


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield (*path, name), found
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))


ALL = list(commands(main))
LEAVES = [(path, c) for path, c in ALL if not isinstance(c, click.Group)]


@pytest.mark.parametrize("path", [p for p, _ in ALL], ids=" ".join)
def test_help_answers(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"Usage: exeunt {' '.join(path)}")


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[" ".join(p) for p, _ in LEAVES])
def test_every_command_explains_itself_and_its_examples_parse(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help and len(command.help) > 10
    assert isinstance(command, Command)
    assert command.examples
    for example in command.examples:
        line = example.partition("  #")[0]
        if line.startswith("eval"):
            line = line.partition("$(")[2].partition(")")[0]
        words = shlex.split(line.partition(">")[0])
        at = 1 + 2 * (words[1] == "--workspace")
        assert words[0] == "exeunt" and tuple(words[at : at + len(path)]) == path, example
        # Options that do not exist, and missing arguments, are refused here.
        context = click.Context(command, info_name=path[-1])
        command.make_parser(context).parse_args(words[at + len(path) :])
        assert not context.params


def test_the_first_page_tells_what_the_groups_tell() -> None:
    for name, (_, _, told) in PLACES.items():
        found = main.get_command(click.Context(main), name)
        assert found is not None and found.help is not None
        if isinstance(found, click.Group):
            assert " ".join(found.help.split()) == told, name


def test_the_exit_codes_stand_on_the_first_page() -> None:
    text = CliRunner().invoke(main, ["--help"]).stdout
    for code, word in ((0, "done"), (1, "failed"), (2, "usage"), (3, "held"), (4, "nothing matched")):
        assert f"{code}  {word}" in text


def _imported(*arguments: str) -> set[str]:
    code = (
        "import sys, json\nfrom agent.cli.main import main\n"
        f"try: main({list(arguments)!r})\nexcept SystemExit: pass\n"
        "print('\\n' + json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=clean_environment(), check=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("nonsense",)])
def test_nothing_heavy_is_imported_before_a_group_is_named(arguments: tuple[str, ...]) -> None:
    assert not _imported(*arguments) & set(HEAVY)


def test_reading_commands_do_not_import_the_engine() -> None:
    assert "dbos" not in _imported("run", "list", "--help")
    assert "dbos" not in _imported("monitor", "list", "--help")


def test_a_mistyped_command_is_answered_with_near_ones() -> None:
    result = CliRunner().invoke(main, ["inventroy", "list"])
    assert result.exit_code == 2
    assert "did you mean inventory?" in result.stderr and "Traceback" not in result.stderr


def test_the_lazy_group_names_only_what_exists() -> None:
    assert isinstance(main, LazyGroup) and main.places == PLACES
    assert entry.main is main
