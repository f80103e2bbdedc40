"""Credentials: how to reach a machine or a service. Settings in clear, the secret encrypted for just this credential.

Scope: a location, a client or the whole server; the nearest one counts. One of another client is refused (DESIGN 5.7).
A credential without a secret (`secret` is null, as an import makes it) is "waiting for its secret" and cannot be used;
one that needs none holds the empty object.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, or_, select

from agent import audit
from agent.errors import ClientMismatch, Conflict, NotFound, SettingsError, UsageError
from agent.installation import Installation
from agent.model.administration import Credential
from agent.model.base import utcnow
from agent.model.places import Client, Computer, Location
from agent.services import credential_kinds

#: A setting of such a name would put a secret into the database in clear.
_SECRET_WORDS = (
    "password",
    "passwd",
    "secret",
    "token",
    "passphrase",
    "private_key",
    "api_key",
    "apikey",
    "access_key",
)


@dataclass(frozen=True)
class CredentialView:
    """What lists show of a credential: never the secret."""

    id: int
    kind: str
    name: str
    client_id: int | None
    location_id: int | None
    settings: Mapping[str, Any]
    #: `ready` or `waiting for its secret`
    state: str
    created_at: datetime
    changed_at: datetime


def add(
    installation: Installation,
    *,
    kind: str,
    name: str,
    client_id: int | None = None,
    location_id: int | None = None,
    settings: Mapping[str, Any] | None = None,
    secret: Mapping[str, str] | None = None,
    actor: str,
) -> Credential:
    """Store a credential; `secret` of None leaves it waiting, `{}` says that it needs none.

    A kind that a package describes is held to that. Raises UsageError for a name, setting or secret that cannot be, NotFound
    for a place, ClientMismatch for a location of
    another client, Conflict when the scope has a credential of that name.
    """
    _check_words(kind, name, settings or {})
    _check_kind(installation, kind, settings or {}, secret, waits=secret is None)
    with installation.database.session() as session:
        _check_scope(session, client_id, location_id)
        _refuse_taken(session, name, client_id, location_id)
        credential = Credential(
            kind=kind, name=name, client_id=client_id, location_id=location_id, settings=dict(settings or {})
        )
        session.add(credential)
        session.flush()
        if secret is not None:
            credential.secret = _sealed(installation, credential, secret)
        _record(session, "credential.add", credential, actor, {"settings": dict(settings or {})})
    return credential


def add_shell(session: Session, *, kind: str, name: str, client_id: int | None, actor: str) -> Credential:
    """Make an empty credential that waits for its secret, within the caller's transaction. Raises UsageError."""
    _check_words(kind, name, {})
    credential = Credential(kind=kind, name=name, client_id=client_id, settings={})
    session.add(credential)
    session.flush()
    _record(session, "credential.add", credential, actor, {"settings": {}})
    return credential


def update(
    installation: Installation,
    credential_id: int,
    *,
    settings: Mapping[str, Any] | None = None,
    secret: Mapping[str, str] | None = None,
    actor: str,
) -> Credential:
    """Replace the settings, the secret or both; what is None stays. Raises NotFound, UsageError."""
    with installation.database.session() as session:
        credential = _get(session, credential_id)
        waits = secret is None and credential.secret is None
        new = credential.settings if settings is None else settings
        _check_kind(installation, credential.kind, new, secret, waits=waits)
        details: dict[str, Any] = {"entered_anew": secret is not None}
        if settings is not None:
            _check_words(credential.kind, credential.name, settings)
            details |= {"old": credential.settings, "new": dict(settings)}
            credential.settings = dict(settings)
        if secret is not None:
            credential.secret = _sealed(installation, credential, secret)
        credential.changed_at = utcnow()
        session.add(credential)
        _record(session, "credential.update", credential, actor, details)
    return credential


def remove(installation: Installation, credential_id: int, *, actor: str) -> None:
    """Remove a credential. Raises NotFound; Conflict while a computer is set to use it."""
    with installation.database.session() as session:
        remove_in(session, _get(session, credential_id), actor=actor)


