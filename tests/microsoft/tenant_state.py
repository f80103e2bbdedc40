"""A Microsoft 365 tenant for tests: what it holds, and the accounts that every test begins with.

It keeps state, so that "sign-in is disabled" is asked back. It leaves out, among much else: replication between copies of
the directory (unless a test asks for a delay), consent and roles (a fault stands for a missing right), licence rules, mail
itself, audit logs, PIM, administrative units, nested groups, delegated sign-in, and every property that no function reads.
"""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from drive_peer import DriveItem

from agent.functions.microsoft365.rights import NEEDED

E3, VISIO = str(uuid.uuid5(uuid.NAMESPACE_OID, "E3")), str(uuid.uuid5(uuid.NAMESPACE_OID, "Visio"))


@dataclass
class Message:
    """A message as MIME."""

    mime: bytes
    received: str = "2025-03-01T10:00:00Z"
    version: int = 1


@dataclass
class MailFolder:
    """A folder of mail. The peer leaves out search folders, drafts' states, and the archive."""

    name: str
    parent: str | None = None
    messages: dict[str, Message] = field(default_factory=dict)


@dataclass
class Mailbox:
    """A mailbox as Exchange keeps it; people are object ids."""

    kind: str = "UserMailbox"
    #: Looks that a conversion takes until it shows, and those that are left of one under way.
    conversion_takes: int = 0
    converting: int = 0
    size: int = 2 * 1024**3
    hidden: bool = False
    policy: str = "Default MRM Policy"
    forwarding: str | None = None
    forwarding_smtp: str | None = None
    deliver: bool = False
    hold: bool = False
    archive: bool = False
    full_access: dict[str, bool] = field(default_factory=dict)
    send_as: set[str] = field(default_factory=set)
    on_behalf: set[str] = field(default_factory=set)
    rules: dict[str, str] = field(default_factory=dict)
    phones: dict[str, str] = field(default_factory=dict)
    signature: str = ""
    replies: dict[str, Any] = field(default_factory=lambda: {"status": "disabled"})
    calendar: dict[str, tuple[str, str]] = field(default_factory=dict)
    meetings: dict[str, bool] = field(default_factory=dict)
    folders: dict[str, MailFolder] = field(default_factory=dict)


@dataclass
class User:
    """An account."""

    id: str
    upn: str
    name: str
    mail: str
    enabled: bool = True
    synced: bool = False
    immutable_id: str | None = None
    #: Of the account in the directory that it is, or was, synced from.
    sid: str | None = None
    sam: str | None = None
    #: Further addresses of the mailbox.
    aliases: list[str] = field(default_factory=list)
    password: str = "old"
    password_at: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    sessions_from: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    manager: str | None = None
    #: sku -> ids of groups that give it, None for direct.
    licences: dict[str, set[str | None]] = field(default_factory=dict)
    #: id -> (type without `AuthenticationMethod`, kind of phone or None)
    methods: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    default_method: str | None = None
    #: id -> (name, owner type, management state)
    devices: dict[str, list[str]] = field(default_factory=dict)
    drive: str | None = None
    mailbox: Mailbox | None = None

    @property
    def alias(self) -> str:
        """The name that Exchange shows for it."""
        return f"{self.upn.split('@')[0]}-{self.id[:8]}"


@dataclass
class Channel:
    """A channel of a team; a standard one has the members of the team."""

    name: str
    kind: str = "standard"
    members: set[str] = field(default_factory=set)
    owners: set[str] = field(default_factory=set)


@dataclass
class Group:
    """A group."""

    id: str
    name: str
    types: tuple[str, ...] = ()
    mail_enabled: bool = False
    security: bool = True
    team: bool = False
    synced: bool = False
    rule: str | None = None
    licences: set[str] = field(default_factory=set)
    members: set[str] = field(default_factory=set)
    owners: set[str] = field(default_factory=set)
    #: Of a team.
    channels: dict[str, Channel] = field(default_factory=dict)


