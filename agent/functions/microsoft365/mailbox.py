"""The mailbox itself: conversion to a shared one, address lists, forwarding."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import Field

from agent.errors import AnswerLost, StepError
from agent.failure_types import INTEGRATION_ERROR, MAILBOX_CONVERSION_FAILED
from agent.functions.base import Finding, Outcome, PreflightContext
from agent.functions.microsoft365.base import UserFunction, UserParameters, Work, not_confirmed
from agent.functions.microsoft365.mailboxes import (
    GIGABYTE,
    SHARED,
    WARN_BYTES,
    PersonName,
    mail,
    mailbox,
    mailbox_findings,
    needs_mailbox,
    no_mailbox,
    other_account,
    size_of,
)
from agent.model.base import utcnow
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.exchange import answered

P = TypeVar("P", bound=UserParameters)


class MailboxFunction(UserFunction[P]):
    """Sets properties of the mailbox and asks for them back."""

    repeatable = True

    @abstractmethod
    def wanted(self, work: Work[P]) -> Mapping[str, Any]:
        """The properties to set."""

    def set_and_ask(self, work: Work[P], *select: str, **result: Any) -> Outcome:
        """Set them where they differ, and see that they are as wanted. Raises StepError when they are not."""
        wanted = self.wanted(work)
        before = mailbox(work, *select)
        shown = {"before": {name: before.get(name) for name in select}, **result}
        if _has(before, wanted):
            return Outcome.succeeded(outcome="already", after=shown["before"], **shown)
        work.tenant.mail.invoke(mail(work, "Set-Mailbox", Identity=work.user.id, **wanted))
        after = mailbox(work, *select)
        if not _has(after, wanted):
            raise not_confirmed("Exchange accepted the change, and does not show it")
        return Outcome.succeeded(outcome="changed", after={name: after.get(name) for name in select}, **shown)


def _has(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(_same(found.get(name), value) for name, value in wanted.items())


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, bool) or wanted is None:
        return (found or None) is None if wanted is None else found is wanted
    return str(found or "").lower() == str(wanted).lower()


class ConvertToShared(UserFunction[UserParameters]):
    """Makes the mailbox a shared one. Exchange takes its time; the step is done when the mailbox is seen as shared."""

    name = "m365.convert_to_shared"
    summary = "Convert the mailbox to a shared one and wait until Exchange shows it; give the step `retries`"
    Parameters = UserParameters
    repeatable = True
    failure_type = MAILBOX_CONVERSION_FAILED
    impact = "The mailbox is still a user mailbox: it goes when the licence goes."

    def preview(self, parameters: UserParameters) -> str:
        """The calls that would be made."""
        return f"Set-Mailbox {parameters.user} -Type Shared; Get-Mailbox until RecipientTypeDetails is {SHARED}"

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Convert, unless it is shared. Raises StepError (conversion_pending) while Exchange is at it."""
        select = ("RecipientTypeDetails", "PrimarySmtpAddress", "DisplayName")
        asked = work.tenant.mail.invoke_all(
            [
                mail(work, "Get-Mailbox", Identity=work.user.id, select=select),
                mail(work, "Get-MailboxStatistics", Identity=work.user.id, select=("TotalItemSize",)),
            ]
        )
        try:
            found = answered(asked[0]).entries
        except ServiceRefused as error:
            raise needs_mailbox(error) from error
        before = found[0].get("RecipientTypeDetails") if found else None
        shown = self._shown(found[0] if found else {}, answered(asked[1]).entries)
        if before == SHARED:
            return Outcome.succeeded(outcome="already", before=before, after=SHARED, **shown)
        try:
            work.tenant.mail.invoke(mail(work, "Set-Mailbox", Identity=work.user.id, Type="Shared"))
        except AnswerLost:
            if not self.done(work):
                raise
        if not self.done(work):
            raise StepError(
                "Exchange is still converting the mailbox", type=MAILBOX_CONVERSION_FAILED, code="conversion_pending",
                remediation="Give the step `retries`, or run it again after some minutes.",
            )  # fmt: skip
        return Outcome.succeeded(outcome="changed", before=before, after=SHARED, **shown)

    def preflight(self, context: PreflightContext, parameters: UserParameters) -> list[Finding]:
        """The account, and what its mailbox needs a licence for."""
        return [*super().preflight(context, parameters), *mailbox_findings(context, parameters.user)]

    def _shown(self, found: Mapping[str, Any], statistics: Any) -> dict[str, Any]:
        size = size_of(statistics[0]) if statistics else None
        shown: dict[str, Any] = {
            "shared_mailbox_email": found.get("PrimarySmtpAddress"), "shared_mailbox_name": found.get("DisplayName"),
            "mailbox_size_gb": None if size is None else round(size / GIGABYTE, 2),
        }  # fmt: skip
        if size is not None and size >= WARN_BYTES:
            shown["warning"] = "The mailbox holds 49 GB or more; a shared mailbox without a licence may hold 50 GB."
        return shown

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether Exchange shows it as shared."""
        try:
            return mailbox(work, "RecipientTypeDetails").get("RecipientTypeDetails") == SHARED
        except ServiceRefused as error:
            raise needs_mailbox(error) from error


class HideFromAddressLists(MailboxFunction[UserParameters]):
    """Takes the leaver out of the global address list."""

    name = "m365.hide_from_address_lists"
    summary = "Hide the mailbox from the address lists"
    Parameters = UserParameters
    impact = "The leaver is still found in the address book."

    def preview(self, parameters: UserParameters) -> str:
        """The call that would be made."""
        return f"Set-Mailbox {parameters.user} -HiddenFromAddressListsEnabled true"

    def wanted(self, work: Work[UserParameters]) -> Mapping[str, Any]:
        """Hidden."""
        return {"HiddenFromAddressListsEnabled": True}

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Hide, and ask. A synchronised account is hidden by msExchHideFromAddressLists in the local directory."""
        if work.user.synced:
            raise StepError(
                "the account is synchronised: it is hidden in the local Active Directory", type=INTEGRATION_ERROR,
                code="OnPremisesMastered", remediation="Set msExchHideFromAddressLists there.",
            )  # fmt: skip
        try:
            return self.set_and_ask(work, "HiddenFromAddressListsEnabled")
        except ServiceRefused as error:
            return no_mailbox(error)

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether it is hidden."""
        return _has(mailbox(work, "HiddenFromAddressListsEnabled"), self.wanted(work))


class RetentionPolicyParameters(UserParameters):
    """Which policy."""

    #: Name of a retention policy of Exchange, as the client has it.
    policy: str = Field(min_length=1, max_length=64)


class SetRetentionPolicy(MailboxFunction[RetentionPolicyParameters]):
    """Puts the mailbox under a retention policy: it says what is archived and what is deleted, and when."""

    name = "m365.set_retention_policy"
    summary = "Put the mailbox under a retention policy of Exchange"
    Parameters = RetentionPolicyParameters
    impact = "The mailbox is kept, archived and deleted by the policy that it had before."

    def preview(self, parameters: RetentionPolicyParameters) -> str:
        """The call that would be made."""
        return f"Set-Mailbox {parameters.user} -RetentionPolicy {parameters.policy!r}"

    def wanted(self, work: Work[RetentionPolicyParameters]) -> Mapping[str, Any]:
        """The policy by its name, which is unique in an organisation."""
        return {"RetentionPolicy": work.parameters.policy}

    def change(self, work: Work[RetentionPolicyParameters]) -> Outcome:
        """Set it. Raises StepError where there is no mailbox, or no policy of that name."""
        try:
            return self.set_and_ask(work, "RetentionPolicy")
        except ServiceRefused as error:
            raise needs_mailbox(error) from error

    def done(self, work: Work[RetentionPolicyParameters]) -> bool:
        """Whether the mailbox has it."""
        return _has(mailbox(work, "RetentionPolicy"), self.wanted(work))


_FORWARDING = ("ForwardingAddress", "ForwardingSmtpAddress", "DeliverToMailboxAndForward")


class ForwardingParameters(UserParameters):
    """Where to, and for how long."""

    #: Account that gets the mail, or `manager`.
    forward_to: PersonName
    keep_copy: bool = True
    #: Days until a monitor ends it; 0: it does not end by itself.
    expires_after_days: int = Field(90, ge=0, le=3650)


class SetForwarding(UserFunction[ForwardingParameters]):
    """Sends the leaver's mail on to somebody of the same tenant."""

    name = "m365.set_forwarding"
    summary = "Forward the mailbox to an account of the tenant, with or without a copy; the result has the expiry date"
    Parameters = ForwardingParameters
    repeatable = True
    impact = "Mail to the leaver reaches nobody else."

    def preview(self, parameters: ForwardingParameters) -> str:
        """The call that would be made."""
        return (
            f"Set-Mailbox {parameters.user} -ForwardingAddress {parameters.forward_to} -ForwardingSmtpAddress $null "
            f"-DeliverToMailboxAndForward {str(parameters.keep_copy).lower()}"
        )

    def change(self, work: Work[ForwardingParameters]) -> Outcome:
        """Set it, and see that Exchange names that account as the target."""
        target = other_account(work, work.parameters.forward_to)
        try:
            before = mailbox(work, *_FORWARDING)
        except ServiceRefused as error:
            raise needs_mailbox(error) from error
        work.tenant.mail.invoke(
            mail(
                work, "Set-Mailbox", Identity=work.user.id, ForwardingAddress=target.id, ForwardingSmtpAddress=None,
                DeliverToMailboxAndForward=work.parameters.keep_copy,
            )
        )  # fmt: skip
        after = mailbox(work, *_FORWARDING)
        if not self._forwards(work, after) or not _is_target(work, after, target.id):
            raise not_confirmed("Exchange accepted the forwarding, and does not show it")
        days = work.parameters.expires_after_days
        return Outcome.succeeded(
            outcome="changed", forward_to=target.mail or target.upn, forward_to_id=target.id,
            keep_copy=work.parameters.keep_copy,
            expires=(utcnow() + timedelta(days=days)).date().isoformat() if days else None,
            before={name: before.get(name) for name in _FORWARDING},
        )  # fmt: skip

    def done(self, work: Work[ForwardingParameters]) -> bool:
        """Whether mail goes to that account."""
        target = other_account(work, work.parameters.forward_to)
        found = mailbox(work, *_FORWARDING)
        return self._forwards(work, found) and _is_target(work, found, target.id)

    def _forwards(self, work: Work[ForwardingParameters], found: Mapping[str, Any]) -> bool:
        wanted = {"ForwardingSmtpAddress": None, "DeliverToMailboxAndForward": work.parameters.keep_copy}
        return bool(found.get("ForwardingAddress")) and _has(found, wanted)


