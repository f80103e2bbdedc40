"""What a monitor's query gave, read by column: the row of facts 11.1 and our further columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from agent.errors import MonitorQueryError
from agent.monitoring.bounds import QueryResult

#: The column that holds the target's id, per kind of target.
TARGET_COLUMNS = {
    "computer": "ComputerID", "location": "LocationID", "client": "ClientID", "contact": "ContactID",
}  # fmt: skip
_OPTIONAL = ("noalerts", "uptimestart", "uptimeend", "levels", "skipreason")


@dataclass(frozen=True)
class MonitorRow:
    """One row: a target, an identity that tells two failures of one target apart, and the value that failed."""

    target_id: int
    identity: str
    test_value: str | None
    #: The levels whose flag matched; from the column `Levels`, divided by commas.
    levels: tuple[str, ...] = ()
    #: Further columns by their names in lower case, as JSON holds them.
    columns: Mapping[str, Any] | None = None
    no_alerts: bool = False
    up_time_start: str | None = None
    up_time_end: str | None = None
    #: The query's own reason to leave the row out; from the column `SkipReason`.
    skip_reason: str | None = None


def read_rows(result: QueryResult, target_kind: str) -> list[MonitorRow]:
    """Rows of a result; of two rows with the same target and identity the first counts, with the levels of both.

    `TestValue`, `IdentityField` and the target's id are required; `NoAlerts`, `UpTimeStart`, `UpTimeEnd`, `Levels` and
    `SkipReason` are optional; letter case does not matter. Raises MonitorQueryError for missing or unusable columns.
    """
    names = [name.lower() for name in result.columns]
    target_column = TARGET_COLUMNS[target_kind]
    missing = [c for c in ("TestValue", "IdentityField", target_column) if c.lower() not in names]
    if missing:
        raise MonitorQueryError(
            f"the query gives no column {', '.join(missing)}: a {target_kind} monitor needs TestValue, IdentityField, "
            f"{target_column}"
        )
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise MonitorQueryError(f"the query gives the column {', '.join(double)} more than once")
    rows: dict[tuple[int, str], MonitorRow] = {}
    for number, values in enumerate(result.rows, 1):
        row = _read_row(dict(zip(names, values, strict=True)), target_column, number)
        key = (row.target_id, row.identity)
        rows[key] = _merged(rows[key], row) if key in rows else row
    return list(rows.values())


def _read_row(values: dict[str, Any], target_column: str, number: int) -> MonitorRow:
    target_id = values.pop(target_column.lower())
    if isinstance(target_id, bool) or not isinstance(target_id, int):
        raise MonitorQueryError(f"row {number}: {target_column} is {target_id!r}, not the id of a place")
    identity, test_value = values.pop("identityfield"), values.pop("testvalue")
    if identity is None:
        raise MonitorQueryError(f"row {number}: IdentityField is null; it tells two failures of one place apart")
    special = {name: values.pop(name, None) for name in _OPTIONAL}
    levels = (part.strip().lower() for part in str(special["levels"] or "").split(","))
    return MonitorRow(
        target_id=target_id,
        identity=str(_json(identity, "IdentityField")),
        test_value=None if test_value is None else str(_json(test_value, "TestValue")),
        levels=tuple(dict.fromkeys(level for level in levels if level)),
        columns={name: _json(value, name) for name, value in values.items()},
        no_alerts=special["noalerts"] not in (None, 0, "0", ""),
        up_time_start=_text(special["uptimestart"]),
        up_time_end=_text(special["uptimeend"]),
        skip_reason=_text(special["skipreason"]),
    )


def _merged(first: MonitorRow, other: MonitorRow) -> MonitorRow:
    return MonitorRow(
        target_id=first.target_id, identity=first.identity, test_value=first.test_value,
        levels=tuple(dict.fromkeys((*first.levels, *other.levels))), columns=first.columns,
        no_alerts=first.no_alerts or other.no_alerts,
        up_time_start=first.up_time_start or other.up_time_start, up_time_end=first.up_time_end or other.up_time_end,
        skip_reason=first.skip_reason or other.skip_reason,
    )  # fmt: skip


def _text(value: Any) -> str | None:
    return None if value is None or str(value) == "" else str(value)


def _json(value: Any, name: str) -> Any:
    """A value as JSON holds it. Raises MonitorQueryError for binary data."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _json(v, name) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_json(v, name) for v in value]
    raise MonitorQueryError(f"the column {name} holds {type(value).__name__}, which is not text, a number or a time")
