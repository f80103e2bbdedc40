"""Reports as HTML: one file without anything from elsewhere, for the screen (light and dark) and for paper."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from agent.functions.results import absent_names, cautions, unverified
from agent.reporting.exit_view import View
from agent.reporting.words import duration_text, moment_text, stamp_text, state_word, titles_of, unapplied


def run_html(document: Mapping[str, Any]) -> str:
    """The document of `run_report.run_document` as a page."""
    return _environment().get_template("run_report.html.j2").render(run=document)


def evidence_html(document: Mapping[str, Any]) -> str:
    """The document of `evidence.evidence_document` as a page."""
    return _environment().get_template("evidence.html.j2").render(evidence=document)


def exit_html(view: View) -> str:
    """The view of `exit_view.view_of` as a page."""
    return _environment().get_template("exit_report.html.j2").render(view=view)


@cache
def _environment() -> Environment:
    # Every value is escaped; a value that is missing is an error (DESIGN 5.5).
    environment = Environment(
        loader=PackageLoader("agent.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"moment": moment_text, "stamp": stamp_text, "state": state_word}
    environment.globals |= {
        "duration": duration_text,
        "absent": absent_names,
        "titles": titles_of,
        "unapplied": unapplied,
        "unverified": unverified,
        "cautions": cautions,
    }
    return environment
