"""All commands of `exeunt offboard` together."""

from __future__ import annotations

from agent.cli.offboard_group import offboard
from agent.cli.offboard_report import report

offboard.add_command(report)

__all__ = ["offboard"]
