"""Extra data fields: definitions, defaults, and the values of places. A flag tells whom it reaches."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path, Query
from pydantic import Field
from sqlmodel import Session, select

from agent.access.principal import Permission, Principal
from agent.inventory import extra_fields, field_values, lookup
from agent.inventory.field_values import EffectiveValue
from agent.inventory.lookup import Place
from agent.model.fields import ExtraField, ExtraFieldData, FieldType, Form
from agent.web.api.common import Answer, Body, Done, Id, Name, api_router, client_of, place_for
from agent.web.asking import Here, Who
from agent.web.reads.places import Reach, reach

router = api_router("fields")
Level = Literal["client", "location", "computer", "contact"]
AtLevel = Annotated[Level, Path(description="Which kind of place")]
Kind = Literal["text", "checkbox", "dropdown", "date", "number", "secret"]


class FieldOut(Answer):
    """A definition. The default of a secret is never shown."""

    level: Level
    name: str
    type: Kind
    section: str
    options: list[str]
    tooltip: str
    default: str | None
    destructive: bool = Field(description="A checkbox that starts an offboarding")
    guid: str


class FieldIn(Body):
    """A new field of your own."""

    level: Level
    name: str = Field(min_length=1, max_length=200, examples=["Contract End"])
    type: Kind = "text"
    section: str = Field("", max_length=200)
    options: list[str] = Field(default_factory=list, max_length=200)
    tooltip: str = Field("", max_length=1000)
    guid: str | None = Field(None, max_length=100)
    destructive: bool = False


class ValueIn(Body):
    """A value as text: 1 or 0 for a checkbox, YYYY-MM-DD for a date."""

    value: str = Field(max_length=10_000, examples=["1"])


class DefaultIn(ValueIn):
    """What counts for every place without a value of its own."""

    flag_every_place: bool = Field(
        False, description="Allow the default of an offboarding flag, which flags all places"
    )


class ValueOut(Answer):
    """What counts for a place, and where it comes from. A secret is masked."""

    field: str
    value: str | None
    origin: Literal["own", "default", "nothing"]


class Flagged(ValueOut):
    """What counts now; of an offboarding flag that is set, whom it reaches."""

    reaches: Reach | None = Field(None, description="Only for an offboarding flag that is set")


@router.get("/fields")
def list_fields(here: Here, who: Who, level: Annotated[Level | None, Query()] = None) -> list[FieldOut]:
    """The fields by level, section, order and name."""
    with here.database.reading() as session:
        found = extra_fields.fields(session, Form[level.upper()] if level else None)
        defaults = dict(
            session.exec(
                select(ExtraFieldData.extra_field_id, ExtraFieldData.value).where(ExtraFieldData.id == 0)
            ).all()
        )
    return [_field(f, defaults.get(f.id or 0)) for f in found]


def _field(field: ExtraField, default: str | None) -> FieldOut:
    secret = field.ftype == FieldType.SECRET
    return FieldOut.model_validate({
        "level": Form(field.form).name.lower(), "name": field.name, "type": FieldType(field.ftype).name.lower(),
        "section": field.section, "options": extra_fields.options(field), "tooltip": extra_fields.tooltip(field),
        "default": "***" if secret and default is not None else default, "destructive": field.is_destructive,
        "guid": field.ltguid,
    })  # fmt: skip


@router.post("/fields", status_code=201)
def define_field(here: Here, who: Who, body: FieldIn) -> FieldOut:
    """Define a field on a level; the level's view gets a column of its name."""
    who.require(Permission.ADMINISTER)
    with here.database.session() as session:
        made = extra_fields.define(
            session, form=Form[body.level.upper()], name=body.name, actor=who.name, type=FieldType[body.type.upper()],
            section=body.section, options=body.options, tooltip=body.tooltip, guid=body.guid,
            destructive=body.destructive,
        )  # fmt: skip
        return _field(made, None)


