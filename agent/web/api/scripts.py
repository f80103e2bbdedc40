"""Scripts: lists, texts, revisions, and what one may do with those of a client."""

from __future__ import annotations

from pathlib import Path as File
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import Field

from agent.content import duplication
from agent.content.definitions import Role
from agent.content.loaded import LoadedScript
from agent.running import script_verbs
from agent.running.checking import check
from agent.web.api.alerts import FaultOut
from agent.web.api.common import USUAL, After, Answer, Body, Limit, Name, api_router
from agent.web.asking import Here, Who
from agent.web.reads.paging import Page
from agent.web.reads.script_access import owner_for, quiet, script_for
from agent.web.reads.scripts import (
    RevisionRow,
    ScriptDetail,
    ScriptRow,
    is_seen,
    revision,
    revisions,
    script_detail,
    scripts,
    seen_slugs,
)  # fmt: skip

router = api_router("scripts")
WRAPPER = "Offboarding Wrapper"
Of = Annotated[
    str | None, Query(max_length=100, description="As this client's runs would find it: its slug, or `partner`")
]


class RevisionOut(RevisionRow):
    """A script exactly as it ran. `content`: {definition, bodies}."""

    content: dict[str, Any]


class Duplication(Body):
    """Whose copy it becomes."""

    client: str = Field(max_length=100, description="The client's slug, or `partner` for the partner default")
    name: str | None = Field(
        None, min_length=1, max_length=200, description="The copy's name; else it is made from the old one"
    )


class Duplicated(Answer):
    """The copy, which runs nowhere until it is used."""

    name: str
    key: str
    client: str
    digest: str


class Use(Body):
    """Where a script is listed."""

    client: str = Field(max_length=100, description="The client's slug, or `partner`")
    wrapper: str = Field(WRAPPER, min_length=1, max_length=200, description="The wrapper that shall run it")
    position: int | None = Field(None, ge=1, le=1000, description="Its place in the list, from 1; else the last")


class Unuse(Body):
    """Where a script is taken from."""

    client: str = Field(max_length=100, description="The client's slug, or `partner`")
    wrapper: str = Field(WRAPPER, min_length=1, max_length=200, description="The wrapper that shall no longer run it")


class Listing(Answer):
    """What a wrapper runs for a client, in this order; an empty list stops it."""

    client: str
    wrapper: str
    scripts: list[str]


class DriftOut(Answer):
    """A duplicate whose origin has changed or gone since it was copied."""

    script: str
    client: str | None
    reason: str


class OutcomeOut(Answer):
    """What an option of Failed Uninstall Process permits after a failed child script."""

    option: str | None
    aliases: list[str]
    script: str
    outcome: dict[str, Any] | None
    literal_outcome: dict[str, Any] | None


@router.get("/scripts")
def list_scripts(
    here: Here, who: Who, role: Role | None = None,
    client: Annotated[str | None, Query(max_length=100, description="Only those of this client: its slug, or `partner`")] = None,
) -> list[ScriptRow]:  # fmt: skip
    """Shared scripts, then each client's duplicates, and which wrappers use them."""
    with here.database.reading() as session:
        slugs = seen_slugs(session, who.clients())
    return [s for s in scripts(here.content, slugs) if role in (None, s.role) and client in (None, s.client)]


@router.get("/scripts/{name}")
def show_script(here: Here, who: Who, name: Name, client: Of = None) -> ScriptDetail:
    """One script with its parameters, steps and bodies."""
    return script_detail(here.content, script_for(here, who, name, client))


@router.get("/scripts/{name}/revisions")
def list_revisions(
    here: Here, who: Who, name: Name, client: Of = None, after: After = None, limit: Limit = USUAL
) -> Page[RevisionRow]:
    """The revisions of a script that were stored because they ran, the newest first."""
    found = script_for(here, who, name, client)
    with here.database.reading() as session:
        return revisions(session, found.name, who.clients(), after=after, limit=limit)


@router.get("/revisions/{digest}")
def show_revision(
    here: Here, who: Who, digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256, hexadecimal")]
) -> RevisionOut:
    """A script exactly as it ran."""
    with here.database.reading() as session:
        return RevisionOut.model_validate(revision(session, digest, who.clients()), from_attributes=True)


@router.get("/scripts/{name}/check")
def check_script(here: Here, who: Who, name: Name, client: Of = None) -> list[FaultOut]:
    """Every fault of one script: line and reason."""
    folder = str(script_for(here, who, name, client).file.parent)
    found = [f for f in check(here.content) if f.file.startswith(folder)]
    return [FaultOut.model_validate(f).model_copy(update={"file": File(f.file).name}) for f in found]


@router.post("/scripts/{name}/duplicate", status_code=201)
def duplicate_script(here: Here, who: Who, name: Name, body: Duplication) -> Duplicated:
    """Copy a script for one client, to be edited. It runs nowhere until it is used; nothing is overwritten."""
    owner = owner_for(here, who, body.client)
    with quiet(who, name):
        made = script_verbs.duplicate(here, name, owner, actor=who.name, new_name=body.name)
    return Duplicated(name=made.name, key=made.key, client=body.client, digest=made.digest)


@router.post("/scripts/{name}/use")
def use_script(here: Here, who: Who, name: Name, body: Use) -> Listing:
    """List a script for a client's wrapper: from now on it runs. The order of the list is the order of execution."""
    owner = owner_for(here, who, body.client)
    with quiet(who, name):
        found = script_verbs.use(here, name, owner, body.wrapper, actor=who.name, position=body.position)
    return Listing(client=body.client, wrapper=body.wrapper, scripts=list(found.definition.scripts[body.wrapper]))


@router.post("/scripts/{name}/unuse")
def unuse_script(here: Here, who: Who, name: Name, body: Unuse) -> Listing:
    """Take a script from a client's list."""
    owner = owner_for(here, who, body.client)
    with quiet(who, name):
        found = script_verbs.unuse(here, name, owner, body.wrapper, actor=who.name)
    return Listing(client=body.client, wrapper=body.wrapper, scripts=list(found.definition.scripts[body.wrapper]))


@router.get("/script-drift")
def list_drift(here: Here, who: Who) -> list[DriftOut]:
    """Duplicates whose origin has changed or gone since they were copied."""
    with here.database.reading() as session:
        slugs = seen_slugs(session, who.clients())
    return [
        DriftOut(script=d.script.name, client=d.script.client, reason=d.reason)
        for d in duplication.drift(here.content) if is_seen(d.script, slugs)
    ]  # fmt: skip


@router.get("/script-outcomes")
def list_outcomes(here: Here, who: Who) -> list[OutcomeOut]:
    """What each option of Failed Uninstall Process permits after a failed child script."""
    return [_outcome(s) for s in here.content.scripts() if s.definition.role is Role.FALLBACK and s.client is None]


def _outcome(found: LoadedScript) -> OutcomeOut:
    of = found.definition
    return OutcomeOut(
        option=of.option, aliases=list(of.aliases), script=found.name,
        outcome=of.outcome.model_dump() if of.outcome else None,
        literal_outcome=of.literal_outcome.model_dump() if of.literal_outcome else None,
    )  # fmt: skip
