"""What people work through: tickets with their comments, tasks, mail that was sent or kept as failed."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from fastapi import Form as FormBody

from agent.access.principal import Permission
from agent.web.api import desk
from agent.web.asking import Here, Who
from agent.web.forms import Form
from agent.web.rendering import page, redirect, with_query

router = APIRouter()
TicketStatus = Literal["open", "closed"]
TaskState = Literal["open", "done", "cancelled"]
MailState = Literal["sending", "sent", "failed", "unknown"]


class Said(Form):
    """A comment or a note."""

    text: str = ""


class Resent(Form):
    """Another recipient, or none."""

    recipient: str = ""


@router.get("/tickets")
def list_tickets(
    request: Request, here: Here, who: Who, status: TicketStatus | None = None, client: int | None = None, after: str | None = None
) -> Response:  # fmt: skip
    """Tickets, the newest first."""
    found = desk.list_tickets(here, who, client_id=client, status=status, after=after)
    following = with_query("/tickets", status=status, client=client, after=found.next) if found.next else None
    return page(request, "tickets.html", tickets=found.items, status=status, following=following)


@router.get("/tickets/{ticket_id}")
def show_ticket(request: Request, here: Here, who: Who, ticket_id: int) -> Response:
    """One ticket with its comments."""
    found = desk.show_ticket(here, who, ticket_id)
    return page(request, "ticket.html", ticket=found, may_operate=who.can(Permission.OPERATE, found.client_id))


@router.post("/tickets/{ticket_id}/comments")
def comment(request: Request, here: Here, who: Who, ticket_id: int, form: Annotated[Said, FormBody()]) -> Response:
    """Add a comment."""
    desk.comment_ticket(here, who, ticket_id, desk.Comment(text=form.text or "(empty)"))
    return redirect(request, f"/tickets/{ticket_id}", "The comment is added.")


@router.post("/tickets/{ticket_id}/close")
def close(request: Request, here: Here, who: Who, ticket_id: int, form: Annotated[Said, FormBody()]) -> Response:
    """Close it, with a last comment if there is one."""
    desk.close_ticket(here, who, ticket_id, desk.Closing(comment=form.text or None))
    return redirect(request, f"/tickets/{ticket_id}", "The ticket is closed.")


@router.get("/tasks")
def list_tasks(
    request: Request,
    here: Here,
    who: Who,
    state: TaskState | None = None,
    overdue: bool = False,
    after: str | None = None,
) -> Response:
    """Tasks for people, the newest first."""
    found = desk.list_tasks(here, who, state=state, overdue=overdue, after=after)
    following = with_query("/tasks", state=state, overdue=overdue or None, after=found.next) if found.next else None
    may = {t.client_id: who.can(Permission.OPERATE, t.client_id) for t in found.items}
    return page(request, "tasks.html", tasks=found.items, state=state, overdue=overdue, following=following, may=may)


@router.post("/tasks/{task_id}/{end}")
def end_task(
    request: Request, here: Here, who: Who, task_id: int, end: Literal["done", "cancel"], form: Annotated[Said, FormBody()]
) -> Response:  # fmt: skip
    """Note that it is done, or not needed."""
    body = desk.TaskEnd(note=form.text)
    (desk.finish_task if end == "done" else desk.cancel_task)(here, who, task_id, body)
    return redirect(request, "/tasks?state=open", "The task is done." if end == "done" else "The task is cancelled.")


@router.get("/mail")
def list_mail(
    request: Request, here: Here, who: Who, state: MailState | None = None, after: str | None = None
) -> Response:
    """Mail, the newest first."""
    found = desk.list_mail(here, who, state=state, after=after)
    following = with_query("/mail", state=state, after=found.next) if found.next else None
    return page(request, "mail.html", mail=found.items, state=state, following=following)


@router.get("/mail/{mail_id}")
def show_mail(request: Request, here: Here, who: Who, mail_id: int) -> Response:
    """One mail with its text."""
    found = desk.show_mail(here, who, mail_id)
    return page(request, "mail_one.html", mail=found, may_operate=who.can(Permission.OPERATE, found.client_id))


@router.post("/mail/{mail_id}/resend")
def resend(request: Request, here: Here, who: Who, mail_id: int, form: Annotated[Resent, FormBody()]) -> Response:
    """Queue a failed mail again."""
    desk.resend_mail(here, who, mail_id, desk.Resend(recipient=form.recipient or None))
    return redirect(request, f"/mail/{mail_id}", "The mail is queued again.")