def remove_in(session: Session, credential: Credential, *, actor: str) -> None:
    """The same within the caller's transaction."""
    users = session.exec(select(Computer.name).where(Computer.credential_id == credential.id).limit(3)).all()
    if users:
        raise Conflict(f"credential {credential.id} is used by {', '.join(users)}: give them another one first")
    _record(session, "credential.remove", credential, actor, {"settings": credential.settings})
    session.delete(credential)


def list_credentials(
    session: Session, *, client_id: int | None = None, kind: str | None = None
) -> list[CredentialView]:
    """Credentials without their secrets; for a client those of the client and of its locations."""
    statement = select(Credential).order_by(Credential.kind, Credential.name, col(Credential.id))
    if client_id is not None:
        statement = statement.where(Credential.client_id == client_id)
    if kind is not None:
        statement = statement.where(Credential.kind == kind)
    return [_view(c) for c in session.exec(statement)]


def nearest(session: Session, kind: str, *, client_id: int, location_id: int | None) -> Credential | None:
    """The credential of a kind that counts for a place: its location's, else its client's, else the server's.

    Raises Conflict when the nearest scope has several, because a guess may lock an account.
    """
    return _nearest(_in_scope(session, client_id, location_id, Credential.kind == kind), f"of the kind {kind!r}")


def of_client(session: Session, kinds: Collection[str], client_id: int) -> Sequence[Credential]:
    """All credentials of these kinds that count somewhere at a client: for `nearest_of`, when many computers ask."""
    if not kinds:
        return ()
    place = or_(col(Credential.client_id).is_(None), col(Credential.client_id) == client_id)
    return session.exec(
        select(Credential).where(col(Credential.kind).in_(kinds), place).order_by(col(Credential.id))
    ).all()


def nearest_of(found: Sequence[Credential], kind: str, *, client_id: int, location_id: int | None) -> Credential | None:
    """The same as `nearest`, of credentials that were found before."""

    def counts(credential: Credential) -> bool:
        if credential.client_id is None:
            return True
        return credential.client_id == client_id and credential.location_id in (None, location_id)

    return _nearest([c for c in found if c.kind == kind and counts(c)], f"of the kind {kind!r}")


def by_name(session: Session, name: str, *, client_id: int, location_id: int | None = None) -> Credential:
    """The nearest credential of that name that this client may use.

    Raises NotFound; ClientMismatch when only another client or location has one.
    """
    found = _nearest(_in_scope(session, client_id, location_id, Credential.name == name), f"named {name!r}")
    if found is not None:
        return found
    if session.exec(select(Credential.id).where(Credential.name == name)).first() is not None:
        raise ClientMismatch(f"the credential {name!r} belongs to another client or location and is refused")
    raise NotFound(f"there is no credential {name!r} for client {client_id}: `exeunt credential add` makes one")


def by_id(session: Session, credential_id: int, *, client_id: int, location_id: int | None = None) -> Credential:
    """A credential by its id, if this client and location may use it. Raises NotFound, ClientMismatch."""
    credential = _get(session, credential_id)
    if credential.client_id not in (None, client_id) or credential.location_id not in (None, location_id):
        raise ClientMismatch(f"credential {credential_id} belongs to another client or location and is refused")
    return credential


def open_secret(installation: Installation, credential: Credential) -> dict[str, str]:
    """The secrets of a credential by their names, in clear.

    Raises SettingsError when it waits for its secret or the key is wrong, StoreError when the token was copied here.
    """
    if credential.secret is None:
        raise SettingsError(
            f"the credential {credential.name!r} (id {credential.id}) waits for its secret: "
            f"enter it by `exeunt credential update {credential.id}`"
        )
    opened = json.loads(installation.secrets.decrypt(credential.secret, purpose=_purpose(credential)))
    return {str(k): str(v) for k, v in opened.items()}


def secret_from(source: str) -> str:
    """A secret from `env:NAME` or `file:PATH` (its last line end is left out). Raises UsageError, never with the value.

    There is no form that takes the secret itself: it would stand in the process list and the shell's history.
    """
    kind, _, place = source.partition(":")
    if kind == "env" and place:
        value = os.environ.get(place)
        if value is None:
            raise UsageError(f"the environment has no variable {place}")
    elif kind == "file" and place:
        try:
            value = Path(place).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{place} cannot be read as a secret: {type(error).__name__}") from error
    else:
        raise UsageError("say where the secret is: env:NAME or file:PATH, or leave it out to be asked for it")
    if not value:
        raise UsageError(f"the secret in {source} is empty")
    return value


