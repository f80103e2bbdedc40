"""Which tables are records: all that the model classes define, but for those of `edf_schema.sql`."""

from __future__ import annotations

from typing import Any

from sqlmodel import SQLModel

from agent.model import (
    access,
    administration,
    contacts,
    directory,
    fields,
    monitors,
    packages,
    places,
    runs,
    tickets,
    webhooks,
)

#: Modules whose tables `edf_schema.sql` creates; the tables of the others are records.
SCHEMA_MODULES = (places, fields)
RECORD_MODULES = (access, administration, contacts, directory, monitors, packages, runs, tickets, webhooks)


def tables_of(module: Any) -> list[type[SQLModel]]:
    """The table classes that a module of `agent.model` defines."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, SQLModel) and hasattr(value, "__table__")
        and value.__module__ == module.__name__
    ]  # fmt: skip


def record_tables() -> set[str]:
    """Names of the records' tables."""
    return {str(table.__tablename__) for module in RECORD_MODULES for table in tables_of(module)}
