"""The group `exeunt script`; its commands stand in `script` (the files) and `script_run` (starting them)."""

from __future__ import annotations

import click

from agent.cli.lazy import Group

WRAPPER = "Offboarding Wrapper"
TEMPLATE = "Offboarding Scripts - Partner [Template]"


@click.group("script", cls=Group)
def script() -> None:
    """Scripts: check, duplicate, use, test and run them."""
