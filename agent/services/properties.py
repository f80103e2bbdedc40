"""System properties: server-wide settings that the scripts read (facts 5, 9, 12). What is known is declared here once."""

from __future__ import annotations

import base64
import difflib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlmodel import Session, select

from agent import audit
from agent.access.principal import Role
from agent.errors import NotFound, UsageError
from agent.installation import Installation
from agent.model.administration import SystemProperty
from agent.model.base import utcnow
from agent.services.smtp import addresses

ALERT_TYPE = "_sysOffboardingAlertType"
EMAIL_ADDRESS = "_sysOffboardingDefaultEmailAddress"
TICKET_CATEGORY = "_sysOffboardingDefaultTicketCategory"
TICKET_ON_SUCCESS = "_sysOffboardingTicketOnSuccess"
INFORMATIVE_TICKET = "_sysOffboardingClientInformativeTicket"
LITERAL_OUTCOMES = "_sysOffboardingLiteralOutcomes"
CLIENT_APPROVERS = "_sysOffboardingClientApprovers"
LICENCE_PRICES = "_sysOffboardingLicensePrices"
OPENID_ROLES = "_sysOpenIdRoles"
FROZEN = "_sysPackageFreeze"
TRUSTED = "_sysTrustedPublishers"
#: A name that begins so and is not declared is a typing error: it would be ignored in silence.
RESERVED = ("_sysoffboarding", "_sysopenid", "rmmplus_")


def alert_types(value: str) -> frozenset[str]:
    """`Email, Ticket` in any case and spacing -> {"Email", "Ticket"}; empty -> none. Raises ValueError."""
    known = {"ticket": "Ticket", "email": "Email"}
    words = [w.strip() for w in value.split(",") if w.strip()]
    wrong = [w for w in words if w.lower() not in known]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no alert type: write `Ticket`, `Email`, both with a comma, or nothing")
    return frozenset(known[w.lower()] for w in words)


def licence_prices(value: str) -> tuple[str, dict[str, Decimal]]:
    """`currency=$; ENTERPRISEPACK=276.00` -> the sign, and the price of a year by SKU id or name in lower case.

    Raises ValueError.
    """
    sign, prices = "", {}
    for part in (p.strip() for p in value.split(";")):
        name, equals, amount = (p.strip() for p in part.rpartition("="))
        if not part:
            continue
        if name.lower() == "currency":
            sign = amount
        elif equals and re.fullmatch(r"\d{1,9}(\.\d{1,2})?", amount, re.ASCII):
            prices[name.casefold()] = Decimal(amount)
        else:
            raise ValueError(f"{part!r} is no price: write NAME=AMOUNT with a point, divided by semicolons")
    return sign, prices


def openid_roles(value: str) -> dict[str, list[tuple[Role, str | None]]]:
    """`{"GROUP": {"role": "viewer", "client": "contoso"}}` -> the roles of each group, with a client's slug or None for all.

    A group may have a list of roles. Raises ValueError.
    """
    try:
        groups = json.loads(value or "{}")
    except json.JSONDecodeError as error:
        raise ValueError(f"this is no JSON: {error.msg} at character {error.pos + 1}") from error
    if not isinstance(groups, dict):
        raise ValueError('write {"GROUP": {"role": "viewer", "client": "contoso"}}')
    return {group: _roles_of_group(group, given) for group, given in groups.items()}


def _roles_of_group(group: str, given: object) -> list[tuple[Role, str | None]]:
    found = []
    for one in given if isinstance(given, list) else [given]:
        if not isinstance(one, dict) or not set(one) <= {"role", "client"} or str(one.get("role")) not in set(Role):
            raise ValueError(
                f"group {group!r}: write a role ({', '.join(Role)}), and a client's slug where it is limited to one"
            )
        client = one.get("client")
        # An empty slug, or null, would mean all clients where one was meant.
        if "client" in one and (not isinstance(client, str) or not client):
            raise ValueError(f"group {group!r}: the client is a slug; leave it out for all clients")
        found.append((Role(one["role"]), client))
    return found