@router.delete("/fields/{level}/{name}")
def remove_field(
    here: Here, who: Who, level: AtLevel, name: Name,
    with_values: Annotated[bool, Query(description="Also when places have values of it")] = False,
) -> Done:  # fmt: skip
    """Remove a field of your own; those that come with Exeunt stay."""
    who.require(Permission.ADMINISTER)
    with here.database.session() as session:
        field = extra_fields.get_field(session, Form[level.upper()], name)
        extra_fields.remove(session, field, actor=who.name, with_values=with_values)
    return Done(done=f"the {level} field {name!r} is removed")


@router.put("/fields/{level}/{name}/default")
def set_default(here: Here, who: Who, level: AtLevel, name: Name, body: DefaultIn) -> Done:
    """Set the default of a field."""
    who.require(Permission.ADMINISTER)
    form = Form[level.upper()]
    with here.database.session() as session:
        field = extra_fields.get_field(session, form, name)
        secret = field.ftype == FieldType.SECRET
        stored = field_values.set_default(
            session, form, field.name, body.value, actor=who.name, secrets=here.secrets if secret else None,
            allow_destructive_default=body.flag_every_place,
        )  # fmt: skip
    return Done(done=f"the default of the {level} field {name!r} is {'set' if secret else stored}")


@router.delete("/fields/{level}/{name}/default")
def clear_default(here: Here, who: Who, level: AtLevel, name: Name) -> Done:
    """Clear the default of a field."""
    who.require(Permission.ADMINISTER)
    with here.database.session() as session:
        was = field_values.clear_default(session, Form[level.upper()], name, actor=who.name)
    return Done(done=f"the {level} field {name!r} has no default" if was else "there was none")


@router.get("/{level}s/{place_id}/fields")
def list_values(here: Here, who: Who, level: AtLevel, place_id: Id) -> list[ValueOut]:
    """What counts for a place, field by field."""
    form = Form[level.upper()]
    with here.database.reading() as session:
        _place(session, who, form, place_id, Permission.SEE)
        return [_value(n, v) for n, v in field_values.values_of(session, form, place_id).items()]


@router.get("/{level}s/{place_id}/reach")
def show_reach(here: Here, who: Who, level: AtLevel, place_id: Id) -> Reach:
    """Whom the offboarding flag of a place reaches, or would reach. Nothing is changed."""
    form = Form[level.upper()]
    with here.database.reading() as session:
        _place(session, who, form, place_id, Permission.SEE)
        return reach(session, form, place_id, online_seconds=here.settings.online_seconds)


@router.put("/{level}s/{place_id}/fields/{name}")
def set_value(here: Here, who: Who, level: AtLevel, place_id: Id, name: Name, body: ValueIn) -> Flagged:
    """Set a field of a place. Setting an offboarding flag answers which computers it reaches: a monitor finds them."""
    form = Form[level.upper()]
    with here.database.session() as session:
        _place(session, who, form, place_id, Permission.OPERATE)
        field = extra_fields.get_field(session, form, name)
        secrets = here.secrets if field.ftype == FieldType.SECRET else None
        field_values.set_value(session, form, place_id, field.name, body.value, actor=who.name, secrets=secrets)
        found = field_values.effective_value(session, form, place_id, field.name)
        tells = field.is_destructive and found.value == "1"
        reached = reach(session, form, place_id, online_seconds=here.settings.online_seconds) if tells else None
        return Flagged(field=field.name, value=found.value, origin=found.origin, reaches=reached)


@router.delete("/{level}s/{place_id}/fields/{name}")
def clear_value(here: Here, who: Who, level: AtLevel, place_id: Id, name: Name) -> ValueOut:
    """Remove a place's own value, so that the default counts."""
    form = Form[level.upper()]
    with here.database.session() as session:
        _place(session, who, form, place_id, Permission.OPERATE)
        field_values.clear_value(session, form, place_id, name, actor=who.name)
        return _value(name, field_values.effective_value(session, form, place_id, name))


def _place(session: Session, who: Principal, form: Form, place_id: int, permission: Permission) -> Place:
    found = place_for(session, who, lookup.MODELS[form], place_id)
    who.require(permission, client_of(found))
    return found


def _value(name: str, found: EffectiveValue) -> ValueOut:
    return ValueOut(field=name, value=found.value, origin=found.origin)
