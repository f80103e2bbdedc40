"""`exeunt completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from agent.cli.lazy import Command
from agent.cli.main import main

_WHERE = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/completions/exeunt.fish"}


@click.command(
    "completion",
    cls=Command,
    examples=(
        'eval "$(exeunt completion bash)"      # in ~/.bashrc',
        'eval "$(exeunt completion zsh)"       # in ~/.zshrc',
        "exeunt completion fish > ~/.config/fish/completions/exeunt.fish",
    ),
)
@click.argument("shell", type=click.Choice(list(_WHERE)))
def completion(shell: str) -> None:
    """Shell completion for bash, zsh and fish: print the text that the shell is to read when it starts."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(main, {}, "exeunt", "_EXEUNT_COMPLETE").source())
