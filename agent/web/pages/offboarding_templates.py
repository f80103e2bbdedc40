"""Named templates of offboarding options: saved, shown, given to clients, to oneself or to everybody."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi import Form as FormBody
from sqlmodel import select

from agent.access.principal import Permission
from agent.content.user_inputs import INPUTS
from agent.errors import UsageError
from agent.model.places import Client
from agent.running import offboarding_templates as verbs
from agent.web.asking import Here, Who
from agent.web.forms import Form
from agent.web.reads.offboarding_templates import known_templates, require_templates
from agent.web.rendering import page, redirect

router = APIRouter(prefix="/offboardings/templates")


class Saved(Form):
    """A template: its name, and a line `NAME=VALUE` for each option."""

    name: str
    description: str = ""
    options: str = ""


class Use(Form):
    """Who uses it: clients, oneself, everybody."""

    name: str
    client: list[int] = []
    me: bool = False
    everyone: bool = False


class Name(Form):
    """Which one."""

    name: str


@router.get("")
def show(request: Request, here: Here, who: Who) -> Response:
    """All templates. Who else uses one is told only to somebody who may see all clients."""
    with here.database.reading() as session:
        names = {c.client_id: c.name for c in session.exec(select(Client)) if who.can(Permission.SEE, c.client_id)}
        found = known_templates(session, who)
    mine = [(i, n) for i, n in sorted(names.items(), key=lambda e: e[1]) if who.can(Permission.ADMINISTER, i)]
    return page(
        request, "offboarding_templates.html", found=found, names={str(i): n for i, n in names.items()}, mine=mine,
        inputs=[i for i in INPUTS.values() if i.name not in verbs.PERSONAL], all_clients=who.can(Permission.ADMINISTER),
    )  # fmt: skip


@router.post("/save")
def save(request: Request, here: Here, who: Who, form: Annotated[Saved, FormBody()]) -> Response:
    """Store a template, or replace its options."""
    who.require(Permission.ADMINISTER)
    options = verbs.read_options(line.strip() for line in form.options.splitlines() if line.strip())
    with here.database.session() as session:
        verbs.save(session, form.name, options, actor=who.name, description=form.description)
    return redirect(request, "/offboardings/templates", f"The template {form.name} is saved.")


@router.post("/remove")
def remove(request: Request, here: Here, who: Who, form: Annotated[Name, FormBody()]) -> Response:
    """Remove a template that nobody uses."""
    who.require(Permission.ADMINISTER)
    with here.database.session() as session:
        verbs.remove(session, form.name, actor=who.name)
    return redirect(request, "/offboardings/templates", f"The template {form.name} is gone.")


@router.post("/assign")
def assign(request: Request, here: Here, who: Who, form: Annotated[Use, FormBody()]) -> Response:
    """Let clients, oneself or everybody use it without naming it."""
    _may_change(who, form)
    with here.database.session() as session:
        require_templates(session, who, [form.name])
        number = verbs.assign(
            session, form.name, actor=who.name, client_ids=form.client, users=[who.name] if form.me else [],
            everyone=form.everyone,
        )  # fmt: skip
    return redirect(request, "/offboardings/templates", f"{number} more use the template {form.name}.")


@router.post("/unassign")
def unassign(request: Request, here: Here, who: Who, form: Annotated[Use, FormBody()]) -> Response:
    """The opposite."""
    _may_change(who, form)
    with here.database.session() as session:
        number = verbs.unassign(
            session, actor=who.name, client_ids=form.client, users=[who.name] if form.me else [], everyone=form.everyone
        )
    return redirect(request, "/offboardings/templates", f"{number} fewer use a template.")


def _may_change(who: Who, form: Use) -> None:
    if form.everyone:
        who.require(Permission.ADMINISTER)
    who.require_all(Permission.ADMINISTER, form.client)
    if not who.can_somewhere(Permission.OPERATE):
        who.require(Permission.OPERATE)
    if not (form.client or form.me or form.everyone):
        raise UsageError("say who uses it: a client, yourself or everybody")
