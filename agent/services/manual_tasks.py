"""Tasks for people: what no system can do gets an owner and a due date, and is never taken for done (seed 002)."""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlmodel import Session, col, select

from agent import audit
from agent.errors import ClientMismatch, Conflict, NotFound, UsageError
from agent.model.base import utcnow
from agent.model.contacts import ManualTask
from agent.model.places import Contact
from agent.services.tickets import one_line, storable

#: What a task can be about; the exit report groups by it.
MATTERS = (
    "badge", "keys", "parking", "phone_line", "credit_card", "subscription", "exit_interview", "knowledge_transfer",
    "equipment", "backup", "security_review", "payroll", "checklist", "other",
)  # fmt: skip
STATES = ("open", "done", "cancelled")


def create(
    session: Session, *, client_id: int, title: str, author: str, contact_id: int | None = None, run_id: str | None = None,
    origin: str | None = None, matter: str = "other", description: str = "", owner: str = "", due: str | None = None,
    blocks_deletion: bool = False,
) -> ManualTask:  # fmt: skip
    """Store a task; the same origin stores it once. Raises UsageError, ClientMismatch."""
    known = of_origin(session, origin) if origin is not None else None
    if known is not None:
        return known
    if matter not in MATTERS:
        raise UsageError(f"{matter!r} is no matter of a task: {', '.join(MATTERS)}")
    if due is not None and not _is_date(due):
        raise UsageError(f"{due!r} is no date: write it as 2026-01-31")
    contact = session.get(Contact, contact_id) if contact_id is not None else None
    if contact_id is not None and contact is None:
        raise NotFound(f"there is no contact with the id {contact_id}")
    if contact is not None and contact.client_id != client_id:
        raise ClientMismatch(f"contact {contact_id} belongs to client {contact.client_id}, not {client_id}")
    title = one_line(title)
    if not title:
        raise UsageError("a task needs a title")
    task = ManualTask(
        client_id=client_id, contact_id=contact_id, run_id=run_id, origin=origin, matter=matter, title=title,
        description=storable(description), owner=one_line(owner), due=due, blocks_deletion=blocks_deletion,
        created_by=author,
    )  # fmt: skip
    session.add(task)
    session.flush()
    _record(session, task, "task.create", author, {"title": task.title, "matter": matter, "owner": owner, "due": due})
    return task


def still_open(
    session: Session, *, contact_id: int, matter: str, title: str, due: str | None, author: str
) -> ManualTask | None:
    """The open task that asks the same of the same person, which then has the new due date; None: there is none.

    An offboarding that is repeated, or whose date moves, asks nobody twice.
    """
    same = (
        ManualTask.contact_id == contact_id, ManualTask.matter == matter, ManualTask.title == one_line(title),
        ManualTask.state == "open",
    )  # fmt: skip
    task = session.exec(select(ManualTask).where(*same).order_by(col(ManualTask.id).desc())).first()
    if task is not None and due is not None and task.due != due:
        _record(session, task, "task.due", author, {"old": task.due, "due": due})
        task.due = due
        session.add(task)
    return task


def of_origin(session: Session, origin: str) -> ManualTask | None:
    """The task that was made for an origin, None when none was."""
    return session.exec(select(ManualTask).where(ManualTask.origin == origin)).first()


def security_origin(offboarding: str, matter: str) -> str:
    """The origin of a task that a high-risk offboarding asks for at once."""
    return f"offboarding:{offboarding}:security:{matter}"


def close(session: Session, task_id: int, *, actor: str, note: str = "", state: str = "done") -> ManualTask:
    """Note that a task is done, or cancelled. One that a deletion waits for can only be done, with a note of what was done.

    Raises NotFound, Conflict when it is closed already, UsageError.
    """
    task = get(session, task_id)
    if state not in ("done", "cancelled"):
        raise UsageError(f"{state!r} closes no task: done or cancelled")
    if task.state != "open":
        raise Conflict(f"task {task_id} is {task.state} already")
    if task.blocks_deletion and state == "cancelled":
        raise Conflict(f"a deletion waits for task {task_id}: it can be done, not cancelled")
    if task.blocks_deletion and not note.strip():
        raise UsageError(f"a deletion waits for task {task_id}: say what was done with --note TEXT")
    task.state, task.note, task.closed_at, task.closed_by = state, storable(note), utcnow(), actor
    session.add(task)
    session.flush()
    _record(session, task, f"task.{state}", actor, {"title": task.title, "note": note})
    return task


def get(session: Session, task_id: int) -> ManualTask:
    """The task with that id. Raises NotFound."""
    task = session.get(ManualTask, task_id)
    if task is None:
        raise NotFound(f"there is no task {task_id}; `exeunt task list` shows them")
    return task


def list_tasks(
    session: Session, *, client_id: int | None = None, contact_id: int | None = None, run_id: str | None = None,
    state: str | None = None, overdue_on: date | None = None, limit: int = 200,
) -> list[ManualTask]:  # fmt: skip
    """Tasks by due date (those without one last). `overdue_on`: only open ones that were due before that day."""
    query = select(ManualTask).order_by(col(ManualTask.due).is_(None), col(ManualTask.due), col(ManualTask.id))
    wanted: list[tuple[Any, Any]] = [
        (ManualTask.client_id, client_id), (ManualTask.contact_id, contact_id), (ManualTask.run_id, run_id),
        (ManualTask.state, "open" if overdue_on else state),
    ]  # fmt: skip
    for column, value in wanted:
        if value is not None:
            query = query.where(column == value)
    if overdue_on is not None:
        query = query.where(col(ManualTask.due) < overdue_on.isoformat())
    return list(session.exec(query.limit(limit)))


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _record(session: Session, task: ManualTask, action: str, actor: str, details: dict[str, Any]) -> None:
    audit.record(
        session, actor=actor, action=action, object_kind="task", object_id=task.id or 0, client_id=task.client_id,
        details=details,
    )  # fmt: skip
