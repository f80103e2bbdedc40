"""Runs: the list, the page of one while it goes on and afterwards, what one may do with it, and its reports."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi import Form as FormBody
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from agent.access.principal import Permission, Principal
from agent.access.sessions import principal_of_session
from agent.errors import ExeuntError, NotFound
from agent.installation import Installation
from agent.model.places import Client
from agent.model.runs import RunState, RunStep
from agent.reporting import pdf
from agent.reporting.exit_report import exit_document
from agent.reporting.exit_view import View, view_of
from agent.reporting.html import exit_html, run_html
from agent.reporting.run_report import run_document
from agent.reporting.run_view import view_of_run
from agent.running import verbs
from agent.running.rollback import draft_rollback, store_rollback
from agent.web.asking import Here, Port, Who, session_token
from agent.web.forms import Form
from agent.web.guarding import REPORT_POLICY
from agent.web.reads.run_detail import STREAMS, fingerprint, output_file, repeatable_run, root_run, run_detail
from agent.web.reads.runs import runs
from agent.web.rendering import fragment, page, redirect, with_query

router = APIRouter()
#: Seconds between two looks at a run that somebody watches, and looks between two questions whether they still may.
LOOK_SECONDS, LOOKS_PER_CHECK = 0.5, 10
#: Streams that one person, and all together, may have open: each asks the database with every look.
MOST_STREAMS, MOST_STREAMS_OF_ALL = 16, 160
_followed: Counter[str] = Counter()


class Reason(Form):
    """Why; kept in the audit trail."""

    reason: str = ""


@router.get("/runs")
def list_runs(
    request: Request, here: Here, who: Who, state: Annotated[list[RunState] | None, Query()] = None,
    client: int | None = None, after: str | None = None,
) -> Response:  # fmt: skip
    """Root runs, newest first."""
    states = [str(s) for s in state or ()]
    with here.database.reading() as session:
        found = runs(session, who.clients(), states=states, client_id=client, after=after)
    following = with_query("/runs", state=states, client=client, after=found.next) if found.next else None
    return page(request, "runs.html", runs=found.items, states=states, all_states=list(RunState), following=following)


@router.get("/runs/{run_id}")
def show_run(request: Request, here: Here, who: Who, run_id: str) -> Response:
    """One run; while it goes on the page follows it."""
    with here.database.reading() as session:
        run = root_run(session, who, run_id)
        if run.id != run_id:
            return redirect(request, f"/runs/{run.id}")
        detail = run_detail(here, session, run)
        document = run_document(session, run.id)
    return page(request, "run.html", run=document, live=detail, may=may(who, run.client_id), target=run)


def may(who: Principal, client_id: int) -> dict[str, bool]:
    """What buttons the person sees."""
    return {p.value: who.can(p, client_id) for p in Permission}


@router.get("/runs/{run_id}/events")
async def follow_run(request: Request, here: Here, who: Who, run_id: str) -> Response:
    """Server-sent events: `run` with the live part whenever it changed, `over` at the end."""
    await run_in_threadpool(_seen, here, who, run_id)
    if _followed[who.user_id] >= MOST_STREAMS or _followed.total() >= MOST_STREAMS_OF_ALL:
        raise HTTPException(
            429, "too many runs are followed at once: close some of those pages, then load this one again"
        )
    return EventSourceResponse(_changes(request, here, who, run_id), headers={"cache-control": "no-store"}, ping=15)


def _seen(here: Installation, who: Principal, run_id: str) -> None:
    with here.database.reading() as session:
        root_run(session, who, run_id)


async def _changes(request: Request, here: Installation, who: Principal, run_id: str) -> AsyncIterator[ServerSentEvent]:
    last, looks, over, token = "", 0, False, session_token(request) or ""
    _followed[who.user_id] += 1
    try:
        while not over and not await request.is_disconnected():
            looks += 1
            if looks % LOOKS_PER_CHECK == 0:
                who = await run_in_threadpool(principal_of_session, here, token, used=False)
            last, text, over = await run_in_threadpool(_look, here, who, run_id, last)
            if text is not None:
                yield ServerSentEvent(data=text, event="run")
            if not over:
                await anyio.sleep(LOOK_SECONDS)
    except ExeuntError:
        # The session or the permission is over: the page says so when it is loaded again.
        over = True
    finally:
        _followed[who.user_id] -= 1
    if over:
        yield ServerSentEvent(data="", event="over")


def _look(here: Installation, who: Principal, run_id: str, last: str) -> tuple[str, str | None, bool]:
    """The fingerprint, the live part if it is another one than last time, and whether the run is over."""
    with here.database.reading() as session:
        run = root_run(session, who, run_id)
        mark = fingerprint(here, session, run.id)
        if mark == last:
            return mark, None, False
        detail = run_detail(here, session, run)
    return mark, fragment("run_live.html", live=detail, may=may(who, run.client_id)), detail.over


@router.post("/runs/{run_id}/cancel")
def cancel(
    request: Request, here: Here, port: Port, who: Who, run_id: str, form: Annotated[Reason, FormBody()]
) -> Response:
    """Cancel a run; a step that is under way is not interrupted."""
    _operate(here, who, run_id)
    said = verbs.cancel(here, port, run_id, actor=who.name, reason=form.reason or None)
    return redirect(request, f"/runs/{run_id}", f"This run is {said}." if said == "cancelled" else f"This run {said}.")


@router.post("/runs/{run_id}/resume")
def resume(
    request: Request, here: Here, port: Port, who: Who, run_id: str, form: Annotated[Form, FormBody()]
) -> Response:
    """Let a run that waits go on now."""
    _operate(here, who, run_id)
    verbs.resume(here, port, run_id, actor=who.name)
    return redirect(request, f"/runs/{run_id}", "The run goes on.")


@router.post("/runs/{run_id}/retry")
def retry(
    request: Request, here: Here, port: Port, who: Who, run_id: str, form: Annotated[Reason, FormBody()]
) -> Response:
    """Run the same script on the same target once more; what is verified is left alone."""
    _repeat(here, who, run_id)
    stored = verbs.retry(here, run_id, actor=who.name, reason=form.reason or None)
    if stored.state == "held":
        return redirect(request, f"/plans/{stored.id}", "A guardrail holds it: somebody has to approve it.")
    ids = verbs.release(here, port, stored.id, actor=who.name)
    return redirect(request, f"/runs/{ids[0]}", "It is queued once more.")


@router.get("/runs/{run_id}/rollback")
def preview_rollback(request: Request, here: Here, who: Who, run_id: str) -> Response:
    """What would be put back, and what cannot."""
    _repeat(here, who, run_id)
    found = draft_rollback(here, run_id, actor=who.name, reason="preview")
    steps = [(step.name, str(step.options["preview"])) for t in found.draft.targets for step in t.run.steps()]
    return page(request, "run_rollback.html", run_id=run_id, found=found, steps=steps)


@router.post("/runs/{run_id}/rollback")
def rollback(
    request: Request, here: Here, port: Port, who: Who, run_id: str, form: Annotated[Reason, FormBody()]
) -> Response:
    """Put the accounts back as they were."""
    _repeat(here, who, run_id)
    found = draft_rollback(here, run_id, actor=who.name, reason=form.reason)
    stored = store_rollback(here, found, actor=who.name, reason=form.reason)
    if stored.state == "held":
        return redirect(request, f"/plans/{stored.id}", "A guardrail holds it: somebody has to approve it.")
    ids = verbs.release(here, port, stored.id, actor=who.name)
    return redirect(request, f"/runs/{ids[0]}", "The rollback is queued.")


def _operate(here: Installation, who: Principal, run_id: str) -> None:
    with here.database.reading() as session:
        root_run(session, who, run_id, need=Permission.OPERATE)


def _repeat(here: Installation, who: Principal, run_id: str) -> None:
    with here.database.reading() as session:
        repeatable_run(session, who, run_id)


@router.get("/runs/{run_id}/report.{form}")
def report(here: Here, who: Who, run_id: str, form: Literal["html", "json", "pdf"]) -> Response:
    """The report: a person's exit report when that run is over, else the run's own."""
    document, view, html = _documents(here, who, run_id)
    name = f"run-{run_id}.{form}"
    if form == "json":
        text = json.dumps(document, ensure_ascii=False, indent=2)
        return Response(text, media_type="application/json", headers=_attached(name))
    if form == "html":
        return HTMLResponse(html, headers={"content-security-policy": REPORT_POLICY})
    content = pdf.exit_pdf(view, further_font=here.settings.pdf_font)
    return Response(content, media_type="application/pdf", headers=_attached(name))


def _documents(here: Installation, who: Principal, run_id: str) -> tuple[dict[str, Any], View, str]:
    with here.database.reading() as session:
        run = root_run(session, who, run_id)
        if run.target_kind == "contact" and run.exclusive and run.finished_at is not None:
            document = exit_document(here, session, run.id)
            client = session.get(Client, run.client_id)
            view = view_of(document, client.name if client else "")
            return document, view, exit_html(view)
        document = run_document(session, run.id)
    return document, view_of_run(document), run_html(document)


@router.get("/runs/{run_id}/steps/{step_id}/{body}/{stream}")
def output(here: Here, who: Who, run_id: str, step_id: str, body: int, stream: str) -> Response:
    """All that a step's body wrote to a stream, masked, as plain text."""
    with here.database.reading() as session:
        run = root_run(session, who, run_id)
        step = session.get(RunStep, step_id)
        if step is None or step.root_id != run.id or stream not in STREAMS:
            raise NotFound("there is no such output")
        found = output_file(here, step, body, stream)
    if isinstance(found, Path):
        return FileResponse(found, media_type="text/plain; charset=utf-8", content_disposition_type="inline")
    return PlainTextResponse(found)


def _attached(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}
