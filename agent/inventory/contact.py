"""Last contact of computers that have no endpoint agent of ours: who answers a look from outside was in contact."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from agent.errors import NotFound, SettingsError, StoreError, UsageError
from agent.installation import Installation
from agent.inventory.places import record_contact
from agent.model.administration import Credential
from agent.model.base import utcnow
from agent.model.places import Computer
from agent.services import credentials
from agent.transports.base import Identification
from agent.transports.probe import probe

#: Computers that are read, looked at and stored together.
BATCH = 512


@dataclass(frozen=True)
class Contacts:
    """How many computers answered and how many did not."""

    answered: int
    silent: int


def probe_contacts(
    installation: Installation,
    *,
    timeout: float = 5.0,
    client_id: int | None = None,
    computer_ids: Collection[int] | None = None,
    report: Callable[[int, Identification], None] | None = None,
) -> Contacts:
    """Look at all computers with a transport that are not retired, and store the time for those that answer.

    timeout: seconds for one computer. client_id, computer_ids (some thousands at most): only these. report: called for each computer.
    A computer that is silent keeps the last contact it has. Raises StoreError when the database does not work.
    """
    answered = silent = 0
    after = 0
    while batch := _batch(installation, after, client_id, computer_ids):
        after = max(batch)
        asked_at = utcnow()
        found = probe((c for c in batch.values() if "refused" not in c), timeout)
        found |= {n: Identification(False, c["refused"], 0.0) for n, c in batch.items() if "refused" in c}
        with installation.database.session() as session:
            for number, identification in found.items():
                if identification.reachable:
                    with suppress(NotFound):  # somebody removed it meanwhile
                        record_contact(session, number, asked_at)
        for number, identification in found.items():
            answered += identification.reachable
            silent += not identification.reachable
            if report is not None:
                report(number, identification)
    return Contacts(answered, silent)


def _batch(
    installation: Installation, after: int, client_id: int | None, computer_ids: Collection[int] | None
) -> dict[int, dict[str, Any]]:
    query = (
        select(Computer)
        .where(col(Computer.computer_id) > after, col(Computer.retired_at).is_(None), col(Computer.transport) != "")
        .order_by(col(Computer.computer_id))
        .limit(BATCH)
    )
    if client_id is not None:
        query = query.where(col(Computer.client_id) == client_id)
    if computer_ids is not None:
        query = query.where(col(Computer.computer_id).in_(computer_ids))
    with installation.database.reading() as session:
        return {c.computer_id or 0: _with_credential(installation, session, c) for c in session.exec(query)}


def _with_credential(installation: Installation, session: Session, computer: Computer) -> dict[str, Any]:
    """The computer's columns with its credential's settings, which say for example which port to look at."""
    columns = computer.model_dump()
    if computer.transport == "local":
        return columns
    scope = {"client_id": computer.client_id, "location_id": computer.location_id}
    try:
        if computer.credential_id is not None:
            credential: Credential | None = credentials.by_id(session, computer.credential_id, **scope)
        else:
            credential = credentials.nearest(session, computer.transport, **scope)
        options = {**(credential.settings if credential else {}), **computer.transport_options}
        columns["transport_options"] = options
        if credential is not None and options.get("jump"):
            columns["secrets"] = credentials.open_secret(installation, credential)
    except (UsageError, SettingsError, StoreError) as error:
        # A credential that cannot be used keeps this computer from being looked at, not the others.
        columns["refused"] = str(error)
    return columns
