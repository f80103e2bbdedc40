"""Backups of leavers' data: whose there are, whether they are complete, and whether one is still what was written."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi import Form as FormBody
from pydantic import Field

from agent.access.principal import Permission
from agent.web.api import backups
from agent.web.asking import Here, Who
from agent.web.forms import Form
from agent.web.rendering import page

router = APIRouter(prefix="/backups")
#: Backups that are shown at once; a client narrows them down.
SHOWN = 200


class Chosen(Form):
    """Which backup."""

    backup: str = Field(min_length=1, max_length=300)


@router.get("")
def list_backups(
    request: Request, here: Here, who: Who, client: Annotated[str, Query(pattern="^[a-z0-9-]{0,100}$")] = ""
) -> Response:
    """The backups of the clients that one may see, the newest first."""
    # Without a folder there is nothing to list, and the page says how to set one.
    known = here.settings.backup_folder is not None
    found = backups.list_backups(here, who, client or "*") if known else []
    found.sort(key=lambda b: (b.created_at or "", b.backup), reverse=True)
    return page(
        request, "backups.html", backups=found[:SHOWN], left=len(found) - SHOWN, client=client, known=known,
        operates=[b.backup for b in found[:SHOWN] if who.can(Permission.OPERATE, b.about.get("client_id"))],
    )  # fmt: skip


@router.post("/verify")
def verify(request: Request, here: Here, who: Who, form: Annotated[Chosen, FormBody()]) -> Response:
    """Read one backup whole and say whether it is what was written."""
    found = backups.verify_backup(here, who, backups.BackupName(backup=form.backup))
    return page(request, "backup_verify.html", verdict=found)
