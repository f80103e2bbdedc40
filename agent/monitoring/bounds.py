"""What bounds a monitor's query on either database: time, rows, memory, and the tables that it may read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import SQLModel

from agent.errors import MonitorQueryError
from agent.model import administration, contacts, directory, fields, monitors, places, runs, tickets
from agent.settings import Settings

#: These bring their tables into SQLModel.metadata, whoever else has imported them.
_TABLE_MODULES = (administration, contacts, directory, fields, monitors, places, runs, tickets)
#: Tables whose rows hold secrets, hashes of passwords or tokens, or the text of mail; no monitor reads them.
FORBIDDEN_TABLES = frozenset(
    {
        "credential", "system_property", "notification", "user_account", "web_session", "api_token", "one_time_link",
        "idempotency_key", "webhook_target", "webhook_source",
    }
)  # fmt: skip
#: Largest whole result in memory, in bytes.
RESULT_BYTES = 32_000_000

Batch = Sequence[Sequence[Any]]


@dataclass(frozen=True)
class QueryResult:
    """Columns by their names as the query gives them, and all rows."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


def readable_tables() -> frozenset[str]:
    """The tables that a monitor may read; views (`v_...`) may be read too, and are checked table by table."""
    return frozenset(SQLModel.metadata.tables) - FORBIDDEN_TABLES


class Bounds:
    """The limits of one query, and which of them was met."""

    def __init__(self, settings: Settings) -> None:
        self.seconds, self.row_limit = settings.monitor_seconds, settings.monitor_rows
        self.deadline = time.monotonic() + settings.monitor_seconds
        self.refused: str | None = None
        self.bytes = 0

    def out_of_time(self) -> bool:
        return time.monotonic() > self.deadline

    def too_slow(self) -> MonitorQueryError:
        return MonitorQueryError(
            f"the query took longer than {self.seconds:g} s and was ended; nothing was changed: make it use an index, "
            "or raise EXEUNT_MONITOR_SECONDS"
        )

    def collect(
        self, fetch: Callable[[int], Batch], batch_rows: int, size: Callable[[Batch], int]
    ) -> list[Sequence[Any]]:
        """All rows, or MonitorQueryError: a part of the rows would look as if the others had become good again."""
        rows: list[Sequence[Any]] = []
        while True:
            batch = fetch(batch_rows)
            rows.extend(batch)
            self.bytes += size(batch)
            if len(rows) > self.row_limit:
                raise MonitorQueryError(
                    f"the query gave more than {self.row_limit} rows; nothing was changed: narrow it, or raise "
                    "EXEUNT_MONITOR_ROWS"
                )
            if self.bytes > RESULT_BYTES:
                raise MonitorQueryError(
                    f"the query gave more than {RESULT_BYTES} bytes; nothing was changed: narrow it"
                )
            if self.out_of_time():
                raise self.too_slow()
            if len(batch) < batch_rows:
                return rows
