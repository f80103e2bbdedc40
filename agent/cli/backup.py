"""`exeunt backup`: backups of leavers' data: list, verify, restore, and forget a store that is gone."""

from __future__ import annotations

from pathlib import Path

import click

from agent import audit
from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import say, show_json, show_table
from agent.functions.backups import recorded_digest
from agent.services import backup_keys, backup_reading
from agent.services.backup_crypto import BackupDamaged
from agent.services.backup_places import open_store


@click.group("backup", cls=Group)
def backup() -> None:
    """Backups of leavers' data: list, verify, restore."""


location_option = click.option(
    "--location", metavar="PLACE", help="Where the backups are: a folder, or s3://bucket/prefix. [EXEUNT_BACKUP_FOLDER]"
)  # fmt: skip


@command(backup, "list", "exeunt backup list", "exeunt backup list --client contoso --json")
@click.option("--client", default="*", help="Only of this client's slug.")
@location_option
@json_option
@pass_caller
def list_backups(caller: Caller, client: str, location: str | None, as_json: bool) -> None:
    """Show the backups, whose they are, and whether they are complete."""
    found = backup_reading.listed(open_store(caller.installation, location), client)
    if as_json:
        show_json(found)
        return
    show_table(
        ("backup", "client", "of", "run", "begun", "complete"),
        ((b["backup"], b.get("client"), f"{b.get('target_kind')} {b.get('target_id')}", b.get("run"), b.get("created_at"),
          "yes" if b["complete"] else "no") for b in found),
        empty="no backup",
    )  # fmt: skip


@command(backup, "verify", "exeunt backup verify contoso/3f9a21c0de5b7788-onedrive")
@click.argument("name", metavar="BACKUP")
@location_option
@pass_caller
def verify(caller: Caller, name: str, location: str | None) -> None:
    """Decrypt a backup and compare every file with its digest, and the manifest with the audit trail."""
    installation = caller.installation
    store = open_store(installation, location)
    faults = backup_reading.verify(store, installation.secrets, name, digest=recorded_digest(installation, name))
    if faults:
        raise BackupDamaged(f"the backup {name} is not what was written:\n" + "\n".join(faults[:100]))
    manifest = backup_reading.manifest_of(store, installation.secrets, name)
    say(f"{name}: {len(manifest.files)} files, {manifest.size} bytes, whole; manifest sha256 {manifest.digest}")


@command(backup, "restore", "exeunt backup restore contoso/3f9a21c0de5b7788-onedrive --to restored")
@click.argument("name", metavar="BACKUP")
@click.option("--to", "target", required=True, type=click.Path(path_type=Path, file_okay=False), help="A new folder.")
@location_option
@pass_caller
def restore(caller: Caller, name: str, target: Path, location: str | None) -> None:
    """Decrypt a backup into a new folder. Who did it stands in the audit trail, recorded before it begins."""
    installation = caller.installation
    store = open_store(installation, location)
    about = backup_reading.manifest_of(store, installation.secrets, name).about
    with installation.database.session() as session:
        audit.record(
            session, actor=caller.actor, action="backup.restore", object_kind="backup", object_id=name,
            client_id=about.get("client_id"), details={"target": str(target.absolute())},
        )  # fmt: skip
    manifest = backup_reading.restore(store, installation.secrets, name, target)
    say(f"{len(manifest.files)} files, {manifest.size} bytes, in {target}")


@command(backup, "forget", "exeunt backup forget /mnt/old-share")
@click.argument("folder")
@pass_caller
def forget(caller: Caller, folder: str) -> None:
    """Say that a backup store is gone for good, so that its backups no longer keep old keys. Nothing is deleted."""
    with caller.installation.database.session() as session:
        backup_keys.forget(session, folder, actor=caller.actor)
    say(f"forgotten: {folder}")
