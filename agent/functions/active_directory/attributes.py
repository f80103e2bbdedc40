"""Functions that change attributes of the account: disable, expire, describe, hide, and take away the manager."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pydantic import Field, field_validator

from agent.functions.active_directory.base import AccountParameters, AttributeFunction, Work, timestamp
from agent.functions.base import Outcome
from agent.model.base import utcnow
from agent.services.directory.accounts import Account, disabling
from agent.services.directory.names import escape_filter
from agent.services.directory.port import Change

#: accountExpires counts 100 nanoseconds from here (MS-ADTS 2.3.1); these two values mean that it never does.
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
NEVER = (0, 0x7FFFFFFFFFFFFFFF)
HIDDEN = "msExchHideFromAddressLists"
#: Longest description (rangeUpper of the attribute).
DESCRIPTION_CHARACTERS = 1024


class DisableAccount(AttributeFunction[AccountParameters]):
    """Disables the account."""

    name = "ad.disable_account"
    summary = "Disable the Active Directory account"
    Parameters = AccountParameters
    impact = "The account can still sign in."
    critical = True
    rights = "Write userAccountControl"
    doing = "disable the account"

    def preview(self, parameters: AccountParameters) -> str:
        """What would be done."""
        return f"disable the Active Directory account {parameters.account!r}: set ACCOUNTDISABLE in userAccountControl"

    def changes(self, work: Work, account: Account, parameters: AccountParameters) -> Sequence[Change]:
        """The flag, while it is not set."""
        return disabling(account)

    def shown(self, work: Work, before: Account, after: Account, parameters: AccountParameters) -> dict[str, Any]:
        """When it was disabled is known only if that was done here."""
        return {"account_disabled": True, "disabled_timestamp": None if before.disabled else timestamp()}


class ExpiryParameters(AccountParameters):
    """When the account ends."""

    #: From the first moment of this day (UTC) nobody can sign in.
    expires_on: date
    #: So many days later.
    after_days: int = Field(0, ge=0, le=36500)

    @property
    def day(self) -> date:
        """The day from which the account cannot be used."""
        return self.expires_on + timedelta(days=self.after_days)


class SetExpiry(AttributeFunction[ExpiryParameters]):
    """Sets the day from which the account can no longer be used."""

    name = "ad.set_expiry"
    summary = "Let the Active Directory account expire on a day (at its first moment, UTC)"
    Parameters = ExpiryParameters
    impact = "The account does not expire by itself."
    rights = "Write accountExpires"
    doing = "set the expiry"

    def preview(self, parameters: ExpiryParameters) -> str:
        """What would be done."""
        return f"let the Active Directory account {parameters.account!r} expire on {parameters.day}: accountExpires"

    def changes(self, work: Work, account: Account, parameters: ExpiryParameters) -> Sequence[Change]:
        """The date, unless it is set to just that."""
        wanted = expiry_value(parameters.day)
        if account.entry.number("accountExpires") == wanted:
            return []
        return [Change("replace", "accountExpires", (str(wanted),))]

    def shown(self, work: Work, before: Account, after: Account, parameters: ExpiryParameters) -> dict[str, Any]:
        """The day, as the exit report writes it."""
        return {"account_expiration_set": parameters.day.isoformat()}


def expiry_value(day: date) -> int:
    """accountExpires for the first moment of a day, UTC."""
    return (datetime(day.year, day.month, day.day, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1) * 10


class DescriptionParameters(AccountParameters):
    """What the description says."""

    text: str = Field("Offboarded", min_length=1, max_length=200)
    #: The day (UTC) is written after the text.
    dated: bool = True
    #: What stood there before is kept behind it.
    keep: bool = True

    @field_validator("text")
    @classmethod
    def _line(cls, value: str) -> str:
        if value != value.strip() or not value.isprintable():
            raise ValueError("the text is one line without blanks around it")
        return value


class SetDescription(AttributeFunction[DescriptionParameters]):
    """Stamps the description."""

    name = "ad.set_description"
    summary = "Stamp the description of the Active Directory account, in front of what stands there"
    Parameters = DescriptionParameters
    impact = "People who look at the account are not told that its owner has left."
    rights = "Write description"
    doing = "set the description"

    def preview(self, parameters: DescriptionParameters) -> str:
        """What would be done."""
        when = " and the day" if parameters.dated else ""
        rest = "in front of the description" if parameters.keep else "as the description"
        return f"write {parameters.text!r}{when} {rest} of the Active Directory account {parameters.account!r}"

    def changes(self, work: Work, account: Account, parameters: DescriptionParameters) -> Sequence[Change]:
        """The stamp, unless the description begins with one."""
        old = account.entry.text("description") or ""
        day = r" \d{4}-\d\d-\d\d" if parameters.dated else ""
        if re.match(re.escape(parameters.text) + day + r"($| \| )", old) and (parameters.keep or "|" not in old):
            return []
        stamp = parameters.text + (f" {utcnow():%Y-%m-%d}" if parameters.dated else "")
        new = f"{stamp} | {old}" if parameters.keep and old else stamp
        return [Change("replace", "description", (new[:DESCRIPTION_CHARACTERS].strip(),))]

    def shown(self, work: Work, before: Account, after: Account, parameters: DescriptionParameters) -> dict[str, Any]:
        """The description as it stands now."""
        return {"description": after.entry.text("description")}


class HideFromAddressLists(AttributeFunction[AccountParameters]):
    """Hides the person from Exchange's address lists, where the directory knows Exchange."""

    name = "ad.hide_from_address_lists"
    summary = "Hide the person from the address lists (msExchHideFromAddressLists), where the schema has Exchange"
    Parameters = AccountParameters
    impact = "Colleagues still find the person in the address lists."
    rights = "Write msExchHideFromAddressLists"
    doing = "hide the account"

    def preview(self, parameters: AccountParameters) -> str:
        """What would be done."""
        return f"hide {parameters.account!r} from the address lists: set {HIDDEN} to TRUE, if the schema has it"

    def act(self, work: Work, parameters: AccountParameters) -> Outcome:
        """Skipped where there is no such attribute: Exchange was never here, or the mailbox is only in the cloud."""
        if not _knows(work, HIDDEN):
            return Outcome.skipped(f"the schema has no {HIDDEN}: hide the mailbox in Microsoft 365")
        return super().act(work, parameters)

    def is_done(self, work: Work, parameters: AccountParameters) -> bool | None:
        """Hidden, or there is nothing to hide from."""
        return work.account.entry.flag(HIDDEN) or not _knows(work, HIDDEN)

    def changes(self, work: Work, account: Account, parameters: AccountParameters) -> Sequence[Change]:
        """The flag, while it is not set."""
        return [] if account.entry.flag(HIDDEN) else [Change("replace", HIDDEN, ("TRUE",))]

    def shown(self, work: Work, before: Account, after: Account, parameters: AccountParameters) -> dict[str, Any]:
        """Without an alias (mailNickname) the synchronisation to Microsoft 365 does not carry the flag."""
        return {"hidden_from_address_lists": True, "synchronised": after.entry.text("mailNickname") is not None}


def _knows(work: Work, attribute: str) -> bool:
    """Whether the schema has an attribute."""
    condition = f"(&(objectClass=attributeSchema)(lDAPDisplayName={escape_filter(attribute)}))"
    return bool(work.directory.search(work.directory.schema_context, condition, ("cn",), limit=1))
