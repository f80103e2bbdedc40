"""The groups of an account: those it is a member of itself, its primary group, and those it reaches through others."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from agent.services.directory.accounts import Account
from agent.services.directory.names import escape_filter, guid_dn, sibling_sid
from agent.services.directory.port import Change, Directory, Entry

_ATTRIBUTES = ("objectGUID", "sAMAccountName", "cn", "adminCount")
#: LDAP_MATCHING_RULE_IN_CHAIN (MS-ADTS 3.1.1.3.4.4.3).
_IN_CHAIN = "1.2.840.113556.1.4.1941"


@dataclass(frozen=True)
class Group:
    """A group. `protected`: it gives or gave administrators' rights. `inside`: it stands where the client's things do."""

    guid: UUID
    dn: str
    name: str
    protected: bool
    inside: bool = True

    @property
    def reference(self) -> str:
        """What an act names it by."""
        return guid_dn(self.guid)


def memberships(directory: Directory, account: Account) -> list[Group]:
    """Groups of this domain that have the account as a member themselves, by name. Asked of the groups, so that it is
    complete however many there are. Groups of other domains of the forest are not seen.
    """
    return _groups(directory, f"(member={escape_filter(account.dn)})")


def nested(directory: Directory, account: Account) -> list[Group]:
    """Groups that the account belongs to through another group."""
    direct = {group.guid for group in memberships(directory, account)}
    found = _groups(directory, f"(member:{_IN_CHAIN}:={escape_filter(account.dn)})")
    return [group for group in found if group.guid not in direct]


def primary(directory: Directory, account: Account) -> Group | None:
    """The primary group, which an account cannot leave; None when it cannot be read."""
    sid, relative_id = account.entry.raw("objectSid"), account.entry.number("primaryGroupID")
    if sid is None or relative_id is None:
        return None
    condition = f"(&(objectClass=group)(objectSid={escape_filter(sibling_sid(sid, relative_id))}))"
    found = directory.search(directory.naming_context, condition, _ATTRIBUTES, limit=1)
    return _group(found[0], True) if found else None


def remove_member(directory: Directory, group: Group, account: Account) -> None:
    """Take the account out of a group."""
    directory.modify(group.reference, [Change("delete", "member", (account.dn,))])


def _groups(directory: Directory, condition: str) -> list[Group]:
    where = f"(&(objectClass=group){condition})"
    found = directory.search(directory.naming_context, where, _ATTRIBUTES)
    inside = found
    if directory.base != directory.naming_context:
        inside = directory.search(directory.base, where, ("objectGUID",))
    own = {entry.guid for entry in inside}
    return sorted((_group(e, e.guid in own) for e in found), key=lambda g: (g.name.casefold(), g.dn))


def _group(entry: Entry, inside: bool) -> Group:
    name = entry.text("cn") or entry.text("sAMAccountName") or entry.dn
    return Group(entry.guid, entry.dn, name, entry.number("adminCount") == 1, inside)
