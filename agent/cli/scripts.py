"""All commands of `exeunt script` together."""

from __future__ import annotations

from agent.cli import script as _files  # noqa: F401 - declares its commands
from agent.cli import script_run as _starting  # noqa: F401 - declares its commands
from agent.cli.script_group import script

__all__ = ["script"]
