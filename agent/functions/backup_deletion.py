"""`backup.delete`: the backups of a person are deleted when the client's policy says so (seed 002, phase 8)."""

from __future__ import annotations

from sqlmodel import Session, col, select

from agent import audit
from agent.errors import StepError
from agent.failure_types import BACKUP_STORAGE_UNAVAILABLE
from agent.functions.backups import NoParameters
from agent.functions.base import Context, Function, Outcome
from agent.functions.contacts import refused
from agent.functions.failures import failure
from agent.inventory import retention
from agent.model.base import utcnow
from agent.model.runs import RunStep, ScriptRun
from agent.services.backup_places import open_store
from agent.services.backup_reading import HEADER
from agent.services.backup_stores import StoreUnavailable


class DeleteBackups(Function[NoParameters]):
    """Deletes every backup that offboardings of this person made, each after it is on record.

    It counts as the deletion of an account: the engine asks for holds and retention right before it.
    """

    name = "backup.delete"
    summary = "Delete the backups of a person whose accounts are deleted and whose time is over, key first"
    Parameters = NoParameters
    destructive = True
    repeatable = True
    deletes_account = True

    def preview(self, parameters: NoParameters) -> str:
        """What would be done."""
        return "delete every backup of this person from its store, the key of each first"

    def do(self, context: Context, parameters: NoParameters) -> Outcome:
        """One after the other. Raises StepError while one must be kept, or a store cannot be used."""
        with context.installation.database.reading() as session:
            row = retention.last_offboarding(session, context.target_id)
            if row is None or row.deleted_at is None:
                raise _kept("the person's accounts are not deleted yet")
            if row.data_until is None:
                return Outcome.skipped("the client's field backup_retention_days says nothing: backups are kept")
            if row.data_until > utcnow():
                raise _kept(f"the backups are kept until {row.data_until:%Y-%m-%d %H:%M} UTC")
            backups = _backups(session, context)
        for backup, store in backups:
            self._delete(context, backup, store)
        now = utcnow()
        with context.installation.database.session() as session:
            row = retention.last_offboarding(session, context.target_id)
            assert row is not None
            row.data_deleted_at = now
            session.add(row)
        return Outcome.succeeded(backups=[{"backup": b, "store": s, "outcome": "removed"} for b, s in backups])

    def _delete(self, context: Context, backup: str, location: str) -> None:
        with context.installation.database.session() as session:
            # A hold may have been set since the last one.
            refusal = retention.deletion_refusal(session, context.target_id)
            if refusal is not None:
                raise refused(refusal)
            audit.record(
                session, actor=context.root_script, action="backup.delete", object_kind="backup", object_id=backup,
                client_id=context.client_id, details={"store": location, "run": context.root_id},
            )  # fmt: skip
        try:
            store = open_store(context.installation, location, context.client_id)
            store.delete(backup, first=HEADER)
            left = store.names(f"{backup}/*")
        except StoreUnavailable as error:
            raise failure(
                BACKUP_STORAGE_UNAVAILABLE,
                str(error),
                code=error.code,
                impact=f"The backup {backup} may still be there.",
            ) from error
        if left:
            raise failure(
                BACKUP_STORAGE_UNAVAILABLE, f"the store accepted it and still shows {left[0]}", code="not_confirmed",
                impact=f"The backup {backup} is still there in part.",
            )  # fmt: skip


def _backups(session: Session, context: Context) -> list[tuple[str, str]]:
    """(name, store) of every backup that runs on this person began or made, of this client alone."""
    query = (
        select(RunStep.result)
        .join(ScriptRun, col(ScriptRun.id) == col(RunStep.root_id))
        .where(
            ScriptRun.target_kind == "contact", ScriptRun.target_id == context.target_id,
            ScriptRun.client_id == context.client_id,
        )
    )  # fmt: skip
    found = [r for r in session.exec(query) if r and r.get("backup") and r.get("backup_store")]
    return list(dict.fromkeys((str(r["backup"]), str(r["backup_store"])) for r in found))


def _kept(reason: str) -> StepError:
    return StepError(
        f"no backup was deleted: {reason}", type="deletion_refused", impact="The backups are still there.",
        remediation="Wait; the monitor Backups Over starts it when the time has come.",
    )  # fmt: skip
