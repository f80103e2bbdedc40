"""Runs: lists, the tree of one with its steps and their output, and what one may do with it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path as File
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import Field
from sqlmodel import Session, col, select

from agent.access.principal import Permission
from agent.errors import NotFound
from agent.installation import Installation
from agent.model.runs import RunState, RunStep, ScriptRun
from agent.reporting import pdf
from agent.reporting.run_report import run_document
from agent.running import verbs
from agent.running.planning import StoredPlan
from agent.running.rollback import Rollback, draft_rollback, store_rollback
from agent.web.api.common import (
    MOST_ID,
    USUAL,
    After,
    Answer,
    ClientId,
    GivenReason,
    Limit,
    Reason,
    RecordId,
    api_router,
    seen_client,
)  # fmt: skip
from agent.web.asking import Here, Port, Who
from agent.web.guarding import REPORT_POLICY
from agent.web.reads.paging import Page
from agent.web.reads.reports import run_papers
from agent.web.reads.run_detail import output_file, repeatable_run, root_run
from agent.web.reads.runs import RunRow, runs

router = api_router("runs")


class StepOut(Answer):
    """A step and what became of it."""

    name: str
    label: str
    script: str
    function: str | None
    state: str
    condition: str | None = Field(description="What decides at run time whether it is carried out")
    attempts: int
    started_at: datetime | None
    finished_at: datetime | None
    error: dict[str, Any] | None = Field(description="type, code, message, impact, remediation, critical")
    result: dict[str, Any] | None


class Target(Answer):
    """What a run acts on."""

    kind: str
    id: int
    name: str


class RunClient(Answer):
    """The client of a run."""

    id: int
    name: str | None
    slug: str | None


class RunOut(Answer):
    """One run with its tree of steps in the order of execution. Secrets are masked."""

    id: str
    script: str
    target: Target
    client: RunClient
    state: str
    started_by: str
    reason: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    waits_until: datetime | None
    steps: list[StepOut]
    success: list[str]
    failure: list[str]
    reboot_needed: list[str]
    unknown: list[str]
    levels: list[str]
    children: dict[str, Any] | None
    fallback: dict[str, Any] | None
    outcome: Any
    fizzled: Any
    left_out: str | None
    cancelled_by: str | None
    retry_of: str | None
    plan: dict[str, Any] | None
    alert: dict[str, Any] | None
    tickets: list[dict[str, Any]]
    mail: list[dict[str, Any]]


class BodyOutput(Answer):
    """What one body of a step wrote. `stdout` and `stderr`: {text, bytes, truncated, file}."""

    step: str
    step_id: str
    body: int
    script: str
    name: str
    exit_code: int | None
    stdout: dict[str, Any]
    stderr: dict[str, Any]


class Started(Answer):
    """A plan that was made and, unless a guardrail holds it, released. Its runs are carried out by a worker."""

    plan_id: str
    state: str = Field(description="released, or held: then somebody has to approve it")
    run_ids: list[str]
    holds: list[dict[str, Any]]
    skipped: list[dict[str, Any]]


class Cancelled(Answer):
    """What the cancellation means."""

    done: Literal["cancelled", "stops after this step"]


class Resumed(Answer):
    """The run that goes on."""

    run_id: str


class RollbackPreview(Answer):
    """What rolling back would do."""

    account: str
    taken_at: str
    steps: list[dict[str, str]]
    cannot_be_restored: list[str]


def started(here: Installation, port: Port, stored: StoredPlan, actor: str) -> Started:
    """Release a stored plan, unless it is held."""
    state = stored.state
    if state == "planned":
        verbs.release(here, port, stored.id, actor=actor)
        state = "released"
    return Started(
        plan_id=stored.id, state=state, run_ids=list(stored.run_ids), holds=[dict(h) for h in stored.holds],
        skipped=[dict(s) for s in stored.skipped],
    )  # fmt: skip


@router.get("/runs")
def list_runs(
    here: Here, who: Who, state: Annotated[list[RunState] | None, Query()] = None, client_id: ClientId = None,
    target_kind: Literal["computer", "contact", "location", "client"] = "computer",
    target_id: Annotated[int | None, Query(ge=1, le=MOST_ID, description="Only on this target")] = None,
    after: After = None, limit: Limit = USUAL,
) -> Page[RunRow]:  # fmt: skip
    """Root runs, the newest first."""
    seen_client(who, client_id)
    with here.database.reading() as session:
        return runs(
            session, who.clients(), states=[str(s) for s in state or ()], client_id=client_id,
            target=(target_kind, target_id) if target_id is not None else None, after=after, limit=limit,
        )  # fmt: skip


@router.get("/runs/{run_id}")
def show_run(here: Here, who: Who, run_id: RecordId) -> RunOut:
    """One run with its steps."""
    with here.database.reading() as session:
        root_run(session, who, run_id)
        return RunOut.model_validate(run_document(session, run_id))


@router.get("/runs/{run_id}/output")
def show_output(
    here: Here, who: Who, run_id: RecordId,
    step: Annotated[str | None, Query(max_length=200, description="Only of the steps of this name")] = None,
) -> list[BodyOutput]:  # fmt: skip
    """What the scripts of a run wrote, both streams apart; secrets are masked."""
    with here.database.reading() as session:
        root = root_run(session, who, run_id)
        found = [s for s in _steps(session, root) if step in (None, s.name)]
    return [
        BodyOutput(
            step=s.name, step_id=s.id, body=number, script=body["script"], name=body["body"],
            exit_code=body.get("exit_code"), stdout=body.get("stdout") or {}, stderr=body.get("stderr") or {},
        )
        for s in found for number, body in enumerate((s.output or {}).get("bodies") or ())
    ]  # fmt: skip


def _steps(session: Session, root: ScriptRun) -> list[RunStep]:
    query = select(RunStep).where(RunStep.root_id == root.id, col(RunStep.output).is_not(None))
    return list(session.exec(query.order_by(col(RunStep.ordinal))))


@router.get("/runs/{run_id}/steps/{step_id}/output/{body}/{stream}", response_class=PlainTextResponse)
def whole_output(
    here: Here,
    who: Who,
    run_id: RecordId,
    step_id: RecordId,
    body: Annotated[int, Path(ge=0, le=100_000)],
    stream: Literal["stdout", "stderr"],
) -> Response:
    """All that a step's body wrote to a stream, masked, as plain text."""
    with here.database.reading() as session:
        run = root_run(session, who, run_id)
        step = session.get(RunStep, step_id)
        if step is None or step.root_id != run.id:
            raise NotFound("there is no such output")
        found = output_file(here, step, body, stream)
    if isinstance(found, File):
        return FileResponse(found, media_type="text/plain; charset=utf-8")
    return PlainTextResponse(found)