@dataclass
class Site:
    """A site of SharePoint: who is known there, by user principal name, and who administers it."""

    users: dict[str, int] = field(default_factory=dict)
    admins: set[int] = field(default_factory=set)
    sharing: int = 2
    #: The site's groups and their members, and role definitions that were assigned to an account itself.
    groups: dict[int, set[int]] = field(default_factory=dict)
    roles: dict[int, set[int]] = field(default_factory=dict)
    #: Object ids with write permission on the root of its drive.
    writers: set[str] = field(default_factory=set)


@dataclass
class TestTenant:
    """A tenant with its secret, and a record of what was asked of it."""

    __test__ = False

    id: str
    domain: str
    secret: str
    users: dict[str, User] = field(default_factory=dict)
    deleted: dict[str, User] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    #: assignment -> (account, role's name)
    roles: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: sku -> (part number, bought)
    skus: dict[str, tuple[str, int]] = field(default_factory=dict)
    #: number -> account or None
    numbers: dict[str, str | None] = field(default_factory=dict)
    #: path of the address -> site
    sites: dict[str, Site] = field(default_factory=dict)
    #: id -> file or folder of the OneDrive of `alex`
    files: dict[str, DriveItem] = field(default_factory=dict)
    #: Ids of accounts in the order of their changes, for the delta query. `delta_lost`: its link has run out, once.
    changes: list[str] = field(default_factory=list)
    delta_lost: bool = False
    delta_hides: set[str] = field(default_factory=set)
    #: Permissions of the app registration, shown in its tokens. The services here do not look at them.
    app_roles: set[str] = field(default_factory=lambda: {r.name for rights in NEEDED.values() for r in rights})
    page_size: int = 100
    #: The host that next links name, if not its own; the address of its SharePoint.
    next_host: str | None = None
    sharepoint: str = ""
    graph: str = ""

    def user(self, key: str) -> User | None:
        """By object id or user principal name."""
        return self.users.get(key) or next((u for u in self.users.values() if u.upn.lower() == key.lower()), None)

    def named(self, short: str) -> User:
        """By the part of the name before the `@`."""
        found = self.user(f"{short}@{self.domain}")
        assert found is not None, short
        return found

    def group(self, name: str) -> Group:
        """By the name, which is for tests only."""
        return next(g for g in self.groups.values() if g.name == name)

    def changed(self, object_id: str) -> None:
        """An account was changed, deleted or restored."""
        self.changes.append(object_id)

    def snapshot(self) -> dict[str, Any]:
        """Everything it holds, to compare."""
        names = ("users", "deleted", "groups", "roles", "skus", "numbers", "sites", "files")
        return copy.deepcopy({name: getattr(self, name) for name in names})

    def recipient(self, identity: str) -> User | Group | None:
        """What Exchange finds by object id, user principal name, address or alias; never by display name."""
        wanted = identity.lower()
        for user in self.users.values():
            if wanted in (user.id, user.upn.lower(), user.mail.lower(), user.alias.lower()):
                return user
        return self.groups.get(identity)


