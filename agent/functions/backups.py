"""Backups for functions: where they go, typed failures, what the exit report gets; and `backup.verify`.

A function that backs something up writes:

    with open_backup(context, "onedrive") as backup:
        for item in items:
            if not backup.has(item.path, item.etag):
                with backup.file(item.path, marker=item.etag) as file:
                    download(item, start=file.offset, into=file.write)
                    file.finish()
        result = complete(context, backup)

When the run is broken off, the same step of the same run goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from agent import audit
from agent.errors import Conflict, NotFound, SettingsError, StepError, UsageError
from agent.failure_types import BACKUP_STORAGE_UNAVAILABLE
from agent.functions import exit_people as people
from agent.functions.base import Context, Finding, Function, Outcome, PreflightContext
from agent.functions.base import Parameters as BaseParameters
from agent.functions.exit_facts import second
from agent.functions.failures import failure
from agent.installation import Installation
from agent.model.runs import ScriptRun
from agent.services import backup_keys, backup_reading, backups
from agent.services.backup_crypto import BackupDamaged
from agent.services.backup_places import open_store
from agent.services.backup_stores import BackupStore, StoreUnavailable

GIGABYTE = 1024**3
#: What a preflight's findings are about.
SUBJECT = "backup"


@contextmanager
def open_backup(context: Context, name: str) -> Iterator[backups.BackupWriter]:
    """The backup of that name of this run, begun or gone on with. `name`: lower-case letters, digits, hyphens.

    Raises StepError (BACKUP_STORAGE_UNAVAILABLE), also for what goes wrong in the store inside the context.
    """
    client = context.places.get("client") or {}
    about = {
        "client": client.get("slug"), "client_id": context.client_id, "target_kind": context.target_kind,
        "target_id": context.target_id, "run": context.root_id, "name": name,
    }  # fmt: skip
    backup = _name_of(context, name)
    with _typed():
        store = _store(context)
        with context.installation.database.session() as session:
            # Recorded first: a store with a key in it is never one that nobody knows of.
            audit.record(
                session, actor=context.started_by, action=backup_keys.BEGIN, object_kind="backup", object_id=backup,
                client_id=context.client_id, details={"store": store.location, "run": context.root_id},
            )  # fmt: skip
        with backups.BackupWriter(store, context.installation.secrets, backup, about) as writer:
            yield writer


def complete(context: Context, writer: backups.BackupWriter) -> dict[str, Any]:
    """Complete a backup, record its digest in the audit trail, and give the fields that the exit report shows of it."""
    with _typed():
        manifest = writer.finish()
    return _recorded(context, writer.store.location, manifest)


def completed(context: Context, name: str) -> dict[str, Any] | None:
    """The same fields of a backup of this run that is complete, after all of it was read back; None while it is not.

    Raises StepError when it is damaged, or the store cannot be used.
    """
    backup = _name_of(context, name)
    with _typed():
        store = _store(context)
        try:
            manifest = backup_reading.manifest_of(store, context.installation.secrets, backup)
        except NotFound:
            return None
        digest = recorded_digest(context.installation, backup)
        faults = backup_reading.verify(store, context.installation.secrets, backup, digest=digest)
    if faults:
        raise _damaged(backup, faults)
    # The worker may have ended between the manifest and its record.
    return _fields(store.location, manifest) if digest else _recorded(context, store.location, manifest)


def findings(context: PreflightContext) -> list[Finding]:
    """Whether the store of the backups is there, before anything changes; asked once, and nothing is written."""

    def ask() -> list[Finding]:
        location = (context.plan.get("inputs") or {}).get("backup_location", {}).get("value")
        with _typed():
            store = open_store(context.installation, location or None, context.client_id)
            store.names("preflight/0")
        return [Finding("info", SUBJECT, f"the backup store is there: {store.location}")]

    try:
        return list(context.once(("backup store",), ask))
    except StepError as error:
        return [Finding.of(SUBJECT, error)]


def _name_of(context: Context, name: str) -> str:
    client = context.places.get("client") or {}
    return f"{client.get('slug')}/{context.root_id}-{name}"


def _recorded(context: Context, location: str, manifest: backup_reading.Manifest) -> dict[str, Any]:
    with context.installation.database.session() as session:
        audit.record(
            session, actor=context.started_by, action="backup.complete", object_kind="backup", object_id=manifest.backup,
            client_id=context.client_id,
            details={"sha256": manifest.digest, "files": len(manifest.files), "bytes": manifest.size, "run": context.root_id},
        )  # fmt: skip
    return _fields(location, manifest)


def _fields(location: str, manifest: backup_reading.Manifest) -> dict[str, Any]:
    return {
        "backup": manifest.backup,
        "backup_store": location,
        "backup_location": manifest.location,
        "backup_size_gb": round(manifest.size / GIGABYTE, 3),
        "backup_bytes": manifest.size,
        "file_count": len(manifest.files),
        "backup_timestamp": second(datetime.fromisoformat(manifest.completed_at)),
        "verification_hash": f"sha256:{manifest.digest}",
    }


def recorded_digest(installation: Installation, backup: str) -> str | None:
    """The digest of a backup's manifest as the audit trail has it, None when it has none."""
    with installation.database.session() as session:
        found = audit.entries(session, action="backup.complete", object_kind="backup", object_id=backup, limit=1)
    return str(found[0].details["sha256"]) if found else None


