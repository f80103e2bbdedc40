"""Who calls, and on which installation: what every command is given."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.errors import UsageError

if TYPE_CHECKING:
    from agent.installation import Installation
    from agent.running.doorbell import Port
    from agent.settings import Settings


@dataclass
class Caller:
    """The global options. The installation is opened when a command first asks for it."""

    workspace: Path | None = None
    user: str | None = None
    log_level: str | None = None
    #: Warnings and worse only, unless a level was chosen: what people wait for is printed, not logged.
    quiet: bool = True

    @cached_property
    def actor(self) -> str:
        """The user's name as the audit trail shall show it; it keeps the system's account beside a name that was given.

        Raises UsageError for a name that cannot be.
        """
        account = _account()
        name = self.user if self.user is not None else account
        if name is None:
            raise UsageError("your user name cannot be found out: say who you are with --user NAME")
        if not name.strip() or name != name.strip() or not name.isprintable() or len(name) > 200:
            raise UsageError(f"{name!r} is no user name: one line of printable characters (--user NAME)")
        if name != account:
            from agent.audit_caller import called_as

            called_as(name, account or f"uid {os.getuid()}")
        return name

    @property
    def folder(self) -> Path:
        """The workspace's folder, which need not exist yet."""
        return (self.workspace or Path(os.environ.get("EXEUNT_WORKSPACE") or "exeunt-workspace")).absolute()

    @cached_property
    def settings(self) -> Settings:
        """The settings of the workspace, which need not exist yet."""
        from agent.cli.logs import configure
        from agent.settings import load_settings

        settings = load_settings(self.workspace)
        usual = "WARNING" if self.quiet and "log_level" not in settings.model_fields_set else settings.log_level
        configure(self.log_level or usual)
        return settings

    @cached_property
    def installation(self) -> Installation:
        """The opened installation. Raises SettingsError when there is no workspace."""
        from agent.installation import open_installation

        _ = self.settings
        return open_installation(self.workspace)

    @contextmanager
    def engine(self) -> Iterator[Port]:
        """Where queued runs are announced to the workers; given back at the end."""
        from agent.running.doorbell import open_port

        port = open_port(self.installation.settings)
        try:
            yield port
        finally:
            port.close()

    def close(self) -> None:
        """Give the database's connections back."""
        # A database that was never opened is not opened now: its URL may be what was wrong.
        if "installation" in self.__dict__ and "database" in vars(self.installation):
            self.installation.database.close()
        if "actor" in self.__dict__:
            from agent.audit_caller import called_as

            called_as(self.actor, None)


def _account() -> str | None:
    """The account that this process runs under, by its number: $USER is what anybody says. None where it has no name."""
    if sys.platform == "win32":
        return getpass.getuser()
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return None


#: Typed loosely: click passes options by name.
pass_caller: Callable[[Callable[..., Any]], Callable[..., Any]] = click.make_pass_decorator(Caller, ensure=True)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def limit_option(default: int = 100) -> Callable[[Any], Any]:
    """`--limit N`, for lists that may be long."""
    return click.option(
        "--limit", type=click.IntRange(1, 100_000), default=default, show_default=True, help="At most so many lines."
    )
