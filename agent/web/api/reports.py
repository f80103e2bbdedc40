"""Evidence per client, and what was left over."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query, Response
from fastapi.responses import HTMLResponse, JSONResponse

from agent.access.principal import Permission
from agent.inventory.flags import standing_flags
from agent.model.places import Client
from agent.reporting import leftovers as left
from agent.reporting.evidence import evidence_document, write_evidence
from agent.reporting.html import evidence_html
from agent.web.api.common import Answer, ClientId, Id, api_router, place_for, seen_client
from agent.web.api.offboarding_models import Written
from agent.web.asking import Here, Who
from agent.web.guarding import REPORT_POLICY

router = api_router("reports")


class LeftoverOut(Answer):
    """A flagged computer that no run can reach. Nothing is forced."""

    computer_id: int
    name: str
    client_id: int
    client: str
    location: str
    last_contact: datetime | None
    state: str


class StandingFlagOut(Answer):
    """A client's or location's flag that is set: a computer that is added there later is offboarded too."""

    level: str
    #: 0: the default row of the field, which flags every place of the level
    place_id: int
    path: str
    client_id: int | None
    field: str
    since: datetime | None
    by: str | None
    computers: int


class Leftovers(Answer):
    """What stays offline, and which flags stay set."""

    offline: list[LeftoverOut]
    standing_flags: list[StandingFlagOut]


@router.get("/leftovers")
def list_leftovers(here: Here, who: Who, client_id: ClientId = None) -> Leftovers:
    """Flagged computers that stay offline, and flags that stay set."""
    seen_client(who, client_id)
    clients = who.clients()
    with here.database.reading() as session:
        offline = left.leftovers(session, here.settings, client_id=client_id)
        standing = standing_flags(session, client_id=client_id)
    return Leftovers(
        offline=[LeftoverOut.model_validate(x) for x in offline if clients is None or x.client_id in clients],
        standing_flags=[
            StandingFlagOut.model_validate(f) for f in standing if clients is None or f.client_id in clients
        ],
    )  # fmt: skip


@router.get("/clients/{client_id}/evidence", response_class=Response, responses={200: {"content": {
    "application/json": {"schema": {"type": "object"}}, "text/html": {"schema": {"type": "string"}},
}}})  # fmt: skip
def evidence(
    here: Here, who: Who, client_id: Id, format: Annotated[Literal["json", "html"], Query()] = "json"
) -> Response:
    """A client's evidence. Nothing is written."""
    with here.database.session() as session:
        place_for(session, who, Client, client_id)
        document = evidence_document(session, here.settings, client_id)
    if format == "json":
        return JSONResponse(document)
    return HTMLResponse(evidence_html(document), headers={"content-security-policy": REPORT_POLICY})


@router.post("/clients/{client_id}/evidence", status_code=201)
def store_evidence(here: Here, who: Who, client_id: Id) -> Written:
    """Write a client's evidence as HTML and JSON into the workspace, its digests into the audit trail."""
    with here.database.reading() as session:
        place_for(session, who, Client, client_id, Permission.OPERATE)
    written = write_evidence(here, client_id, actor=who.name)
    files = {"html": written.html.name, "json": written.json.name}
    return Written(files=files, digests=dict(written.digests))
