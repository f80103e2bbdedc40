"""Sign-in by OpenID Connect: the identity provider says who it is, and its groups say what that person may do here.

Who somebody is hangs on issuer and subject alone: an equal e-mail address or name gives nobody another's account.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session, col, select

from agent import audit
from agent.access import grants, names, users
from agent.access.openid_protocol import Request, claims_of, is_configured, start
from agent.access.principal import Grant
from agent.access.sessions import end_all, open_session
from agent.errors import NotSignedIn, SettingsError, StoreError, UsageError
from agent.installation import Installation
from agent.model.access import User
from agent.model.base import utcnow
from agent.model.places import Client
from agent.services import properties

__all__ = ["begin", "finish", "is_configured"]

_PURPOSE = "openid sign-in"
#: Time to sign in at the identity provider.
_LIFE = timedelta(minutes=15)
_STRANGER = (
    "the identity provider knows you, but none of your groups has a role here: ask an administrator, who sets the system "
    f"property {properties.OPENID_ROLES}"
)
_TOO_MANY = (
    "the identity provider did not list your groups, because there are too many: an administrator lets it send only the "
    "groups that are assigned to the application, or application roles"
)


def begin(installation: Installation, redirect_uri: str) -> tuple[str, str]:
    """The address to send the browser to, and what it must bring back in a cookie, encrypted.

    `redirect_uri` is our own address, as it is registered there. Raises SettingsError, CannotConnect.
    """
    url, asked = start(installation.settings, redirect_uri)
    kept = json.dumps({**asdict(asked), "at": utcnow().isoformat()})
    return url, installation.secrets.encrypt(kept, purpose=_PURPOSE)


def finish(installation: Installation, kept: str, answer: Mapping[str, str], address: str) -> str:
    """The token of a new session. `kept` is the cookie, `answer` the query that the browser came back with.

    Raises NotSignedIn with the reason, CannotConnect, SettingsError.
    """
    asked = _asked(installation, kept)
    if not hmac.compare_digest(asked.state.encode(), answer.get("state", "").encode("utf-8", "replace")):
        raise NotSignedIn("this sign-in was not begun in this browser: begin it here")
    if "code" not in answer:
        # What stands in the query is anybody's text: it is not repeated.
        raise NotSignedIn("the identity provider did not sign you in: try again, or ask an administrator")
    claims = claims_of(installation.settings, asked, answer["code"])
    with installation.database.session() as session:
        grants.lock_administrators(session)
        wanted = _wanted(installation, session, claims)
        user = _known(session, claims) or (_new(installation, session, claims) if wanted else None)
        if user is not None:
            # Also for one who has no group any more: programs would otherwise go on with the old roles.
            grants.put(session, user, wanted, source=grants.OIDC, actor=user.name)
        token = None
        if user is not None and not wanted:
            end_all(session, user.id)
        elif user is not None and user.disabled_at is None:
            token = open_session(session, installation.settings, user)
            audit.record(
                session, actor=user.name, action="user.sign_in", object_kind="user", object_id=user.id,
                details={"name": user.name, "address": address, "issuer": user.issuer},
            )  # fmt: skip
    if token is None:
        raise NotSignedIn(_TOO_MANY if not wanted and _is_overage(claims) else _STRANGER)
    return token


def _asked(installation: Installation, kept: str) -> Request:
    try:
        found = json.loads(installation.secrets.decrypt(kept, purpose=_PURPOSE))
    except (SettingsError, StoreError, ValueError) as error:
        raise NotSignedIn("this sign-in was not begun in this browser: begin it here") from error
    if utcnow() - datetime.fromisoformat(found.pop("at")) > _LIFE:
        raise NotSignedIn("the sign-in took too long: begin again")
    return Request(**found)


def _known(session: Session, claims: Mapping[str, Any]) -> User | None:
    """The person with that issuer and subject."""
    query = select(User).where(User.issuer == claims["iss"], User.subject == str(claims["sub"]))
    return session.exec(query.with_for_update()).first()


def _new(installation: Installation, session: Session, claims: Mapping[str, Any]) -> User:
    name = _free_name(installation, session, claims)
    user = users.add(session, name, email=_email(claims), actor=f"openid:{claims['iss']}")
    user.issuer, user.subject = str(claims["iss"]), str(claims["sub"])
    session.add(user)
    session.flush()
    return user


def _free_name(installation: Installation, session: Session, claims: Mapping[str, Any]) -> str:
    """What the person is called there, made different from everybody who has a name here.

    A name in the property CLIENT_APPROVERS may be that of somebody at the command line, so it is not given away either.
    """
    approvers = properties.value_of(installation, session, properties.CLIENT_APPROVERS) or ""
    held = {names.key(n.strip()) for n in approvers.split(",")}
    suffix = hashlib.sha256(f"{claims['iss']} {claims['sub']}".encode()).hexdigest()[:8]
    for given in (claims.get("preferred_username"), claims.get("email"), claims.get("name")):
        wanted = given.strip() if isinstance(given, str) else ""
        try:
            names.checked(wanted)
        except UsageError:
            continue
        free = not names.is_taken(session, wanted) and names.key(wanted) not in held
        return wanted if free else f"{wanted[: names.MOST_LENGTH - 11]} ({suffix})"
    return f"person {suffix}"


def _email(claims: Mapping[str, Any]) -> str | None:
    given = claims.get("email")
    try:
        return users.checked_email(given) if isinstance(given, str) else None
    except UsageError:
        return None


def _wanted(installation: Installation, session: Session, claims: Mapping[str, Any]) -> list[Grant]:
    """The grants that the person's groups (claim `groups`) and application roles (claim `roles`) stand for."""
    mapped = properties.openid_roles(properties.value_of(installation, session, properties.OPENID_ROLES) or "")
    held = {g for claim in ("groups", "roles") for g in _texts(claims.get(claim))}
    given = [pair for group, pairs in mapped.items() if group in held for pair in pairs]
    slugs = {slug for _, slug in given if slug is not None}
    clients = dict(session.exec(select(Client.slug, Client.client_id).where(col(Client.slug).in_(slugs))).all())
    # A client that is gone gives no grant; it must not become one at all clients.
    return [Grant(role, clients.get(slug) if slug else None) for role, slug in given if slug is None or slug in clients]


def _texts(value: object) -> list[str]:
    found = value if isinstance(value, list) else [value]
    return [v for v in found if isinstance(v, str)]


def _is_overage(claims: Mapping[str, Any]) -> bool:
    """Entra ID points elsewhere instead of listing more than 200 groups."""
    elsewhere = claims.get("_claim_names")
    return isinstance(elsewhere, dict) and "groups" in elsewhere
