"""All commands of `exeunt offboard` together."""

from __future__ import annotations

from agent.cli import offboard_report as _reports  # noqa: F401 - declares its commands
from agent.cli.offboard_group import offboard

__all__ = ["offboard"]
