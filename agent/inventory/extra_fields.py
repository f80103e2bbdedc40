"""Definitions of extra data fields: define, rename, remove, list. Values are in `field_values`."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence

from sqlalchemy import delete
from sqlmodel import Session, col, select

from agent import audit
from agent.errors import Conflict, NotFound, UsageError
from agent.field_views import check_field_name, rebuild_views
from agent.inventory.columns import near
from agent.model.fields import ExtraField, ExtraFieldAlias, ExtraFieldData, FieldType, Form
from agent.services.freezing import refuse_when_frozen

#: GUIDs of the fields that come with Exeunt begin with this; monitors and guardrails know them by name.
SHIPPED_GUID = "0f6d3b52-6f0b-4c0e-9f55-6d8f5a2f7c"
#: Options of `Failed Uninstall Process` that fallback scripts stand for (facts 4).
SHIPPED_OPTIONS = ("Ticket + Halt", "Ticket - Leave ScreenConnect", "Best Effort - Continue", "Ticket + Continue")


def fields(session: Session, form: Form | None = None) -> list[ExtraField]:
    """The definitions (of a level) by level, section, order and name."""
    query = select(ExtraField).order_by(
        col(ExtraField.form).desc(), col(ExtraField.section), col(ExtraField.sort), col(ExtraField.name)
    )
    return list(session.exec(query if form is None else query.where(ExtraField.form == form)))


def get_field(session: Session, form: Form, name: str) -> ExtraField:
    """The field of a level with that name, in the given case or else in any. Raises NotFound with near names."""
    of_level = fields(session, form)
    # At most one fits in any case; the exact one comes first all the same.
    found = sorted((f for f in of_level if f.name.lower() == name.lower()), key=lambda f: f.name != name)
    if found:
        return found[0]
    elsewhere = [f"{Form(f.form).name.lower()}" for f in fields(session) if f.name.lower() == name.lower()]
    hint = (
        f"; there is one at the level {' and '.join(elsewhere)}"
        if elsewhere
        else near(name, [f.name for f in of_level])
    )
    raise NotFound(f"there is no {form.name.lower()} field {name!r}" + hint)


def options(field: ExtraField) -> list[str]:
    """The options of a dropdown in their order; empty for other types."""
    return [o for o in field.fill.split("|")[0].split("~") if o] if field.ftype == FieldType.DROPDOWN else []


def tooltip(field: ExtraField) -> str:
    """The explanation that is shown with the field."""
    if field.ftype != FieldType.DROPDOWN:
        return field.fill
    parts = field.fill.split("|")
    return parts[1] if len(parts) > 1 else ""


def define(
    session: Session, *, form: Form, name: str, actor: str, type: FieldType = FieldType.TEXT, section: str = "",
    options: Sequence[str] = (), tooltip: str = "", guid: str | None = None, sort: int = 0, destructive: bool = False,
    by_package: bool = False,
) -> ExtraField:  # fmt: skip
    """Define a field on a level; its view gets a column. The default is set by `field_values.set_default`.

    Raises UsageError for a name, option or tooltip that cannot be, Conflict when name or GUID is taken, or while the
    configuration is frozen, unless a package brings it.
    """
    if not by_package:
        refuse_when_frozen(session, f"defining the {form.name.lower()} field {name!r}")
    check_field_name(form, name)
    fill = _fill(type, options, tooltip)
    if destructive and type is not FieldType.CHECKBOX:
        raise UsageError("only a checkbox can set off something destructive")
    guid = str(uuid.UUID(guid)) if guid and _is_guid(guid) else guid or str(uuid.uuid4())
    if not _is_guid(guid):
        raise UsageError(f"{guid!r} is no GUID: write it as 01234567-89ab-cdef-0123-456789abcdef")
    _refuse_taken(session, form, name, guid)
    secret = type is FieldType.SECRET
    field = ExtraField(
        form=form, name=name, ftype=type, section=section, fill=fill, ltguid=guid, sort=sort, is_password=secret,
        is_encrypted=secret, is_destructive=destructive,
    )  # fmt: skip
    session.add(field)
    session.flush()
    _changed(session, field, "edf.define", actor)
    return field


def rename(session: Session, field: ExtraField, name: str, *, actor: str) -> None:
    """Give a field another name; its column follows. Raises Conflict for a shipped field or a name that is taken."""
    refuse_when_frozen(session, f"renaming the field {field.name!r}")
    _refuse_shipped(field, "renamed")
    check_field_name(Form(field.form), name)
    if name == field.name:
        return
    _refuse_taken(session, Form(field.form), name, None, own=field.id)
    old, field.name = field.name, name
    session.add(field)
    session.flush()
    _changed(session, field, "edf.rename", actor, old_name=old)


def set_options(
    session: Session, field: ExtraField, new: Sequence[str], *, actor: str, by_package: bool = False
) -> None:
    """Give a dropdown other options. Raises Conflict when an option that is in use would go, or while frozen."""
    if not by_package:
        refuse_when_frozen(session, f"other options for the field {field.name!r}")
    if field.ftype != FieldType.DROPDOWN:
        raise UsageError(f"the field {field.name!r} is no dropdown")
    _refuse_shipped_loss(field, new)
    fill = _fill(FieldType.DROPDOWN, new, tooltip(field))
    used = set(session.exec(select(ExtraFieldData.value).where(ExtraFieldData.extra_field_id == field.id).distinct()))
    aliased = set(session.exec(select(ExtraFieldAlias.value).where(ExtraFieldAlias.extra_field_id == field.id)))
    lost = sorted((used | aliased) - set(new) - {""})
    if lost:
        raise Conflict(f"options of {field.name!r} that are in use cannot go: {', '.join(map(repr, lost))}")
    old, field.fill = options(field), fill
    session.add(field)
    session.flush()
    _changed(session, field, "edf.options", actor, old_options=old)


def add_alias(session: Session, field: ExtraField, alias: str, value: str, *, actor: str) -> None:
    """Accept another spelling of a dropdown's option. Raises Conflict when it is an option or an alias already."""
    if value not in options(field):
        raise UsageError(f"{value!r} is none of the options of {field.name!r}: {', '.join(options(field))}")
    assert field.id is not None
    present = select(ExtraFieldAlias).where(ExtraFieldAlias.extra_field_id == field.id, ExtraFieldAlias.alias == alias)
    if not alias or alias in options(field) or session.exec(present).first():
        raise Conflict(f"{alias!r} cannot be an alias in {field.name!r}: it is empty, an option or an alias already")
    session.add(ExtraFieldAlias(extra_field_id=field.id, alias=alias, value=value))
    session.flush()
    _changed(session, field, "edf.alias", actor, alias=alias, value=value)


