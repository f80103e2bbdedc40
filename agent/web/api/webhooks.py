"""Webhooks: who is told of what, what was sent, and from whom signed messages are taken."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field
from sqlmodel import Session, col, select

from agent.access.principal import Permission, Principal
from agent.errors import NotFound
from agent.model.webhooks import WebhookDelivery, WebhookSource, WebhookTarget
from agent.services import webhooks
from agent.web.api.common import MOST_ID, USUAL, After, Answer, Body, Done, Limit, RecordId, api_router
from agent.web.api.once import SECRET
from agent.web.asking import Here, Who
from agent.web.reads.paging import Order, Page, among, take

router = api_router("webhooks")
Event = Literal["run.finished", "run.held", "offboarding.finished", "ticket.created"]


class TargetOut(Answer):
    """An address that is told of events. Its secret is never shown again."""

    id: str
    name: str
    form: str = Field(description="exeunt: signed JSON; slack, teams: a message in a channel")
    url: str = Field(description="Of a channel only its host: the rest is a secret")
    client_id: int | None = Field(description="Null: events of all clients")
    events: list[str] = Field(description="Empty: all")
    disabled_at: datetime | None
    created_at: datetime
    created_by: str


class TargetIn(Body):
    """A new target."""

    name: str = Field(min_length=1, max_length=100, examples=["psa"])
    url: str = Field(min_length=9, max_length=2000, examples=["https://hooks.example.com/exeunt"])
    form: Literal["exeunt", "slack", "teams"] = "exeunt"
    client_id: int | None = Field(None, ge=1, le=MOST_ID, description="Null: events of all clients")
    events: list[Event] = Field(default_factory=list, max_length=20, description="None named: all")


class NewTarget(TargetOut):
    """A target with the secret that its messages are signed with. It is shown only now."""

    secret: str


class SourceOut(Answer):
    """A system outside that may send signed messages about one client."""

    id: str
    name: str
    kind: str
    client_id: int
    path: str = Field(description="Where it posts to")
    disabled_at: datetime | None
    created_at: datetime
    created_by: str


class SourceIn(Body):
    """A new source."""

    name: str = Field(min_length=1, max_length=100, examples=["personio"])
    kind: Literal["hr", "psa"]
    client_id: int = Field(ge=1, le=MOST_ID)


class NewSource(SourceOut):
    """A source with the secret that it signs with. It is shown only now."""

    secret: str


class DeliveryOut(Answer):
    """One message to one target."""

    id: str
    target_id: str
    event_id: str
    event: str
    client_id: int | None
    body: dict[str, Any]
    state: str
    attempts: int
    next_attempt_at: datetime
    status_code: int | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None


@router.get("/webhooks")
def list_targets(here: Here, who: Who) -> list[TargetOut]:
    """Targets of the clients that one administers, by name."""
    clients = _clients(who)
    with here.database.reading() as session:
        found = [t for t in webhooks.targets(session) if clients is None or t.client_id in clients]
        return [TargetOut.model_validate(t) for t in found]


@router.post("/webhooks", status_code=201, openapi_extra=SECRET)
def add_target(here: Here, who: Who, body: TargetIn) -> NewTarget:
    """Tell an address of events. It is sent to by https, not to addresses of an inner network, and follows no redirect."""
    who.require(Permission.ADMINISTER, body.client_id, what=f"client {body.client_id}")
    made, secret = webhooks.add_target(
        here, name=body.name, url=body.url, form=body.form, events=body.events, client_id=body.client_id, actor=who.name
    )
    return NewTarget(**TargetOut.model_validate(made).model_dump(), secret=secret)


@router.get("/webhooks/{target_id}")
def show_target(here: Here, who: Who, target_id: RecordId) -> TargetOut:
    """One target."""
    with here.database.reading() as session:
        return TargetOut.model_validate(_one(session, who, WebhookTarget, target_id))


@router.delete("/webhooks/{target_id}")
def remove_target(here: Here, who: Who, target_id: RecordId) -> Done:
    """Tell an address no more, and forget its log."""
    with here.database.session() as session:
        waiting = webhooks.remove_target(session, _one(session, who, WebhookTarget, target_id), actor=who.name)
    return Done(done=f"removed; {waiting} messages had not arrived")


@router.get("/webhook-deliveries")
def list_deliveries(
    here: Here, who: Who, target_id: Annotated[str | None, Query(pattern="^[0-9a-f]{16}$")] = None,
    state: Literal["waiting", "delivered", "failed"] | None = None, after: After = None, limit: Limit = USUAL,
) -> Page[DeliveryOut]:  # fmt: skip
    """What was sent or waits, the newest first."""
    clients = _clients(who)
    with here.database.reading() as session:
        query: Any = select(WebhookDelivery)
        if clients is not None:
            mine = select(WebhookTarget.id).where(among(col(WebhookTarget.client_id), clients))
            query = query.where(col(WebhookDelivery.target_id).in_(mine))
        if target_id is not None:
            query = query.where(WebhookDelivery.target_id == target_id)
        if state is not None:
            query = query.where(WebhookDelivery.state == state)
        order = Order(col(WebhookDelivery.created_at), col(WebhookDelivery.id), descending=True)
        rows, following = take(session, query, order, after=after, limit=limit)
        return Page(items=[DeliveryOut.model_validate(r[0]) for r in rows], next=following)


@router.post("/webhook-deliveries/{delivery_id}/retry")
def retry_delivery(here: Here, who: Who, delivery_id: RecordId) -> DeliveryOut:
    """Send a message again, with the same id; a worker does it."""
    with here.database.session() as session:
        found = session.get(WebhookDelivery, delivery_id)
        if found is None:
            raise NotFound(f"there is no delivery {delivery_id}")
        _one(session, who, WebhookTarget, found.target_id)
        return DeliveryOut.model_validate(webhooks.retry(session, delivery_id, actor=who.name))


@router.get("/webhook-sources")
def list_sources(here: Here, who: Who) -> list[SourceOut]:
    """Sources of the clients that one administers, by name."""
    clients = _clients(who)
    with here.database.reading() as session:
        return [_source(s) for s in webhooks.sources(session) if clients is None or s.client_id in clients]


@router.post("/webhook-sources", status_code=201, openapi_extra=SECRET)
def add_source(here: Here, who: Who, body: SourceIn) -> NewSource:
    """Take signed messages about a client from a system of that kind."""
    who.require(Permission.ADMINISTER, body.client_id, what=f"client {body.client_id}")
    made, secret = webhooks.add_source(here, name=body.name, kind=body.kind, client_id=body.client_id, actor=who.name)
    return NewSource(**_source(made).model_dump(), secret=secret)


@router.delete("/webhook-sources/{source_id}")
def remove_source(here: Here, who: Who, source_id: RecordId) -> Done:
    """Take no more messages from a source."""
    with here.database.session() as session:
        webhooks.remove_source(session, _one(session, who, WebhookSource, source_id), actor=who.name)
    return Done(done="removed")


def _source(found: WebhookSource) -> SourceOut:
    known = {n: getattr(found, n) for n in SourceOut.model_fields if n != "path"}
    return SourceOut(**known, path=f"/api/v1/hooks/{found.id}")


def _clients(who: Principal) -> frozenset[int] | None:
    """The clients that one administers. Raises Forbidden when there is none."""
    if not who.can_somewhere(Permission.ADMINISTER):
        who.require(Permission.ADMINISTER)
    return who.clients(Permission.ADMINISTER)


def _one(session: Session, who: Principal, model: type[Any], identity: str) -> Any:
    found = session.get(model, identity)
    if found is None or not (found.client_id is None or who.can(Permission.SEE, found.client_id)):
        raise NotFound(f"there is no webhook {identity}")
    who.require(Permission.ADMINISTER, found.client_id)
    return found