@router.get("/runs/{run_id}/report", response_class=Response, responses={200: {"content": {
    "application/json": {"schema": {"type": "object"}}, "text/html": {"schema": {"type": "string"}},
    "application/pdf": {"schema": {"type": "string", "contentMediaType": "application/pdf"}},
}}})  # fmt: skip
def run_report(
    here: Here, who: Who, run_id: RecordId, format: Annotated[Literal["json", "html", "pdf"], Query()] = "json"
) -> Response:
    """The report: a person's exit report when that run is over, else the run's own."""
    with here.database.reading() as session:
        document, view, html = run_papers(here, session, root_run(session, who, run_id))
    if format == "json":
        return JSONResponse(document)
    if format == "html":
        return HTMLResponse(html, headers={"content-security-policy": REPORT_POLICY})
    return Response(pdf.exit_pdf(view, further_font=here.settings.pdf_font), media_type="application/pdf")


@router.post("/runs/{run_id}/cancel")
def cancel_run(here: Here, port: Port, who: Who, run_id: RecordId, body: Reason) -> Cancelled:
    """Cancel a run. A step that is under way is not interrupted."""
    root = _operated(here, who, run_id)
    return Cancelled.model_validate({"done": verbs.cancel(here, port, root, actor=who.name, reason=body.reason)})


@router.post("/runs/{run_id}/resume")
def resume_run(here: Here, port: Port, who: Who, run_id: RecordId) -> Resumed:
    """Let a run that waits (offline, retry later) go on now."""
    root = _operated(here, who, run_id)
    return Resumed(run_id=verbs.resume(here, port, root, actor=who.name))


@router.post("/runs/{run_id}/retry", status_code=201)
def retry_run(here: Here, port: Port, who: Who, run_id: RecordId, body: Reason) -> Started:
    """Run the same script on the same target once more; what is verified gone is left alone."""
    root = _repeated(here, who, run_id)
    return started(here, port, verbs.retry(here, root, actor=who.name, reason=body.reason), who.name)


@router.get("/runs/{run_id}/rollback")
def preview_rollback(here: Here, who: Who, run_id: RecordId) -> RollbackPreview:
    """What would be put back, and what cannot be. Nothing is stored or started."""
    found = draft_rollback(here, _repeated(here, who, run_id), actor=who.name, reason="preview")
    return RollbackPreview(
        account=found.account, taken_at=found.taken_at, steps=_previews(found),
        cannot_be_restored=list(found.cannot_be_restored),
    )  # fmt: skip


def _previews(found: Rollback) -> list[dict[str, str]]:
    steps = [s for t in found.draft.targets for s in t.run.steps()]
    return [{"name": s.name, "preview": str(s.options["preview"])} for s in steps]


@router.post("/runs/{run_id}/rollback", status_code=201)
def rollback_run(here: Here, port: Port, who: Who, run_id: RecordId, body: GivenReason) -> Started:
    """Put a person's accounts back as they were before a run that is over and kept snapshots of them."""
    found = draft_rollback(here, _repeated(here, who, run_id), actor=who.name, reason=body.reason)
    return started(here, port, store_rollback(here, found, actor=who.name, reason=body.reason), who.name)


def _operated(here: Installation, who: Who, run_id: str) -> str:
    """The root run's id. Raises NotFound, Forbidden."""
    with here.database.reading() as session:
        return root_run(session, who, run_id, need=Permission.OPERATE).id


def _repeated(here: Installation, who: Who, run_id: str) -> str:
    """The same for what begins anew on its target. Raises NotFound, Forbidden."""
    with here.database.reading() as session:
        return repeatable_run(session, who, run_id).id
