"""Offboardings of people: the table with what can be done to many at once, and one with its inputs, tasks and reports."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi import Form as FormBody
from pydantic import Field

from agent.access.principal import Permission
from agent.errors import UsageError
from agent.running import user_offboardings, verbs
from agent.web.asking import Here, Port, Who
from agent.web.forms import Form
from agent.web.reads.offboardings import STATES, offboarding, offboardings
from agent.web.reads.paging import MOST
from agent.web.reads.plans import plan_for
from agent.web.rendering import page, redirect, with_query

router = APIRouter(prefix="/offboardings")
State = Literal["Planned", "Running", "Completed", "Failed", "planned", "running", "completed", "failed"]


class Chosen(Form):
    """What to do with the chosen ones."""

    act: Literal["run-now", "delete", "approve"]
    id: list[str] = Field(default_factory=list, max_length=MOST)
    reason: str = ""


@router.get("")
def table(
    request: Request, here: Here, who: Who, state: Annotated[list[State] | None, Query()] = None,
    client: int | None = None, after: str | None = None,
) -> Response:  # fmt: skip
    """The table of seed 003, newest first."""
    states = [s.capitalize() for s in state or ()]
    with here.database.reading() as session:
        found = offboardings(session, who.clients(), states=states, client_id=client, after=after)
    following = with_query("/offboardings", state=states, client=client, after=found.next) if found.next else None
    return page(
        request, "offboardings.html", rows=found.items, states=states, all_states=STATES, following=following,
        may_operate=who.can_somewhere(Permission.OPERATE),
    )  # fmt: skip


@router.post("/chosen")
def do_chosen(request: Request, here: Here, port: Port, who: Who, form: Annotated[Chosen, FormBody()]) -> Response:
    """Run now, delete or approve several; all or none are asked for at once."""
    if not form.id:
        raise UsageError("nobody is chosen: tick the offboardings first")
    needed = Permission.APPROVE if form.act == "approve" else Permission.OPERATE
    with here.database.reading() as session:
        rows = [offboarding(session, who, i)[0] for i in form.id]
        plans = {p for row in rows if (p := row.plan_id)}
        for row in rows:
            who.require(needed, row.client_id)
        for plan in plans if form.act == "approve" else ():
            # It may hold more than what was chosen here.
            plan_for(session, who, plan, needed)
    if form.act == "delete":
        with here.database.session() as session:
            gone = user_offboardings.remove(session, form.id, actor=who.name)
        return redirect(request, "/offboardings", f"{len(gone)} taken off the list.")
    if form.act == "approve":
        if not plans:
            raise UsageError("none of these is held")
        runs = [r for p in sorted(plans) for r in verbs.approve(here, port, p, actor=who.name, reason=form.reason)]
        return redirect(request, "/offboardings", f"{len(runs)} approved and queued.")
    stored = user_offboardings.run_now(here, port, form.id, actor=who.name, reason=form.reason or None)
    if stored.holds:
        return redirect(request, f"/plans/{stored.id}", "A guardrail holds it: somebody has to approve it.")
    return redirect(request, "/offboardings", f"{len(stored.run_ids)} queued.")


@router.get("/{row_id}")
def show(request: Request, here: Here, who: Who, row_id: str) -> Response:
    """One offboarding."""
    with here.database.reading() as session:
        row, found = offboarding(session, who, row_id)
    return page(request, "offboarding.html", found=found, may_operate=who.can(Permission.OPERATE, row.client_id))
