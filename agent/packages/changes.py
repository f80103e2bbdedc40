"""Changes of packages, all or nothing: planned first, written down before the first file is touched, undone on failure.

A change is files below the workspace and rows of the database. The files are written first, each at once; then one
transaction makes the rows and marks the change as done. Whatever fails before that puts the files back. A process that
died in between left a change that is still `running`: the next one puts its files back before it begins.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sqlmodel import Session, col, select

from agent import audit
from agent.errors import Conflict, ExeuntError, StoreError, UsageError
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.packages import PackageChange
from agent.services.freezing import refuse_when_frozen

#: Kinds that bring a change from elsewhere: they are what a frozen configuration is changed by.
MOVING = ("import", "undo")
#: Makes the rows of a change, and says what it made.
Act = Callable[[Session], Mapping[str, Any]]


@dataclass(frozen=True)
class FileEdit:
    """A file below the workspace: its text before and after; None where there is no such file."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Planned:
    """What a verb would do. Nothing is changed until `perform`."""

    #: apply, remove, order, import, undo
    kind: str
    subject: str
    #: What changes, one line each; empty: everything is as it shall be.
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    #: Why it cannot be done; empty: it can.
    refusals: tuple[str, ...] = ()
    edits: tuple[FileEdit, ...] = ()
    act: Act | None = None
    #: The client's slug, `partner`, or empty.
    client: str = ""
    #: Those of the lines that change something for all clients: fields, properties, monitors, alert templates.
    everywhere: tuple[str, ...] = ()

    def refuse(self) -> None:
        """Raises Conflict with every reason why it cannot be done."""
        if self.refusals:
            raise Conflict(f"{self.kind} {self.subject} is refused: {'; '.join(self.refusals)}")


def perform(installation: Installation, planned: Planned, *, actor: str, moving: bool = False) -> str | None:
    """Do what was planned; the id of the change, None when there is nothing to change.

    `moving`: it is part of an import, which a frozen configuration is changed by. Raises Conflict for what is refused, or
    when a file was changed since the plan; StoreError when it cannot be written. In each case nothing is changed.
    """
    planned.refuse()
    if not planned.lines:
        return None
    if planned.kind not in MOVING and not moving:
        with installation.database.reading() as session:
            refuse_when_frozen(
                session, f"{planned.kind} {planned.subject}" + f" ({planned.client})" * bool(planned.client)
            )
    workspace = installation.settings.workspace
    with _lock(workspace):
        recover(installation, actor=actor)
        for edit in planned.edits:
            if _text(workspace, edit.path) != edit.before:
                raise Conflict(f"{edit.path} was changed by somebody else at this moment: nothing was done; try again")
        change = _begin(installation, planned, actor)
        try:
            for edit in planned.edits:
                _write(workspace, edit.path, edit.after)
            with installation.database.session() as session:
                row = _row(session, change)
                row.made = dict(planned.act(session)) if planned.act else {}
                row.state, row.finished_at = "done", utcnow()
                session.add(row)
        except (ExeuntError, OSError) as error:
            _put_back(installation, change, actor, str(error))
            installation.content.reload()
            if isinstance(error, OSError):
                raise StoreError(f"the workspace cannot be written: {error.strerror}") from None
            raise
    installation.content.reload()
    return change


def recover(installation: Installation, *, actor: str) -> list[str]:
    """Put back what changes left whose process ended; their ids. The caller holds the lock, so none is under way."""
    with installation.database.reading() as session:
        query = select(PackageChange.id).where(PackageChange.state == "running")
        left = list(session.exec(query.order_by(col(PackageChange.started_at))))
    for change in reversed(left):
        _put_back(installation, change, actor, "its process ended before it was done")
    return left


def edits_of(workspace: Path, after: Mapping[str, str | None]) -> tuple[FileEdit, ...]:
    """The edits that make files what they shall be; those that are so already are left out."""
    found = (FileEdit(path, _text(workspace, path), text) for path, text in sorted(after.items()))
    return tuple(edit for edit in found if edit.before != edit.after)


def last_written(session: Session, paths: Iterable[str]) -> dict[str, str | None]:
    """What changes of packages last wrote into files, so that an edit by hand is known as one."""
    wanted = set(paths)
    found: dict[str, str | None] = {}
    query = select(PackageChange).where(PackageChange.state == "done").order_by(col(PackageChange.started_at))
    for row in session.exec(query):
        found |= {path: texts[1] for path, texts in row.files.items() if path in wanted}
    return found


def _begin(installation: Installation, planned: Planned, actor: str) -> str:
    files = {e.path: [e.before, e.after] for e in planned.edits}
    row = PackageChange(
        kind=planned.kind, client=planned.client, subject=planned.subject, files=files, started_by=actor
    )
    with installation.database.session() as session:
        session.add(row)
        _record(session, row, actor, {"changes": list(planned.lines), "warnings": list(planned.warnings)})
    return row.id


def _put_back(installation: Installation, change: str, actor: str, reason: str) -> None:
    """Files as they were before; one that is neither as before nor as after was edited since, and is left."""
    workspace = installation.settings.workspace
    with installation.database.reading() as session:
        files = _row(session, change).files
    for path, (before, after) in files.items():
        if _text(workspace, path) == after != before:
            _write(workspace, path, before)
    with installation.database.session() as session:
        row = _row(session, change)
        row.state, row.finished_at = "failed", utcnow()
        session.add(row)
        _record(session, row, actor, {"failed": reason})


def _row(session: Session, change: str) -> PackageChange:
    row = session.get(PackageChange, change)
    if row is None:
        raise StoreError(f"the record of the change {change} is gone")
    return row


def _record(session: Session, row: PackageChange, actor: str, details: dict[str, Any]) -> None:
    audit.record(
        session, actor=actor, action=f"package.{row.kind}", object_kind="package", object_id=row.subject,
        details={"change": row.id, "client": row.client, **details},
    )  # fmt: skip


def _place(workspace: Path, path: str) -> Path:
    """The file of a path. Raises UsageError for one that leads out of the workspace, also by a link."""
    parts = PurePosixPath(path)
    place = workspace.joinpath(*parts.parts)
    if parts.is_absolute() or ".." in parts.parts or not place.resolve().is_relative_to(workspace.resolve()):
        raise UsageError(f"{path!r} leads out of the workspace")
    return place


def _text(workspace: Path, path: str) -> str | None:
    try:
        return _place(workspace, path).read_bytes().decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read: {type(error).__name__}") from None


def _write(workspace: Path, path: str, text: str | None) -> None:
    """Write or remove one file at once. Raises OSError."""
    place = _place(workspace, path)
    if text is None:
        place.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a folder that still holds something stays
            for folder in list(place.parents)[: len(PurePosixPath(path).parts) - 2]:
                folder.rmdir()
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    hidden = place.with_name(f".new-{secrets.token_hex(8)}")
    try:
        with hidden.open("w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        hidden.replace(place)
    finally:
        hidden.unlink(missing_ok=True)


@contextlib.contextmanager
def _lock(workspace: Path) -> Iterator[None]:
    """One change at a time. Raises Conflict when another process makes one."""
    with (workspace / ".packages.lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict("packages are being changed by somebody else at this moment: try again") from None
        yield
