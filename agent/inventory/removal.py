"""Removing a place that was added by mistake. What has a history, or what something hangs on, is kept.

Ids are never given twice (`edf_schema.sql`), so what still names a removed place names no other one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, literal, or_
from sqlmodel import Session, SQLModel, col, select

from agent import audit
from agent.content.reading import clients_folder
from agent.errors import Conflict, NotFound
from agent.installation import Installation
from agent.inventory import field_values
from agent.inventory.flags import EXCLUDE
from agent.inventory.lookup import FORMS, Place, key, path, place_id, word
from agent.model.access import OneTimeLink, UserGrant
from agent.model.administration import Credential
from agent.model.contacts import ContactOffboarding, ManualTask, OffboardingTemplateUse
from agent.model.directory import DirectoryAccount, DirectoryWatch
from agent.model.monitors import Alert, FailingRow, RaisedAlert
from agent.model.packages import AppliedPackage, PackageChange
from agent.model.places import (
    Client,
    Computer,
    ComputerGroup,
    ComputerGroupMember,
    Contact,
    Equipment,
    Location,
    Software,
)
from agent.model.runs import ScriptRun, ScriptState
from agent.model.tickets import Notification, Ticket
from agent.model.webhooks import WebhookDelivery, WebhookSource, WebhookTarget
from agent.services import properties

#: What keeps a place: the word for people, the table, and for each kind of place the column that names one.
KEEPS: tuple[tuple[str, type[SQLModel], dict[type[Place], str]], ...] = (
    ("location", Location, {Client: "client_id"}),
    ("computer", Computer, {Client: "client_id", Location: "location_id"}),
    ("contact", Contact, {Client: "client_id", Location: "location_id"}),
    ("direct report", Contact, {Contact: "manager_id"}),
    ("item of equipment", Equipment, {Contact: "contact_id"}),
    ("credential", Credential, {Client: "client_id", Location: "location_id"}),
    ("run", ScriptRun, {Client: "client_id"}),
    ("alert", Alert, {Client: "client_id"}),
    ("raised alert", RaisedAlert, {Client: "client_id"}),
    ("ticket", Ticket, {Client: "client_id", Location: "location_id", Computer: "computer_id", Contact: "contact_id"}),
    ("mail", Notification, {Client: "client_id"}),
    ("offboarding", ContactOffboarding, {Client: "client_id", Contact: "contact_id"}),
    ("manual task", ManualTask, {Client: "client_id", Contact: "contact_id"}),
    ("role of a user", UserGrant, {Client: "client_id"}),
    ("one-time link", OneTimeLink, {Client: "client_id"}),
    ("webhook", WebhookTarget, {Client: "client_id"}),
    ("message of a webhook", WebhookDelivery, {Client: "client_id"}),
    ("source of webhooks", WebhookSource, {Client: "client_id"}),
    ("watched tenant", DirectoryWatch, {Client: "client_id"}),
    ("account in a tenant", DirectoryAccount, {Client: "client_id"}),
)
#: Tables that name any kind of place by `target_kind` and `target_id`.
KEEPS_TARGETS: tuple[tuple[str, type[SQLModel]], ...] = (
    ("run", ScriptRun), ("alert", Alert), ("raised alert", RaisedAlert), ("value of a script", ScriptState),
)  # fmt: skip
#: Counting ends here: that there are many is all that matters.
MANY = 1000


@dataclass(frozen=True)
class Removed:
    """A place that is gone, as it was."""

    kind: str
    id: int
    path: str
    external_id: str
    #: Values of extra fields that went with it.
    values: int


def remove(installation: Installation, session: Session, place: Place, *, actor: str) -> Removed:
    """Remove a client, location, computer or contact that nothing hangs on and that has no history.

    The values of its extra fields, its software, maintenance, alert hours and groups go with it; the audit trail keeps all
    columns, the old values and the groups. Raises Conflict that lists what hangs on it, NotFound when it is gone already.
    """
    kind, number = word(type(place)), place_id(place)
    _lock(session, place)
    refuse_kept(installation, session, place)
    gone = Removed(
        kind, number, path(session, place), place.external_id,
        field_values.clear_all(session, FORMS[type(place)], number, actor=actor),
    )  # fmt: skip
    audit.record(
        session, actor=actor, action=f"{kind}.remove", object_kind=kind, object_id=number,
        client_id=number if isinstance(place, Client) else place.client_id,
        details={"path": gone.path, **place.model_dump(mode="json"), **_goes_along(session, place)},
    )  # fmt: skip
    # What the last scan of a monitor found is no history; it would be gone after the next.
    session.execute(delete(FailingRow).where(*_target(FailingRow, kind, number)))
    session.delete(place)
    session.flush()
    return gone


def refuse_kept(installation: Installation, session: Session, place: Place) -> None:
    """Raises Conflict that lists what hangs on a place, and says what to do instead of removing it."""
    found = list(hanging(installation, session, place))
    if found:
        kind, number = word(type(place)), place_id(place)
        raise Conflict(
            f"{kind} {number} ({path(session, place)}) is kept, since this hangs on it: {', '.join(found)}. Only what was "
            f"added by mistake and has no history can be removed: {_instead(place, number)}"
        )


def hanging(installation: Installation, session: Session, place: Place) -> Iterator[str]:
    """What keeps a place, in words such as `2 computers`; nothing: it can be removed."""
    kind, number = word(type(place)), place_id(place)
    conditions: dict[tuple[str, type[SQLModel]], list[ColumnElement[bool]]] = {}
    for what, table, columns in KEEPS:
        if type(place) in columns:
            conditions.setdefault((what, table), []).append(col(getattr(table, columns[type(place)])) == number)
    for what, table in KEEPS_TARGETS:
        conditions.setdefault((what, table), []).append(_both(*_target(table, kind, number)))
    if isinstance(place, Client):
        conditions[("assigned template", OffboardingTemplateUse)] = [
            _both(col(OffboardingTemplateUse.kind) == "client", col(OffboardingTemplateUse.key) == str(number))
        ]
        conditions[("applied package", AppliedPackage)] = [col(AppliedPackage.client) == place.slug]
        conditions[("change of packages", PackageChange)] = [col(PackageChange.client) == place.slug]
    for (what, table), any_of in conditions.items():
        if count := _count(session, table, or_(*any_of)):
            yield (
                f"{MANY} or more {_plural(what)}"
                if count == MANY
                else f"{count} {what if count == 1 else _plural(what)}"
            )
    if isinstance(place, Client):
        yield from _named_elsewhere(installation, session, place)


def _named_elsewhere(installation: Installation, session: Session, client: Client) -> Iterator[str]:
    """Where the slug of a client stands: a later client of the same slug would take over what is there."""
    folder = clients_folder(installation.settings.workspace) / client.slug
    if folder.exists():
        yield f"the folder {folder}"
    value = properties.value_of(installation, session, properties.OPENID_ROLES) or ""
    try:
        roles = properties.openid_roles(value)
    except ValueError as error:
        yield f"perhaps the system property {properties.OPENID_ROLES}, which cannot be read: {error}"
        return
    groups = sorted(group for group, given in roles.items() if client.slug in [slug for _, slug in given])
    if groups:
        yield f"the roles of {', '.join(repr(g) for g in groups)} in the system property {properties.OPENID_ROLES}"


def _instead(place: Place, number: int) -> str:
    if isinstance(place, Computer):
        return f"retire it instead (`exeunt inventory retire --computer id:{number}`)"
    if isinstance(place, Contact):
        return f"mark who has left instead (`exeunt inventory set --contact id:{number} 'status=Former Employee'`)"
    option = f"--{word(type(place))} id:{number}"
    return (
        "remove or move what was added by mistake too; where history remains, leave it, and exclude it from offboardings "
        f"(`exeunt edf set '{EXCLUDE}' 1 {option}`)"
    )


def _lock(session: Session, place: Place) -> None:
    """Until the transaction ends nobody plans a run for it or puts anything into it (SQLite has one writer anyway)."""
    query = select(key(type(place))).where(key(type(place)) == place_id(place)).with_for_update()
    if session.exec(query).first() is None:
        raise NotFound(f"there is no {word(type(place))} {place_id(place)} any more")


def _goes_along(session: Session, place: Place) -> dict[str, Any]:
    """What the database removes with a computer, for the audit trail."""
    if not isinstance(place, Computer):
        return {}
    groups = (
        select(ComputerGroup.full_name)
        .join(ComputerGroupMember, col(ComputerGroupMember.group_id) == col(ComputerGroup.group_id))
        .where(ComputerGroupMember.computer_id == place.computer_id)
    )
    return {
        "groups": sorted(session.exec(groups)),
        "software": _count(session, Software, col(Software.computer_id) == place.computer_id),
    }


def _target(table: Any, kind: str, number: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return col(table.target_kind) == kind, col(table.target_id) == number


def _both(one: ColumnElement[bool], other: ColumnElement[bool]) -> ColumnElement[bool]:
    return one & other


def _count(session: Session, table: type[SQLModel], condition: ColumnElement[bool]) -> int:
    found = select(literal(1)).select_from(table).where(condition).limit(MANY).subquery()
    return session.scalar(select(func.count()).select_from(found)) or 0


def _plural(what: str) -> str:
    """`role of a user` -> `roles of a user`."""
    first, of, rest = what.partition(" of ")
    first, in_, more = first.partition(" in ")
    return f"{first}s{in_}{more}{of}{rest}"