def _store(context: Context) -> BackupStore:
    with context.installation.database.reading() as session:
        inputs = people.inputs_of(session, session.get(ScriptRun, context.root_id))
    location = inputs.get("backup_location")
    return open_store(context.installation, str(location) if location else None, context.client_id)


@contextmanager
def _typed() -> Iterator[None]:
    try:
        yield
    except StoreUnavailable as error:
        raise failure(BACKUP_STORAGE_UNAVAILABLE, str(error), code=error.code) from error
    except BackupDamaged as error:
        raise failure(
            BACKUP_STORAGE_UNAVAILABLE, str(error), code="backup_damaged",
            remediation="Keep the damaged backup for inspection, and make another one by retrying the run",
        ) from error  # fmt: skip
    except (Conflict, NotFound, UsageError, SettingsError) as error:
        raise failure(BACKUP_STORAGE_UNAVAILABLE, str(error), code="backup_refused") from error


class NoParameters(BaseParameters):
    """Nothing to choose: the backups of this run."""


class VerifyBackups(Function[NoParameters]):
    """Decrypts every backup of this run and compares it with its manifest."""

    name = "backup.verify"
    summary = "Decrypt the backups that this run made and compare every file with its digest"
    Parameters = NoParameters
    repeatable = True

    def preview(self, parameters: NoParameters) -> str:
        """What would be done."""
        return "read back every backup of this run, decrypt it and compare every file with the manifest"

    def do(self, context: Context, parameters: NoParameters) -> Outcome:
        """All of them. Skipped when the run made none."""
        made = [s.result for s in context.finished_steps() if s.result.get("backup") and s.result.get("backup_store")]
        if not made:
            return Outcome.skipped("this run made no backup")
        checked, error = [], None
        for result in made:
            with _typed():
                store = open_store(context.installation, str(result["backup_store"]), context.client_id)
                digest = recorded_digest(context.installation, str(result["backup"]))
                faults = backup_reading.verify(
                    store, context.installation.secrets, str(result["backup"]), digest=digest
                )
            checked.append(
                {"backup": result["backup"], "verified": not faults, "faults": faults[:20], "encrypted": True}
            )
            if faults:
                error = error or _damaged(str(result["backup"]), faults)
        return Outcome.failed(error, backups=checked) if error else Outcome.succeeded(backups=checked)


def _damaged(backup: str, faults: list[str]) -> StepError:
    return failure(
        BACKUP_STORAGE_UNAVAILABLE, f"the backup {backup} is not what was written: {faults[0]}", code="backup_damaged",
        impact="The backup cannot be relied on. The data is still where it was.",
        remediation="Keep the damaged backup for inspection, and make another one by retrying the run",
    )  # fmt: skip