def _purpose(credential: Credential) -> str:
    return f"credential:{credential.id}:{credential.kind}:{credential.client_id}:{credential.location_id}"


def _sealed(installation: Installation, credential: Credential, secret: Mapping[str, str]) -> str:
    if not all(k and v for k, v in secret.items()):
        raise UsageError(f"the secret of credential {credential.name!r} is empty")
    return installation.secrets.encrypt(json.dumps(dict(secret)), purpose=_purpose(credential))


def _get(session: Session, credential_id: int) -> Credential:
    credential = session.get(Credential, credential_id)
    if credential is None:
        raise NotFound(f"there is no credential {credential_id}")
    return credential


def _in_scope(session: Session, client_id: int, location_id: int | None, condition: Any) -> Sequence[Credential]:
    place = or_(
        col(Credential.client_id).is_(None),
        (col(Credential.client_id) == client_id)
        & or_(col(Credential.location_id).is_(None), col(Credential.location_id) == location_id),
    )
    return session.exec(select(Credential).where(condition, place).order_by(col(Credential.id))).all()


def _nearest(found: Sequence[Credential], what: str) -> Credential | None:
    def distance(credential: Credential) -> int:
        return 2 if credential.client_id is None else 1 if credential.location_id is None else 0

    if not found:
        return None
    best = min(distance(c) for c in found)
    candidates = [c for c in found if distance(c) == best]
    if len(candidates) > 1:
        names = ", ".join(repr(c.name) for c in candidates)
        raise Conflict(
            f"there are several credentials {what} in one scope ({names}): remove all but one, or set the one "
            "to use on the computer where it is about one"
        )
    return candidates[0]


def _check_words(kind: str, name: str, settings: Mapping[str, Any]) -> None:
    for what, word in (("kind", kind), ("name", name)):
        if not word.strip() or not word.isprintable():
            raise UsageError(f"the {what} of a credential is one line of text, not {word!r}")
    for key in settings:
        if any(word in key.lower() for word in _SECRET_WORDS) and not key.lower().endswith(("_file", "_path", "_url")):
            raise UsageError(f"{key!r} stands for a secret: settings are stored in clear, so enter it as a secret")


def _check_kind(
    installation: Installation, kind: str, settings: Mapping[str, Any], secret: Mapping[str, str] | None, *, waits: bool
) -> None:
    shell = credential_kinds.shell_of(installation.content.packages(), kind)
    if shell is not None:
        credential_kinds.check(shell, settings, secret, waits=waits)


def _check_scope(session: Session, client_id: int | None, location_id: int | None) -> None:
    if client_id is not None and session.get(Client, client_id) is None:
        raise NotFound(f"there is no client {client_id}")
    if location_id is None:
        return
    location = session.get(Location, location_id)
    if location is None:
        raise NotFound(f"there is no location {location_id}")
    if location.client_id != client_id:
        raise ClientMismatch(f"location {location_id} belongs to client {location.client_id}, not {client_id}")


def _refuse_taken(session: Session, name: str, client_id: int | None, location_id: int | None) -> None:
    same = select(Credential).where(
        Credential.name == name, Credential.client_id == client_id, Credential.location_id == location_id
    )
    for other in session.exec(same):
        raise Conflict(
            f"there is a credential {name!r} in this scope already, with the id {other.id}: change or remove that one, "
            "or give this one another name"
        )


def _view(credential: Credential) -> CredentialView:
    assert credential.id is not None
    return CredentialView(
        credential.id, credential.kind, credential.name, credential.client_id, credential.location_id,
        dict(credential.settings), "waiting for its secret" if credential.secret is None else "ready",
        credential.created_at, credential.changed_at,
    )  # fmt: skip


def _record(session: Session, action: str, credential: Credential, actor: str, details: dict[str, Any]) -> None:
    audit.record(
        session, actor=actor, action=action, object_kind="credential", object_id=str(credential.id),
        client_id=credential.client_id, details={"kind": credential.kind, "name": credential.name, **details},
    )  # fmt: skip
