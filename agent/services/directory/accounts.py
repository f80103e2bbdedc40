"""Finding exactly one account, and telling which accounts nobody should touch by accident."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from agent.errors import StepError
from agent.failure_types import ACCOUNT_NOT_FOUND, INTEGRATION_ERROR, PERMISSION_DENIED
from agent.services.directory.names import escape_filter, guid_dn, guid_of, relative_id, split_dn
from agent.services.directory.port import Change, Directory, Entry

Protection = Literal["privileged", "builtin", "computer"]
#: Attributes by which a person names an account.
NAMES = ("mail", "userPrincipalName", "sAMAccountName")
ATTRIBUTES = (
    *NAMES, "objectGUID", "objectSid", "objectClass", "displayName", "userAccountControl", "accountExpires", "pwdLastSet",
    "adminCount", "isCriticalSystemObject", "primaryGroupID", "manager", "description", "mailNickname",
    "msExchHideFromAddressLists",
)  # fmt: skip
#: userAccountControl (MS-ADTS 2.2.16).
DISABLED = 0x2
_TRUST_FLAGS = 0x800 | 0x1000 | 0x2000
#: Classes of accounts that are no person's; a directory may say the most specific class only.
_COMPUTERS = frozenset(
    {"computer", "msds-managedserviceaccount", "msds-groupmanagedserviceaccount", "msds-delegatedmanagedserviceaccount"}
)
#: Relative ids below this one are the domain's own: Administrator, Guest, krbtgt (MS-DTYP 2.4.2.4).
_FIRST_ORDINARY = 1000
_CANDIDATES = 10


@dataclass(frozen=True)
class Account:
    """An account as it was read. Every act on it names it by its GUID, which no rename and no move changes."""

    entry: Entry
    guid: UUID

    @property
    def dn(self) -> str:
        """Its distinguished name, when it was read."""
        return self.entry.dn

    @property
    def reference(self) -> str:
        """What an act names it by."""
        return guid_dn(self.guid)

    @property
    def control(self) -> int:
        """userAccountControl."""
        return self.entry.number("userAccountControl") or 0

    @property
    def disabled(self) -> bool:
        """Whether nobody can sign in with it."""
        return bool(self.control & DISABLED)

    @property
    def parent(self) -> str:
        """Where it stands."""
        return split_dn(self.dn)[1]

    @property
    def protections(self) -> dict[Protection, str]:
        """Why it should not be touched by accident, each with its reason."""
        found: dict[Protection, str] = {}
        classes = {c.lower() for c in self.entry.texts("objectClass")}
        if classes & _COMPUTERS or self.control & _TRUST_FLAGS:
            found["computer"] = "it is the account of a computer, a service or a trust, not of a person"
        if self.entry.number("adminCount") == 1:
            found["privileged"] = "it is or was an administrator (adminCount is 1)"
        sid = self.entry.raw("objectSid")
        if (sid is not None and relative_id(sid) < _FIRST_ORDINARY) or self.entry.flag("isCriticalSystemObject"):
            found["builtin"] = "it belongs to the domain itself"
        return found


def find(
    directory: Directory, asked: str, *, bound: UUID | None = None, missing: str = ACCOUNT_NOT_FOUND, what: str = "account"
) -> Account:  # fmt: skip
    """The one account of this client that a GUID, mail address, UPN or sAMAccountName names; `bound` counts before it.

    Raises StepError of the type `missing` when there is none, INTEGRATION_ERROR with the candidates' names when there
    are several: a guess could end the work of the wrong person.
    """
    guid = bound or guid_of(asked)
    found = _named(directory, asked) if guid is None else _with_guid(directory, guid)
    if len(found) == 1:
        return Account(found[0], found[0].guid)
    if not found:
        how = f" with the GUID {guid}" if guid else ""
        raise StepError(
            f"{directory.controller} has no {what} {asked!r}{how} below {directory.base}", type=missing,
            code="not_found", remediation="Check the name, and `base_dn` of the credential.",
        )  # fmt: skip
    names = "; ".join(e.dn for e in found[:_CANDIDATES])
    raise StepError(
        f"{asked!r} names several accounts: {names}", type=INTEGRATION_ERROR, code="ambiguous",
        remediation="Name the account by its objectGUID, UPN or sAMAccountName.",
    )  # fmt: skip


def reread(directory: Directory, account: Account) -> Account:
    """The account as it is now. Raises StepError when it is gone."""
    return find(directory, account.entry.text("sAMAccountName") or account.dn, bound=account.guid)


def _with_guid(directory: Directory, guid: UUID) -> list[Entry]:
    condition = f"(&(objectClass=user)(objectGUID={escape_filter(guid.bytes_le)}))"
    return directory.search(directory.base, condition, ATTRIBUTES, limit=2)


def _named(directory: Directory, asked: str) -> list[Entry]:
    value = escape_filter(asked)
    either = "".join(f"({name}={value})" for name in NAMES)
    found = directory.search(directory.base, f"(&(objectClass=user)(|{either}))", ATTRIBUTES, limit=_CANDIDATES + 1)
    # A directory may take letters with and without accents for the same; a person does not.
    return [e for e in found if any(_folded(asked) == _folded(e.text(n) or "") for n in NAMES)]


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def refuse_protected(account: Account, allowed: Collection[str], *, username: str) -> None:
    """Raises StepError for an account that must be allowed explicitly, and for the one that we are signed in with."""
    sam, upn = account.entry.text("sAMAccountName") or "", account.entry.text("userPrincipalName") or ""
    if username.casefold() in (upn.casefold(), account.dn.casefold(), sam.casefold()) or (
        "\\" in username and username.rpartition("\\")[2].casefold() == sam.casefold()
    ):
        raise StepError(
            f"{account.dn} is the account of the credential itself", type=PERMISSION_DENIED, code="own_account",
            remediation="Use a credential with an account of its own.",
        )  # fmt: skip
    refused = {kind: why for kind, why in account.protections.items() if kind not in allowed}
    if refused:
        raise StepError(
            f"{account.dn} is protected: {', and '.join(refused.values())}", type=PERMISSION_DENIED,
            code="protected_account",
            remediation=f"If it is really meant, set `allow` to {', '.join(refused)} in the step.",
        )  # fmt: skip


def disabling(account: Account) -> list[Change]:
    """The changes that disable an account; none when it is disabled."""
    if account.disabled:
        return []
    return [Change("replace", "userAccountControl", (str(account.control | DISABLED),))]
