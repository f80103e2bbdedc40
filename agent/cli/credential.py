"""`exeunt credential`: how to reach machines and services. Secrets come by prompt, variable or file, never as arguments."""

from __future__ import annotations

import json
from typing import Any

import click
from sqlmodel import Session

from agent import secrets
from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import say, show_json, show_table
from agent.errors import ExeuntError, UsageError
from agent.inventory import lookup
from agent.model.places import Client, Computer, Location
from agent.services import credential_kinds, credentials, key_rotation
from agent.services.credentials import secret_from

#: What a credential of a kind holds as its secret when nothing else is said.
_USUAL = {"ssh": "password", "winrm": "password", "psrp": "password", "secret": "secret"}
_secret_options = (
    click.option("--secret", "prompted", multiple=True, metavar="NAME",
                 help="Ask for the secret of this name, such as password. May be repeated."),
    click.option("--secret-from", "sources", multiple=True, metavar="[NAME=]SOURCE",
                 help="Take the secret NAME from env:VARIABLE or file:PATH. May be repeated."),
)  # fmt: skip


def _with_secrets(function: Any) -> Any:
    for option in reversed(_secret_options):
        function = option(function)
    return function


@click.group("credential", cls=Group)
def credential() -> None:
    """How to reach machines and services."""


@command(
    credential, "add", "exeunt credential add contoso-admin --kind ssh --client contoso --setting username=admin --secret password",
    "exeunt credential add sentinelone --kind secret --client contoso --secret-from env:PASSPHRASE",
    "exeunt credential add keys --kind ssh --setting username=exeunt --secret-from private_key=file:id_ed25519",
)  # fmt: skip
@click.argument("name")
@click.option(
    "--kind", required=True, help="ssh, winrm, psrp, screenconnect, secret, ..., or one that a package describes."
)
@click.option("--client", help="For this client only: slug, name or id.")
@click.option("--location", help="For this location only: `Client/Location` or id.")
@click.option("--setting", "settings", multiple=True, metavar="KEY=VALUE", help="A setting in clear. May be repeated.")
@click.option("--no-secret", is_flag=True, help="It needs none.")
@_with_secrets
@pass_caller
def add(
    caller: Caller, name: str, kind: str, client: str | None, location: str | None, settings: tuple[str, ...], no_secret: bool,
    prompted: tuple[str, ...], sources: tuple[str, ...],
) -> None:  # fmt: skip
    """Store a credential for the server, a client or a location; the nearest one counts."""
    if no_secret and (prompted or sources):
        raise UsageError("--no-secret and a secret exclude each other")
    shell = credential_kinds.shell_of(caller.installation.content.packages(), kind)
    asked = credential_kinds.asked_for(shell) if shell else (_USUAL.get(kind, "secret"),)
    usual = asked[0] if asked else "secret"
    if not prompted and not sources and not no_secret:
        if shell is not None:
            # Before somebody types secrets: what is wrong with the settings.
            credential_kinds.check(shell, _settings(settings), dict.fromkeys(asked, "asked for"))
        prompted = asked
    with caller.installation.database.reading() as session:
        client_id, location_id = _scope(session, client, location)
    given = {} if no_secret else _secrets(prompted, sources, usual)
    made = credentials.add(
        caller.installation, kind=kind, name=name, client_id=client_id, location_id=location_id,
        settings=_settings(settings), secret=given, actor=caller.actor,
    )  # fmt: skip
    say(f"credential {made.id} ({name}) is stored")


def _scope(session: Session, client: str | None, location: str | None) -> tuple[int | None, int | None]:
    if location is not None:
        found = lookup.find(session, Location, location)
        if client is not None and lookup.find(session, Client, client).client_id != found.client_id:
            raise UsageError(f"{lookup.path(session, found)} is no location of {client!r}")
        return found.client_id, found.location_id
    return (lookup.find(session, Client, client).client_id if client is not None else None), None


def _settings(given: tuple[str, ...]) -> dict[str, Any]:
    """`KEY=VALUE` pairs; a value that is JSON (a number, true, a list) is taken as such."""
    result: dict[str, Any] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{name!r} is no setting: write KEY=VALUE")
        try:
            result[name] = json.loads(text)
        except json.JSONDecodeError:
            result[name] = text
    return result


def _secrets(prompted: tuple[str, ...], sources: tuple[str, ...], usual: str) -> dict[str, str]:
    """Secrets by their names; one without a name has the usual one of its kind."""
    found: dict[str, str] = {}
    for given in sources:
        named = None if given.startswith(("env:", "file:")) else given.partition("=")
        name, source = (usual, given) if named is None else (named[0], named[2])
        if not name or not source:
            raise UsageError("write --secret-from NAME=env:VARIABLE or NAME=file:PATH")
        found[name] = secret_from(source)
    for name in prompted:
        if "=" in name:
            raise UsageError("--secret takes the secret's name only; the secret itself is asked for")
        found[name] = click.prompt(name, hide_input=True, confirmation_prompt=True, err=True)
    return found


