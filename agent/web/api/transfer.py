"""Inventory as CSV or JSON, in and out."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Body, Query, Response
from pydantic import Field

from agent.access.principal import Permission
from agent.errors import ImportLineError, ImportRefused
from agent.inventory.transfer import export, import_file
from agent.web.api.common import Answer, ClientId, api_router, seen_client
from agent.web.asking import Here, Who

router = api_router("inventory")
Kind = Literal["clients", "locations", "computers", "contacts", "software", "equipment"]
Format = Literal["csv", "json"]
_TYPES = {"csv": "text/csv", "json": "application/json"}


class Imported(Answer):
    """What became (or with `dry_run` would become) of the rows."""

    created: int
    changed: int
    unchanged: int
    joined: int = Field(description="Contacts that were added by hand and got the external id of their line")
    joins: list[str] = Field(description="Up to 100 of them, each with its line and contact")
    dry_run: bool


@router.post("/inventory/import")
def import_inventory(
    here: Here, who: Who, kind: Annotated[Kind, Query(description="What is in it")],
    content: Annotated[str, Body(media_type="text/plain", description="The file's text", examples=["external_id,name,slug\nc1,Contoso,contoso\n"])],
    format: Annotated[Format, Query()] = "csv", dry_run: bool = False,
    allow_move: Annotated[bool, Query(description="Computers and contacts may get to another client")] = False,
) -> Imported:  # fmt: skip
    """Store rows, or bring them up to date, by their external id. All or nothing: every bad line is told.

    A contact that was added by hand gets the external id of the line with its e-mail address, UPN or employee id.

    A row may belong to any client, so this takes a technician of the whole server; for clients and for computers, whose
    rows name credentials, an administrator.
    """
    who.require(Permission.ADMINISTER if kind in ("clients", "computers") else Permission.OPERATE)
    with tempfile.TemporaryDirectory(prefix="exeunt-import-") as folder:
        file = Path(folder) / f"{kind}.{format}"
        file.write_text(content, encoding="utf-8", newline="")
        try:
            with here.database.session() as session:
                counts = import_file(session, kind, file, actor=who.name, dry_run=dry_run, allow_move=allow_move)
        except ImportRefused as error:
            # The caller's file has no name here.
            raise ImportRefused([_named(f, kind) for f in error.faults]) from None
    return Imported.model_validate({**vars(counts), "joins": list(counts.joins), "dry_run": dry_run})


def _named(fault: ImportLineError, kind: str) -> ImportLineError:
    return ImportLineError(fault.reason, file=kind, line=fault.line, column=fault.column)


@router.get("/inventory/export", response_class=Response, responses={200: {"content": {
    "text/csv": {"schema": {"type": "string"}}, "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
}}})  # fmt: skip
def export_inventory(
    here: Here, who: Who, kind: Annotated[Kind, Query()], format: Annotated[Format, Query()] = "csv",
    client_id: ClientId = None,
) -> Response:  # fmt: skip
    """All rows of a kind, in the form that the import takes. Secrets are left out."""
    seen_client(who, client_id)
    who.require(Permission.SEE, client_id)
    stream = io.StringIO(newline="")
    with here.database.reading() as session:
        export(session, kind, stream, format, client_id=client_id)
    name = f'attachment; filename="{kind}.{format}"'
    return Response(stream.getvalue(), media_type=_TYPES[format], headers={"content-disposition": name})
