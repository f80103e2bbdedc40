"""`task.create` and `task.checklist`: what no system can do becomes a tracked task (REWST-43 to 47, 178, 179)."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal

from pydantic import Field
from sqlmodel import Session

from agent.errors import StepError
from agent.functions.base import Context, Function, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.model.base import utcnow
from agent.model.contacts import ManualTask
from agent.services import manual_tasks
from agent.services.tickets import one_line

Matter = Literal[
    "badge", "keys", "parking", "phone_line", "credit_card", "subscription", "exit_interview", "knowledge_transfer",
    "equipment", "backup", "security_review", "payroll", "checklist", "other",
]  # fmt: skip


class TaskCreateParameters(BaseParameters):
    """A task. `due` is a date, or `in_days` counts from `from_date` (empty: today)."""

    title: str = Field(min_length=1)
    description: str = ""
    matter: Matter = "other"
    owner: str = ""
    due: str = Field("", pattern=r"^(\d{4}-\d{2}-\d{2})?$")
    from_date: str = Field("", pattern=r"^(\d{4}-\d{2}-\d{2})?$")
    in_days: int = Field(0, ge=-365, le=3650)
    blocks_deletion: bool = False


class TaskCreate(Function[TaskCreateParameters]):
    """Stores a task for people about the target; the work itself is not done by it."""

    name = "task.create"
    summary = "Create a task for people, with owner and due date; it stays open until somebody says that it is done"
    Parameters = TaskCreateParameters
    repeatable = True

    def preview(self, parameters: TaskCreateParameters) -> str:
        """What would be done."""
        return f"create a task for people: {one_line(parameters.title)!r}, due {_due(parameters)}"

    def label(self, parameters: TaskCreateParameters, step_name: str) -> str:
        """A task is not the work: the lists say so."""
        return f"{step_name} (task for people)"

    def do(self, context: Context, parameters: TaskCreateParameters) -> Outcome:
        """Store it once per step."""
        with context.installation.database.session() as session:
            at_once = _at_once(session, context, parameters)
            if at_once is not None:
                return Outcome.skipped(f"task {at_once} asked for it when the security phase began")
            task = _asked_before(
                session, context, parameters.matter, parameters.title, _due(parameters)
            ) or manual_tasks.create(
                session, client_id=context.client_id, title=parameters.title, author=context.root_script,
                contact_id=context.target_id if context.target_kind == "contact" else None, run_id=context.root_id,
                origin=_origin(context, parameters.matter, parameters.title, 0), matter=parameters.matter, description=parameters.description,
                owner=parameters.owner, due=_due(parameters), blocks_deletion=parameters.blocks_deletion,
            )  # fmt: skip
        return Outcome.succeeded(task=task.id, title=task.title, owner=task.owner, due=task.due, state=task.state)

    def verify(self, context: Context, parameters: TaskCreateParameters) -> bool | None:
        """Storing it again does nothing, so nobody needs to ask."""
        return None


class ChecklistParameters(BaseParameters):
    """Titles divided by semicolons or line breaks; empty: nothing to do."""

    items: str = ""
    owner: str = ""
    due: str = Field("", pattern=r"^(\d{4}-\d{2}-\d{2})?$")


class Checklist(Function[ChecklistParameters]):
    """One task per line of the client's own checklist (REWST-79)."""

    name = "task.checklist"
    summary = "Create one task for people per item of a checklist; items are divided by semicolons"
    Parameters = ChecklistParameters
    repeatable = True

    def preview(self, parameters: ChecklistParameters) -> str:
        """What would be done."""
        return f"create {len(_titles(parameters.items))} tasks of the checklist"

    def do(self, context: Context, parameters: ChecklistParameters) -> Outcome:
        """Store each once per step."""
        titles = _titles(parameters.items)
        if not titles:
            return Outcome.skipped("the checklist is empty")
        made = []
        with context.installation.database.session() as session:
            for number, title in enumerate(titles):
                task = _asked_before(
                    session, context, "checklist", title, parameters.due or None
                ) or manual_tasks.create(
                    session, client_id=context.client_id, title=title, author=context.root_script,
                    contact_id=context.target_id if context.target_kind == "contact" else None, run_id=context.root_id,
                    origin=_origin(context, "checklist", title, number), matter="checklist", owner=parameters.owner,
                    due=parameters.due or None,
                )  # fmt: skip
                made.append(task.id)
        return Outcome.succeeded(tasks=made)


def _titles(items: str) -> list[str]:
    return [t for part in items.replace("\n", ";").split(";") if (t := one_line(part))]


def _at_once(session: Session, context: Context, parameters: TaskCreateParameters) -> int | None:
    """The task with the same title that a high-risk offboarding made before the wrapper began."""
    named = context.plan.get("offboarding")
    task = manual_tasks.of_origin(session, manual_tasks.security_origin(named, parameters.matter)) if named else None
    return task.id if task is not None and task.title == one_line(parameters.title) else None


def _origin(context: Context, matter: str, title: str, number: int) -> str:
    """What makes the task once: the offboarding, however often it is run; else the step."""
    named = context.plan.get("offboarding")
    if context.target_kind == "contact" and named:
        return f"offboarding:{named}:{matter}:{number}:{one_line(title)}"
    return f"step:{context.step_id}:{number}"


def _asked_before(session: Session, context: Context, matter: str, title: str, due: str | None) -> ManualTask | None:
    """The open task of another run that asks for the same."""
    if context.target_kind != "contact":
        return None
    return manual_tasks.still_open(
        session, contact_id=context.target_id, matter=matter, title=title, due=due, author=context.root_script
    )


def _due(parameters: TaskCreateParameters) -> str:
    try:
        if parameters.due:
            return date.fromisoformat(parameters.due).isoformat()
        begin = date.fromisoformat(parameters.from_date) if parameters.from_date else utcnow().date()
        return (begin + timedelta(days=parameters.in_days)).isoformat()
    except (ValueError, OverflowError) as error:
        raise StepError(f"the task's due date cannot be: {error}", type="invalid_parameters") from error
