"""What works in the mailbox: the out-of-office message, inbox rules, meetings, the signature."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

import nh3
from pydantic import Field, model_validator

from agent.content.user_inputs import VARIABLE, known_variables
from agent.errors import StepError
from agent.failure_types import INTEGRATION_ERROR
from agent.functions.base import Outcome
from agent.functions.microsoft365.base import (
    Account,
    UserFunction,
    UserParameters,
    Work,
    judged,
    not_confirmed,
    settled,
    still_there,
)
from agent.functions.microsoft365.mailboxes import (
    PersonName,
    mail,
    manager_of,
    needs_mailbox,
    no_mailbox,
    other_account,
)
from agent.model.base import utcnow
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.graph import Call


class OutOfOfficeParameters(UserParameters):
    """The message."""

    #: Rich text (HTML) or plain text; `%leaver%`, `%manager%`, `%contact_email%`, `%company%` ... are put in place.
    message: str = Field(min_length=1, max_length=20_000)
    #: What people outside get; empty: the same.
    external_message: str = Field("", max_length=20_000)
    audience: Literal["all", "contactsOnly", "none"] = "all"
    #: Account of who takes over, or `manager`, for `%contact%`.
    contact: PersonName | Literal[""] = ""
    start: date | None = None
    end: date | None = None

    @model_validator(mode="after")
    def _agrees(self) -> OutOfOfficeParameters:
        for text in (self.message, self.external_message):
            known_variables(text)
        if self.start and self.end and self.start > self.end:
            raise ValueError("the end is before the start")
        return self


class SetOutOfOffice(UserFunction[OutOfOfficeParameters]):
    """Answers everybody who writes to the leaver. What strangers get is cleaned HTML, with names put in as text."""

    name = "m365.set_out_of_office"
    summary = "Set the out-of-office message, with variables for leaver, manager, contact and company"
    Parameters = OutOfOfficeParameters
    repeatable = True
    impact = "Who writes to the leaver is not told whom to write to."

    def preview(self, parameters: OutOfOfficeParameters) -> str:
        """The call that would be made."""
        return f"PATCH /users/{parameters.user}/mailboxSettings automaticRepliesSetting: {self._text(parameters)[:200]}"

    def _text(self, parameters: OutOfOfficeParameters) -> str:
        return " ".join(nh3.clean(parameters.message, tags=set()).split())

    def change(self, work: Work[OutOfOfficeParameters]) -> Outcome:
        """Set it, and see that the mailbox has it."""
        parameters = work.parameters
        inside = self._filled(work, parameters.message)
        outside = self._filled(work, parameters.external_message) if parameters.external_message else inside
        setting: dict[str, Any] = {
            "status": "scheduled" if parameters.start or parameters.end else "alwaysEnabled",
            "externalAudience": parameters.audience, "internalReplyMessage": inside, "externalReplyMessage": outside,
        }  # fmt: skip
        if setting["status"] == "scheduled":
            start = parameters.start or utcnow().date()
            setting["scheduledStartDateTime"] = _moment(start)
            setting["scheduledEndDateTime"] = _moment(
                (parameters.end or start + timedelta(days=3650)) + timedelta(days=1)
            )
        try:
            work.tenant.graph.call(Call("PATCH", work.path("mailboxSettings"), {"automaticRepliesSetting": setting}))
        except ServiceRefused as error:
            raise needs_mailbox(error) from error
        after = settled(
            lambda: self._set(work), lambda found: _plain(inside) in _plain(found.get("internalReplyMessage"))
        )
        return Outcome.succeeded(
            outcome="changed", message=inside, start=(parameters.start or utcnow().date()).isoformat(),
            end=parameters.end and parameters.end.isoformat(), status=after.get("status"),
        )  # fmt: skip

    def done(self, work: Work[OutOfOfficeParameters]) -> bool:
        """Whether the mailbox has this message, and answers."""
        found = self._set(work)
        wanted = _plain(self._filled(work, work.parameters.message))
        return found.get("status") != "disabled" and wanted in _plain(found.get("internalReplyMessage"))

    def _set(self, work: Work[OutOfOfficeParameters]) -> Mapping[str, Any]:
        found = work.tenant.graph.call(work.get("mailboxSettings"))
        setting: Mapping[str, Any] = found.get("automaticRepliesSetting") or {}
        return setting

    def _filled(self, work: Work[OutOfOfficeParameters], text: str) -> str:
        people: dict[str, Account] = {"leaver": work.user}

        def value(match: re.Match[str]) -> str:
            name = match[1].lower()
            if name in ("company", "tenantname"):
                return html.escape(str((work.context.places["client"] or {})["name"]))
            who = name.removesuffix("_email")
            if who not in people:
                people[who] = manager_of(work) if who == "manager" else self._contact(work)
            return html.escape((people[who].mail or people[who].upn) if name.endswith("_email") else people[who].name)

        written = text if re.search(r"<[A-Za-z/]", text) else html.escape(text).replace("\n", "<br>")
        return nh3.clean(VARIABLE.sub(value, written))

    def _contact(self, work: Work[OutOfOfficeParameters]) -> Account:
        if not work.parameters.contact:
            raise StepError(
                "the message names a contact, and none is given", type=INTEGRATION_ERROR, code="contact_missing",
                remediation="Give the parameter `contact`, or take %contact% out of the message.",
            )  # fmt: skip
        return other_account(work, work.parameters.contact)


def _moment(day: date) -> dict[str, str]:
    return {"dateTime": datetime.combine(day, time(), UTC).strftime("%Y-%m-%dT%H:%M:%S"), "timeZone": "UTC"}


def _plain(text: Any) -> str:
    """The words of HTML: mailboxes keep it in a form of their own."""
    return " ".join(html.unescape(nh3.clean(re.sub(r"<br\s*/?>", " ", str(text or "")), tags=set())).split())


class RemoveInboxRules(UserFunction[UserParameters]):
    """Removes every rule, hidden ones too: one may forward mail in silence."""

    name = "m365.remove_inbox_rules"
    summary = "Remove all inbox rules, hidden ones too; not those for junk mail and out of office"
    Parameters = UserParameters
    destructive = True
    repeatable = True
    impact = "A rule of the leaver may still move or forward mail."

    def preview(self, parameters: UserParameters) -> str:
        """The calls that would be made."""
        return f"Get-InboxRule -Mailbox {parameters.user} -IncludeHidden; Remove-InboxRule for each"

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Remove each, go on after a failed one, and see that none is left."""
        try:
            rules = self._rules(work)
        except ServiceRefused as error:
            return no_mailbox(error)
        cmdlets = [
            mail(work, "Remove-InboxRule", Mailbox=work.user.id, Identity=_rule(r), Force=True, Confirm=False)
            for r in rules
        ]
        replies = work.tenant.mail.invoke_all(cmdlets)
        left = {_rule(r) for r in self._rules(work)} if rules else set()
        items = []
        for rule, reply in zip(rules, replies, strict=True):
            item: dict[str, Any] = {"id": _rule(rule), "name": rule.get("Name"), "outcome": "removed"}
            if _rule(rule) in left:
                item |= still_there(error=reply)
            items.append(item)
        return judged(items, "rules", removed=sum(i["outcome"] == "removed" for i in items))

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether none is left."""
        return not self._rules(work)

    def _rules(self, work: Work[UserParameters]) -> list[Mapping[str, Any]]:
        ask = mail(work, "Get-InboxRule", Mailbox=work.user.id, IncludeHidden=True)
        return [r for r in work.tenant.mail.invoke(ask).entries if not _is_of_exchange(str(r.get("Name")))]


def _rule(rule: Mapping[str, Any]) -> str:
    return str(rule.get("RuleIdentity") or rule["Identity"])


def _is_of_exchange(name: str) -> bool:
    return name == "Junk E-Mail Rule" or name.startswith("Microsoft.Exchange.OOF.")


class RemoveSignature(UserFunction[UserParameters]):
    """Takes the leaver's signature off, so that nobody who uses the mailbox signs as the leaver."""

    name = "m365.remove_signature"
    summary = "Remove the mail signature (Outlook on the web; not roaming signatures)"
    Parameters = UserParameters
    destructive = True
    repeatable = True
    impact = "Mail from the mailbox is still signed by the leaver."

    def preview(self, parameters: UserParameters) -> str:
        """The call that would be made."""
        return f"Set-MailboxMessageConfiguration {parameters.user} -AutoAddSignature false -SignatureHtml ''"

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Remove it, and ask."""
        values: dict[str, Any] = {
            "AutoAddSignature": False, "AutoAddSignatureOnReply": False, "SignatureHtml": "", "SignatureText": ""
        }  # fmt: skip
        try:
            work.tenant.mail.invoke(mail(work, "Set-MailboxMessageConfiguration", Identity=work.user.id, **values))
        except ServiceRefused as error:
            return no_mailbox(error)
        if not self.done(work):
            raise not_confirmed("Exchange accepted the change, and still shows a signature")
        return Outcome.succeeded(outcome="changed")

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether there is none."""
        ask = mail(work, "Get-MailboxMessageConfiguration", Identity=work.user.id)
        found = work.tenant.mail.invoke(ask).entries
        return not any(e.get("AutoAddSignature") or e.get("SignatureHtml") or e.get("SignatureText") for e in found)