def trusted_publishers(value: str) -> dict[str, str]:
    """`Contoso=KEY; Vendor=KEY` -> name -> public key (Ed25519, base64). Raises ValueError."""
    found: dict[str, str] = {}
    for part in (p.strip() for p in value.split(";")):
        if not part:
            continue
        name, equals, key = (p.strip() for p in part.partition("="))
        try:
            whole = len(base64.b64decode(key, validate=True)) == 32
        except ValueError:
            whole = False
        if not name or not equals or not whole:
            raise ValueError(f"{part!r} is no publisher: write NAME=KEY, the key as `exeunt package key` prints it")
        if name in found or key in found.values():
            raise ValueError(f"{name!r} or its key is there twice")
        found[name] = key
    return found


def _switch(value: str) -> None:
    if value not in ("0", "1"):
        raise ValueError(f"{value!r} is neither 1 nor 0")


def _number(value: str) -> None:
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise ValueError(f"{value!r} is not a whole number above 0")


def _category(value: str) -> None:
    if value and not (value.isascii() and value.isdigit()):
        raise ValueError(f"{value!r} is no ticket category: it is the number of one, such as 234")


def _any(value: str) -> None:
    """Every text will do."""


@dataclass(frozen=True)
class Declared:
    """A property that Exeunt knows. `check` raises ValueError for a value that cannot be."""

    name: str
    #: None: it has no value until one is set.
    default: str | None
    allowed: str
    meaning: str
    check: Callable[[str], object] = _any
    is_secret: bool = False


CATALOGUE: dict[str, Declared] = {
    d.name: d
    for d in (
        Declared(
            ALERT_TYPE, "Ticket", "`Ticket`, `Email`, both with a comma, or empty",
            "How the result of an offboarding is told; empty means not at all", alert_types,
        ),
        Declared(
            EMAIL_ADDRESS, "", "addresses with commas, or empty",
            "Who gets the mail; empty means the user who started the run", addresses,
        ),
        Declared(
            TICKET_CATEGORY, "", "a number, or empty", "Category of the tickets, which routes them to a board", _category,
        ),
        Declared(TICKET_ON_SUCCESS, "0", "`1` or `0`", "A ticket also when every application was removed", _switch),
        Declared(
            INFORMATIVE_TICKET, "1", "`1` or `0`", "One ticket when a whole client or location is offboarded", _switch,
        ),
        Declared(
            LITERAL_OUTCOMES, "0", "`1` or `0`",
            "Read the two disputed options of `Failed Uninstall Process` by the letter of their source", _switch,
        ),
        Declared(
            CLIENT_APPROVERS, "", "user names with commas, or empty",
            "Who may confirm the offboarding of a whole client; empty means nobody",
        ),
        Declared(
            LICENCE_PRICES, "", "`currency=$; NAME=12.50; ...`, or empty",
            "Price of a licence per year by its SKU id or name, for the saving in exit reports", licence_prices,
        ),
        Declared(
            OPENID_ROLES, "", '`{"GROUP": {"role": "viewer", "client": "contoso"}, ...}`, or empty',
            "Roles of those who sign in by OpenID Connect, by group; without `client` at all clients", openid_roles,
        ),
        Declared(
            FROZEN, "0", "`1` or `0`",
            "Packages, scripts' lists and extra fields change here by an import only, as in production", _switch,
        ),
        Declared(
            TRUSTED, "", "`NAME=KEY; NAME=KEY`, or empty", "Whose signed packages may be imported", trusted_publishers,
        ),
        Declared("RMMPlus_AccessKey", None, "text", "Key to the remote-control portal's extension", is_secret=True),
        Declared("RMMPlus_Headers", None, "text", "Headers that the portal's extension asks for", is_secret=True),
        Declared(
            "RMMPlus_StaleAgentThreshold", "30", "a whole number", "Days after which an agent counts as stale", _number,
        ),
        Declared("RMMPlus_Timeout", "1000", "a whole number", "Time limit of a portal request, in milliseconds", _number),
    )
}  # fmt: skip


@dataclass(frozen=True)
class PropertyView:
    """What lists show of a property. `value` is None when it is not set, and for a secret."""

    name: str
    value: str | None
    default: str | None
    is_set: bool
    is_secret: bool
    allowed: str
    meaning: str
    changed_at: datetime | None = None
    changed_by: str | None = None


