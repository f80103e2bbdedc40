"""Backups of leavers' data: list, verify. They are restored and forgotten at the command line, beside the store."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from agent.access.principal import Permission, Principal
from agent.errors import NotFound
from agent.functions.backups import recorded_digest
from agent.installation import Installation
from agent.services import backup_reading
from agent.services.backup_places import open_store
from agent.services.backup_reading import listed
from agent.web.api.common import Answer, Body, api_router
from agent.web.asking import Here, Who

router = api_router("backups")


class BackupOut(Answer):
    """A backup. `about`: what its header says of client, target and run."""

    backup: str
    client: str | None
    created_at: str | None
    complete: bool
    about: dict[str, Any]


class BackupName(Body):
    """Which backup."""

    backup: str = Field(min_length=1, max_length=300, examples=["contoso/3f9a21c0de5b7788-onedrive"])


class Verified(Answer):
    """Whether a backup is what was written."""

    backup: str
    ok: bool
    faults: list[str]


@router.get("/backups")
def list_backups(
    here: Here, who: Who, client: Annotated[str, Query(pattern="^([a-z0-9-]{1,100}|[*])$", description="Slug")] = "*"
) -> list[BackupOut]:
    """The backups in the folder of the settings, whose they are, and whether they are complete."""
    if not who.can_somewhere(Permission.SEE):
        who.require(Permission.SEE)
    return [_out(b) for b in listed(open_store(here, None), client) if _is_seen(who, b)]


@router.post("/backups/verify")
def verify_backup(here: Here, who: Who, body: BackupName) -> Verified:
    """Decrypt a backup and compare every file with its digest, and the manifest with the audit trail. It may take long."""
    _find(here, who, body.backup)
    faults = backup_reading.verify(
        open_store(here, None), here.secrets, body.backup, digest=recorded_digest(here, body.backup)
    )
    return Verified(backup=body.backup, ok=not faults, faults=faults[:100])


def _find(here: Installation, who: Principal, name: str) -> None:
    found = next((b for b in listed(open_store(here, None)) if b["backup"] == name), None)
    if found is None or not _is_seen(who, found):
        raise NotFound(f"there is no backup {name!r}")
    who.require(Permission.OPERATE, found.get("client_id"))


def _is_seen(who: Principal, header: dict[str, Any]) -> bool:
    return who.can(Permission.SEE, header.get("client_id"))


def _out(found: dict[str, Any]) -> BackupOut:
    own = ("backup", "client", "created_at", "complete")
    return BackupOut(
        backup=found["backup"], client=found.get("client"), created_at=found.get("created_at"),
        complete=found["complete"], about={n: v for n, v in found.items() if n not in own},
    )  # fmt: skip
