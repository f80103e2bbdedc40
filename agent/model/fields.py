"""Extra data fields (EDFs): definitions, values, and the log of changes that the database itself writes."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from agent.model.base import column, moment


class Form(IntEnum):
    """The level of a field (facts 11.5: `Form`; 4 is ours)."""

    COMPUTER = 1
    LOCATION = 2
    CLIENT = 3
    CONTACT = 4


class FieldType(IntEnum):
    """The type of a field (facts 11.5: `FType`; 3 and above are ours)."""

    TEXT = 0
    CHECKBOX = 1
    DROPDOWN = 2
    DATE = 3
    NUMBER = 4
    SECRET = 5


class ExtraField(SQLModel, table=True):
    """A definition. `fill` is `a~b~c|tooltip|n` for a dropdown, else the tooltip."""

    __tablename__ = "extrafield"
    __table_args__ = (UniqueConstraint("form", "name"),)
    id: int | None = Field(default=None, primary_key=True)
    form: int
    name: str
    sort: int = 0
    ftype: int = 0
    section: str = ""
    fill: str = ""
    ltguid: str = Field(unique=True)
    is_password: bool = column("ispassword", default=False)
    is_encrypted: bool = column("isencrypted", default=False)
    is_hidden: bool = column("ishidden", default=False)
    is_restricted: bool = column("isrestricted", default=False)
    uneditable: bool = False
    collapsed: bool = False
    no_break: bool = column("nobreak", default=False)
    view_permissions: str = column("viewpermissions", default="")
    edit_permissions: str = column("editpermissions", default="")
    #: A checkbox that starts something destructive: its default row must not be set (DESIGN 5.6).
    is_destructive: bool = column("isdestructive", default=False)


class ExtraFieldAlias(SQLModel, table=True):
    """Another spelling of an option that is accepted for it, such as `Ticket+Continue`."""

    __tablename__ = "extrafieldalias"
    extra_field_id: int = column("extrafieldid", primary_key=True, foreign_key="extrafield.id")
    alias: str = Field(primary_key=True)
    value: str


class ExtraFieldData(SQLModel, table=True):
    """A value. `id` is the place's id; 0 is the default of the field."""

    __tablename__ = "extrafielddata"
    extra_field_id: int = column("extrafieldid", primary_key=True, foreign_key="extrafield.id")
    id: int = Field(primary_key=True)
    value: str
    #: Who is changing it; the trigger copies it into the log and clears it, so plain SQL is never taken for somebody.
    changed_by: str | None = column("changedby", default=None)


class ExtraFieldChange(SQLModel, table=True):
    """A change of a value as the database's own trigger saw it. Rows can be neither changed nor removed."""

    __tablename__ = "extrafieldchange"
    change_id: int | None = column("changeid", default=None, primary_key=True)
    changed_at: datetime = moment("changedat", required=True)
    #: The user, or null when it was changed by plain SQL.
    changed_by: str | None = column("changedby", default=None)
    extra_field_id: int = column("extrafieldid")
    id: int
    old_value: str | None = column("oldvalue", default=None)
    new_value: str | None = column("newvalue", default=None)


class ExtraFieldUnsealed(SQLModel, table=True):
    """A change that is not yet in the audit trail. The database's trigger adds it, `audit.seal_changes` takes it away."""

    __tablename__ = "extrafieldunsealed"
    change_id: int = column("changeid", primary_key=True, foreign_key="extrafieldchange.changeid")
