"""What was seen of the accounts of a client's directory, so that a deletion there is noticed, each one once."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from agent.model.base import moment


class DirectoryWatch(SQLModel, table=True):
    """How far a client's tenant was read. The link and what was read by it are stored in one transaction."""

    __tablename__ = "directory_watch"
    client_id: int = Field(primary_key=True)
    tenant: str = Field(primary_key=True)
    #: Where the next look begins; null: at the beginning.
    link: str | None = None
    #: The link is that of a next page: the reading under way is not at its end.
    reading: bool = False
    #: Counts readings from the beginning: accounts that the last one did not meet are gone.
    generation: int = 0
    looked_at: datetime | None = moment("looked_at")
    #: Why the last look failed, null when it did not.
    error: str | None = None


class DirectoryAccount(SQLModel, table=True):
    """One account as it was last seen."""

    __tablename__ = "directory_account"
    __table_args__ = (Index("directory_accounts_by_name", "client_id", "upn"),)
    client_id: int = Field(primary_key=True)
    tenant: str = Field(primary_key=True)
    object_id: str = Field(primary_key=True)
    #: Lower case.
    upn: str = ""
    mail: str = ""
    generation: int = 0
    #: Null while it is there; a monitor looks for it.
    deleted_at: datetime | None = moment("deleted_at")
    #: How often it was deleted: who was restored may be deleted again.
    deletions: int = 0
