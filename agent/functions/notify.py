"""`notify.manager`, `notify.it`, ...: tell people what an offboarding did (seed 002, phase 7). Each once per run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import field_validator
from sqlmodel import Session

from agent.failure_types import MANAGER_NOT_FOUND
from agent.functions import people_messages
from agent.functions.base import Context, Function, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.functions.failures import failure
from agent.inventory.effective import effective_values
from agent.services import mail
from agent.services.smtp import addresses


@dataclass(frozen=True)
class Kind:
    """A kind of recipient: its function, its place in the exit report, and the fields that it has there."""

    name: str
    section: str
    fields: tuple[str, ...]
    #: What else the report says of the message, read from the values that it was made of.
    said: Callable[[Mapping[str, Any]], dict[str, Any]]
    #: Another function that tells them, which counts where this one did not.
    also: str | None = None

    @property
    def function(self) -> str:
        """Name of the function that tells them."""
        return f"notify.{self.name}"

    @property
    def field(self) -> str:
        """The extra field that holds their addresses."""
        return f"{self.name}_notification_recipients"


def _manager(values: Mapping[str, Any]) -> dict[str, Any]:
    access, kept = values["access"], values["retention"]
    parts = {
        "mailbox_access_instructions": access["delegates"] or access["forward_to"],
        "onedrive_access_instructions": access["onedrive_to"],
        "data_retention_policy": kept["days"] is not None or kept["legal_hold"],
        "asset_return_status": values["equipment"],
    }
    return {"includes": [name for name, there in parts.items() if there]}


def _it(values: Mapping[str, Any]) -> dict[str, Any]:
    tasks = [f"{f['label']}: {f['remediation']}" for f in values["failed"]]
    tasks += [t["title"] for t in values["tasks"]]
    tasks += [f"Collect: {e['kind']} {e['asset_tag'] or e['name']}".strip() for e in values["equipment"]]
    return {"checklist_attached": bool(tasks), "pending_tasks": tasks}


def _security(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"risk_level": values["risk_level"], "special_monitoring_required": values["privileged"]}


#: In the order of the report. The last one is no part of the seed's result, but of its phase 7.
KINDS = (
    Kind("manager", "manager_notification", ("recipient", "subject", "includes"), _manager),
    Kind("it", "it_team_notification", ("recipients", "checklist_attached", "pending_tasks"), _it),
    Kind("security", "security_team_notification", ("recipients", "risk_level", "special_monitoring_required"), _security,
         also="offboarding.tell_security"),
    # Mail carries no files here: the client's exit document stands below the message.
    Kind("hr", "hr_notification", ("recipient", "exit_documentation_attached"),
         lambda values: {"exit_documentation_attached": bool(values["exit_document"])}),
    Kind("employee", "employee_notification", (), lambda values: {}),
    Kind("payroll", "payroll_notification", ("recipients",), lambda values: {}),
)  # fmt: skip


class NotifyParameters(BaseParameters):
    """Who gets it: addresses divided by commas; empty: the person, or the client's field, that the kind stands for."""

    to: str = ""

    @field_validator("to")
    @classmethod
    def _addresses(cls, value: str) -> str:
        addresses(value)
        return value


