"""The group `exeunt offboard`; its commands stand in modules of their own, which `offboard` brings together."""

from __future__ import annotations

import click

from agent.cli.lazy import Group


@click.group("offboard", cls=Group)
def offboard() -> None:
    """Offboardings of people: what they came to."""
