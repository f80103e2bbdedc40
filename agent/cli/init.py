"""`exeunt init`: make a workspace. Doing it again mends what is missing and changes nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import click
from dotenv import dotenv_values
from sqlmodel import col, select

from agent import audit, secrets
from agent.cli.caller import Caller, pass_caller
from agent.cli.lazy import Command
from agent.cli.output import say
from agent.content.reading import own_content
from agent.errors import ExeuntError, SettingsError, StoreError, UsageError
from agent.installation import Installation
from agent.model.administration import Credential, SystemProperty
from agent.services import properties
from agent.settings import Settings

FILE = "exeunt.env"
#: Folders of a workspace's own content, below `content`.
CONTENT = ("monitors", "alert_templates", "scripts/clients")
_HEAD = """\
# Settings of this Exeunt workspace: NAME='value', without the comment sign. The environment comes before this file.
# What stands here in comments is the default.
"""


@click.command(
    "init",
    cls=Command,
    examples=(
        "exeunt init",
        "exeunt --workspace /var/lib/exeunt init",
        "exeunt init --database-url postgresql+psycopg://exeunt@db.example.net/exeunt",
    ),
)
@click.option("--database-url", help="PostgreSQL instead of SQLite in the workspace: an SQLAlchemy URL.")
@pass_caller
def init(caller: Caller, database_url: str | None) -> None:
    """Create a workspace: folder, settings, key for the secrets, database, folders for your own content.

    The user who does it may from then on confirm the offboarding of whole clients. A password in --database-url can be
    seen by other users of this machine: leave it out, and let the driver find it in PGPASSWORD or ~/.pgpass.
    """
    folder = caller.folder
    _create(folder)
    written = _settings_file(folder, database_url)
    try:
        made = initialise(caller)
    except ExeuntError:
        if written:
            # Nothing half-written: with a database that does not work there is no workspace.
            (folder / FILE).unlink()
        raise
    say(f"workspace  {folder}" + (" (settings in exeunt.env)" if written else ""))
    for what, state in made.items():
        say(f"{what:<9}  {state}")
    say("\nNext: `exeunt inventory add-client NAME` or `exeunt inventory import FILE.csv`, then `exeunt doctor`.")
    say("The same in a browser: `exeunt serve`.")


def initialise(caller: Caller) -> dict[str, str]:
    """Key, database, content folders and the first approver; what was done about each. The folder exists."""
    installation = Installation(caller.settings)
    try:
        made = {"database": installation.database.engine.url.render_as_string(hide_password=True)}
        installation.database.initialise()
        made["key"] = _key(installation)
        made["content"] = str(_content_folders(caller.settings.workspace))
        with installation.database.session() as session:
            first = session.get(SystemProperty, properties.CLIENT_APPROVERS) is None
            if first:
                audit.record(
                    session, actor=caller.actor, action="workspace.init", object_kind="workspace",
                    object_id=str(caller.settings.workspace),
                )  # fmt: skip
        if first:
            properties.set_value(installation, properties.CLIENT_APPROVERS, caller.actor, actor=caller.actor)
            made["approver"] = f"{caller.actor} may confirm the offboarding of whole clients"
        return made
    finally:
        installation.database.close()


def _create(folder: Path) -> None:
    """Make the folder, closed to others. One that holds anything but a workspace is refused."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = {entry.name for entry in folder.iterdir()}
        if names and not names & {FILE, "inventory.db", "secrets.key"}:
            raise UsageError(f"{folder} is not empty and is no workspace: name a folder that does not exist yet")
        folder.chmod(0o700)
    except FileExistsError:
        raise UsageError(f"{folder} is a file: name a folder") from None
    except OSError as error:
        raise StoreError(f"{folder} cannot be made: {error.strerror}") from error


def _settings_file(folder: Path, database_url: str | None) -> bool:
    """Write `exeunt.env` if there is none; True if it was written. Raises UsageError when it says another database."""
    if database_url is not None and ("'" in database_url or not database_url.isprintable()):
        raise UsageError("the database's URL cannot hold a quote or a control character: encode it as %27 in the URL")
    file = folder / FILE
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        _same_database(file, database_url)
        return False
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(_settings_text(database_url))
    return True


def _same_database(file: Path, database_url: str | None) -> None:
    if database_url is not None and dotenv_values(file, interpolate=False).get("EXEUNT_DATABASE_URL") != database_url:
        raise UsageError(f"{file} says another database: change EXEUNT_DATABASE_URL there if that is meant")


def _settings_text(database_url: str | None) -> str:
    """All settings with their meaning; only the database is set."""
    lines = [_HEAD]
    for name, field in Settings.model_fields.items():
        if name == "workspace":
            continue
        variable, default = f"EXEUNT_{name.upper()}", "" if field.default is None else field.default
        own = database_url if name == "database_url" else None
        lines.append(f"# {field.description}\n" + (f"{variable}='{own}'\n" if own else f"#{variable}='{default}'\n"))
    return "\n".join(lines)


def _key(installation: Installation) -> str:
    """Make the key unless there is one. A database that holds secrets gets no new one: they could never be read."""
    settings = installation.settings
    try:
        secrets.load_secret_box(settings)
        return "is there"
    except SettingsError:
        if settings.secrets_key is not None or settings.secrets_key_source == "environment":
            raise
        if (settings.workspace / secrets.KEY_FILE).exists() or _has_secrets(installation):
            raise
    return secrets.create_key(settings)


def _has_secrets(installation: Installation) -> bool:

    with installation.database.reading() as session:
        held = select(Credential.id).where(col(Credential.secret).is_not(None)).limit(1)
        hidden = select(SystemProperty.name).where(col(SystemProperty.is_secret)).limit(1)
        return session.exec(held).first() is not None or session.exec(hidden).first() is not None


def _content_folders(workspace: Path) -> Path:

    for name in CONTENT:
        own_content(workspace, name).mkdir(mode=0o700, parents=True, exist_ok=True)
    return own_content(workspace, "")
