"""All commands of `exeunt inventory` together."""

from __future__ import annotations

from agent.cli import inventory_care as _care  # noqa: F401 - declares its commands
from agent.cli import inventory_change as _change  # noqa: F401 - declares its commands
from agent.cli import inventory_lists as _lists  # noqa: F401 - declares its commands
from agent.cli import inventory_search as _search  # noqa: F401 - declares its commands
from agent.cli.inventory_group import inventory

__all__ = ["inventory"]