class Notify(Function[NotifyParameters]):
    """Stores one mail per run and kind of recipient, which the worker then sends."""

    Parameters = NotifyParameters
    repeatable = True
    kind: ClassVar[Kind]

    def preview(self, parameters: NotifyParameters) -> str:
        """What would be done."""
        return f"send the message {self.kind.name}.j2 to {parameters.to or self._usual()}"

    def do(self, context: Context, parameters: NotifyParameters) -> Outcome:
        """Store it once. Skipped with the reason where nobody is configured or there is nothing to tell."""
        installation = context.installation
        slug = str((context.places.get("client") or {}).get("slug", ""))
        with installation.database.session() as session:
            values = people_messages.values(context, session)
            recipient = parameters.to or self.recipient(session, context, values)
            reason = (
                self.nothing_to_tell(values) if recipient else f"no recipient: `to` is empty, and so is {self._usual()}"
            )
            if reason is not None:
                return Outcome.skipped(reason)
            filled = {**values, **self.kind.said(values)}
            subject, body = people_messages.render(installation.settings.workspace, slug, self.kind.name, filled)
            body += self.further(installation.settings.workspace, slug, filled)
            stored = mail.queue_mail(
                session, key=f"{self.name}:run:{context.root_id}", client_id=context.client_id, run_id=context.root_id,
                recipient=recipient, subject=subject, body=body,
            )  # fmt: skip
        return Outcome.succeeded(mail=stored.id, **self.kind.said(values))

    def recipient(self, session: Session, context: Context, values: Mapping[str, Any]) -> str:
        """The addresses of the kind's extra field, nearest first; empty: none."""
        return effective_values(session, context.places).get(self.kind.field, "")

    def further(self, workspace: Path, slug: str, values: Mapping[str, Any]) -> str:
        """What stands below the message."""
        return ""

    def nothing_to_tell(self, values: Mapping[str, Any]) -> str | None:
        """Why there is nothing to tell these people, or None."""
        return None

    def _usual(self) -> str:
        return f"the field {self.kind.field}"


class NotifyManager(Notify):
    """Tells the manager what was handed over and how to get at it."""

    name = "notify.manager"
    summary = "Send the leaver's manager a summary with what was handed over"
    kind = KINDS[0]

    def recipient(self, session: Session, context: Context, values: Mapping[str, Any]) -> str:
        """The manager. Raises StepError (MANAGER_NOT_FOUND)."""
        address = str(values["person"]["manager_email"] or "")
        try:
            found = addresses(address)
        except ValueError:
            found = []
        if not found:
            raise failure(
                MANAGER_NOT_FOUND,
                f"the leaver's manager has no mail address: {address!r}",
                impact="The manager was not told.",
            )
        return address

    def _usual(self) -> str:
        return "the leaver's manager"


class NotifyIt(Notify):
    """Tells the IT team what is left to do."""

    name = "notify.it"
    summary = "Send the IT team the returns and what is left to do by hand"
    kind = KINDS[1]

    def recipient(self, session: Session, context: Context, values: Mapping[str, Any]) -> str:
        """Their field, else the default address of offboardings."""
        from agent.services import properties

        return super().recipient(session, context, values) or context.system_property(properties.EMAIL_ADDRESS) or ""


class NotifySecurity(Notify):
    """Tells the security team, with the risk level."""

    name = "notify.security"
    summary = "Tell the security team of an offboarding, with its risk level"
    kind = KINDS[2]


class NotifyHr(Notify):
    """Tells HR that it is done."""

    name = "notify.hr"
    summary = "Tell HR what became of an offboarding"
    kind = KINDS[3]

    def further(self, workspace: Path, slug: str, values: Mapping[str, Any]) -> str:
        """The document that the input exit_document_template names, filled in. Raises StepError."""
        name = str(values["exit_document"])
        if not name:
            return ""
        title, text = people_messages.render(workspace, slug, name, values)
        return f"\n{title}\n\n{text}"


class NotifyEmployee(Notify):
    """Tells the leaver, at a private address: what is sent to the work address may reach whoever takes over."""

    name = "notify.employee"
    summary = "Tell the leaver what to give back; `to` is a private address"
    kind = KINDS[4]

    def recipient(self, session: Session, context: Context, values: Mapping[str, Any]) -> str:
        """Nobody knows a private address but the caller."""
        return ""

    def _usual(self) -> str:
        return "what could stand for it: the leaver's own account is being closed, so it takes a private address"


class NotifyPayroll(Notify):
    """Tells the payroll what did not come back."""

    name = "notify.payroll"
    summary = "Tell the payroll of equipment that is missing or damaged, with its value"
    kind = KINDS[5]

    def nothing_to_tell(self, values: Mapping[str, Any]) -> str | None:
        """Nothing, while everything came back or may still come."""
        return None if values["deductions"] else "nothing is missing or damaged"
