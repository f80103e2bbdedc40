"""Packages: the store, what a client has in which order, apply and remove after a preview, export, import and undo."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Query, Request, Response, UploadFile
from fastapi import Form as FormBody

from agent.access.principal import Permission
from agent.content.reading import PARTNER
from agent.errors import NotFound, UsageError
from agent.installation import Installation
from agent.packages import changes, exporting, importing
from agent.packages.archive import ARCHIVE_BYTES
from agent.packages.changes import Planned
from agent.packages.importing import Allowed
from agent.web import uploads
from agent.web.api import packages
from agent.web.asking import Here, Who
from agent.web.forms import Form
from agent.web.reads.script_access import owners
from agent.web.rendering import page, redirect

router = APIRouter(prefix="/packages")


class Applied(Form):
    """Which package, where in the order, and whether the preview was seen."""

    name: str
    position: int | None = None
    agreed: bool = False


class Ordered(Form):
    """The whole order: names with the number that somebody gave to each."""

    name: list[str] = []
    number: list[float] = []


class Exported(Form):
    """Which packages go into one file."""

    name: list[str] = []


class Confirmed(Form):
    """The archive that was looked at, and what is allowed although it is refused otherwise."""

    token: str
    unsigned: bool = False
    older: bool = False
    other_version: bool = False
    agreed: bool = False


@router.get("")
def show_store(request: Request, here: Here, who: Who) -> Response:
    """The store."""
    with here.database.reading() as session:
        mine = owners(session, who)
    return page(
        request, "packages.html", packages=packages.list_packages(here, who), owners=mine,
        all_clients=who.can(Permission.ADMINISTER),
    )  # fmt: skip


@router.get("/{name}")
def show_package(request: Request, here: Here, who: Who, name: str) -> Response:
    """One package: what it brings, its criteria, every step, its page of the manual."""
    found = here.content.package(name)
    detail = packages.show_package(here, who, name)
    with here.database.reading() as session:
        mine = owners(session, who)
    manual = found.file.parent / (found.definition.documentation or "README.md")
    text = manual.read_text(encoding="utf-8") if manual.is_file() else None
    return page(request, "package.html", package=found, detail=detail, owners=mine, manual=text)


@router.get("/of")
def choose_client(request: Request, who: Who, slug: Annotated[str, Query(pattern="^[a-z0-9-]{1,100}$")]) -> Response:
    """To a client's packages; whether there is such a client is said there."""
    return redirect(request, f"/packages/of/{slug}")


@router.get("/of/{slug}")
def show_client(request: Request, here: Here, who: Who, slug: str) -> Response:
    """What a client has, in its order."""
    found = packages.list_applied(here, who, slug)
    with here.database.reading() as session:
        mine = owners(session, who)
    return page(
        request, "packages_of.html", slug=slug, name=dict(mine).get(slug, slug), applied=found,
        store=packages.list_packages(here, who), may_change=slug in dict(mine), partner=PARTNER,
    )  # fmt: skip


@router.post("/of/{slug}/{act}")
def change(
    request: Request, here: Here, who: Who, slug: str, act: str, form: Annotated[Applied, FormBody()]
) -> Response:
    """Apply or remove a package: first what it would change, then the change."""
    if act not in ("apply", "remove"):
        raise NotFound(f"there is nothing called {act!r} here")
    dry = not form.agreed
    if act == "apply":
        body = packages.Application(position=form.position, dry_run=dry)
        done = packages.apply_package(here, who, slug, form.name, body)
    else:
        done = packages.remove_package(here, who, slug, form.name, packages.Removal(dry_run=dry))
    if dry:
        return page(request, "package_change.html", slug=slug, act=act, form=form, change=done)
    word = "applied" if act == "apply" else "removed"
    return redirect(
        request, f"/packages/of/{slug}", f"{form.name} is {word}." if done.change else "There was nothing to change."
    )


@router.post("/of/{slug}/order/save")
def order(request: Request, here: Here, who: Who, slug: str, form: Annotated[Ordered, FormBody()]) -> Response:
    """Give the client's packages another order: each has a number, the smallest first."""
    if len(form.name) != len(form.number) or not form.name:
        raise UsageError("each package needs a number")
    wanted = [n for _, n in sorted(zip(form.number, form.name, strict=True), key=lambda e: e[0])]
    done = packages.order_packages(here, who, slug, packages.NewOrder(packages=wanted))
    said = "; ".join(("The order is saved" if done.change else "It was in this order already", *done.warnings))
    return redirect(request, f"/packages/of/{slug}", f"{said}.")


@router.post("/export/file")
def export(here: Here, who: Who, form: Annotated[Exported, FormBody()]) -> Response:
    """Packages as one file: definitions and shells, never a secret."""
    who.require(Permission.ADMINISTER)
    data = exporting.export(here, form.name, actor=who.name)
    return Response(
        data, media_type="application/zip", headers={"content-disposition": 'attachment; filename="packages.zip"'}
    )


@router.post("/upload")
def upload(
    request: Request, here: Here, who: Who, file: Annotated[UploadFile, File()], csrf: Annotated[str, FormBody()] = ""
) -> Response:
    """Look at an archive; it waits for the confirmation."""
    who.require(Permission.ADMINISTER)
    data = file.file.read(ARCHIVE_BYTES + 1)
    importing.read(data)
    return _look(request, here, who, Confirmed(token=uploads.keep(here.settings, who.user_id, data)))


@router.post("/import/confirm")
def confirm(request: Request, here: Here, who: Who, form: Annotated[Confirmed, FormBody()]) -> Response:
    """Look again with what is allowed, or take the archive over."""
    who.require(Permission.ADMINISTER)
    if not form.agreed:
        return _look(request, here, who, form)
    planned = _planned(here, who, form)
    planned.refuse()
    changes.perform(here, planned, actor=who.name)
    uploads.forget(here.settings, who.user_id, form.token)
    return redirect(request, "/packages", f"{planned.subject}: taken over. Credentials wait for their secrets.")


@router.post("/import/undo")
def undo(request: Request, here: Here, who: Who, form: Annotated[Form, FormBody()]) -> Response:
    """Take the last import back."""
    who.require(Permission.ADMINISTER)
    planned = importing.plan_undo(here, actor=who.name)
    planned.refuse()
    changes.perform(here, planned, actor=who.name)
    return redirect(request, "/packages", f"The import of {planned.subject} is undone.")


def _look(request: Request, here: Installation, who: Who, form: Confirmed) -> Response:
    return page(request, "package_import.html", form=form, planned=_planned(here, who, form))


def _planned(here: Installation, who: Who, form: Confirmed) -> Planned:
    content = uploads.kept(here.settings, who.user_id, form.token)
    allowed = Allowed(form.unsigned, form.older, form.other_version)
    return importing.plan_import(here, importing.read(content), actor=who.name, allowed=allowed)