def remove(
    session: Session, field: ExtraField, *, actor: str, with_values: bool = False, by_package: bool = False
) -> None:
    """Remove a field. Raises Conflict for a shipped one, while it has values (unless `with_values`), or while frozen."""
    if not by_package:
        refuse_when_frozen(session, f"removing the field {field.name!r}")
    _refuse_shipped(field, "removed")
    values = select(ExtraFieldData).where(ExtraFieldData.extra_field_id == field.id).limit(1)
    if not with_values and session.exec(values).first():
        raise Conflict(f"the field {field.name!r} has values: remove it together with its values if that is meant")
    of_field = col(ExtraFieldData.extra_field_id) == field.id
    session.execute(ExtraFieldData.__table__.update().where(of_field).values(changedby=actor))  # type: ignore[attr-defined]
    session.execute(delete(ExtraFieldData).where(of_field))
    session.execute(delete(ExtraFieldAlias).where(col(ExtraFieldAlias.extra_field_id) == field.id))
    # The changes are sealed while the field's name is still known.
    audit.seal_changes(session)
    session.delete(field)
    session.flush()
    _changed(session, field, "edf.remove", actor)


def _fill(type: FieldType, options: Sequence[str], tooltip: str) -> str:
    if type is not FieldType.DROPDOWN:
        if options:
            raise UsageError("only a dropdown has options")
        return tooltip
    if not options:
        raise UsageError("a dropdown needs options")
    wrong = [o for o in options if not o or o != o.strip() or re.search(r"[~|\x00-\x1f]", o)]
    if wrong or len(set(options)) != len(options):
        raise UsageError(
            f"options must differ, be neither empty nor padded with spaces, and hold no ~ or |: {list(options)!r}"
        )
    if re.search(r"[|\x00]", tooltip):
        raise UsageError("the tooltip of a dropdown cannot hold |")
    return f"{'~'.join(options)}|{tooltip}|0"


def _is_guid(text: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text) is not None


def _refuse_taken(session: Session, form: Form, name: str, guid: str | None, own: int | None = None) -> None:
    for other in fields(session):
        if other.id != own and other.form == form and other.name.lower() == name.lower():
            raise Conflict(f"there is a {form.name.lower()} field {other.name!r} already")
        if guid is not None and other.ltguid == guid:
            raise Conflict(f"the field {other.name!r} has the GUID {guid} already")


def _refuse_shipped(field: ExtraField, what: str) -> None:
    if field.ltguid.startswith(SHIPPED_GUID):
        raise Conflict(f"the field {field.name!r} cannot be {what}: monitors and guardrails know it by its name")


def _refuse_shipped_loss(field: ExtraField, new: Sequence[str]) -> None:
    lost = [o for o in SHIPPED_OPTIONS if o in options(field) and o not in new]
    if lost and field.ltguid.startswith(SHIPPED_GUID):
        raise Conflict(f"the options {', '.join(map(repr, lost))} of {field.name!r} come with Exeunt and stay")


def _changed(session: Session, field: ExtraField, action: str, actor: str, **details: object) -> None:
    if action in ("edf.define", "edf.rename", "edf.remove"):
        rebuild_views(session.connection())
    level = Form(field.form).name.lower()
    audit.record(
        session, actor=actor, action=action, object_kind="extra field", object_id=field.ltguid,
        details={"level": level, "name": field.name, "type": FieldType(field.ftype).name.lower(), "fill": field.fill, **details},
    )  # fmt: skip
