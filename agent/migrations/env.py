"""Alembic runs this file. The connection comes from `runner` or `generate`; there is no alembic.ini."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

from agent.migrations.records import record_tables
from agent.model.base import UTCDateTime


def _render(kind: str, item: Any, autogen: Any) -> str | Literal[False]:
    """Types as the migrations write them, so that these do not depend on the classes of today."""
    if kind == "type" and isinstance(item, UTCDateTime):
        return "MOMENT"
    if kind == "type" and isinstance(item, AutoString):
        return "sa.String()"
    return False


def _is_record(item: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:
    table = item if kind == "table" else item.table
    return table.name in record_tables()


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    render_item=_render,
    include_object=_is_record,
)
with context.begin_transaction():
    context.run_migrations()
