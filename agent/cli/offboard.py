"""`exeunt offboard`: offboardings of people."""

from __future__ import annotations

import click

from agent.cli.lazy import LazyGroup

PLACES = {
    "user": ("agent.cli.offboard_user", "user", "Offboard people: now, or on a date."),
    "preflight": ("agent.cli.offboard_preflight", "preflight", "What would hinder it, before anything changes."),
    "list": ("agent.cli.offboard_list", "list_", "Planned, running and past offboardings of people."),
    "show": ("agent.cli.offboard_list", "show", "One of them: inputs with their sources, steps, tasks, equipment."),
    "run-now": ("agent.cli.offboard_list", "run_now", "Start planned offboardings now, or past ones again."),
    "delete": ("agent.cli.offboard_list", "delete", "Take offboardings off the list."),
    "inputs": ("agent.cli.offboard_list", "inputs", "Every input with its default and the client's field for it."),
    "phases": ("agent.cli.offboard_phases", "phases", "Which child scripts run in each phase for a client."),
    "report": ("agent.cli.offboard_report", "report", "The exit report of a finished one: JSON, HTML, PDF."),
    "template": ("agent.cli.offboard_template", "template", "Named templates of options."),
}


@click.group("offboard", cls=LazyGroup, places=PLACES)
def offboard() -> None:
    """Offboardings of people: plan, start, follow."""
