"""People and their roles, for administrators of the whole server."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi import Form as FormBody

from agent.access import grants, links, names, sessions, totp, users
from agent.access.principal import Grant, Permission, Role
from agent.errors import Conflict, NotFound, UsageError
from agent.installation import Installation
from agent.inventory import lookup
from agent.inventory.lookup import place_id
from agent.model.access import User
from agent.web.asking import Here, Who
from agent.web.forms import Form
from agent.web.rendering import page, redirect

router = APIRouter(prefix="/users")
#: What each role may do, for the pages; each may do what those before it may.
ROLES = {
    Role.VIEWER: "sees places, fields, runs, tickets, reports and the audit trail",
    Role.TECHNICIAN: "changes places and flags, plans, starts, cancels and retries runs, answers tickets",
    Role.APPROVER: "approves what a guardrail holds",
    Role.ADMINISTRATOR: "credentials, scripts, packages; without a limit to a client also monitors, properties and users",
}
ROLE_NAMES = [(role.value, role.value) for role in Role]


class NewUser(Form):
    """A person, with a first role or none."""

    name: str
    email: str = ""
    role: Role | Literal[""] = ""
    client: int | Literal[""] = ""


class GrantChoice(Form):
    """A role at a client; nothing chosen: at all clients."""

    role: Role
    client: int | Literal[""] = ""

    @property
    def grant(self) -> Grant:
        return Grant(self.role, self.client if self.client != "" else None)


class NewName(Form):
    """What the person shall be called."""

    name: str


@router.get("")
def list_users(request: Request, here: Here, who: Who) -> Response:
    """All people, the disabled ones too."""
    who.require(Permission.ADMINISTER)
    return _list(request, here)


@router.post("")
def add_user(request: Request, here: Here, who: Who, form: Annotated[NewUser, FormBody()]) -> Response:
    """Add a person, and show the link with which that person sets a password."""
    who.require(Permission.ADMINISTER)
    wanted = [Grant(form.role, form.client if form.client != "" else None)] if form.role != "" else []
    try:
        made = users.create(here, form.name, email=form.email, wanted=wanted, actor=who.name)
    except (UsageError, Conflict) as error:
        return _list(request, here, wrong=str(error), name=form.name, email=form.email)
    return _shown_link(request, here, made.id, actor=who.name)


@router.get("/{user_id}")
def show_user(request: Request, here: Here, who: Who, user_id: str) -> Response:
    """One person with roles, sessions and what can be done."""
    who.require(Permission.ADMINISTER)
    with here.database.reading() as session:
        user = session.get(User, user_id)
        if user is None:
            raise NotFound("there is no such user")
        found = users.view(session, user)
        local = grants.grants_of(session, user_id, source=grants.LOCAL)
        by_groups = grants.grants_of(session, user_id, source=grants.OIDC)
        open_ones = sessions.sessions_of(here, session, user_id)
        clients = {place_id(c): c.name for c in lookup.clients(session)}
    return page(
        request,
        "user.html",
        user=found,
        local=local,
        by_groups=by_groups,
        sessions=open_ones,
        clients=clients,
        role_names=ROLE_NAMES,
    )


@router.post("/{user_id}/grants")
def add_grant(
    request: Request, here: Here, who: Who, user_id: str, form: Annotated[GrantChoice, FormBody()]
) -> Response:
    """Give a role."""
    who.require(Permission.ADMINISTER)
    users.grant(here, _known(here, user_id), form.grant, actor=who.name)
    return redirect(request, f"/users/{user_id}", said="The role is given.")


@router.post("/{user_id}/grants/remove")
def remove_grant(
    request: Request, here: Here, who: Who, user_id: str, form: Annotated[GrantChoice, FormBody()]
) -> Response:
    """Take a role away."""
    who.require(Permission.ADMINISTER)
    users.revoke(here, _known(here, user_id), form.grant, actor=who.name)
    return redirect(request, f"/users/{user_id}", said="The role is taken away.")


@router.post("/{user_id}/rename")
def rename(request: Request, here: Here, who: Who, user_id: str, form: Annotated[NewName, FormBody()]) -> Response:
    """Give another name; nobody else ever gets the old one."""
    who.require(Permission.ADMINISTER)
    users.rename(here, _known(here, user_id), form.name, actor=who.name)
    return redirect(request, f"/users/{user_id}", said="The name is changed.")


@router.post("/{user_id}/disable")
def disable(request: Request, here: Here, who: Who, user_id: str) -> Response:
    """Let the person in no more."""
    who.require(Permission.ADMINISTER)
    users.disable(here, _known(here, user_id), actor=who.name)
    return redirect(request, f"/users/{user_id}", said="The user is disabled: sessions ended, tokens are revoked.")


@router.post("/{user_id}/enable")
def enable(request: Request, here: Here, who: Who, user_id: str) -> Response:
    """Let the person in again."""
    who.require(Permission.ADMINISTER)
    users.enable(here, _known(here, user_id), actor=who.name)
    return redirect(request, f"/users/{user_id}", said="The user is enabled.")


@router.post("/{user_id}/password-link")
def password_link(request: Request, here: Here, who: Who, user_id: str) -> Response:
    """Show a link with which the person sets a password."""
    who.require(Permission.ADMINISTER)
    return _shown_link(request, here, _known(here, user_id), actor=who.name)


@router.post("/{user_id}/reset-app")
def reset_app(request: Request, here: Here, who: Who, user_id: str) -> Response:
    """Forget the authenticator app of a lost telephone."""
    who.require(Permission.ADMINISTER)
    totp.reset(here, _known(here, user_id), actor=who.name)
    return redirect(request, f"/users/{user_id}", said="The authenticator app is forgotten.")


@router.post("/{user_id}/end-sessions")
def end_sessions(request: Request, here: Here, who: Who, user_id: str) -> Response:
    """Sign the person out everywhere."""
    who.require(Permission.ADMINISTER)
    ended = sessions.end_sessions(here, _known(here, user_id), actor=who.name)
    return redirect(request, f"/users/{user_id}", said=f"Sessions ended: {ended}.")


def _known(here: Installation, user_id: str) -> str:
    with here.database.reading() as session:
        if session.get(User, user_id) is None:
            raise NotFound("there is no such user")
    return user_id


def _list(request: Request, here: Installation, **given: Any) -> Response:
    with here.database.reading() as session:
        found = users.list_users(session)
        clients = {place_id(c): c.name for c in lookup.clients(session)}
    values = {"wrong": None, "name": "", "email": "", **given}
    answer = page(
        request,
        "users.html",
        users=found,
        clients=clients,
        roles=ROLES,
        role_names=ROLE_NAMES,
        longest=names.MOST_LENGTH,
        **values,
    )
    answer.status_code = 400 if given else 200
    return answer


def _shown_link(request: Request, here: Installation, user_id: str, *, actor: str) -> Response:
    path = links.password_link(here, user_id, actor=actor)
    with here.database.reading() as session:
        name = session.get_one(User, user_id).name
    base = here.settings.public_url or str(request.base_url).rstrip("/")
    return page(
        request, "shown_once.html", title=f"Link for {name}", what="Link to set the password", secret=base + path,
        back=f"/users/{user_id}", lead=f"It works once, for {links.PASSWORD_HOURS} hours. Give it to nobody else: it is not shown again.",
    )  # fmt: skip
