"""The views `v_extradata*`: one row per place and one column per extra field, spaces kept (facts 11.5).

They are made from the fields, so they are made again whenever a field is added, renamed or removed.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from agent.errors import UsageError
from agent.model.fields import ExtraField, FieldType, Form
from agent.model.places import Client, Computer, Contact, Location

#: Level -> (view, table, key).
VIEWS: dict[Form, tuple[str, str, str]] = {
    Form.CLIENT: ("v_extradataclients", str(Client.__tablename__), "clientid"),
    Form.LOCATION: ("v_extradatalocations", str(Location.__tablename__), "locationid"),
    Form.COMPUTER: ("v_extradatacomputers", str(Computer.__tablename__), "computerid"),
    Form.CONTACT: ("v_extradatacontacts", str(Contact.__tablename__), "contactid"),
}
#: PostgreSQL cuts longer names.
NAME_BYTES = 63
#: Of ConnectWise Automate's types, what has no value reads as 0; a date or number that reads as 0 would be a lie.
_ZERO_WHEN_UNSET = (FieldType.TEXT, FieldType.CHECKBOX, FieldType.DROPDOWN)
#: SQLite takes them for values, in quotes too: it gives the column of a view another name.
_NO_COLUMNS = ("true", "false")


def check_field_name(form: Form, name: str, *, new: bool = True) -> None:
    """Refuse a name that cannot be a column of the level's view. Raises UsageError.

    Not `new`: a field that is there keeps a name which was allowed once.
    """
    if not name or name != name.strip() or not name.isprintable():
        raise UsageError(
            f"{name!r} cannot name an extra field: it is empty, begins or ends with a space or holds a control character"
        )
    if '"' in name:
        raise UsageError(f"{name!r} cannot name an extra field: a quotation mark is not allowed in a column's name")
    if len(name.encode()) > NAME_BYTES:
        raise UsageError(f"{name!r} cannot name an extra field: it is longer than {NAME_BYTES} bytes")
    if new and name.lower() in _NO_COLUMNS:
        raise UsageError(f"{name!r} cannot name an extra field: SQLite has no column of that name; choose a longer one")
    if name.lower() == VIEWS[form][2]:
        raise UsageError(f"{name!r} cannot name an extra field: the view has a column of that name already")


def rebuild_views(connection: Connection) -> None:
    """Make the four views from the fields as they are now, within the caller's transaction."""
    table = ExtraField.__table__  # type: ignore[attr-defined]
    rows = connection.execute(
        select(table.c.id, table.c.form, table.c.name, table.c.ftype).order_by(
            table.c.section, table.c.sort, table.c.id
        )
    ).all()
    for form, (view, places, key) in VIEWS.items():
        columns = [f"p.{key}"]
        for row in rows:
            if row.form == form:
                check_field_name(form, row.name, new=False)
                columns.append(f'{_value(row.id, row.ftype, key)} AS "{row.name}"')
        statement = f"CREATE VIEW {view} AS SELECT\n    " + ",\n    ".join(columns) + f"\nFROM {places} AS p"
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {view}")
        # A percent sign in a field's name is no placeholder.
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _value(field_id: int, ftype: int, key: str) -> str:
    """SQL of a field's value for the place `p`: its own, else the default row, else 0 (or null)."""
    shown = "'***'" if ftype == FieldType.SECRET else "d.value"
    source = f"(SELECT {shown} FROM extrafielddata AS d WHERE d.extrafieldid = {int(field_id)} AND d.id = "
    last = ", '0'" if ftype in _ZERO_WHEN_UNSET else ""
    return f"coalesce({source}p.{key}), {source}0){last})"
