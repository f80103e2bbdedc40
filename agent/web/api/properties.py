"""System properties: server-wide settings."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, SecretStr

from agent.access.principal import Permission
from agent.errors import NotFound
from agent.services import properties
from agent.web.api.common import Answer, Body, Done, Name, api_router
from agent.web.asking import Here, Who

router = api_router("properties")


class PropertyOut(Answer):
    """A property. `value` is null when it is not set, and for a secret."""

    name: str
    value: str | None
    default: str | None
    is_set: bool
    is_secret: bool
    allowed: str
    meaning: str
    changed_at: datetime | None
    changed_by: str | None


class PropertyIn(Body):
    """A value."""

    value: SecretStr = Field(max_length=20_000, examples=["Email, Ticket"])
    secret: bool = Field(False, description="Store it encrypted, and never show it")


@router.get("/properties")
def list_properties(here: Here, who: Who) -> list[PropertyOut]:
    """All properties with their values, defaults and meaning."""
    who.require(Permission.ADMINISTER)
    with here.database.reading() as session:
        return [PropertyOut.model_validate(p) for p in properties.list_properties(session)]


@router.get("/properties/{name}")
def show_property(here: Here, who: Who, name: Name) -> PropertyOut:
    """One property."""
    who.require(Permission.ADMINISTER)
    with here.database.reading() as session:
        found = next((p for p in properties.list_properties(session) if p.name == name), None)
    if found is None:
        raise NotFound(f"there is no property {name!r}")
    return PropertyOut.model_validate(found)


@router.put("/properties/{name}")
def set_property(here: Here, who: Who, name: Name, body: PropertyIn) -> PropertyOut:
    """Set a property. One that is a secret is encrypted, whatever is said here."""
    who.require(Permission.ADMINISTER)
    properties.set_value(here, name, body.value.get_secret_value(), actor=who.name, secret=body.secret)
    return show_property(here, who, name)


@router.delete("/properties/{name}")
def unset_property(here: Here, who: Who, name: Name) -> Done:
    """Forget a property's value, so that its default counts again."""
    who.require(Permission.ADMINISTER)
    properties.unset(here, name, actor=who.name)
    return Done(done=f"{name} is no longer set")
