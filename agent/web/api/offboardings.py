"""Offboardings of people: inputs, preflight, preview, planning of one or many, the list, and what one may do with it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import fastapi
from fastapi import Query, Response
from fastapi.responses import HTMLResponse, JSONResponse
from sqlmodel import Session

from agent.access.principal import Permission, Principal
from agent.content.user_inputs import INPUTS, parameter
from agent.errors import Conflict, ImportLineError, ImportRefused, NotFound, UsageError
from agent.installation import Installation
from agent.inventory.transfer_files import read_rows
from agent.model.contacts import ContactOffboarding
from agent.model.places import Client, Contact
from agent.reporting import pdf
from agent.reporting.exit_store import write_exit_report
from agent.running import user_offboardings as verbs
from agent.running.offboarding_bulk import read_requests
from agent.running.offboarding_start import Outcome, plan_and_start
from agent.running.planning import draft_plan
from agent.running.preflight import preflight
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.user_offboardings import Checked, Request
from agent.web.api.common import (
    MOST_ID,
    USUAL,
    After,
    ClientId,
    Done,
    Limit,
    RecordId,
    api_router,
    place_for,
    seen_client,
)  # fmt: skip
from agent.web.api.offboarding_inputs import given
from agent.web.api.offboarding_models import (
    Chosen,
    FindingOut,
    InputOut,
    NotStarted,
    OffboardingIn,
    Person,
    PersonPreview,
    Planned,
    PlannedOut,
    PreflightIn,
    PreflightOut,
    RunNow,
    StartedFor,
    ValueFrom,
    Written,
)  # fmt: skip
from agent.web.api.plans import Draft, draft_out
from agent.web.api.runs import Started
from agent.web.asking import Here, Port, Who
from agent.web.guarding import REPORT_POLICY
from agent.web.problems import Faults
from agent.web.reads.offboarding_templates import require_templates
from agent.web.reads.offboardings import OffboardingDetail, OffboardingRow, offboarding, offboardings
from agent.web.reads.paging import Page
from agent.web.reads.reports import run_papers
from agent.web.reads.run_detail import root_run

router = api_router("offboardings")
State = Literal["Planned", "Running", "Completed", "Failed"]


@router.get("/offboarding-inputs")
def list_inputs(who: Who) -> list[InputOut]:
    """Every input: type, default, the client's field, and the Offboarding Wizard's word for it."""
    return [
        InputOut(
            name=i.name, type=i.kind, options=list(i.options), required=i.required, default=parameter(i.default),
            client_field=i.field, wizard=i.cipp, description=i.description,
        )
        for i in INPUTS.values()
    ]  # fmt: skip


@router.post("/offboardings/preflight")
def preflight_person(here: Here, who: Who, body: PreflightIn) -> PreflightOut:
    """Ask the records and the systems what would hinder an offboarding. Nothing is changed, planned or stored."""
    _client(here, who, body.client_id, [body])
    found = preflight(here, _request(body.client_id, body, None), actor=who.name)
    findings = [FindingOut.model_validate(f) for f in found.findings]
    return PreflightOut(
        person=found.person, email=found.email, client=found.client, errors=found.errors, findings=findings
    )


@router.post("/offboardings/preview")
def preview_offboardings(here: Here, who: Who, body: OffboardingIn) -> list[PersonPreview]:
    """Inputs with their sources, warnings and the very steps, person by person. Nothing is stored or started."""
    _client(here, who, body.client_id, body.people, body.template)
    with here.database.reading() as session:
        checked = _checked(session, [_request(body.client_id, p, body) for p in body.people], who.name)
    return [_preview(here, c, who.name) for c in checked]


def _preview(here: Installation, found: Checked, actor: str) -> PersonPreview:
    contact, resolved = found.contact, found.resolved
    request = RunRequest(verbs.WRAPPER, "contact", contact.contact_id or 0, resolved.parameters(), levels=("planned",))
    return PersonPreview(
        contact_id=contact.contact_id or 0, name=contact.name, email=contact.email, scheduled_for=found.at,
        begins_now=found.begins_now, inputs=_inputs(resolved.document()), warnings=list(resolved.warnings),
        draft=draft_out(draft_plan(here, [request], PlanOrigin(actor))),
    )  # fmt: skip


@router.post("/offboardings", status_code=201)
def plan_offboardings(here: Here, port: Port, who: Who, body: OffboardingIn) -> Planned:
    """Offboard people: now, or on a date. All are planned or none; from three people on the monitor starts them."""
    _client(here, who, body.client_id, body.people, body.template)
    requests = [_request(body.client_id, p, body) for p in body.people]
    with here.database.reading() as session:
        _checked(session, requests, who.name)
    return _planned(here, port, plan_and_start(here, port, requests, actor=who.name, replace=body.replace))


@router.post("/offboardings/import", status_code=201)
def import_offboardings(
    here: Here, port: Port, who: Who, client_id: Annotated[int, Query(ge=1, le=MOST_ID)],
    content: Annotated[str, fastapi.Body(media_type="text/plain", examples=["email,termination_type\njohn@contoso.example,voluntary\n"])],
    format: Annotated[Literal["csv", "json"], Query()] = "csv",
    template: Annotated[str | None, Query(max_length=200)] = None, replace: bool = False, dry_run: bool = False,
) -> Planned:  # fmt: skip
    """Many people from a file with a column `email`, and a column for each input that differs. All or none.

    With `dry_run` the rows are checked only. A column `client` takes a technician of the whole server.
    """
    _client(here, who, client_id, template=template)
    common = Request("", f"id:{client_id}", None, template)
    with tempfile.TemporaryDirectory(prefix="exeunt-import-") as folder:
        file = Path(folder) / f"offboardings.{format}"
        file.write_text(content, encoding="utf-8", newline="")
        try:
            rows = [row for _, row in read_rows(file)]
            # The first one of a CSV file holds its columns only.
            named = [row.get("template") for row in (rows[1:] if format == "csv" else rows)]
            if any("client" in row for row in rows):
                who.require(Permission.OPERATE)
            with here.database.reading() as session:
                require_templates(session, who, named)
                requests = read_requests(session, file, common, actor=who.name)
        except ImportLineError as error:
            raise ImportRefused([_nameless(error)]) from None
        except ImportRefused as error:
            raise ImportRefused([_nameless(f) for f in error.faults]) from None
    if dry_run:
        return Planned(planned=[], started=[], security=[], errors=[])
    return _planned(here, port, plan_and_start(here, port, requests, actor=who.name, replace=replace))


def _nameless(fault: ImportLineError) -> ImportLineError:
    return ImportLineError(fault.reason, file="offboardings", line=fault.line, column=fault.column)


def _planned(here: Installation, port: Port, done: Outcome) -> Planned:
    return Planned(
        planned=[
            PlannedOut(
                id=p.row.id, contact_id=p.row.contact_id, email=p.contact.email, scheduled_for=p.due,
                reference=p.row.reference, inputs=_inputs(p.resolved.document()), warnings=list(p.resolved.warnings),
            )
            for p in done.planned
        ],
        started=[_started(p.row.id, stored) for p, stored in done.started],
        security=[_started(p.row.id, stored) for p, stored in done.security],
        errors=[NotStarted(offboarding_id=p.row.id, reason=reason) for p, reason in done.errors],
    )  # fmt: skip


def _started(row_id: str, stored: Any) -> StartedFor:
    return StartedFor(
        offboarding_id=row_id, plan_id=stored.id, state="held" if stored.holds else "released",
        run_ids=list(stored.run_ids), holds=[dict(h) for h in stored.holds], skipped=[dict(s) for s in stored.skipped],
    )  # fmt: skip


@router.get("/offboardings")
def list_offboardings(
    here: Here, who: Who, state: Annotated[list[State] | None, Query()] = None, client_id: ClientId = None,
    contact_id: Annotated[int | None, Query(ge=1, le=MOST_ID)] = None, after: After = None, limit: Limit = USUAL,
) -> Page[OffboardingRow]:  # fmt: skip
    """Offboardings of people that are on the list, the newest first."""
    seen_client(who, client_id)
    with here.database.reading() as session:
        return offboardings(
            session, who.clients(), states=state or (), client_id=client_id, contact_id=contact_id, after=after,
            limit=limit,
        )  # fmt: skip


@router.get("/offboardings/{offboarding_id}")
def show_offboarding(here: Here, who: Who, offboarding_id: RecordId) -> OffboardingDetail:
    """One offboarding: inputs with their sources, tasks, equipment."""
    with here.database.reading() as session:
        return offboarding(session, who, offboarding_id)[1]


@router.post("/offboardings/run-now/preview")
def preview_run_now(here: Here, who: Who, body: RunNow) -> Draft:
    """What starting these offboardings now would do. Nothing is stored or started."""
    _chosen(here, who, body.ids)
    return draft_out(verbs.draft_now(here, body.ids, actor=who.name, reason=body.reason))


@router.post("/offboardings/run-now", status_code=201)
def run_now(here: Here, port: Port, who: Who, body: RunNow) -> Started:
    """Start offboardings now, whatever date they were planned for; one that is over runs again."""
    _chosen(here, who, body.ids)
    stored = verbs.run_now(here, port, body.ids, actor=who.name, reason=body.reason)
    return Started.model_validate(_started("", stored).model_dump(exclude={"offboarding_id"}))


@router.post("/offboardings/delete")
def delete_offboardings(here: Here, who: Who, body: Chosen) -> Done:
    """Take offboardings off the list: a planned one will not start. What was done stays on record. All or none."""
    _chosen(here, who, body.ids)
    with here.database.session() as session:
        gone = verbs.remove(session, body.ids, actor=who.name)
    return Done(done=f"deleted: {', '.join(gone)}")


@router.get("/offboardings/{offboarding_id}/report", response_class=Response, responses={200: {"content": {
    "application/json": {"schema": {"type": "object"}}, "text/html": {"schema": {"type": "string"}},
    "application/pdf": {"schema": {"type": "string", "contentMediaType": "application/pdf"}},
}}})  # fmt: skip
def exit_report(
    here: Here, who: Who, offboarding_id: RecordId, format: Annotated[Literal["json", "html", "pdf"], Query()] = "json"
) -> Response:
    """The exit report of a finished offboarding. Nothing is written."""
    with here.database.reading() as session:
        document, view, html = run_papers(here, session, root_run(session, who, _run_of(session, who, offboarding_id)))
    if format == "json":
        return JSONResponse(document)
    if format == "html":
        return HTMLResponse(html, headers={"content-security-policy": REPORT_POLICY})
    return Response(pdf.exit_pdf(view, further_font=here.settings.pdf_font), media_type="application/pdf")


@router.post("/offboardings/{offboarding_id}/report", status_code=201)
def write_report(
    here: Here, who: Who, offboarding_id: RecordId, pdf: Annotated[bool, Query(description="As PDF too")] = False
) -> Written:
    """Write the exit report into the report folder, and its digests into the audit trail."""
    with here.database.reading() as session:
        run_id = root_run(session, who, _run_of(session, who, offboarding_id), need=Permission.OPERATE).id
    formats = ("json", "html", "pdf") if pdf else ("json", "html")
    written = write_exit_report(here, run_id, actor=who.name, formats=formats)
    return Written(files={f: p.name for f, p in written.files.items()}, digests=dict(written.digests))


def _run_of(session: Session, who: Principal, row_id: str) -> str:
    row, _ = offboarding(session, who, row_id)
    if row.run_id is None:
        raise Conflict(f"the offboarding {row_id} has not begun: there is no report yet")
    return row.run_id


def _client(
    here: Installation, who: Principal, client_id: int, people: Sequence[Person] = (), template: str | None = None
) -> None:  # fmt: skip
    """Raises NotFound, Forbidden unless one may offboard these people of the client, by templates that one may know."""
    with here.database.reading() as session:
        place_for(session, who, Client, client_id, Permission.OPERATE)
        require_templates(session, who, [template, *(person.template for person in people)])
        for person in people:
            if person.contact_id is not None:
                found = place_for(session, who, Contact, person.contact_id)
                if found.client_id != client_id:
                    raise NotFound(f"there is no contact {person.contact_id} of this client")


def _chosen(here: Installation, who: Principal, ids: Sequence[str]) -> None:
    """Raises NotFound, Forbidden unless one may act on each."""
    with here.database.reading() as session:
        for row_id in ids:
            row = session.get(ContactOffboarding, row_id)
            if row is None:
                raise NotFound(f"there is no offboarding {row_id}")
            who.require(Permission.OPERATE, row.client_id, what=f"offboarding {row_id}")


def _request(client_id: int, person: Person, common: OffboardingIn | None) -> Request:
    own = given(person.inputs) if person.inputs is not None else {}
    shared = given(common.inputs) if common is not None and common.inputs is not None else {}
    return Request(
        person=f"id:{person.contact_id}" if person.contact_id is not None else person.email or "",
        client=f"id:{client_id}", given={**shared, **own},
        template=person.template or (common.template if common else None),
        at=person.at or (common.at if common else None),
    )  # fmt: skip


def _checked(session: Session, requests: Sequence[Request], actor: str) -> list[Checked]:
    """Every request, checked. Raises Faults with what is wrong with each."""
    found: list[Checked] = []
    faults: list[tuple[str, str]] = []
    for number, request in enumerate(requests):
        try:
            found.append(verbs.check(session, request, actor=actor))
        except UsageError as error:
            faults.append((f"body.people.{number}", str(error)))
    if faults:
        raise Faults(f"{len(faults)} of {len(requests)} people cannot be offboarded so: nothing was planned", faults)
    return found


def _inputs(document: dict[str, dict[str, str]]) -> dict[str, ValueFrom]:
    return {name: ValueFrom(**value) for name, value in document.items()}
