"""The extra fields themselves: define, default, remove. Their values are on the pages of places."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi import Form as FormBody
from pydantic import Field

from agent.access.principal import Permission, Principal
from agent.errors import NotFound, UsageError
from agent.inventory.extra_fields import SHIPPED_GUID, fields
from agent.model.fields import ExtraField
from agent.model.fields import Form as LevelOf
from agent.web.api import fields as api
from agent.web.asking import Here, Who
from agent.web.forms import Form
from agent.web.pages.place_routes import PlaceId
from agent.web.rendering import page, redirect

router = APIRouter(prefix="/inventory/fields")
_LEVEL_OF: dict[LevelOf, api.Level] = {
    LevelOf.CLIENT: "client", LevelOf.LOCATION: "location", LevelOf.COMPUTER: "computer", LevelOf.CONTACT: "contact",
}  # fmt: skip
LEVELS = tuple(_LEVEL_OF.values())
TYPES = ("text", "checkbox", "dropdown", "date", "number", "secret")


class DefineForm(Form):
    """A new field. `options`: one on each line."""

    level: api.Level
    name: str = Field(min_length=1, max_length=200)
    type: api.Kind
    section: str = Field("", max_length=200)
    options: str = Field("", max_length=10_000)
    tooltip: str = Field("", max_length=1000)
    destructive: bool = False


class DefaultForm(Form):
    """What counts for every place without a value of its own; or that nothing does."""

    act: Literal["set", "clear"]
    value: str = Field("", max_length=10_000)
    flag_every_place: bool = False


class RemoveForm(Form):
    """The end of a field of one's own."""

    with_values: bool = False


@router.get("")
def show(request: Request, here: Here, who: Who) -> Response:
    """All fields by level and section."""
    return page(request, "fields.html", **_listed(here, who))


def _listed(here: Here, who: Principal) -> dict[str, Any]:
    found = api.list_fields(here, who)
    with here.database.reading() as session:
        numbers = {row.ltguid: row.id for row in fields(session)}
    levels = {name: list(group) for name, group in groupby(found, key=lambda f: f.level)}
    return {
        "section": "/inventory", "levels": [(name, levels.get(name, [])) for name in LEVELS], "numbers": numbers,
        "shipped": {f.guid for f in found if f.guid.startswith(SHIPPED_GUID)}, "types": [(t, t) for t in TYPES],
        "may": who.can(Permission.ADMINISTER),
    }  # fmt: skip


@router.post("")
def define(request: Request, here: Here, who: Who, form: Annotated[DefineForm, FormBody()]) -> Response:
    """Define a field."""
    body = api.FieldIn(
        level=form.level, name=form.name, type=form.type, section=form.section, tooltip=form.tooltip, guid=None,
        options=[line.strip() for line in form.options.splitlines() if line.strip()], destructive=form.destructive,
    )  # fmt: skip
    made = api.define_field(here, who, body)
    return redirect(request, "/inventory/fields", f"the {made.level} field {made.name} is defined")


def _field(here: Here, field_id: int) -> tuple[api.Level, str]:
    with here.database.reading() as session:
        found = session.get(ExtraField, field_id)
        if found is None:
            raise NotFound(f"there is no field {field_id}")
        return _LEVEL_OF[LevelOf(found.form)], found.name


@router.post("/{field_id:int}/default")
def set_default(
    request: Request, here: Here, who: Who, field_id: PlaceId, form: Annotated[DefaultForm, FormBody()]
) -> Response:  # fmt: skip
    """Set or clear the default of a field. That of a flag reaches every place, so it is asked for by name."""
    who.require(Permission.ADMINISTER)
    level, name = _field(here, field_id)
    if form.act == "clear":
        done = api.clear_default(here, who, level, name)
    elif form.value == "":
        raise UsageError("a default needs a value; to have none, clear it")
    else:
        body = api.DefaultIn(value=form.value, flag_every_place=form.flag_every_place)
        done = api.set_default(here, who, level, name, body)
    return redirect(request, "/inventory/fields", done.done)


@router.post("/{field_id:int}/remove")
def remove(
    request: Request, here: Here, who: Who, field_id: PlaceId, form: Annotated[RemoveForm, FormBody()]
) -> Response:  # fmt: skip
    """Remove a field of one's own."""
    who.require(Permission.ADMINISTER)
    level, name = _field(here, field_id)
    done = api.remove_field(here, who, level, name, form.with_values)
    return redirect(request, "/inventory/fields", done.done)
