"""Scripts: the list with duplicates and drift, one with its text and revisions; duplicate, list, edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi import Form as FormBody

from agent.access.principal import Permission, Principal
from agent.content import duplication
from agent.content.definitions import Role
from agent.content.loaded import LoadedScript
from agent.errors import ContentError, UsageError
from agent.installation import Installation
from agent.running import script_editing, script_verbs
from agent.running.checking import check
from agent.web.asking import Here, Who
from agent.web.forms import Form
from agent.web.reads.script_access import may_change, owner_for, owners, quiet, script_for
from agent.web.reads.scripts import is_seen, revision, revisions, script_detail, scripts, seen_slugs
from agent.web.rendering import page, redirect, with_query

router = APIRouter(prefix="/scripts")


class Duplication(Form):
    """For whom, and how the copy is called."""

    client: str
    name: str = ""


class Listing(Form):
    """In whose list, of which wrapper, where."""

    client: str
    wrapper: str
    position: int | None = None


async def posted_texts(request: Request) -> dict[str, str]:
    """The texts of an edit by file (`file.NAME`), and `expected`, the digest that the person began with."""
    form = await request.form()
    found: dict[str, str] = {}
    for name, value in form.multi_items():
        if name == "csrf":
            continue
        if not isinstance(value, str) or not (name == "expected" or name.startswith("file.")):
            raise UsageError(f"there is no field {name!r} in this form")
        found[name.removeprefix("file.")] = value
    return found


Texts = Annotated[dict[str, str], Depends(posted_texts)]


@router.get("")
def list_scripts(
    request: Request, here: Here, who: Who, role: Role | None = None, client: str | None = None
) -> Response:
    """Shared scripts, then each client's."""
    with here.database.reading() as session:
        slugs = seen_slugs(session, who.clients())
    rows = [
        s for s in scripts(here.content, slugs) if role in (None, s.role) and client in (None, s.client or "shared")
    ]
    drifted = {
        (d.script.name, d.script.client): d.reason for d in duplication.drift(here.content) if is_seen(d.script, slugs)
    }
    whose = sorted({s.client for s in scripts(here.content, slugs) if s.client})
    # A fault names the file, which names the client: only those who see all are told of broken files.
    faults = (
        [(Path(f.file).parent.name, f) for f in check(here.content) if f.severity == "error"] if slugs is None else []
    )
    return page(
        request, "scripts.html", scripts=rows, drifted=drifted, owners=whose, role=role or "", client=client or "",
        roles=list(Role), faults=faults,
    )  # fmt: skip


@router.get("/{name}")
def show_script(
    request: Request, here: Here, who: Who, name: str, client: str | None = None, after: str | None = None
) -> Response:
    """One script with parameters, steps, bodies, revisions."""
    found = script_for(here, who, name, client)
    with here.database.reading() as session:
        kept = revisions(session, found.name, who.clients(), after=after, limit=10)
        mine = owners(session, who)
    drift = next((d.reason for d in duplication.drift(here.content) if d.script == found), None)
    wrappers = [s.name for s in here.content.scripts() if s.definition.role is Role.WRAPPER]
    following = with_query(request.url.path, client=found.client, after=kept.next) if kept.next else None
    return page(
        request, "script.html", script=script_detail(here.content, found), texts=script_editing.texts_of(found),
        definition=found.definition, revisions=kept.items, following=following, owners=mine, drift=drift,
        wrappers=wrappers, may_edit=script_editing.is_own(here, found) and may_change(here, who, found),
    )  # fmt: skip


@router.get("/revisions/{digest}")
def show_revision(request: Request, here: Here, who: Who, digest: str) -> Response:
    """A script exactly as it ran."""
    with here.database.reading() as session:
        found = revision(session, digest, who.clients())
    return page(request, "script_revision.html", revision=found)


@router.post("/{name}/duplicate")
def duplicate(request: Request, here: Here, who: Who, name: str, form: Annotated[Duplication, FormBody()]) -> Response:
    """Copy it for a client; the copy runs nowhere until it is listed."""
    owner = owner_for(here, who, form.client)
    script_for(here, who, name, None)
    with quiet(who, name):
        made = script_verbs.duplicate(here, name, owner, actor=who.name, new_name=form.name or None)
    return redirect(
        request,
        with_query(f"/scripts/{made.key}", client=form.client),
        "Duplicated. It runs nowhere until it is listed.",
    )


@router.post("/{name}/use")
def use(request: Request, here: Here, who: Who, name: str, form: Annotated[Listing, FormBody()]) -> Response:
    """List it for a client's wrapper."""
    owner = owner_for(here, who, form.client)
    script_for(here, who, name, form.client)
    with quiet(who, name):
        script_verbs.use(here, name, owner, form.wrapper, actor=who.name, position=form.position)
    return redirect(request, with_query(f"/scripts/{name}", client=form.client), f"{form.wrapper} runs it from now on.")


@router.post("/{name}/unuse")
def unuse(request: Request, here: Here, who: Who, name: str, form: Annotated[Listing, FormBody()]) -> Response:
    """Take it from the list."""
    owner = owner_for(here, who, form.client)
    script_for(here, who, name, form.client)
    with quiet(who, name):
        script_verbs.unuse(here, name, owner, form.wrapper, actor=who.name)
    return redirect(request, with_query(f"/scripts/{name}", client=form.client), f"{form.wrapper} no longer runs it.")


@router.get("/{name}/edit")
def edit(request: Request, here: Here, who: Who, name: str, client: str | None = None) -> Response:
    """The editor with the present text."""
    found = _editable(here, who, name, client)
    looked = script_editing.look_at(here, found, script_editing.texts_of(found))
    return page(request, "script_edit.html", script=found, edit=looked, expected=found.digest)


@router.post("/{name}/check")
def check_edit(request: Request, here: Here, who: Who, name: str, texts: Texts, client: str | None = None) -> Response:
    """What is wrong with the text, and what it changes; nothing is saved."""
    found = _editable(here, who, name, client)
    texts.pop("expected", None)
    return page(request, "script_check.html", edit=script_editing.look_at(here, found, texts))


@router.post("/{name}/edit")
def save(request: Request, here: Here, who: Who, name: str, texts: Texts, client: str | None = None) -> Response:
    """Save the text; one with an error is shown again with its faults."""
    found = _editable(here, who, name, client)
    expected = texts.pop("expected", "")
    looked = script_editing.look_at(here, found, texts)
    try:
        script_editing.save(here, looked, expected=expected, actor=who.name)
    except ContentError:
        answer = page(request, "script_edit.html", script=found, edit=looked, expected=expected)
        answer.status_code = 400
        return answer
    return redirect(request, with_query(f"/scripts/{found.key}", client=found.client), "Saved.")


def _editable(here: Installation, who: Principal, name: str, client: str | None) -> LoadedScript:
    found = script_for(here, who, name, client)
    if not may_change(here, who, found):
        who.require(Permission.ADMINISTER)
    return found
