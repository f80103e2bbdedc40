"""`exeunt token`: tokens with which programs call the API."""

from __future__ import annotations

import click

from agent.access import names, tokens
from agent.access.principal import Permission
from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import say, show_json, show_table, tell
from agent.model.base import utcnow


@click.group("token", cls=Group)
def token() -> None:
    """Tokens with which programs call the API."""


@command(
    token, "add", "exeunt token add ana report --days 90 --scope see",
    "exeunt token add ana dispatch --scope see --scope operate",
)  # fmt: skip
@click.argument("user")
@click.argument("name")
@click.option("--days", type=click.IntRange(1, tokens.MOST_DAYS), default=90, show_default=True, help="It ends then.")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice([p.value for p in Permission]),
    help="What it may be used for, of what the person may do. May be repeated; all when left out.",
)  # fmt: skip
@pass_caller
def add(caller: Caller, user: str, name: str, days: int, scopes: tuple[str, ...]) -> None:
    """Make a token that acts for a person. It is printed once, alone on standard output."""
    with caller.installation.database.reading() as session:
        found = names.find(session, user)
    number, text = tokens.create(
        caller.installation, found.id, name=name, scopes=scopes or None, days=days, actor=caller.actor
    )
    tell(f"token {number} of {found.name}, good for {days} days; it is not shown again:")
    say(text)


@command(token, "list", "exeunt token list", "exeunt token list --user ana --json")
@click.option("--user", help="Only of this person.")
@json_option
@pass_caller
def list_tokens(caller: Caller, user: str | None, as_json: bool) -> None:
    """Show tokens by their beginnings, those that are over too."""
    with caller.installation.database.reading() as session:
        found = tokens.list_tokens(session, user_id=names.find(session, user).id if user else None)
    if as_json:
        show_json(found)
        return
    show_table(
        ("id", "user", "name", "begins", "scopes", "expires", "last used", "state"),
        (
            (
                t.id,
                t.user,
                t.name,
                t.hint,
                t.scopes if t.scopes is not None else "all",
                t.expires_at,
                t.last_used_at,
                _state(t),
            )
            for t in found
        ),
        empty="no tokens",
    )


@command(token, "revoke", "exeunt token revoke 1f0c9a3b5d7e2468")
@click.argument("token_id", metavar="ID")
@pass_caller
def revoke(caller: Caller, token_id: str) -> None:
    """End a token now."""
    tokens.revoke(caller.installation, token_id, actor=caller.actor)
    say(f"token {token_id} is revoked")


def _state(found: tokens.TokenView) -> str:
    if found.revoked_at is not None:
        return "revoked"
    return "over" if found.expires_at <= utcnow() else "active"
