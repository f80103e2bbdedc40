"""Webhooks: addresses that are told of events, systems whose messages are taken, and the log of what was sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi import Form as FormBody
from pydantic import Field
from sqlmodel import col, select

from agent.access.principal import Permission, Principal
from agent.errors import UsageError
from agent.installation import Installation
from agent.model.places import Client
from agent.services.webhooks import EVENTS, SIGNED
from agent.web.api import webhooks
from agent.web.api.common import MOST_ID, RecordId
from agent.web.asking import Here, Who
from agent.web.forms import Form
from agent.web.reads.paging import among
from agent.web.rendering import page, redirect, with_query

router = APIRouter(prefix="/webhooks")
#: What systems outside send, by their kind.
KINDS = {"hr": "HR: people who leave", "psa": "PSA: tickets"}
#: How a message is written.
WAYS = {
    "exeunt": "signed JSON, for programs",
    "slack": "a message in a Slack channel",
    "teams": "a message in a Teams channel",
}
State = Literal["", "waiting", "delivered", "failed"]


class NewTarget(Form):
    """An address that shall be told; no client: of all clients, no event: of all events."""

    name: str = Field(min_length=1, max_length=100)
    url: str = Field(min_length=9, max_length=2000)
    form: Literal["exeunt", "slack", "teams"] = "exeunt"
    client: str = Field("", pattern=r"^\d{0,9}$")
    events: list[webhooks.Event] = Field([], max_length=20)


class NewSource(Form):
    """A system whose signed messages about one client shall be taken."""

    name: str = Field(min_length=1, max_length=100)
    kind: Literal["hr", "psa"]
    client: int = Field(ge=1, le=MOST_ID)


class Nothing(Form):
    """Only the press of a button."""


@router.get("")
def show(request: Request, here: Here, who: Who) -> Response:
    """Targets and sources of the clients that one administers, and how to add one."""
    return _shown(request, here, who)


@router.post("/targets")
def add_target(request: Request, here: Here, who: Who, form: Annotated[NewTarget, FormBody()]) -> Response:
    """Add a target and show its secret once."""
    client_id = int(form.client) if form.client else None
    who.require(Permission.ADMINISTER, client_id)
    try:
        body = webhooks.TargetIn(
            name=form.name, url=form.url, form=form.form, client_id=client_id, events=form.events
        )  # fmt: skip
        made = webhooks.add_target(here, who, body)
    except (UsageError, ValueError) as error:
        # The address of a channel is a secret: it is typed again.
        again = form if form.form == SIGNED else form.model_copy(update={"url": ""})
        return _shown(request, here, who, target=again, target_wrong=_reason(error))
    if made.form != SIGNED:
        return redirect(request, "/webhooks", f"{made.name} is told in its channel from now on.")
    return page(
        request, "shown_once.html", title="The new target", what=f"Secret of {made.name}", secret=made.secret,
        back="/webhooks", lead="Copy it now: it is not shown again. The receiver checks with it that messages are ours.",
        section="/webhooks",
    )  # fmt: skip


@router.post("/sources")
def add_source(request: Request, here: Here, who: Who, form: Annotated[NewSource, FormBody()]) -> Response:
    """Add a source and show its secret once."""
    who.require(Permission.ADMINISTER, form.client)
    try:
        made = webhooks.add_source(
            here, who, webhooks.SourceIn(name=form.name, kind=form.kind, client_id=form.client)
        )  # fmt: skip
    except (UsageError, ValueError) as error:
        return _shown(request, here, who, source=form, source_wrong=_reason(error))
    return page(
        request, "shown_once.html", title="The new source", what=f"Secret of {made.name}", secret=made.secret,
        back="/webhooks", lead=f"Copy it now: it is not shown again. The system signs with it what it posts to {made.path}",
        section="/webhooks",
    )  # fmt: skip


@router.post("/targets/{target_id}/remove")
def remove_target(
    request: Request, here: Here, who: Who, target_id: RecordId, form: Annotated[Nothing, FormBody()]
) -> Response:
    """Tell an address no more."""
    done = webhooks.remove_target(here, who, target_id)
    return redirect(request, "/webhooks", f"The target is {done.done}.")


@router.post("/sources/{source_id}/remove")
def remove_source(
    request: Request, here: Here, who: Who, source_id: RecordId, form: Annotated[Nothing, FormBody()]
) -> Response:
    """Take no more messages from a system."""
    webhooks.remove_source(here, who, source_id)
    return redirect(request, "/webhooks", "The source is removed.")


@router.get("/log")
def show_log(
    request: Request, here: Here, who: Who, target: Annotated[str, Query(pattern="^([0-9a-f]{16})?$")] = "", state: State = "",
    after: Annotated[str | None, Query(max_length=2000)] = None,
) -> Response:  # fmt: skip
    """What was sent or waits, the newest first."""
    found = webhooks.list_deliveries(here, who, target_id=target or None, state=state or None, after=after)
    targets = webhooks.list_targets(here, who)
    following = with_query("/webhooks/log", target=target, state=state, after=found.next) if found.next else None
    return page(
        request, "webhooks_log.html", deliveries=found.items, targets={t.id: t.name for t in targets}, target=target,
        state=state, following=following, names=_names(here, (d.client_id for d in found.items)),
    )  # fmt: skip


@router.post("/log/{delivery_id}/retry")
def retry(
    request: Request, here: Here, who: Who, delivery_id: RecordId, form: Annotated[Nothing, FormBody()]
) -> Response:
    """Send a message again."""
    webhooks.retry_delivery(here, who, delivery_id)
    return redirect(request, "/webhooks/log", "The message waits: a worker sends it again, with the same id.")


def _shown(request: Request, here: Installation, who: Principal, **more: Any) -> Response:
    targets, sources = webhooks.list_targets(here, who), webhooks.list_sources(here, who)
    mine = among(col(Client.client_id), who.clients(Permission.ADMINISTER))
    with here.database.reading() as session:
        query = select(Client.client_id, Client.name).where(mine).order_by(col(Client.name)).limit(2000)
        clients = [(number, name) for number, name in session.exec(query)]
    ids = [*(t.client_id for t in targets), *(s.client_id for s in sources)]
    given = {"target": None, "source": None, "target_wrong": None, "source_wrong": None} | more
    answer = page(
        request, "webhooks.html", targets=targets, sources=sources, clients=clients, kinds=KINDS, ways=WAYS, events=EVENTS,
        scopes=[("", "all clients")] * who.can(Permission.ADMINISTER) + clients,
        names=_names(here, ids), **given,
    )  # fmt: skip
    if more:
        answer.status_code = 400
    return answer


def _names(here: Installation, ids: Iterable[int | None]) -> dict[int | None, str]:
    wanted = {i for i in ids if i is not None}
    with here.database.reading() as session:
        query = select(Client.client_id, Client.name).where(col(Client.client_id).in_(wanted))
        return {None: "all clients", **dict(session.exec(query).all())}


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, UsageError) else "a name or an address must not hold the character NUL"
