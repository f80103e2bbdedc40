"""Deleted accounts: finding them, and putting them back."""

from __future__ import annotations

from uuid import UUID

from agent.services.directory.names import escape_filter, guid_dn, guid_of
from agent.services.directory.port import Directory, Entry, Scope

#: The optional feature "Recycle Bin" (MS-ADTS 3.1.1.9.1).
_RECYCLE_BIN = "CN=Recycle Bin Feature,"
_ATTRIBUTES = (
    "objectGUID",
    "sAMAccountName",
    "lastKnownParent",
    "msDS-LastKnownRDN",
    "isRecycled",
    "isDeleted",
    "name",
)


def find_deleted(directory: Directory, asked: str) -> list[Entry]:
    """Deleted accounts of that GUID, mail address, UPN or sAMAccountName that stood below the client's base.

    Without the recycle bin only the GUID and the sAMAccountName outlive the deletion.
    """
    guid = guid_of(asked)
    value = escape_filter(asked)
    named = f"(|(mail={value})(userPrincipalName={value})(sAMAccountName={value}))"
    what = f"(objectGUID={escape_filter(guid.bytes_le)})" if guid else named
    condition = f"(&(isDeleted=TRUE)(objectClass=user){what})"
    found = directory.search(directory.naming_context, condition, _ATTRIBUTES, deleted=True, limit=10)
    base = directory.base.casefold()
    return [e for e in found if f",{e.text('lastKnownParent') or ''}".casefold().endswith(f",{base}")]


def is_deleted(directory: Directory, guid: UUID) -> bool:
    """Whether the object with that GUID is gone from where it stood."""
    return directory.read(guid_dn(guid), ("objectGUID",)) is None


def recycle_bin_enabled(directory: Directory) -> bool:
    """Whether deleted objects keep their attributes and memberships."""
    partitions = directory.search(
        directory.configuration_context, "(objectClass=crossRefContainer)", ("msDS-EnabledFeature",),
        scope=Scope.CHILDREN,
    )  # fmt: skip
    return any(f.startswith(_RECYCLE_BIN) for entry in partitions for f in entry.texts("msDS-EnabledFeature"))


def undelete(directory: Directory, entry: Entry, parent: str) -> None:
    """Put a deleted object below a parent, under the name that it had."""
    name = entry.text("msDS-LastKnownRDN") or (entry.text("name") or "").partition("\n")[0]
    directory.restore(entry, name, parent)