@command(credential, "list", "exeunt credential list", "exeunt credential list --client contoso --json")
@click.option("--client", help="Only of this client and its locations: slug, name or id.")
@click.option("--kind", help="Only of this kind.")
@json_option
@pass_caller
def list_credentials(caller: Caller, client: str | None, kind: str | None, as_json: bool) -> None:
    """Show credentials with their settings. Secrets are never shown."""
    with caller.installation.database.reading() as session:
        client_id = lookup.find(session, Client, client).client_id if client else None
        found = credentials.list_credentials(session, client_id=client_id, kind=kind)
        names = {c.client_id: c.name for c in lookup.clients(session)}
        sites = {x.location_id: x.name for x in lookup.locations(session)}
    if as_json:
        show_json(found)
        return
    show_table(
        ("id", "name", "kind", "client", "location", "settings", "state"),
        (
            (c.id, c.name, c.kind, names.get(c.client_id, "(server)"), sites.get(c.location_id), c.settings, c.state)
            for c in found
        ),
        empty="no credentials",
    )


@command(
    credential,
    "update",
    "exeunt credential update 3 --secret password",
    "exeunt credential update 3 --setting port=2222",
)
@click.argument("credential_id", metavar="ID", type=int)
@click.option(
    "--setting", "settings", multiple=True, metavar="KEY=VALUE", help="Replaces all settings. May be repeated."
)
@_with_secrets
@pass_caller
def update(
    caller: Caller, credential_id: int, settings: tuple[str, ...], prompted: tuple[str, ...], sources: tuple[str, ...]
) -> None:
    """Replace a credential's settings, its secrets or both."""
    if not settings and not prompted and not sources:
        raise UsageError("say what to replace: --setting, --secret or --secret-from")
    secret = _secrets(prompted, sources, "") if prompted or sources else None
    new = _settings(settings) if settings else None
    credentials.update(caller.installation, credential_id, settings=new, secret=secret, actor=caller.actor)
    say(f"credential {credential_id} is changed")


@command(
    credential, "test", "exeunt credential test 3", "exeunt credential test 4 --computer Contoso/Headquarters/PC1"
)  # fmt: skip
@click.argument("credential_id", metavar="ID", type=int)
@click.option("--computer", help="Try it on this computer, which must use it: `Client/Location/Computer` or id.")
@pass_caller
def test(caller: Caller, credential_id: int, computer: str | None) -> None:
    """Sign in with a credential, and say as whom. Nothing is changed."""
    if computer is not None:
        say(_tried_on(caller, credential_id, computer))
        return
    from agent.functions import probing

    works, said = probing.works(caller.installation, credential_id)
    if not works:
        raise ExeuntError(f"credential {credential_id} does not work: {said}")
    say(f"credential {credential_id} works: {said}")


def _tried_on(caller: Caller, credential_id: int, computer: str) -> str:
    from agent.inventory.contact import probe_contacts
    from agent.inventory.lookup import place_id
    from agent.transports.base import Identification

    with caller.installation.database.reading() as session:
        found = lookup.find(session, Computer, computer)
        place = {"client_id": found.client_id, "location_id": found.location_id}
        nearest = None if found.credential_id else credentials.nearest(session, found.transport or "", **place)
    if (found.credential_id or (nearest.id if nearest else None)) != credential_id:
        raise UsageError(f"{found.name} does not use the credential {credential_id}")
    answers: dict[int, Identification] = {}
    number = place_id(found)
    probe_contacts(caller.installation, computer_ids=[number], report=lambda i, answer: answers.update({i: answer}))
    answer = answers.get(number)
    if answer is None or not answer.reachable:
        why = answer.detail if answer else "it has no transport, or is retired"
        raise ExeuntError(f"credential {credential_id} does not work on {found.name}: {why}")
    return f"credential {credential_id} works on {found.name}: {answer.detail}"


@command(credential, "remove", "exeunt credential remove 3")
@click.argument("credential_id", metavar="ID", type=int)
@pass_caller
def remove(caller: Caller, credential_id: int) -> None:
    """Remove a credential that no computer uses."""
    credentials.remove(caller.installation, credential_id, actor=caller.actor)
    say(f"credential {credential_id} is removed")


@command(credential, "rotate-key", "exeunt credential rotate-key")
@pass_caller
def rotate_key(caller: Caller) -> None:
    """Encrypt all secrets with a new key, and forget the old one."""
    key_rotation.count_readable(caller.installation)  # nothing is begun with a key that does not fit
    secrets.add_key(caller.installation.settings)
    counts = key_rotation.rotate(caller.installation, actor=caller.actor)
    dropped = key_rotation.drop_old_keys(caller.installation, actor=caller.actor)
    told = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    say(f"encrypted anew: {told}; {dropped} old key{'' if dropped == 1 else 's'} forgotten")
