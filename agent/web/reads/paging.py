"""Lists in parts that stay quick however long they are: after the last row seen, never by counting rows off."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Select, and_, or_, true
from sqlmodel import Session

from agent.errors import UsageError

Item = TypeVar("Item")
#: Rows of a page: by default, and at most.
LIMIT, MOST = 50, 500


class Page(BaseModel, Generic[Item]):
    """A part of a list. `next`: give it as `after` to get the following part; null: this was the last."""

    items: list[Item]
    next: str | None = None


class Order:
    """The columns that a list is ordered by; the last one must be unique."""

    def __init__(self, *columns: Any, descending: bool = False) -> None:
        self.columns, self.descending = columns, descending

    def after(self, cursor: str | None) -> ColumnElement[bool] | None:
        """The condition for rows after a cursor. Raises UsageError for a cursor that is none of ours."""
        if cursor is None:
            return None
        values = [_typed(column, value) for column, value in zip(self.columns, _decoded(cursor, self), strict=True)]
        later = [
            and_(
                *(c == v for c, v in zip(self.columns[:n], values[:n], strict=True)),
                self.columns[n] < values[n] if self.descending else self.columns[n] > values[n],
            )
            for n in range(len(values))
        ]
        return or_(*later)

    def by(self) -> list[Any]:
        """For ORDER BY."""
        return [c.desc() if self.descending else c.asc() for c in self.columns]


def take(
    session: Session, query: Select[Any], order: Order, *, after: str | None, limit: int
) -> tuple[Sequence[Any], str | None]:
    """At most `limit` rows after the cursor, and the cursor of the following part. The query selects the order's
    columns under the names `order_0`, `order_1`, ... at its end, which `ordered` adds."""
    condition = order.after(after)
    query = query.add_columns(*(c.label(f"order_{n}") for n, c in enumerate(order.columns)))
    if condition is not None:
        query = query.where(condition)
    rows = session.execute(query.order_by(*order.by()).limit(min(limit, MOST) + 1)).all()
    more = len(rows) > min(limit, MOST)
    rows = rows[: min(limit, MOST)]
    last = [getattr(rows[-1], f"order_{n}") for n in range(len(order.columns))] if more else None
    return rows, _encoded(last) if last is not None else None


def among(column: Any, clients: Collection[int] | None) -> ColumnElement[bool]:
    """The condition that keeps a list to the clients that one may see (`Principal.clients`); None: all."""
    return true() if clients is None else column.in_(sorted(clients))


def _encoded(values: list[Any]) -> str:
    plain = [v.isoformat() if isinstance(v, datetime) else v for v in values]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).decode().rstrip("=")


def _decoded(cursor: str, order: Order) -> list[Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        found = None
    if not isinstance(found, list) or len(found) != len(order.columns):
        raise UsageError("`after` is none of the cursors that a list has given: take `next` of the last answer")
    return found


def _typed(column: Any, value: Any) -> Any:
    wanted = column.type.python_type
    try:
        found = datetime.fromisoformat(value) if wanted is datetime else value
    except (TypeError, ValueError):
        found = None
    naive = isinstance(found, datetime) and found.tzinfo is None
    if not isinstance(found, wanted) or isinstance(found, bool) or naive or not _storable(found):
        raise UsageError("`after` is none of the cursors that a list has given: take `next` of the last answer")
    return found


def _storable(value: Any) -> bool:
    """Whether a database can compare with it: no half of a surrogate pair, no NUL, no number beyond 64 bits."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)
    return not isinstance(value, int) or abs(value) < 2**63