def default_of(name: str) -> str | None:
    """The value that a property has while it is not set, None if it has none."""
    declared = CATALOGUE.get(name)
    return declared.default if declared else None


def value_of(installation: Installation, session: Session, name: str) -> str | None:
    """The value of a property, else its default, else None. A secret is decrypted; raises SettingsError for the key."""
    row = session.get(SystemProperty, name)
    if row is None:
        return default_of(name)
    return installation.secrets.decrypt(row.value, purpose=_purpose(name)) if row.is_secret else row.value


def set_value(installation: Installation, name: str, value: str, *, actor: str, secret: bool = False) -> None:
    """Set a property; `secret` (or a declaration that says so) encrypts it. Old and new value go to the audit trail.

    Raises UsageError for a value that cannot be, or a reserved name that is not declared, with the nearest ones.
    """
    with installation.database.session() as session:
        set_in(session, installation, name, value, actor=actor, secret=secret)


def set_in(
    session: Session, installation: Installation, name: str, value: str, *, actor: str, secret: bool = False
) -> None:
    """The same within the caller's transaction."""
    declared = _checked(name, value)
    row = session.get(SystemProperty, name)
    hidden = secret or (declared is not None and declared.is_secret) or (row is not None and row.is_secret)
    old = _shown(row)
    stored = installation.secrets.encrypt(value, purpose=_purpose(name)) if hidden else value
    row = row or SystemProperty(name=name, value=stored)
    row.value, row.is_secret, row.changed_at, row.changed_by = stored, hidden, utcnow(), actor
    session.add(row)
    _record(session, "property.set", name, actor, old, _shown(row))


def unset(installation: Installation, name: str, *, actor: str) -> None:
    """Forget the value of a property, so that its default counts again. Raises NotFound."""
    with installation.database.session() as session:
        unset_in(session, name, actor=actor)


def unset_in(session: Session, name: str, *, actor: str) -> None:
    """The same within the caller's transaction."""
    row = session.get(SystemProperty, name)
    if row is None:
        raise NotFound(f"the property {name!r} is not set")
    _record(session, "property.unset", name, actor, _shown(row), None)
    session.delete(row)


def list_properties(session: Session) -> list[PropertyView]:
    """All declared properties in the order of their declaration, then the others that are set, by name."""
    rows = {r.name: r for r in session.exec(select(SystemProperty))}
    others = sorted(set(rows) - set(CATALOGUE))
    undeclared = [Declared(n, None, "text", "", is_secret=rows[n].is_secret) for n in others]
    return [_view(d, rows.get(d.name)) for d in (*CATALOGUE.values(), *undeclared)]


def _checked(name: str, value: str) -> Declared | None:
    declared = CATALOGUE.get(name)
    if declared is None:
        if not name.strip() or not name.isprintable() or name != name.strip():
            raise UsageError(f"a property's name is one line of text without blanks around it, not {name!r}")
        folded = {n.lower(): n for n in CATALOGUE}
        # Stored beside the one that was meant, a misspelt name would be ignored in silence.
        misspelt = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.9)
        if name.lower().startswith(RESERVED) or misspelt:
            near = [folded[n] for n in difflib.get_close_matches(name.lower(), list(folded), n=3, cutoff=0.5)]
            raise UsageError(f"there is no property {name!r}; did you mean {' or '.join(near or CATALOGUE)}?")
        return None
    try:
        declared.check(value)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from error
    return declared


def _purpose(name: str) -> str:
    return f"property:{name}"


def _shown(row: SystemProperty | None) -> str | None:
    """A value as the audit trail and lists show it."""
    return None if row is None else "(secret)" if row.is_secret else row.value


def _view(declared: Declared, row: SystemProperty | None) -> PropertyView:
    secret = declared.is_secret or (row is not None and row.is_secret)
    return PropertyView(
        declared.name, None if row is None or secret else row.value, declared.default, row is not None, secret,
        declared.allowed, declared.meaning, row.changed_at if row else None, row.changed_by if row else None,
    )  # fmt: skip


def _record(session: Session, action: str, name: str, actor: str, old: str | None, new: str | None) -> None:
    audit.record(
        session, actor=actor, action=action, object_kind="property", object_id=name, details={"old": old, "new": new}
    )
