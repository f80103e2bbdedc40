"""The meetings that the leaver organises: cancelled, or given to somebody else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import Field

from agent.failure_types import DATA_TRANSFER_FAILED
from agent.functions.base import Outcome
from agent.functions.microsoft365.base import UserFunction, UserParameters, Work, judged, settled, still_there
from agent.functions.microsoft365.mailboxes import PersonName, mail, no_mailbox, other_account
from agent.model.base import utcnow
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.graph import Call


class MeetingParameters(UserParameters):
    """How far ahead."""

    #: Days from today; Exchange allows 1825.
    days_ahead: int = Field(730, ge=1, le=1825)


class CancelMeetings(UserFunction[MeetingParameters]):
    """Cancels the meetings that the leaver organises, so that rooms and people are free."""

    name = "m365.cancel_meetings"
    summary = "Cancel the meetings that an account organises, so many days ahead"
    Parameters = MeetingParameters
    destructive = True
    repeatable = True
    impact = "Meetings of the leaver keep rooms and people booked."

    def preview(self, parameters: MeetingParameters) -> str:
        """The call that would be made."""
        return (
            f"Remove-CalendarEvents {parameters.user} -CancelOrganizedMeetings "
            f"-QueryWindowInDays {parameters.days_ahead}"
        )

    def change(self, work: Work[MeetingParameters]) -> Outcome:
        """Cancel, and see in the calendar that none is left."""
        try:
            before = organised(work)
        except ServiceRefused as error:
            return no_mailbox(error)
        if before:
            work.tenant.mail.invoke(
                mail(
                    work, "Remove-CalendarEvents", Identity=work.user.id, CancelOrganizedMeetings=True,
                    QueryWindowInDays=work.parameters.days_ahead, Confirm=False,
                )
            )  # fmt: skip
            settled(lambda: organised(work), lambda left: not left)
        return Outcome.succeeded(cancelled=len(before), days_ahead=work.parameters.days_ahead)

    def done(self, work: Work[MeetingParameters]) -> bool:
        """Whether none is left."""
        return not organised(work)


class TransferParameters(MeetingParameters):
    """How far ahead, and to whom."""

    new_organizer: PersonName


class TransferMeetings(UserFunction[TransferParameters]):
    """Gives the leaver's meetings to another organiser. Exchange does so for user mailboxes: before the conversion."""

    name = "m365.transfer_meetings"
    summary = "Make somebody else the organiser of the meetings of an account, before its mailbox is converted"
    Parameters = TransferParameters
    repeatable = True
    failure_type = DATA_TRANSFER_FAILED
    impact = "Meetings of the leaver have nobody who can change them."

    def preview(self, parameters: TransferParameters) -> str:
        """The calls that would be made."""
        return (
            f"Invoke-ChangeMeetingOrganizer {parameters.user} -NewOrganizer {parameters.new_organizer} for each meeting "
            f"of the next {parameters.days_ahead} days"
        )

    def change(self, work: Work[TransferParameters]) -> Outcome:
        """Transfer each, and see in the calendar that the leaver organises none."""
        new = other_account(work, work.parameters.new_organizer)
        try:
            meetings = organised(work)
        except ServiceRefused as error:
            return no_mailbox(error)
        cmdlets = [
            mail(
                work, "Invoke-ChangeMeetingOrganizer", Identity=work.user.id, EventId=meeting, NewOrganizer=new.mail or new.upn,
                Confirm=False,
            )
            for meeting in meetings
        ]  # fmt: skip
        replies = work.tenant.mail.invoke_all(cmdlets)
        left = set(organised(work)) if meetings else set()
        items = []
        for meeting, reply in zip(meetings, replies, strict=True):
            item: dict[str, Any] = {"id": meeting, "new_organizer": new.mail or new.upn, "outcome": "changed"}
            items.append(item | (still_there(error=reply) if meeting in left else {}))
        return judged(items, "meetings", transferred=sum(i["outcome"] == "changed" for i in items))

    def done(self, work: Work[TransferParameters]) -> bool:
        """Whether the leaver organises none."""
        return not organised(work)


def organised(work: Work[Any]) -> list[str]:
    """Ids of the meetings and series with other people that the leaver organises; subjects are nobody's business."""
    now = utcnow()
    query = {
        "startDateTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "endDateTime": (now + timedelta(days=work.parameters.days_ahead)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "$select": "id,isOrganizer,isCancelled,attendees,seriesMasterId", "$top": "500",
    }  # fmt: skip
    found = work.tenant.graph.all(Call("GET", work.path("calendarView"), query=query))
    mine = [e for e in found if e.get("isOrganizer") and e.get("attendees") and not e.get("isCancelled")]
    return list(dict.fromkeys(str(e.get("seriesMasterId") or e["id"]) for e in mine))
