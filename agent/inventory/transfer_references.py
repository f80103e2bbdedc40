"""What the cells of an import refer to: clients, locations, computers and credentials by name, each looked up once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlmodel import Session, col, select

from agent.errors import ClientMismatch, NotFound
from agent.inventory.lookup import find, place_id
from agent.model.administration import Credential
from agent.model.places import Client, Computer, Contact, Location

_MODELS: dict[str, type[Any]] = {"client": Client, "location": Location, "computer": Computer, "contact": Contact}


class References:
    """An external id is looked at first; what is none must name one place, as `lookup.find` understands it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._found: dict[tuple[str, str], tuple[int, int]] = {}
        self._credentials: dict[str, Credential] | None = None

    def prefetch(self, kind: str, names: Iterable[str]) -> None:
        """Look up many external ids of client, location, computer or contact at once."""
        model = _MODELS[kind]
        unknown = {name for name in names if name and (kind, name) not in self._found}
        query = select(model).where(col(model.external_id).in_(unknown)) if unknown else None
        for place in self._session.exec(query) if query is not None else ():
            self._found[kind, place.external_id] = (place_id(place), place.client_id)

    def place(self, kind: str, name: str, client_id: int | None = None) -> tuple[int, int]:
        """(id, client id) of a client, location, computer or contact. A location's name may be given within its client.

        Raises NotFound, or Conflict when the name fits more than one.
        """
        if (kind, name) not in self._found:
            if kind == "location" and client_id is not None:
                query = select(Location).where(Location.client_id == client_id, Location.name == name).limit(2)
                named = list(self._session.exec(query))
                if len(named) == 1:
                    return place_id(named[0]), client_id
            place: Any = find(self._session, _MODELS[kind], name)
            self._found[kind, name] = (place_id(place), place.client_id or 0)
        return self._found[kind, name]

    def credential(self, name: str) -> int:
        """The id of the credential of that name. Raises NotFound."""
        for credential in self._all_credentials():
            if credential.name == name and credential.id is not None:
                return credential.id
        raise NotFound(f"there is no credential {name!r}")

    def check_credential(self, credential_id: int | None, client_id: int, location_id: int) -> None:
        """A computer is reached by a credential of the server, its client or its location. Raises ClientMismatch."""
        for credential in self._all_credentials():
            if credential.id == credential_id and (
                credential.client_id not in (None, client_id) or credential.location_id not in (None, location_id)
            ):
                raise ClientMismatch(f"the credential {credential.name!r} belongs to another client or location")

    def _all_credentials(self) -> Iterable[Credential]:
        if self._credentials is None:
            self._credentials = {c.name: c for c in self._session.exec(select(Credential))}
        return self._credentials.values()
