"""What all tables share: aware UTC times, JSON columns, ids."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, String, TypeDecorator
from sqlmodel import Field

#: Text form of a time in SQLite: sorts as text, and is what SQLite's own date functions read and write.
SQLITE_TIME = "%Y-%m-%d %H:%M:%S.%f"


def utcnow() -> datetime:
    """The present, in UTC, aware."""
    return datetime.now(UTC)


def new_id() -> str:
    """A new id for a record: 16 hexadecimal digits from the system's random source."""
    return secrets.token_hex(8)


def is_made_id(text: str) -> bool:
    """Whether an id has the form of `new_id`: nobody gave it."""
    return len(text) == 16 and not set(text) - set("0123456789abcdef")


class UTCDateTime(TypeDecorator[datetime]):
    """An aware UTC time: `timestamptz` on PostgreSQL, sortable text on SQLite. A naive time is refused."""

    impl = DateTime
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        return datetime

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(String(26) if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone cannot be stored: {value!r}")
        value = value.astimezone(UTC)
        return value.strftime(SQLITE_TIME) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if isinstance(value, str):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        return datetime.fromtimestamp(value.timestamp(), UTC)


def column(name: str, **keywords: Any) -> Any:
    """A field stored under the name that ConnectWise Automate's users know."""
    return Field(sa_column_kwargs={"name": name}, **keywords)


def moment(name: str, *, required: bool = False, now: bool = False) -> Any:
    """A field for an aware UTC time: null unless given; `required` refuses null; `now` fills in the present."""
    keywords: dict[str, Any] = {"default_factory": utcnow} if now else ({} if required else {"default": None})
    return Field(sa_type=UTCDateTime, nullable=not (required or now), sa_column_kwargs={"name": name}, **keywords)