def _is_target(work: Work[Any], found: Mapping[str, Any], target_id: str) -> bool:
    """Whether the forwarding leads to an account. Exchange shows its own name for it, so it is asked for the id."""
    shown = str(found["ForwardingAddress"])
    if shown.lower() == target_id.lower():
        return True
    ask = mail(work, "Get-Recipient", Identity=shown, select=("ExternalDirectoryObjectId",))
    entries = work.tenant.mail.invoke(ask).entries
    return len(entries) == 1 and str(entries[0].get("ExternalDirectoryObjectId")).lower() == target_id.lower()


class DisableForwarding(MailboxFunction[UserParameters]):
    """Ends every forwarding of the mailbox."""

    name = "m365.disable_forwarding"
    summary = "End the forwarding of the mailbox"
    Parameters = UserParameters
    impact = "Mail to the leaver is still sent on."

    def preview(self, parameters: UserParameters) -> str:
        """The call that would be made."""
        return f"Set-Mailbox {parameters.user} -ForwardingAddress $null -ForwardingSmtpAddress $null"

    def wanted(self, work: Work[UserParameters]) -> Mapping[str, Any]:
        """No target."""
        return {"ForwardingAddress": None, "ForwardingSmtpAddress": None, "DeliverToMailboxAndForward": False}

    def change(self, work: Work[UserParameters]) -> Outcome:
        """End it, and ask."""
        try:
            return self.set_and_ask(work, *_FORWARDING)
        except ServiceRefused as error:
            return no_mailbox(error)

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether there is no target."""
        return _has(mailbox(work, *_FORWARDING), self.wanted(work))
