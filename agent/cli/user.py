"""`exeunt user`: people who may sign in to the console, and their roles."""

from __future__ import annotations

import click
from sqlmodel import Session

from agent.access import links, names, sessions, totp, users
from agent.access.principal import Grant, Role
from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import counted, say, show_json, show_table
from agent.inventory import lookup
from agent.inventory.lookup import place_id
from agent.model.access import User
from agent.model.places import Client

_role = click.argument("role", type=click.Choice([r.value for r in Role]))
_client_option = click.option("--client", help="At this client only: slug, name or id.")


@click.group("user", cls=Group)
def user() -> None:
    """People who may sign in to the console, and their roles."""


@command(user, "list", "exeunt user list", "exeunt user list --json")
@json_option
@pass_caller
def list_users(caller: Caller, as_json: bool) -> None:
    """Show all people, the disabled ones too."""
    with caller.installation.database.reading() as session:
        found = users.list_users(session)
        clients = {place_id(c): c.slug for c in lookup.clients(session)}
    if as_json:
        show_json(found)
        return
    show_table(
        ("id", "name", "roles", "password", "app", "last sign-in", "state"),
        (
            (
                u.id, u.name, [_told(g, clients) for g in u.grants], u.has_password, u.has_totp, u.last_sign_in_at,
                "disabled" if u.disabled_at else "active",
            )
            for u in found
        ),
        empty="no users",
    )  # fmt: skip


@command(
    user, "add", "exeunt user add ana --role administrator", "exeunt user add ben --role technician --client contoso"
)  # fmt: skip
@click.argument("name")
@click.option("--email", help="Address for messages.")
@click.option("--role", type=click.Choice([r.value for r in Role]), help="What the person may do.")
@_client_option
@pass_caller
def add(caller: Caller, name: str, email: str | None, role: str | None, client: str | None) -> None:
    """Add a person, and print the link with which that person sets a password."""
    if client is not None and role is None:
        raise click.UsageError("--client needs --role")
    wanted = [_grant(caller, role, client)] if role else []
    made = users.create(caller.installation, name, email=email, wanted=wanted, actor=caller.actor)
    say(f"user {made.id} ({name}) is added")
    _print_link(caller, made.id)


@command(user, "rename", "exeunt user rename ana ana.silva")
@click.argument("name")
@click.argument("new")
@pass_caller
def rename(caller: Caller, name: str, new: str) -> None:
    """Give a person another name; nobody else ever gets the old one."""
    found = _find(caller, name)
    users.rename(caller.installation, found.id, new, actor=caller.actor)
    say(f"{found.name} is called {new} now")


@command(user, "disable", "exeunt user disable ana")
@click.argument("name")
@pass_caller
def disable(caller: Caller, name: str) -> None:
    """Let a person in no more: sessions end, tokens are revoked."""
    found = _find(caller, name)
    users.disable(caller.installation, found.id, actor=caller.actor)
    say(f"{found.name} is disabled")


@command(user, "enable", "exeunt user enable ana")
@click.argument("name")
@pass_caller
def enable(caller: Caller, name: str) -> None:
    """Let a disabled person in again. Revoked tokens stay revoked."""
    found = _find(caller, name)
    users.enable(caller.installation, found.id, actor=caller.actor)
    say(f"{found.name} is enabled")


@command(user, "grant", "exeunt user grant ana approver", "exeunt user grant ben technician --client contoso")
@click.argument("name")
@_role
@_client_option
@pass_caller
def grant(caller: Caller, name: str, role: str, client: str | None) -> None:
    """Give a person a role, at all clients or at one."""
    found = _find(caller, name)
    users.grant(caller.installation, found.id, _grant(caller, role, client), actor=caller.actor)
    say(f"{found.name} is {role} at {client or 'all clients'}")


@command(user, "revoke", "exeunt user revoke ben technician --client contoso")
@click.argument("name")
@_role
@_client_option
@pass_caller
def revoke(caller: Caller, name: str, role: str, client: str | None) -> None:
    """Take a role away from a person."""
    found = _find(caller, name)
    users.revoke(caller.installation, found.id, _grant(caller, role, client), actor=caller.actor)
    say(f"{found.name} is no longer {role} at {client or 'all clients'}")


@command(user, "password-link", "exeunt user password-link ana")
@click.argument("name")
@pass_caller
def password_link(caller: Caller, name: str) -> None:
    """Print a link with which a person sets a password. It works once, for a day; earlier ones end."""
    _print_link(caller, _find(caller, name).id)


@command(user, "reset-totp", "exeunt user reset-totp ana")
@click.argument("name")
@pass_caller
def reset_totp(caller: Caller, name: str) -> None:
    """Forget a person's authenticator app, after the telephone was lost."""
    found = _find(caller, name)
    totp.reset(caller.installation, found.id, actor=caller.actor)
    say(f"{found.name} signs in without a code until a new app is set up")


@command(user, "sessions", "exeunt user sessions ana", "exeunt user sessions ana --end")
@click.argument("name")
@click.option("--end", is_flag=True, help="End them all.")
@json_option
@pass_caller
def list_sessions(caller: Caller, name: str, end: bool, as_json: bool) -> None:
    """Show where a person is signed in, or end that."""
    found = _find(caller, name)
    if end:
        ended = sessions.end_sessions(caller.installation, found.id, actor=caller.actor)
        say(f"{counted(ended, 'session')} of {found.name} ended")
        return
    with caller.installation.database.reading() as session:
        open_ones = sessions.sessions_of(caller.installation, session, found.id)
    rows = [{"created_at": s.created_at, "last_used_at": s.last_used_at, "expires_at": s.expires_at} for s in open_ones]
    if as_json:
        show_json(rows)
    else:
        show_table(("signed in", "last used", "ends"), (tuple(r.values()) for r in rows), empty="no sessions")


def _find(caller: Caller, name: str) -> User:
    with caller.installation.database.reading() as session:
        return names.find(session, name)


def _grant(caller: Caller, role: str, client: str | None) -> Grant:
    if client is None:
        return Grant(Role(role))
    with caller.installation.database.reading() as session:
        return Grant(Role(role), _client_id(session, client))


def _client_id(session: Session, client: str) -> int:
    return place_id(lookup.find(session, Client, client))


def _told(given: Grant, clients: dict[int, str]) -> str:
    if given.client_id is None:
        return given.role.value
    return f"{given.role} at {clients.get(given.client_id, given.client_id)}"


def _print_link(caller: Caller, user_id: str) -> None:
    path = links.password_link(caller.installation, user_id, actor=caller.actor)
    address = caller.settings.public_url
    say(f"link to set the password, good once and for {links.PASSWORD_HOURS} hours:")
    say(f"{address}{path}" if address else f"{path} (behind the console's address)")
