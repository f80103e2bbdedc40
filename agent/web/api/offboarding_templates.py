"""Named templates of options for offboardings of people, and who uses them."""

from __future__ import annotations

from pydantic import Field

from agent.access.principal import Permission, Principal
from agent.content.user_inputs import parameter
from agent.errors import NotFound
from agent.installation import Installation
from agent.model.places import Client
from agent.running import offboarding_templates as templates
from agent.web.api.common import Answer, Body, Done, Name, api_router, place_for
from agent.web.api.offboarding_inputs import OffboardingInputs, given
from agent.web.asking import Here, Who
from agent.web.reads.offboarding_templates import known_templates, require_templates

router = api_router("offboardings")


class OffboardingTemplateOut(Answer):
    """A template. Who uses it: only the clients that one may see; other people only for whoever sees the whole server."""

    name: str
    description: str
    options: dict[str, str]
    clients: list[int]
    users: list[str]
    everyone: bool


class OffboardingTemplateIn(Body):
    """What a template holds; all its options are replaced."""

    options: OffboardingInputs
    description: str | None = Field(None, max_length=1000)


class Users(Body):
    """Who shall use it without naming it."""

    client_ids: list[int] = Field(default_factory=list, max_length=500)
    users: list[str] = Field(default_factory=list, max_length=100, description="Names of users, for what they plan")
    everyone: bool = False


@router.get("/offboarding-templates")
def list_templates(here: Here, who: Who) -> list[OffboardingTemplateOut]:
    """The templates with their options and who uses them."""
    found = []
    with here.database.reading() as session:
        for template, uses in known_templates(session, who):
            found.append(
                OffboardingTemplateOut(
                    name=template.name, description=template.description, options=template.options,
                    clients=[int(u.key) for u in uses if u.kind == "client"],
                    users=[u.key for u in uses if u.kind == "user"],
                    everyone=any(u.kind == "everyone" for u in uses),
                )
            )  # fmt: skip
    return found


@router.put("/offboarding-templates/{name}")
def save_template(here: Here, who: Who, name: Name, body: OffboardingTemplateIn) -> Done:
    """Store a template, or replace all its options."""
    who.require(Permission.ADMINISTER)
    options = {n: parameter(v) for n, v in given(body.options).items()}
    with here.database.session() as session:
        templates.save(session, name, options, actor=who.name, description=body.description)
    return Done(done=f"the template {name!r} is stored")


@router.delete("/offboarding-templates/{name}")
def remove_template(here: Here, who: Who, name: Name) -> Done:
    """Remove a template that nobody uses."""
    who.require(Permission.ADMINISTER)
    with here.database.session() as session:
        templates.remove(session, name, actor=who.name)
    return Done(done=f"the template {name!r} is removed")


@router.post("/offboarding-templates/{name}/assign")
def assign_template(here: Here, who: Who, name: Name, body: Users) -> Done:
    """Let clients, users or everybody use a template without naming it. Oneself needs no permission."""
    _allowed(here, who, body)
    with here.database.session() as session:
        require_templates(session, who, [name])
        number = templates.assign(
            session, name, actor=who.name, client_ids=body.client_ids, users=body.users, everyone=body.everyone
        )
    return Done(done=f"{number} changed")


@router.post("/offboarding-templates/unassign")
def unassign_template(here: Here, who: Who, body: Users) -> Done:
    """Let clients, users or everybody use no template."""
    _allowed(here, who, body)
    with here.database.session() as session:
        number = templates.unassign(
            session, actor=who.name, client_ids=body.client_ids, users=body.users, everyone=body.everyone
        )
    return Done(done=f"{number} removed")


def _allowed(here: Installation, who: Principal, body: Users) -> None:
    with here.database.reading() as session:
        for client_id in body.client_ids:
            if not 1 <= client_id < 2**31:
                raise NotFound(f"there is no client {client_id}")
            place_for(session, who, Client, client_id, Permission.ADMINISTER)
    if body.everyone or set(body.users) - {who.name}:
        who.require(Permission.ADMINISTER)
    if not who.can_somewhere(Permission.OPERATE):
        who.require(Permission.OPERATE)
