"""The group `exeunt inventory`; its commands stand in the modules `inventory_...`, which `inventory` brings together."""

from __future__ import annotations

import click

from agent.cli.lazy import Group


@click.group("inventory", cls=Group)
def inventory() -> None:
    """Clients, locations, computers and contacts."""
