"""What all routes of the API share: routers, models, parameters, and the way to a place that one may see."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlmodel import Session

from agent.access.principal import Permission, Principal
from agent.errors import NotFound
from agent.inventory.lookup import Place, place_id, word
from agent.model.places import Client
from agent.web.api.once import ApiRoute
from agent.web.reads.paging import LIMIT, MOST

P = TypeVar("P", bound=Place)
#: What the database can hold as an id.
MOST_ID = 2**31 - 1


class Answer(BaseModel):
    """What a route answers."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class Body(BaseModel):
    """What a route takes. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", str_max_length=20_000, str_strip_whitespace=True)

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, values: Any) -> Any:
        # PostgreSQL keeps no NUL in a text, and nobody writes one on purpose.
        if _has_nul(values):
            raise ValueError("a text must not hold the character NUL")
        return values


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(k) or _has_nul(v) for k, v in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))


class Reason(Body):
    """Why something is done."""

    reason: str | None = Field(
        None, max_length=2000, description="Why; kept in the audit trail", examples=["ticket 4711"]
    )


class GivenReason(Body):
    """Why something is done; it must be said."""

    reason: str = Field(
        min_length=1, max_length=2000, description="Why; kept in the audit trail", examples=["ticket 4711"]
    )


class Done(Answer):
    """What was done, in words."""

    done: str


After = Annotated[
    str | None, Query(max_length=2000, description="`next` of the last answer: gives the part that follows it")
]
Limit = Annotated[int, Query(ge=1, le=MOST, description="At most so many")]
#: The default of `Limit`.
USUAL = LIMIT
Id = Annotated[int, Path(ge=1, le=MOST_ID)]
RecordId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="Id of the record: 16 hexadecimal digits")]
Name = Annotated[str, Path(min_length=1, max_length=200)]
ClientId = Annotated[int | None, Query(ge=1, le=MOST_ID, description="Only of this client")]
Search = Annotated[str | None, Query(max_length=200, description="Only those with words that begin so, in any case: name, address, ids")]


def api_router(tag: str) -> APIRouter:
    """A router of the API under a heading of its description; its POST routes take an `Idempotency-Key`."""
    return APIRouter(tags=[tag], route_class=ApiRoute)


def place_for(
    session: Session, who: Principal, model: type[P], identity: int, permission: Permission = Permission.SEE
) -> P:
    """A place. One that may not be seen is not there (NotFound); Forbidden when seeing is all that is allowed."""
    found = session.get(model, identity)
    if found is None or not who.can(Permission.SEE, client_of(found)):
        raise NotFound(f"there is no {word(model)} {identity}")
    who.require(permission, client_of(found))
    return found


def client_of(place: Place) -> int:
    """The id of the client that a place is or belongs to."""
    return place_id(place) if isinstance(place, Client) else place.client_id


def seen_client(who: Principal, client_id: int | None) -> None:
    """Raises NotFound when a list is asked for a client that one may not see."""
    if client_id is not None and not who.can(Permission.SEE, client_id):
        raise NotFound(f"there is no client {client_id}")


def record_for(
    session: Session, who: Principal, model: type[Any], identity: Any, permission: Permission = Permission.SEE
) -> Any:
    """A record with a `client_id` (null: of the whole server), by the same rules as a place."""
    found = session.get(model, identity)
    if found is None or not who.can(Permission.SEE, found.client_id):
        raise NotFound(f"there is no {_spoken(model)} {identity}")
    who.require(permission, found.client_id)
    return found


def _spoken(model: type[Any]) -> str:
    return str(model.__tablename__).replace("_", " ")
