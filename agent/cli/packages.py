"""All commands of `exeunt package` together."""

from __future__ import annotations

from agent.cli import package as _store  # noqa: F401 - declares its commands
from agent.cli import package_migration as _migration  # noqa: F401 - declares its commands
from agent.cli.package_group import package

__all__ = ["package"]
