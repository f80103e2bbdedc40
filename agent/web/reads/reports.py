"""Reports of runs: a person's exit report when that run is over, else the run's own."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session

from agent.installation import Installation
from agent.model.places import Client
from agent.model.runs import ScriptRun
from agent.reporting.exit_report import exit_document
from agent.reporting.exit_view import View, view_of
from agent.reporting.html import exit_html, run_html
from agent.reporting.run_report import run_document
from agent.reporting.run_view import view_of_run


def run_papers(here: Installation, session: Session, run: ScriptRun) -> tuple[dict[str, Any], View, str]:
    """The document, the view that a PDF is made of, and the page. `run`: a root run."""
    if run.target_kind == "contact" and run.exclusive and run.finished_at is not None:
        document = exit_document(here, session, run.id)
        client = session.get(Client, run.client_id)
        view = view_of(document, client.name if client else "")
        return document, view, exit_html(view)
    document = run_document(session, run.id)
    return document, view_of_run(document), run_html(document)
