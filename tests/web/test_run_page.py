"""Runs: followed live in a browser, with their output as it comes; who may see, cancel, approve and repeat them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from web_help import Console, Person, axe_finds_nothing, browsing, fits, picture

from agent.installation import Installation
from agent.model.runs import RunState, ScriptRun
from agent.running import verbs
from agent.running.executor import Executor
from agent.running.planning import StoredPlan, draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest


class SilentPort:
    """Takes what would go to the engine: the test executes by itself."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *given, **more: None


def write(installation: Installation, folder: str, text: str, body: str) -> None:
    place = installation.settings.workspace / "content" / "scripts" / folder
    place.mkdir(parents=True)
    (place / "script.yaml").write_text(text, encoding="utf-8")
    (place / "body.sh").write_text(body, encoding="utf-8")


@pytest.fixture
def gate(console: Console, tmp_path: Path) -> Path:
    """A script that prints a line, then waits until this file is there, then fails."""
    gate = tmp_path / "gate"
    write(
        console.installation, "waits",
        "name: Remove <b>agents</b>\nparameters: {gate: {type: text}}\nbody: {linux: body.sh}\ntime_limit: 600 seconds\n",
        "echo 'removing <agent> & more'\nwhile [ ! -e \"$EXEUNT_GATE\" ]; do sleep 0.05; done\necho gone >&2\nexit 3\n",
    )  # fmt: skip
    console.installation.content.reload()
    return gate


def planned(console: Console, gate: Path, computer: int, *, hold: bool = False) -> StoredPlan:
    request = RunRequest("Remove <b>agents</b>", "computer", computer, {"gate": str(gate)})
    draft = draft_plan(console.installation, [request], PlanOrigin("tester"))
    assert draft.targets, draft.skipped
    if hold:
        draft = type(draft)(**{**vars(draft), "holds": ({"guardrail": "approval", "reason": "because of a test"},)})
    return store_plan(console.installation, draft)


@contextmanager
def executing(console: Console, gate: Path, plan: StoredPlan) -> Iterator[str]:
    """The plan's run, executed in a thread until the gate opens."""
    port: Any = SilentPort()
    verbs.release(console.installation, port, plan.id, actor="tester")
    run_id = plan.run_ids[0]
    thread = threading.Thread(target=Executor(console.installation, port).execute, args=(run_id, 0))
    thread.start()
    try:
        yield run_id
    finally:
        gate.touch()
        thread.join(120)
        assert not thread.is_alive(), "the run does not end"


def test_a_run_is_watched_to_its_end(console: Console, chromium: Browser, gate: Path) -> None:
    plan = planned(console, gate, console.places.contoso_computers[0])
    with executing(console, gate, plan) as run_id, browsing(chromium, console, console.colleague) as page:
        page.goto(f"/runs/{run_id}")
        expect(page.locator("#run-live pre").first).to_contain_text("removing <agent> & more")
        expect(page.locator(".run-head .chip")).to_have_text("running")
        expect(page.get_by_role("button", name="Cancel the run")).to_be_visible()
        picture(page, "run-live")
        gate.touch()
        expect(page.locator(".run-head .chip")).to_have_text("failed")
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        expect(page.locator(".step-body .fault").first).to_contain_text("3")
        axe_finds_nothing(page)
        picture(page, "run-failed")
        page.set_viewport_size({"width": 360, "height": 800})
        fits(page)
        picture(page, "run-narrow")


def test_reports_and_outputs_are_for_those_who_see_the_client(console: Console, gate: Path) -> None:
    gate.touch()
    plan = planned(console, gate, console.places.contoso_computers[0])
    with executing(console, gate, plan) as run_id:
        pass
    page = console.viewer.get(f"/runs/{run_id}")
    assert page.status_code == 200 and "<b>agents</b>" not in page.text and "Try again" not in page.text
    for form, kind in (("html", "text/html"), ("json", "application/json"), ("pdf", "application/pdf")):
        answer = console.viewer.get(f"/runs/{run_id}/report.{form}")
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
        assert console.stranger.get(f"/runs/{run_id}/report.{form}").status_code == 404
    assert "sandbox" in console.viewer.get(f"/runs/{run_id}/report.html").headers["content-security-policy"]
    step = console.viewer.get(f"/runs/{run_id}/report.json").json()["steps"][0]
    assert step["state"] == "failed"
    assert console.viewer.get(f"/runs/{run_id}/steps/nothing/0/stdout").status_code == 404
    for path in (f"/runs/{run_id}", f"/runs/{run_id}/events", f"/plans/{plan.id}"):
        assert console.stranger.get(path).status_code == 404
        assert console.nobody.get(path).status_code == 303
    assert console.stranger.get("/runs").text.count("contoso") == 0


