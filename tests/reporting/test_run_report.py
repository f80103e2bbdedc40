"""agent.reporting.run_report: one document in three shapes, faithful to the steps, harmless whatever the names are."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from sqlmodel import col, select

from agent.errors import NotFound
from agent.functions import registry
from agent.installation import Installation
from agent.model.monitors import Alert
from agent.model.runs import RunStep, ScriptRun
from agent.reporting.html import run_html
from agent.reporting.run_report import run_document, text_lines
from agent.reporting.run_view import view_of_run
from agent.reporting.words import duration_text, moment_text, result_titles

NASTY = "<script>alert(1)</script>\x1b[31m\n\"'{{ 7*7 }}$(id)"
SCHEMA = json.loads(files("agent.reporting").joinpath("run_report.schema.json").read_text())


def document_of(installation: Installation, run_id: str) -> dict[str, Any]:
    with installation.database.reading() as session:
        document = run_document(session, run_id)
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(document)
    assert json.loads(json.dumps(document)) == document
    return document


@pytest.fixture
def mixed(installation: Installation, two_clients: Any, story: Any) -> str:
    """A run of the monitor, approved, with each kind of result, its ticket written."""
    plan = story.plan(
        holds=[{"guardrail": "approval", "reason": "the setting asks for it"}], approved_by="joe",
        approval_reason="contract ended", approved_at=datetime(2026, 3, 4, 11, 0, tzinfo=UTC),
    )  # fmt: skip
    computer = two_clients.contoso_computers[0]
    with installation.database.session() as session:
        alert = Alert(monitor="Offboarding", target_kind="computer", target_id=computer, identity="CONTOSO-PC1")
        session.add(alert)
        session.flush()
        alert_id = alert.id
    root: str = story.run(computer, story.mixed, plan_id=plan, alert_id=alert_id, levels=["client"], finished_at=None)
    function = registry.get("offboarding.report")
    function.do(story.context(root), function.Parameters())
    story.end(root)
    return root


def test_the_document_has_the_shape_that_was_promised(installation: Installation, mixed: str) -> None:
    document = document_of(installation, mixed)
    promised = {
        "id",
        "script",
        "target",
        "state",
        "started_at",
        "finished_at",
        "steps",
        "success",
        "failure",
        "fallback",
        "tickets",
    }
    assert promised <= set(document)
    step_keys = {
        "name",
        "label",
        "script",
        "function",
        "state",
        "condition",
        "attempts",
        "started_at",
        "finished_at",
        "error",
        "result",
    }
    assert all(set(step) == step_keys for step in document["steps"])
    failed = next(s for s in document["steps"] if s["state"] == "failed")
    assert set(failed["error"]) == {"type", "code", "message", "impact", "remediation", "critical"}
    assert document["state"] == "partial" and document["started_at"] == "2026-03-04T12:00:00.000Z"


def test_the_lists_tell_the_four_apart(installation: Installation, mixed: str) -> None:
    document = document_of(installation, mixed)
    assert (document["success"], document["failure"]) == (["Datto AV"], ["Sentinel"])
    assert (document["reboot_needed"], document["unknown"]) == (["VPN"], ["Backup"])
    assert document["fallback"]["option"] == "Ticket + Halt" and document["outcome"]["agent"] == "keep"
    (ticket,) = document["tickets"]
    assert ticket["subject"].startswith("Offboarding status on CONTOSO-PC1(") and ticket["status"] == "open"
    assert document["plan"]["approved_by"] == "joe" and document["alert"]["monitor"] == "Offboarding"
    assert document["children"]["reason"] == "listed for this client" and document["client"]["slug"] == "contoso"


def test_an_inner_run_shows_its_part(installation: Installation, mixed: str) -> None:
    with installation.database.reading() as session:
        child = next(r.id for r in session.exec(select(ScriptRun)) if r.parent_id == mixed)
    document = document_of(installation, child)
    assert document["script"] == "Offboarding Scripts" and len(document["steps"]) == 5 and document["tickets"]


def test_a_run_that_does_not_exist(installation: Installation) -> None:
    with installation.database.reading() as session, pytest.raises(NotFound, match="'nope'"):
        run_document(session, "nope")


def test_a_run_that_has_not_started(installation: Installation, two_clients: Any, story: Any) -> None:
    root = story.run(
        two_clients.contoso_computers[0], [("App", "waiting", None)], state="queued", started_at=None, finished_at=None
    )
    document = document_of(installation, root)
    assert document["started_at"] is None and document["success"] == []
    assert "not started yet" in "\n".join(text_lines(document)) and "not started yet" in run_html(document)


@pytest.mark.parametrize(
    ("error", "why"),
    [(None, "the computer is offline"), ({"type": "unreachable", "message": "refused"}, "a step is tried again then")],
)
def test_a_run_that_waits_says_until_when_and_for_what(
    installation: Installation, two_clients: Any, story: Any, error: dict[str, str] | None, why: str
) -> None:
    root = story.run(
        two_clients.contoso_computers[0], [("App", "waiting", error)], state="queued", finished_at=None,
        not_before=datetime(2026, 3, 4, 12, 1, tzinfo=UTC),
    )  # fmt: skip
    lines = text_lines(document_of(installation, root))
    assert [line for line in lines if why in line and line.startswith("Waits until 2026-03-04 12:01:00 UTC: ")]


def test_the_text_names_everything_that_matters(installation: Installation, mixed: str) -> None:
    text = "\n".join(text_lines(document_of(installation, mixed)))
    for part in (
        "Offboarding Wrapper on CONTOSO-PC1 (computer ", f"Run {mixed}: partial", "Removed and verified (1)\n  - Datto AV",
        "Failed (1)\n  - Sentinel", "A reboot is needed (1)\n  - VPN", "Outcome unknown (1)\n  - Backup",
        "still_installed: it is still installed", "remediation: reboot and run again", "Approved by joe: contract ended",
        "Failed Uninstall Process: Ticket + Halt", "#1 open: Offboarding status on", "its condition does not hold",
    ):  # fmt: skip
        assert part in text, part


def test_what_nothing_verified_is_not_called_verified(installation: Installation, two_clients: Any, story: Any) -> None:
    """A body without `verify` succeeded by its exit code alone."""
    root = story.run(two_clients.contoso_computers[0], [("App", "succeeded", None), ("Dedicated", "succeeded", None)])
    with installation.database.session() as session:
        for step in session.exec(select(RunStep).where(RunStep.root_id == root, RunStep.name == "App2")):
            step.result = {"exit_code": 0, "verified": False}
    document = document_of(installation, root)
    title = "Done, but not all of it verified"
    text = "\n".join(text_lines(document))
    assert f"{title} (2)\n  - App\n  - Dedicated" in text and "(Dedicated)\n      not verified" in text
    assert text.count("not verified") == 1
    page = run_html(document)
    assert title in page and page.count("not verified") == 1
    results = next(iter(view_of_run(document).blocks))
    assert ("Dedicated", title) in results.rows


def test_a_step_that_succeeded_may_have_something_to_tell(
    installation: Installation, two_clients: Any, story: Any
) -> None:
    root = story.run(two_clients.contoso_computers[0], [("App", "succeeded", None), ("Dedicated", "succeeded", None)])
    with installation.database.session() as session:
        first, second = session.exec(
            select(RunStep).where(RunStep.root_id == root).order_by(col(RunStep.ordinal))
        ).all()[:2]
        first.result = {"warning": "disable it <there>, too", "handover": {"sent_to": None, "reason": "no address"}}
        second.result = {"handover": {"sent_to": "jane@x.test"}}
    document = document_of(installation, root)
    text, page = "\n".join(text_lines(document)), run_html(document)
    assert "\n      disable it <there>, too\n      the password was not handed over: no address" in text
    assert (
        "disable it &lt;there&gt;, too" in page and page.count("not handed over") == text.count("not handed over") == 1
    )


@pytest.mark.parametrize(
    ("state", "label", "said"),
    [("succeeded", "succeeded", "no child script failed"), ("cancelled", "failed", "the run was cancelled")],
)
def test_why_no_failed_uninstall_process_was_followed(
    installation: Installation, two_clients: Any, story: Any, state: str, label: str, said: str
) -> None:
    """After a cancellation nobody can say that nothing failed."""
    root = story.run(
        two_clients.contoso_computers[0],
        [("App", label, None)],
        state=state,
        finished_at=datetime(2026, 3, 4, 13, tzinfo=UTC),
    )
    document = document_of(installation, root)
    document["fallback"]["applied"] = False
    for shown in ("\n".join(text_lines(document)), run_html(document), repr(view_of_run(document))):
        assert f"not applied: {said}" in shown


class Tags(HTMLParser):
    """Collects the tags and the attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_no_name_becomes_markup_or_moves_the_cursor(
    installation: Installation, two_clients: Any, story: Any, mixed: str
) -> None:
    story.rename(two_clients.contoso_computers[0], NASTY)
    with installation.database.session() as session:
        for model in (ScriptRun, RunStep):
            for row in session.exec(select(model)):
                spoil(row)
                session.add(row)
    document = document_of(installation, mixed)
    page, text = run_html(document), text_lines(document)
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.tags and not {a for a in tags.attributes if a.startswith("on")}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "{{ 7*7 }}" in page
    assert all(line.isprintable() for line in text) and any("<script>" in line for line in text)


