"""Packages as one file, out and in, and the last import taken back. All of it takes an administrator of the whole server."""

from __future__ import annotations

from typing import Annotated

from fastapi import File, Query, Response, UploadFile
from pydantic import Field

from agent.access.principal import Permission
from agent.packages import changes, exporting, importing, migrating
from agent.packages.changes import Planned
from agent.packages.importing import Allowed
from agent.web.api.common import Answer, Body, api_router
from agent.web.api.once import REPEATABLE
from agent.web.api.packages import Change, Removal
from agent.web.asking import Here, Who

router = api_router("packages")
Given = Annotated[
    str | None,
    Query(
        pattern="^[a-z0-9-]{1,100}$",
        description="Slug of a client: the credentials are made for it, and then the packages applied for it, in the "
        "order that they had",
    ),
]

Only = Annotated[
    list[str] | None,
    Query(max_length=100, description="Only this package, field, credential or property, also as `field:NAME`"),
]


class Export(Body):
    """Which packages go into one file."""

    packages: list[str] = Field(
        default_factory=list, max_length=100, description="Names or folders; none with `client`: all of its packages",
        examples=[["zoom", "slack"]],
    )  # fmt: skip
    client: str | None = Field(
        None, pattern="^[a-z0-9-]{1,100}$",
        description="Slug: also the order and the phases that this client's packages have", examples=["contoso"],
    )  # fmt: skip


class Imported(Answer):
    """What was (or with `dry_run` would be) taken over."""

    packages: list[str] = Field(description="Names of the packages in the archive")
    imported: Change
    applied: list[str] = Field(
        description="With `client`: what was changed for it after the import, package by package"
    )
    waiting: list[str] = Field(description="Credentials that wait for their secret")


@router.post("/packages/export", response_class=Response, openapi_extra=REPEATABLE, responses={200: {
    "description": "The archive", "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
}})  # fmt: skip
def export_packages(here: Here, who: Who, body: Export) -> Response:
    """Packages as one archive: definitions and shells, never a secret. Signed where the workspace has a key."""
    who.require(Permission.ADMINISTER)
    data = exporting.export(here, body.packages, actor=who.name, client=body.client)
    name = 'attachment; filename="packages.zip"'
    return Response(data, media_type="application/zip", headers={"content-disposition": name})


@router.post("/packages/import")
def import_packages(
    here: Here, who: Who, file: Annotated[UploadFile, File(description="An archive of packages")], client: Given = None,
    only: Only = None,
    allow_unsigned: Annotated[bool, Query(description="Also one that nobody signed whom this workspace trusts")] = False,
    allow_older: Annotated[bool, Query(description="Also a package that is older than the one here")] = False,
    allow_other_version: Annotated[bool, Query(description="Also from another version of Exeunt")] = False,
    dry_run: Annotated[bool, Query(description="False: take it over. Otherwise it is only said what that would change")] = True,
) -> Imported:  # fmt: skip
    """Take packages over from an archive. All that stands in the way is in `refusals`; nothing is done then (409).

    With `client` the packages are applied after the import; when that fails, the import stays and can be undone.
    """
    who.require(Permission.ADMINISTER)
    incoming = importing.read(file.file.read())
    allowed = Allowed(allow_unsigned, allow_older, allow_other_version)
    planned = importing.plan_import(here, incoming, actor=who.name, client=client, only=only or (), allowed=allowed)
    names = [p.name for p in incoming.packages]
    if dry_run:
        return Imported(packages=names, imported=_change(planned, None), applied=[], waiting=[])
    change = changes.perform(here, planned, actor=who.name)
    applied: list[Planned] = []
    if client is not None and not only:
        plans = migrating.plan_applications(here, incoming, client, actor=who.name)
        applied = migrating.apply_all(here, plans, actor=who.name)
    return Imported(
        packages=names, imported=_change(planned, change), applied=[f"{p.subject}: {line}" for p in applied for line in p.lines],
        waiting=[w.name for w in migrating.waiting(here, incoming, client)],
    )  # fmt: skip


@router.post("/packages/undo")
def undo_import(here: Here, who: Who, body: Removal) -> Change:
    """Take the last import back: its files, and what it made and nobody has used since."""
    who.require(Permission.ADMINISTER)
    planned = importing.plan_undo(here, actor=who.name)
    return _change(planned, None if body.dry_run else changes.perform(here, planned, actor=who.name))


def _change(planned: Planned, change: str | None) -> Change:
    return Change(
        change=change, lines=list(planned.lines), warnings=list(planned.warnings), refusals=list(planned.refusals)
    )
