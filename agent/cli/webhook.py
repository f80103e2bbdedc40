"""`exeunt webhook`: who is told of what, what was sent, and from whom signed messages are taken."""

from __future__ import annotations

import sys

import click

from agent.cli.caller import Caller, json_option, limit_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import counted, say, show_json, show_table, tell
from agent.errors import UsageError
from agent.inventory import lookup
from agent.inventory.lookup import place_id
from agent.model.places import Client
from agent.model.webhooks import WebhookTarget
from agent.services import webhooks
from agent.services.credentials import secret_from

_HIDDEN = {"secret"}


@click.group("webhook", cls=Group)
def webhook() -> None:
    """Webhooks: who is told of what, whose messages are taken."""


@command(webhook, "list", "exeunt webhook list", "exeunt webhook list --json")
@json_option
@pass_caller
def list_webhooks(caller: Caller, as_json: bool) -> None:
    """Show the addresses that are told of events, and the sources whose messages are taken."""
    with caller.installation.database.reading() as session:
        slugs = {place_id(c): c.slug for c in lookup.clients(session)}
        targets, sources = webhooks.targets(session), webhooks.sources(session)
    if as_json:
        show_json({
            "targets": [t.model_dump(exclude=_HIDDEN) for t in targets],
            "sources": [s.model_dump(exclude=_HIDDEN) for s in sources],
        })  # fmt: skip
        return
    show_table(
        ("id", "target", "form", "address", "client", "events"),
        ((t.id, t.name, t.form, t.url, slugs.get(t.client_id or 0, "(all)"), t.events or "(all)") for t in targets),
        empty="nobody is told of anything",
    )
    say("")
    show_table(
        ("id", "source", "kind", "client", "its address"),
        ((s.id, s.name, s.kind, slugs.get(s.client_id), f"/api/v1/hooks/{s.id}") for s in sources),
        empty="no messages are taken",
    )


@command(
    webhook, "add", "exeunt webhook add psa https://hooks.example.com/exeunt --event ticket.created --client contoso",
    "exeunt webhook add audit https://siem.example.com/in",
    "exeunt webhook add channel --form slack --address-from env:SLACK_WEBHOOK --event run.held",
)  # fmt: skip
@click.argument("name")
@click.argument("url", required=False)
@click.option("--form", type=click.Choice(webhooks.FORMS), default=webhooks.SIGNED, show_default=True,
              help="Signed JSON, or a message in a channel of Slack or Microsoft Teams.")  # fmt: skip
@click.option("--address-from", metavar="SOURCE",
              help="Slack and Teams: the channel's address, a secret, from env:VARIABLE or file:PATH; else it is asked for.")  # fmt: skip
@click.option(
    "--event", "events", multiple=True, type=click.Choice(webhooks.EVENTS), help="Only these. May be repeated."
)
@click.option("--client", help="Only what concerns this client: slug, name or id.")
@pass_caller
def add(
    caller: Caller, name: str, url: str | None, form: str, address_from: str | None, events: tuple[str, ...], client: str | None
) -> None:  # fmt: skip
    """Tell an address of events. Prints the secret that its messages are signed with, once, alone on standard output.

    The address of a channel of Slack or Teams is a secret itself: it is kept encrypted, and never given as an argument.
    """
    client_id = _client_id(caller, client) if client else None
    made, secret = webhooks.add_target(
        caller.installation, name=name, url=_address(url, form, address_from), events=events, client_id=client_id,
        form=form, actor=caller.actor,
    )  # fmt: skip
    if form != webhooks.SIGNED:
        tell(f"webhook {made.id} ({name}) is stored; it writes to {made.url}")
        return
    tell(f"webhook {made.id} ({name}) is stored; its secret is not shown again:")
    say(secret)


def _address(url: str | None, form: str, source: str | None) -> str:
    if form == webhooks.SIGNED:
        if url is None or source is not None:
            raise UsageError("name the address: exeunt webhook add NAME URL")
        return url
    if url is not None:
        raise UsageError("a channel's address is a secret: give it by --address-from env:VARIABLE or file:PATH")
    if source is not None:
        return secret_from(source).strip()
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here: give --address-from env:VARIABLE or file:PATH")
    given: str = click.prompt("Address of the channel's webhook", hide_input=True, err=True)
    return given.strip()


@command(webhook, "add-source", "exeunt webhook add-source personio --kind hr --client contoso")
@click.argument("name")
@click.option("--kind", required=True, type=click.Choice(webhooks.KINDS), help="hr: people; psa: tickets.")
@click.option("--client", required=True, help="Whose people or tickets: slug, name or id.")
@pass_caller
def add_source(caller: Caller, name: str, kind: str, client: str) -> None:
    """Take signed messages about a client. Prints the secret to sign them with, once, alone on standard output."""
    made, secret = webhooks.add_source(
        caller.installation, name=name, kind=kind, client_id=_client_id(caller, client), actor=caller.actor
    )
    tell(f"it posts to /api/v1/hooks/{made.id}; its secret is not shown again:")
    say(secret)


@command(webhook, "remove", "exeunt webhook remove psa", "exeunt webhook remove personio")
@click.argument("name")
@pass_caller
def remove(caller: Caller, name: str) -> None:
    """Remove a target with its log, or a source, by name or id."""
    with caller.installation.database.session() as session:
        found = [s for s in webhooks.sources(session) if name in (s.name, s.id)]
        if found and not any(name in (t.name, t.id) for t in webhooks.targets(session)):
            webhooks.remove_source(session, found[0], actor=caller.actor)
            said = "no more messages are taken from it"
        else:
            waiting = webhooks.remove_target(session, webhooks.find(session, WebhookTarget, name), actor=caller.actor)
            said = f"{counted(waiting, 'message')} had not arrived"
    say(f"{name} is removed: {said}")


@command(webhook, "log", "exeunt webhook log", "exeunt webhook log psa --state failed --json")
@click.argument("name", required=False)
@click.option("--state", type=click.Choice(["waiting", "delivered", "failed"]), help="Only in this state.")
@limit_option()
@json_option
@pass_caller
def log(caller: Caller, name: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """Show what was sent or waits, the newest first."""
    with caller.installation.database.reading() as session:
        names = {t.id: t.name for t in webhooks.targets(session)}
        target_id = webhooks.find(session, WebhookTarget, name).id if name else None
        found = webhooks.deliveries(session, target_id=target_id, state=state, limit=limit)
    if as_json:
        show_json(found)
        return
    show_table(
        ("id", "target", "what", "state", "attempts", "status", "error", "created", "next attempt"),
        (
            (d.id, names.get(d.target_id), d.event_id, d.state, d.attempts, d.status_code, d.error, d.created_at,
             d.next_attempt_at if d.state == "waiting" else None)
            for d in found
        ),
        empty="nothing was sent",
    )  # fmt: skip


@command(webhook, "retry", "exeunt webhook retry 4f2a9c0d11e2b3a7")
@click.argument("delivery_id", metavar="ID")
@pass_caller
def retry(caller: Caller, delivery_id: str) -> None:
    """Send a message again, with the same id; a worker does it."""
    with caller.installation.database.session() as session:
        found = webhooks.retry(session, delivery_id, actor=caller.actor)
    say(f"{found.event_id} waits to be sent")


def _client_id(caller: Caller, client: str) -> int:
    with caller.installation.database.reading() as session:
        return place_id(lookup.find(session, Client, client))
