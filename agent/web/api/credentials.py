"""Credentials: how to reach machines and services. Secrets are taken and never given."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field, SecretStr
from sqlmodel import Session

from agent.access.principal import Permission, Principal
from agent.errors import Conflict, NotFound
from agent.functions import probing
from agent.installation import Installation
from agent.inventory.contact import probe_contacts
from agent.model.administration import Credential
from agent.model.places import Client, Computer, Location
from agent.services import credentials
from agent.services.credentials import CredentialView
from agent.transports.base import Identification
from agent.web.api.common import MOST_ID, Answer, Body, ClientId, Done, Id, api_router, place_for
from agent.web.api.computers import ProbeOut
from agent.web.asking import Here, Who

router = api_router("credentials")
Secrets = dict[Annotated[str, Field(min_length=1, max_length=100)], SecretStr]
_SECRETS = "Secrets by their names, such as password; they are encrypted and never shown again"


class CredentialOut(Answer):
    """A credential without its secrets."""

    id: int
    kind: str
    name: str
    client_id: int | None = Field(description="Null: of the server")
    location_id: int | None
    settings: dict[str, Any]
    state: str
    created_at: datetime
    changed_at: datetime


class CredentialIn(Body):
    """A new credential of the server, a client or a location; the nearest one counts."""

    kind: str = Field(min_length=1, max_length=100, examples=["ssh"])
    name: str = Field(min_length=1, max_length=200, examples=["contoso-admin"])
    client_id: int | None = Field(None, ge=1, le=MOST_ID)
    location_id: int | None = Field(None, ge=1, le=MOST_ID)
    settings: dict[str, Any] = Field(default_factory=dict, description="In clear", examples=[{"username": "admin"}])
    secret: Secrets | None = Field(None, description=f"{_SECRETS}; null: it waits for them")


class CredentialChange(Body):
    """What is given replaces what was; the rest stays."""

    settings: dict[str, Any] | None = None
    secret: Secrets | None = Field(None, description=_SECRETS)


class Trial(Body):
    """With which computer it is tried; none: with the service that its kind is for."""

    computer_id: int | None = Field(None, ge=1, le=MOST_ID)


@router.get("/credentials")
def list_credentials(
    here: Here, who: Who, client_id: ClientId = None, kind: Annotated[str | None, Query(max_length=100)] = None
) -> list[CredentialOut]:
    """Credentials of the clients that one administers; those of the server only for its administrators."""
    if client_id is not None:
        who.require(Permission.ADMINISTER, client_id, what=f"client {client_id}")
    elif not who.can_somewhere(Permission.ADMINISTER):
        who.require(Permission.ADMINISTER)
    clients = who.clients(Permission.ADMINISTER)
    with here.database.reading() as session:
        found = credentials.list_credentials(session, client_id=client_id, kind=kind)
    return [_out(c) for c in found if clients is None or c.client_id in clients]


@router.post("/credentials", status_code=201)
def add_credential(here: Here, who: Who, body: CredentialIn) -> CredentialOut:
    """Store a credential."""
    client_id = body.client_id
    with here.database.reading() as session:
        if client_id is not None:
            place_for(session, who, Client, client_id, Permission.ADMINISTER)
        elif body.location_id is not None:
            client_id = place_for(session, who, Location, body.location_id, Permission.ADMINISTER).client_id
        else:
            who.require(Permission.ADMINISTER)
    made = credentials.add(
        here, kind=body.kind, name=body.name, client_id=client_id, location_id=body.location_id, settings=body.settings,
        secret=_clear(body.secret), actor=who.name,
    )  # fmt: skip
    return _shown(here, who, made.id or 0)


@router.get("/credentials/{credential_id}")
def show_credential(here: Here, who: Who, credential_id: Id) -> CredentialOut:
    """One credential without its secrets."""
    return _shown(here, who, credential_id)


@router.patch("/credentials/{credential_id}")
def change_credential(here: Here, who: Who, credential_id: Id, body: CredentialChange) -> CredentialOut:
    """Replace a credential's settings, its secrets or both."""
    _shown(here, who, credential_id)
    credentials.update(here, credential_id, settings=body.settings, secret=_clear(body.secret), actor=who.name)
    return _shown(here, who, credential_id)


@router.delete("/credentials/{credential_id}")
def remove_credential(here: Here, who: Who, credential_id: Id) -> Done:
    """Remove a credential that no computer uses."""
    _shown(here, who, credential_id)
    credentials.remove(here, credential_id, actor=who.name)
    return Done(done=f"credential {credential_id} is removed")


@router.post("/credentials/{credential_id}/test")
def test_credential(here: Here, who: Who, credential_id: Id, body: Trial) -> ProbeOut:
    """Sign in with a credential, at its service or on a computer that uses it, and say as whom. Nothing is changed."""
    _shown(here, who, credential_id)
    if body.computer_id is None:
        began = time.monotonic()
        works, said = probing.works(here, credential_id)
        return ProbeOut(reachable=works, seconds=round(time.monotonic() - began, 3), detail=said)
    with here.database.reading() as session:
        computer = place_for(session, who, Computer, body.computer_id, Permission.OPERATE)
        used = computer.credential_id or _nearest(session, computer)
    if used != credential_id:
        raise Conflict(f"the computer {body.computer_id} does not use the credential {credential_id}")
    found: dict[int, Identification] = {}
    probe_contacts(here, computer_ids=[body.computer_id], report=lambda i, answer: found.update({i: answer}))
    answer = found.get(body.computer_id)
    if answer is None:
        return ProbeOut(reachable=False, seconds=0, detail="it has no transport, or is retired")
    return ProbeOut(reachable=answer.reachable, seconds=round(answer.seconds, 3), detail=answer.detail)


def _nearest(session: Session, computer: Computer) -> int | None:
    found = credentials.nearest(
        session, computer.transport, client_id=computer.client_id, location_id=computer.location_id
    )
    return found.id if found is not None else None


def _clear(secret: dict[str, SecretStr] | None) -> dict[str, str] | None:
    return None if secret is None else {name: value.get_secret_value() for name, value in secret.items()}


def _shown(here: Installation, who: Principal, credential_id: int) -> CredentialOut:
    """The credential, for whoever administers its place. Raises NotFound, Forbidden."""
    with here.database.reading() as session:
        row = session.get(Credential, credential_id)
        if row is None or not (row.client_id is None or who.can(Permission.SEE, row.client_id)):
            raise NotFound(f"there is no credential {credential_id}")
        who.require(Permission.ADMINISTER, row.client_id)
        found = credentials.list_credentials(session, client_id=row.client_id, kind=row.kind)
    return _out(next(c for c in found if c.id == credential_id))


def _out(found: CredentialView) -> CredentialOut:
    return CredentialOut(**{n: getattr(found, n) for n in CredentialOut.model_fields if n != "settings"},
                         settings=dict(found.settings))  # fmt: skip