def spoil(row: Any) -> None:
    """Put a nasty name wherever a run or step holds text from outside."""
    if isinstance(row, RunStep):
        row.name, row.function = row.name + NASTY, NASTY
        row.options = {**row.options, "label": NASTY + row.name}
        row.error = dict.fromkeys(("type", "code", "message", "impact", "remediation"), NASTY) if row.error else None
        row.result = {"reason": NASTY} if row.result else None
    else:
        row.target_name, row.script, row.started_by, row.reason = NASTY, NASTY, NASTY, NASTY
        row.context = json.loads(json.dumps(row.context).replace("listed for this client", "<b>x</b>"))


def test_the_page_needs_nothing_from_elsewhere(installation: Installation, mixed: str) -> None:
    page = run_html(document_of(installation, mixed))
    assert re.search(r"https?://|src=|@import|url\(", page) is None
    assert "Content-Security-Policy" in page and "prefers-color-scheme: dark" in page and "@media print" in page


def test_secrets_in_a_result_are_masked(installation: Installation, two_clients: Any, story: Any) -> None:
    root = story.run(two_clients.contoso_computers[0], story.mixed)
    with installation.database.session() as session:
        step = session.exec(select(RunStep)).first()
        assert step is not None
        step.result = {"password": "hunter2", "token": "enc:v1:gAAAA", "kept": "yes"}
        session.add(step)
    document = document_of(installation, root)
    shown = json.dumps(document) + run_html(document) + "\n".join(text_lines(document))
    assert "hunter2" not in shown and "gAAAA" not in shown and '"kept": "yes"' in shown


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01.400Z", "1.4 s"), ("2026-01-01T00:00:00Z", "2026-01-01T00:03:20Z", "3 min 20 s"),
        ("2026-01-01T00:00:00Z", "2026-01-01T01:02:00Z", "1 h 02 min"), (None, "2026-01-01T01:02:00Z", ""),
    ],
)  # fmt: skip
def test_durations(start: str | None, end: str | None, text: str) -> None:
    assert duration_text(start, end) == text
    assert moment_text("2026-01-01T02:00:00+02:00") == "2026-01-01 00:00:00 UTC"


@pytest.mark.parametrize(("kind", "title"), [("computer", "Removed and verified"), ("contact", "Done and verified")])
def test_the_lists_are_called_as_it_is_fit_for_what_was_offboarded(kind: str, title: str) -> None:
    assert next(iter(result_titles(kind).values())) == title
