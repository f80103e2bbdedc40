"""The API as programs use it: a token, and a client that sends it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from sqlmodel import select
from web_help import Console

from agent.access import tokens
from agent.installation import Installation
from agent.inventory import places
from agent.model.access import User

API = "/api/v1"


@dataclass(frozen=True)
class Sites:
    """Two clients with a location, a computer and a contact each; the names are those of `Places`."""

    contoso: int
    contoso_site: int
    contoso_computers: tuple[int, ...]
    contoso_person: int
    fabrikam: int
    fabrikam_site: int
    fabrikam_computers: tuple[int, ...]
    fabrikam_person: int


def add_sites(installation: Installation) -> Sites:
    """Store Contoso and Fabrikam, for fixtures that live longer than a test."""
    ids: list[Any] = []
    with installation.database.session() as session:
        for name in ("Contoso", "Fabrikam"):
            client = places.add_client(session, name=name, actor="test")
            where = places.add_location(session, client_id=client.client_id or 0, name="HQ", actor="test")
            computer = places.add_computer(
                session, location_id=where.location_id or 0, name=f"{name}-PC1", actor="test", platform="linux",
                transport="local",
            )  # fmt: skip
            person = places.add_contact(
                session, client_id=client.client_id or 0, name=f"Ada of {name}", actor="test",
                email=f"ada@{name.lower()}.example",
            )  # fmt: skip
            ids += [client.client_id, where.location_id, (computer.computer_id,), person.contact_id]
    return Sites(*ids)


def token_of(installation: Installation, name: str, *, scopes: Collection[str] | None = None, days: int = 1) -> str:
    """The text of a new token of that person."""
    with installation.database.reading() as session:
        user = session.exec(select(User).where(User.name == name)).one()
    return tokens.create(installation, user.id, name="test", scopes=scopes, days=days, actor="test")[1]


@contextmanager
def api_of(console: Console, name: str, *, scopes: Collection[str] | None = None) -> Iterator[httpx.Client]:
    """A program that acts for that person; paths are below `/api/v1`."""
    token = token_of(console.installation, name, scopes=scopes)
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=console.address + API, headers=headers, timeout=120) as client:
        yield client
