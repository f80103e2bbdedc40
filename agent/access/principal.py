"""Who asks, and what that person may do at which client.

Every page, every API route and every list asks a Principal; there is no second way to decide.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from agent.errors import Forbidden, NotFound


class Role(StrEnum):
    """What a person is, at all clients or at some. Each role may do what those before it may."""

    VIEWER = "viewer"
    TECHNICIAN = "technician"
    APPROVER = "approver"
    ADMINISTRATOR = "administrator"


class Permission(StrEnum):
    """What can be allowed. A token's scopes are a choice of these."""

    #: see places, fields, runs, tickets, reports and the audit trail
    SEE = "see"
    #: change places, fields and flags, plan and start runs, cancel and retry them, answer tickets and tasks
    OPERATE = "operate"
    #: approve what a guardrail holds (the second person's rule stays)
    APPROVE = "approve"
    #: credentials, scripts, packages; without a limit to clients also monitors, properties, users
    ADMINISTER = "administer"


#: The role that a permission takes at least.
LEAST_ROLE = {
    Permission.SEE: Role.VIEWER,
    Permission.OPERATE: Role.TECHNICIAN,
    Permission.APPROVE: Role.APPROVER,
    Permission.ADMINISTER: Role.ADMINISTRATOR,
}
_ORDER = list(Role)


@dataclass(frozen=True)
class Grant:
    """A role at one client, or at all of them (None)."""

    role: Role
    client_id: int | None = None

    def allows(self, permission: Permission) -> bool:
        """Whether the role suffices."""
        return _ORDER.index(self.role) >= _ORDER.index(LEAST_ROLE[permission])


@dataclass(frozen=True)
class Principal:
    """A signed-in person or a token. `name` is what the audit trail shows."""

    user_id: str
    name: str
    grants: tuple[Grant, ...]
    #: What a token is limited to; None: no token, or one without a limit.
    scopes: frozenset[Permission] | None = None

    def clients(self, permission: Permission = Permission.SEE) -> frozenset[int] | None:
        """Ids of the clients where it may do that; None: everywhere."""
        if self.scopes is not None and permission not in self.scopes:
            return frozenset()
        allowed = [g.client_id for g in self.grants if g.allows(permission)]
        return None if None in allowed else frozenset(c for c in allowed if c is not None)

    def can(self, permission: Permission, client_id: int | None = None) -> bool:
        """Whether it may do that at this client; None: for the whole server, which no grant at a client allows."""
        clients = self.clients(permission)
        return clients is None or (client_id is not None and client_id in clients)

    def can_somewhere(self, permission: Permission) -> bool:
        """Whether there is any client where it may do that."""
        clients = self.clients(permission)
        return clients is None or bool(clients)

    def require(self, permission: Permission, client_id: int | None = None, *, what: str = "this") -> None:
        """Raises NotFound when the client may not even be seen (its existence is not told), Forbidden otherwise."""
        if self.can(permission, client_id):
            return
        if client_id is not None and not self.can(Permission.SEE, client_id):
            raise NotFound(f"there is no {what}" if what != "this" else "there is nothing here")
        where = "the whole server" if client_id is None else "this client"
        raise Forbidden(f"this needs the role {LEAST_ROLE[permission]} at {where}: an administrator can give it")

    def require_all(self, permission: Permission, client_ids: Collection[int]) -> None:
        """As `require`, for each of several clients."""
        for client_id in client_ids:
            self.require(permission, client_id)


#: The command line and the worker: whoever can write the workspace may do all.
def local_principal(name: str) -> Principal:
    """The person at the command line."""
    return Principal(user_id=f"local:{name}", name=name, grants=(Grant(Role.ADMINISTRATOR),))
