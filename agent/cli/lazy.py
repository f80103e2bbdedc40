"""Command groups that are imported when they are invoked, so that `exeunt --help` starts at once."""

from __future__ import annotations

import difflib
import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click


class Command(click.Command):
    """A command whose help ends with examples."""

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, then the epilog."""
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line}\n" for line in self.examples))
        super().format_epilog(ctx, formatter)


class Group(click.Group):
    """A group of commands that have examples; a mistyped name is answered with the ones that come near."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names. Raises click.UsageError with the names that come nearest."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=3)
            ctx.fail(f"there is no command {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """A group whose commands stand in other modules. `places` maps a name to (module, attribute, short help)."""

    def __init__(self, *args: Any, places: Mapping[str, tuple[str, str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.places = dict(places or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order in which they are declared."""
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return the command."""
        place = self.places.get(cmd_name)
        if place is None:
            return None
        with _without_collecting():
            command = getattr(import_module(place[0]), place[1])
        assert isinstance(command, click.Command), place
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place[2]) for name, place in self.places.items()])


@contextmanager
def _without_collecting() -> Iterator[None]:
    """What an import makes stays: looking through it for garbage, then and later, costs a tenth of a command's time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def command(group: click.Group, name: str, *examples: str, **keywords: Any) -> Callable[[Callable[..., Any]], Command]:
    """Declare a command of a group with the examples that its help shows."""

    def declare(function: Callable[..., Any]) -> Command:
        made = group.command(name, cls=Command, examples=examples, **keywords)(function)
        assert isinstance(made, Command)
        return made

    return declare
