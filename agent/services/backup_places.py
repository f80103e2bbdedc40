"""From a backup location to its store: a folder (a disk, a mounted share), or `s3://bucket/prefix` with a credential."""

from __future__ import annotations

from pathlib import Path

from sqlmodel import col, select

from agent.installation import Installation
from agent.model.administration import Credential
from agent.services import credentials
from agent.services.backup_s3 import KIND, S3Store, open_s3, parse_location
from agent.services.backup_stores import BackupStore, DirectoryStore, StoreUnavailable

#: Folder of the workspace for encrypted files on their way to a bucket.
SPOOL = "backup-spool"


def open_store(installation: Installation, location: str | None, client_id: int | None = None) -> BackupStore:
    """The store at a location, or at the folder of the settings.

    `client_id`: only credentials that this client may use; None: any, for whoever looks after all stores. Raises
    StoreUnavailable when there is none, no such folder, or no credential for the bucket.
    """
    place = str(location or installation.settings.backup_folder or "")
    if not place:
        raise StoreUnavailable(
            "there is no backup location: set EXEUNT_BACKUP_FOLDER, or give backup_location", code="not_configured"
        )
    bucket = parse_location(place)
    if bucket is not None:
        return _s3(installation, *bucket, client_id)
    folder = Path(place)
    if not folder.is_absolute():
        raise StoreUnavailable(
            f"the backup location {place!r} is not the full path of a folder, nor s3://bucket/prefix",
            code="not_configured",
        )
    return DirectoryStore(folder)


def _s3(installation: Installation, bucket: str, prefix: str, client_id: int | None) -> S3Store:
    """A bucket is used only where a credential names it, so that nobody's data goes to a bucket that a text names."""
    with installation.database.reading() as session:
        query = select(Credential).where(Credential.kind == KIND).order_by(col(Credential.id))
        found = [c for c in session.exec(query) if c.settings.get("bucket") == bucket]
        if client_id is not None:
            nearest = credentials.nearest_of(found, KIND, client_id=client_id, location_id=None)
            found = [nearest] if nearest is not None else []
        if not found:
            raise StoreUnavailable(
                f"no credential of the kind {KIND} is for the bucket {bucket}: exeunt credential add {KIND}",
                code="not_configured",
            )
        secrets = credentials.open_secret(installation, found[0])
        return open_s3(found[0].settings, secrets, bucket, prefix, installation.settings.workspace / SPOOL)
