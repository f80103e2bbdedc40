"""`exeunt package`: export, import, migrate, undo, key, new."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import command
from agent.cli.output import say, show_json, show_table, tell, warn
from agent.cli.package_group import carry_out, confirming, package
from agent.errors import Conflict, StoreError, UsageError
from agent.installation import Installation, open_installation
from agent.packages import exporting, importing, migrating, signing, skeleton
from agent.packages.archive import ARCHIVE_BYTES
from agent.packages.importing import Allowed, Incoming
from agent.packages.migrating import Ask

_trust = (
    click.option("--allow-unsigned", is_flag=True, help="Also one that nobody signed whom this workspace trusts."),
    click.option("--allow-older", is_flag=True, help="Also a package that is older than the one here."),
    click.option("--allow-other-version", is_flag=True, help="Also from another version of Exeunt."),
    click.option("--secrets-from-env", is_flag=True,
                 help="Take settings and secrets of the empty credentials from variables: EXEUNT_<CREDENTIAL>_<NAME>."),
    click.option("--secrets-from", type=click.Path(path_type=Path, exists=True, dir_okay=False),
                 help="Take them from a YAML file: `zoom: {account_id: ..., client_secret: ...}`."),
    click.option("--ask-secrets", is_flag=True, help="Ask for them."),
)  # fmt: skip


def _trusting(function: click.decorators.FC) -> click.decorators.FC:
    for option in reversed(_trust):
        function = option(function)
    return function


@command(
    package,
    "export",
    "exeunt package export zoom jira --to packages.zip",
    "exeunt package export --client contoso --to contoso.zip",
)
@click.argument("names", nargs=-1)
@click.option("--to", "file", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
@click.option(
    "--client", help="With the order and the phases that this client's packages have; all of them unless named."
)
@click.option("--replace", is_flag=True, help="Write over a file that is there.")
@pass_caller
def export(caller: Caller, names: tuple[str, ...], file: Path, client: str | None, replace: bool) -> None:
    """Write packages to one file: definitions and shells, never a secret. Signed where the workspace has a key."""
    data = exporting.export(caller.installation, names, actor=caller.actor, client=client)
    try:
        with file.open("wb" if replace else "xb") as stream:
            stream.write(data)
    except FileExistsError:
        raise Conflict(f"{file} is there already: give another name, or --replace") from None
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}") from None
    if signing.public_key(caller.settings.workspace) is None:
        tell("it is not signed: `exeunt package key` makes a key")
    say(f"{file} ({len(data)} bytes)")


@command(
    package, "import", "exeunt package import packages.zip --dry-run",
    "exeunt package import packages.zip --client contoso --secrets-from-env --yes",
    "exeunt package import packages.zip --only 'field:Zoom Id' --yes",
)  # fmt: skip
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--client", help="Apply the packages for this client too, in the order that they had.")
@click.option(
    "--only", multiple=True, metavar="NAME", help="Only this package, field, credential or property. May be repeated."
)
@_trusting
@confirming
@pass_caller
def import_(
    caller: Caller, file: Path, client: str | None, only: tuple[str, ...], allow_unsigned: bool, allow_older: bool,
    allow_other_version: bool, secrets_from_env: bool, secrets_from: Path | None, ask_secrets: bool, dry_run: bool, yes: bool,
) -> None:  # fmt: skip
    """Take packages over from a file. Everything that stands in the way is named first; it can be undone."""
    data = _read(file)
    allowed = Allowed(allow_unsigned, allow_older, allow_other_version)
    ask = _ask(secrets_from_env, secrets_from, ask_secrets)
    _bring(caller, caller.installation, data, client, only, allowed, ask, dry_run=dry_run, yes=yes)


@command(
    package, "migrate", "exeunt package migrate zoom --to ../production --dry-run",
    "exeunt package migrate --client contoso --to ../production --secrets-from-env --yes",
)  # fmt: skip
@click.argument("names", nargs=-1)
@click.option("--to", "target", required=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="The other workspace's folder.")  # fmt: skip
@click.option(
    "--client", help="The packages of this client, applied there for the client of the same slug, in its order."
)
@click.option(
    "--only", multiple=True, metavar="NAME", help="Only this package, field, credential or property. May be repeated."
)
@_trusting
@confirming
@pass_caller
def migrate(
    caller: Caller, names: tuple[str, ...], target: Path, client: str | None, only: tuple[str, ...], allow_unsigned: bool,
    allow_older: bool, allow_other_version: bool, secrets_from_env: bool, secrets_from: Path | None, ask_secrets: bool,
    dry_run: bool, yes: bool,
) -> None:  # fmt: skip
    """Carry packages to another workspace: export here and import there, with the preconditions of both shown first."""
    there = open_installation(target)
    try:
        found = migrating.preconditions(caller.installation, there)
        show_table(("precondition", "holds", "detail"), ((p.name, p.holds, p.detail) for p in found))
        if lacking := [p for p in found if p.needed and not p.holds]:
            raise Conflict("nothing was migrated: " + "; ".join(f"{p.name}: {p.detail}" for p in lacking))
        data = exporting.export(caller.installation, names, actor=caller.actor, client=client)
        allowed = Allowed(allow_unsigned, allow_older, allow_other_version)
        ask = _ask(secrets_from_env, secrets_from, ask_secrets)
        _bring(caller, there, data, client, only, allowed, ask, dry_run=dry_run, yes=yes)
    finally:
        there.database.close()


def _bring(
    caller: Caller, there: Installation, data: bytes, client: str | None, only: tuple[str, ...], allowed: Allowed,
    ask: Ask | None, *, dry_run: bool, yes: bool,
) -> None:  # fmt: skip
    incoming = importing.read(data)
    planned = importing.plan_import(there, incoming, actor=caller.actor, client=client, only=only, allowed=allowed)
    if not carry_out(caller, planned, dry_run=dry_run, yes=yes, installation=there):
        if client is not None and dry_run:
            say(f"then the packages are applied for {client}")
        return
    if client is not None and not only:
        for done in migrating.apply_all(there, migrating.plan_applications(there, incoming, client, actor=caller.actor),
                                        actor=caller.actor):  # fmt: skip
            for text in (*done.warnings, *done.lines):
                say(f"  {done.subject}: {text}")
    _secrets(caller, there, incoming, client, ask)


def _secrets(caller: Caller, there: Installation, incoming: Incoming, client: str | None, ask: Ask | None) -> None:
    shells = migrating.waiting(there, incoming, client)
    done, left = migrating.fill(there, shells, ask, actor=caller.actor) if ask else ([], [s.name for s in shells])
    for name in done:
        say(f"the credential {name!r} is ready")
    for shell in shells:
        if shell.name in left:
            warn(f"the credential {shell.name!r} waits for its secret: `exeunt credential update {shell.id}`")


def _ask(from_env: bool, file: Path | None, prompt: bool) -> Ask | None:
    if sum((from_env, file is not None, prompt)) > 1:
        raise UsageError("say one of --secrets-from-env, --secrets-from, --ask-secrets")
    if from_env:
        return migrating.from_environment(os.environ)
    if file is not None:
        try:
            return migrating.from_file(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be read: {type(error).__name__}") from None
    return _prompt if prompt else None


def _prompt(credential: str, name: str, description: str, secret: bool) -> str | None:
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here: give --secrets-from-env or --secrets-from")
    given: str = click.prompt(
        f"{credential}: {name} ({description})", hide_input=secret, default="", show_default=False, err=True
    )
    return given or None


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(ARCHIVE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


@command(package, "undo", "exeunt package undo --dry-run", "exeunt package undo --yes")
@confirming
@pass_caller
def undo(caller: Caller, dry_run: bool, yes: bool) -> None:
    """Take the last import back: its files, and what it made and nobody has used since."""
    planned = importing.plan_undo(caller.installation, actor=caller.actor)
    carry_out(caller, planned, dry_run=dry_run, yes=yes)


@command(package, "key", "exeunt package key", "exeunt package key --json")
@json_option
@pass_caller
def key(caller: Caller, as_json: bool) -> None:
    """Show the public key that this workspace signs packages with; the first time it is made."""
    workspace = caller.installation.settings.workspace
    found = signing.public_key(workspace)
    made = found is None
    text = found or signing.make_key(workspace)
    if as_json:
        show_json({"key": text, "made": made})
        return
    say(text)
    tell("who shall trust it: exeunt property set _sysTrustedPublishers 'NAME=KEY'")


@command(package, "new", "exeunt package new Badges", "exeunt package new Badges --function --phase 2")
@click.argument("name")
@click.option(
    "--phase", type=click.IntRange(1, 7), default=2, show_default=True, help="The phase that its script joins."
)
@click.option("--function", "with_function", is_flag=True, help="A Python module with a function of its own, too.")
@pass_caller
def new(caller: Caller, name: str, phase: int, with_function: bool) -> None:
    """Make the skeleton of a package that works: package.yaml, a script, README, and a test that runs it."""
    made = skeleton.make(caller.installation, name, actor=caller.actor, phase=phase, with_function=with_function)
    for file in made:
        say(str(file))
    tell(f"edit it, then: exeunt package check {made[0].parent.name}")