def made_id(*words: str) -> str:
    """An id that is the same in every run of the tests."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(words)))


def make_tenant(name: str) -> TestTenant:
    """A tenant with the leaver `alex`, the manager `mia`, the delegate `dana`, `rob` who reports to alex, and a shared mailbox."""
    domain = f"{name}.test"
    tenant = TestTenant(made_id(name), domain, f"secret-of-{name}-{uuid.uuid4().hex}")
    tenant.skus = {E3: ("ENTERPRISEPACK", 10), VISIO: ("VISIOCLIENT", 3)}
    for short in ("alex", "mia", "dana", "rob", "info"):
        # The display names of two people are alike on purpose.
        shown = "Alex Baker" if short in ("alex", "rob") else short.capitalize() + " O'Neil"
        user = User(made_id(name, short), f"{short}@{domain}", shown, f"{short}@{domain}", mailbox=Mailbox())
        user.licences = {E3: {None}}
        tenant.users[user.id] = user
    tenant.named("info").mailbox = Mailbox(kind="SharedMailbox")
    tenant.named("info").licences = {}
    _fill_leaver(tenant, tenant.named("alex"), tenant.named("mia"))
    _fill_groups(tenant, tenant.named("alex").id, tenant.named("dana").id)
    _fill_others(tenant, tenant.named("alex"))
    return tenant


def _fill_leaver(tenant: TestTenant, alex: User, mia: User) -> None:
    alex.manager, tenant.named("rob").manager = mia.id, alex.id
    alex.immutable_id, alex.drive = "aW1tdXRhYmxl", f"drive-{alex.id}"
    alex.licences = {E3: {None}, VISIO: {made_id(tenant.domain, "Visio users")}}
    alex.methods = {
        made_id(alex.id, kind): (kind, phone)
        for kind, phone in (
            ("password", None), ("microsoftAuthenticator", None), ("phone", "mobile"), ("phone2", "alternateMobile"),
            ("fido2", None),
        )
    }  # fmt: skip
    alex.default_method = made_id(alex.id, "microsoftAuthenticator")
    alex.devices = {
        made_id(alex.id, "laptop"): ["LAPTOP-1", "company", "managed"],
        made_id(alex.id, "phone"): ["Alex's phone", "personal", "managed"],
    }
    box = alex.mailbox
    assert box is not None
    box.rules = {
        "rule1": "Move reports",
        "rule2": "Forward all",
        "junk": "Junk E-Mail Rule",
        "oof": "Microsoft.Exchange.OOF.1",
    }
    box.phones = {"alex\\phone1": "Ok", "alex\\phone2": "Ok"}
    box.signature = "<b>Alex</b>"
    box.meetings = {"meeting1": True, "series1": True, "invited": False}
    tenant.numbers = {"+15550100": alex.id, "+15550101": mia.id}
    tenant.roles = {f"assignment-{alex.id}-1": (alex.id, "User Administrator"), "other": (mia.id, "Global Reader")}
    tenant.sites = {
        f"/personal/{alex.id}": Site(users={alex.upn: 5}, admins={5}),
        "/sites/sales": Site(users={alex.upn: 9, mia.upn: 10}, groups={3: {9}, 4: {10}}, roles={9: {1073741827}}),
        "/sites/quiet": Site(users={mia.upn: 3}), "/sites/own": Site(users={alex.upn: 4}, admins={4}),
        "/sites/sales-team": Site(),
    }  # fmt: skip


def _fill_groups(tenant: TestTenant, alex: str, dana: str) -> None:
    unified = ("Unified",)
    for group in (
        Group("", "Sales team", unified, True, False, team=True, members={alex, dana}, owners={alex}),
        Group("", "Project", unified, True, False, members={alex, dana}, owners={alex, dana}),
        Group("", "Security", members={alex}, owners=set()),
        Group("", "List", (), True, False, members={alex, dana}),
        Group("", "Mail security", (), True, True, members={alex}),
        Group("", "Everybody", ("DynamicMembership",), rule="user.accountEnabled -eq true", members={alex, dana}),
        Group("", "From AD", synced=True, members={alex}),
        Group("", "Visio users", licences={VISIO}, members={alex}),
        Group("", "Blocked", members=set()),
    ):
        group.id = made_id(tenant.domain, group.name)
        tenant.groups[group.id] = group
    team = tenant.group("Sales team")
    team.channels = {
        "general": Channel("General"),
        "deals": Channel("Deals", "private", {alex, dana}, {alex}),
        "board": Channel("Board", "shared", {alex, dana}, {alex, dana}),
        "fresh": Channel("Fresh", "private", {alex}, {alex}),
    }  # fmt: skip


def _fill_others(tenant: TestTenant, alex: User) -> None:
    """The leaver's rights elsewhere."""
    info, dana = tenant.named("info").mailbox, tenant.named("dana").mailbox
    assert info is not None and dana is not None
    info.full_access, info.send_as, dana.on_behalf = {alex.id: True, tenant.named("mia").id: True}, {alex.id}, {alex.id}
    dana.calendar = {"p1": (alex.mail, "write"), "p2": (tenant.named("mia").mail, "read")}


def later(moment: datetime) -> datetime:
    """A moment after another one, and never before now."""
    return max(datetime.now(UTC), moment + timedelta(seconds=1))
