"""Records of packages: which are applied for whom, and every change of theirs, written down before it began."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON
from sqlmodel import Field, SQLModel

from agent.model.base import moment, new_id


class AppliedPackage(SQLModel, table=True):
    """A package that is applied for a client, as it was then."""

    __tablename__ = "applied_package"
    #: The client's slug, or `partner` for the default of all clients.
    client: str = Field(primary_key=True)
    #: Name of the package's folder.
    package: str = Field(primary_key=True)
    version: str
    digest: str
    #: Script -> the wrapper whose list it joined.
    listed: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    applied_at: datetime = moment("applied_at", now=True)
    applied_by: str


class PackageChange(SQLModel, table=True):
    """One change of packages: apply, remove, order, import, undo. Stored before the first file is written."""

    __tablename__ = "package_change"
    id: str = Field(default_factory=new_id, primary_key=True)
    kind: str = Field(index=True)
    #: The client's slug, `partner`, or empty.
    client: str = ""
    subject: str
    #: running, done, failed, undone
    state: str = Field(default="running", index=True)
    #: Path below the workspace -> [text before, text after]; null: no such file.
    files: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    #: What it made in the database, so that it can be undone.
    made: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    started_at: datetime = moment("started_at", now=True)
    started_by: str
    finished_at: datetime | None = moment("finished_at")
    undone_at: datetime | None = moment("undone_at")
    undone_by: str | None = None
