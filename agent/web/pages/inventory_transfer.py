"""Import of files with a preview of what they would do, and export."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request, Response, UploadFile
from fastapi import Form as FormBody
from pydantic import Field
from sqlmodel import Session, col, select

from agent.access.principal import Permission, Principal
from agent.errors import ImportRefused, UsageError
from agent.inventory.transfer_kinds import FIELD_PREFIX, KINDS
from agent.model.places import Client
from agent.web import uploads
from agent.web.api.common import MOST_ID, seen_client
from agent.web.api.transfer import Format, Kind, export_inventory, import_inventory
from agent.web.asking import Here, Who
from agent.web.forms import Form
from agent.web.reads.paging import among
from agent.web.rendering import page, redirect

router = APIRouter()


class ImportForm(Form):
    """What is in the file that was uploaded. The format is told by its name."""

    kind: Kind
    allow_move: bool = False


class UploadForm(ImportForm):
    """An upload."""

    file: UploadFile


class ConfirmForm(ImportForm):
    """The import that was previewed."""

    format: Format
    token: str = Field(pattern="^[0-9a-f]{32}$")


def _kinds(who: Principal) -> list[str]:
    """What one may import."""
    if not who.can(Permission.OPERATE):
        return []
    return [k for k in KINDS if who.can(Permission.ADMINISTER) or k not in ("clients", "computers")]


@router.get("/inventory/import")
def show_import(request: Request, who: Who) -> Response:
    """The form, and which columns each kind of file has."""
    who.require(Permission.OPERATE)
    return page(request, "import.html", **_form(who))


def _form(who: Principal, **more: Any) -> dict[str, Any]:
    columns = {name: kind.own_columns for name, kind in KINDS.items()}
    return {
        "kinds": _kinds(who), "columns": columns, "prefix": FIELD_PREFIX, "counts": None, "faults": None, "kind": None,
    } | more  # fmt: skip


@router.post("/inventory/import")
def preview_import(request: Request, here: Here, who: Who, form: Annotated[UploadForm, FormBody()]) -> Response:
    """What the file would do, or all that is wrong with it. Nothing is stored."""
    name, content = form.file.filename or "", form.file.file.read()
    ending = name.rpartition(".")[2].lower()
    if ending not in ("csv", "json"):
        raise UsageError("the format is told by the file's name, which must end with .csv or .json")
    given: dict[str, Any] = {"kind": form.kind, "name": name, "allow_move": form.allow_move, "format": ending}
    try:
        counts = import_inventory(
            here, who, form.kind, _text(content), cast(Format, ending), dry_run=True, allow_move=form.allow_move
        )
    except ImportRefused as error:
        answer = page(request, "import.html", **_form(who, faults=error.faults, **given))
        answer.status_code = 400
        return answer
    token = uploads.keep(here.settings, who.user_id, content)
    flags = f"{FIELD_PREFIX}Offboard".encode() in content
    return page(request, "import.html", **_form(who, counts=counts, token=token, flags=flags, **given))


@router.post("/inventory/import/confirm")
def confirm_import(request: Request, here: Here, who: Who, form: Annotated[ConfirmForm, FormBody()]) -> Response:
    """Import the file that was previewed."""
    content = uploads.kept(here.settings, who.user_id, form.token)
    counts = import_inventory(
        here, who, form.kind, _text(content), form.format, dry_run=False, allow_move=form.allow_move
    )
    uploads.forget(here.settings, who.user_id, form.token)
    said = f"{form.kind}: {counts.created} created, {counts.changed} changed, {counts.unchanged} as they were"
    said += f", {counts.joined} joined" if counts.joined else ""
    return redirect(request, "/inventory", said)


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"the file is not UTF-8 (byte {error.start}): save it as UTF-8") from None


@router.get("/inventory/export")
def show_export(
    request: Request, here: Here, who: Who, client: Annotated[int | None, Query(ge=1, le=MOST_ID)] = None
) -> Response:  # fmt: skip
    """What can be exported: of one client, or of all when one may see all."""
    seen_client(who, client)
    with here.database.reading() as session:
        clients = _clients(session, who)
    return page(
        request,
        "export.html",
        kinds=[(k, k) for k in KINDS],
        clients=clients,
        client=client,
        all=who.can(Permission.SEE),
    )


def _clients(session: Session, who: Principal) -> list[tuple[int, str]]:
    query = select(col(Client.client_id), col(Client.name)).where(among(col(Client.client_id), who.clients()))
    return [(row[0] or 0, row[1]) for row in session.exec(query.order_by(col(Client.name)).limit(2000))]


@router.get("/inventory/export/file")
def export_file(
    here: Here, who: Who, kind: Kind, format: Format = "csv", client: Annotated[str, Query(pattern=r"^\d{0,9}$")] = ""
) -> Response:  # fmt: skip
    """The rows of a kind as a file. Secrets are left out."""
    return export_inventory(here, who, kind, format, int(client) if client else None)