def state_of(console: Console, run_id: str) -> str:
    with console.installation.database.reading() as session:
        found = session.get(ScriptRun, run_id)
        assert found is not None
        return found.state


def test_who_may_approve_and_cancel_a_held_plan(console: Console, gate: Path) -> None:
    plan = planned(console, gate, console.places.contoso_computers[0], hold=True)
    run_id = plan.run_ids[0]
    path = f"/plans/{plan.id}"
    assert "because of a test" in console.viewer.get(path).text
    refused = {console.viewer: 403, console.colleague: 403, console.stranger: 404, console.nobody: 303}
    for person, status in refused.items():
        assert person.post(f"{path}/approve", data={"reason": "agreed"}).status_code == status, person.name
    assert console.viewer.post(f"/runs/{run_id}/cancel", data={}).status_code == 403
    assert console.approver.post(f"{path}/approve", data={"reason": " "}).status_code == 400
    without_token = console.approver.client.post(f"{path}/approve", data={"reason": "agreed"})
    assert without_token.status_code == 403 and state_of(console, run_id) == RunState.HELD
    answer = console.approver.post(f"{path}/approve", data={"reason": "agreed"})
    assert answer.status_code == 303 and answer.headers["location"] == f"/runs/{run_id}"
    assert state_of(console, run_id) == RunState.QUEUED
    assert console.approver.post(f"{path}/approve", data={"reason": "agreed"}).status_code == 409
    assert console.colleague.post(f"/runs/{run_id}/cancel", data={"reason": "wrong one"}).status_code == 303
    assert state_of(console, run_id) == RunState.CANCELLED


def test_an_approver_of_one_client_cannot_approve_for_two(console: Console, gate: Path) -> None:
    requests = [
        RunRequest("Remove <b>agents</b>", "computer", computer, {"gate": str(gate)})
        for computer in (console.places.contoso_computers[0], console.places.fabrikam_computers[0])
    ]
    draft = draft_plan(console.installation, requests, PlanOrigin("tester"))
    held = type(draft)(**{**vars(draft), "holds": ({"guardrail": "approval", "reason": "Fabrikam too"},)})
    plan = store_plan(console.installation, held)
    text = console.approver.get(f"/plans/{plan.id}").text
    assert "fabrikam" not in text.lower() and "CONTOSO-PC1" in text
    for person in (console.approver, console.stranger):
        answer = person.post(f"/plans/{plan.id}/approve", data={"reason": "agreed"})
        assert answer.status_code == 403 and "abrikam" not in answer.text.replace(person.name, "")
    assert console.owner.post(f"/plans/{plan.id}/approve", data={"reason": "agreed"}).status_code == 303


def test_a_held_plan_reads_well(console: Console, chromium: Browser, gate: Path) -> None:
    plan = planned(console, gate, console.places.contoso_computers[0], hold=True)
    with browsing(chromium, console, console.approver) as page:
        page.goto("/plans?state=held")
        page.get_by_role("link", name="Started by hand").click()
        axe_finds_nothing(page)
        picture(page, "plan-held")
        page.get_by_label("Why", exact=True).fill("agreed in ticket 4711")
        page.get_by_role("button", name="Approve and start 1 run").click()
        expect(page.locator(".said")).to_contain_text("1 run queued")
    assert plan.state == "held"


def test_a_list_has_filters_and_parts(console: Console, gate: Path) -> None:
    for computer in console.places.contoso_computers:
        planned(console, gate, computer, hold=True)
    person: Person = console.viewer
    assert person.get("/runs?state=held").text.count("CONTOSO-PC") == 2
    assert person.get("/runs?state=failed").text.count("CONTOSO-PC") == 0
    assert person.get("/runs?state=nonsense").status_code == 400
    assert person.get("/runs?after=nonsense").status_code == 400
