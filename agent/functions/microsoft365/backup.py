"""The leaver's OneDrive as an encrypted backup."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from agent.errors import StepError
from agent.failure_types import DATA_TRANSFER_FAILED, INTEGRATION_ERROR
from agent.functions import backups
from agent.functions.base import Outcome
from agent.functions.microsoft365.base import UserFunction, UserParameters, Work
from agent.functions.microsoft365.onedrive import drive_of
from agent.services.backup_names import FolderNames
from agent.services.backups import BackupWriter, FileWriter
from agent.services.microsoft.downloading import FileChanged
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.graph import Call, get, path_of
from agent.services.microsoft.quickxor import QuickXorHash

BACKUP = "onedrive"
#: Attempts at a file that changes meanwhile, folders within folders, and names that a result lists.
TRIES, DEPTH, SHOWN = 3, 200, 50
_SELECT = "id,name,size,cTag,eTag,file,folder,package,remoteItem,malware"
#: Marker of a file that went away after a part of it was stored.
_GONE = "gone"


class BackupParameters(UserParameters):
    """How long it may take."""

    #: Minutes for one attempt; the next one goes on where it was.
    time_limit_minutes: int = Field(720, ge=1, le=10080)


@dataclass
class _Copying:
    """One attempt."""

    work: Work[BackupParameters]
    drive: str
    writer: BackupWriter
    until: float
    fetched: int = 0
    #: What is not the leaver's own data: shortcuts to folders of others.
    shortcuts: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


class BackupOneDrive(UserFunction[BackupParameters]):
    """Downloads every file of the OneDrive, and is done only when all of them are stored and were read back."""

    name = "m365.backup_onedrive"
    summary = "Back up the OneDrive of an account into the encrypted backup store"
    Parameters = BackupParameters
    repeatable = True
    backs_up = True
    failure_type = DATA_TRANSFER_FAILED
    impact = "The files are not backed up. They are still in the OneDrive."

    def preview(self, parameters: BackupParameters) -> str:
        """What would be read, and where it goes."""
        return f"GET every file of the OneDrive of {parameters.user}, encrypted into the backup store"

    def change(self, work: Work[BackupParameters]) -> Outcome:
        """Copy what is not stored yet, complete the backup, and read it back. Nothing changes in the tenant."""
        drive = drive_of(work)
        if drive is None:
            return Outcome.skipped("the account has no OneDrive")
        shown = {"onedrive_url": drive["url"], "onedrive_size_gb": drive["size_gb"]}
        found = backups.completed(work.context, BACKUP)
        if found is not None:
            return Outcome.succeeded(outcome="already", verified=True, **found, **shown)
        until = time.monotonic() + 60 * work.parameters.time_limit_minutes
        with backups.open_backup(work.context, BACKUP) as writer:
            copying = _Copying(work, drive["id"], writer, until)
            for place in _files(copying, drive["root"]):
                _copy(copying, place)
            copying.gone += settle_gone(writer, copying.gone)
            backups.complete(work.context, writer)
        made = backups.completed(work.context, BACKUP)
        assert made is not None, "it was completed a moment ago"
        return Outcome.succeeded(
            outcome="changed", verified=True, fetched=copying.fetched, shortcuts=copying.shortcuts[:SHOWN],
            gone=copying.gone[:SHOWN], **made, **shown,
        )  # fmt: skip

    def done(self, work: Work[BackupParameters]) -> bool:
        """Whether this run's backup is complete, and what was read back is what was written."""
        try:
            return backups.completed(work.context, BACKUP) is not None
        except StepError as error:
            if error.code == "backup_damaged":
                return False
            raise


@dataclass(frozen=True)
class _Sum:
    """A digest being made, and how it is written."""

    update: Callable[[bytes], None]
    text: Callable[[], str]


@dataclass(frozen=True)
class _Place:
    """An item, the path under which it is kept, and its path in the OneDrive."""

    item: Mapping[str, Any]
    path: str
    original: str


def _files(copying: _Copying, root: str) -> Iterator[_Place]:
    """Every file, folder by folder and page by page, so that only folders still to be listed are held."""
    waiting = [_Place({"id": root}, "", "")]
    while waiting:
        folder = waiting.pop()
        names = FolderNames()
        if folder.path.count("/") >= DEPTH:
            raise _not_copied(folder.original, f"there are more than {DEPTH} folders within one another", "too_deep")
        listing = get("drives", copying.drive, "items", str(folder.item["id"]), "children", select=_SELECT, top="200")
        for entries in copying.work.tenant.graph.pages(listing):
            for item in entries:
                _in_time(copying, folder)
                place = _placed(folder, item, names)
                if "remoteItem" in item:
                    copying.shortcuts.append(place.original)
                elif "file" in item:
                    yield place
                elif "folder" in item or "package" in item:
                    waiting.append(place)
                else:
                    raise _not_copied(place.original, "it is neither a file nor a folder", "unexpected_answer")


def _in_time(copying: _Copying, folder: _Place) -> None:
    if time.monotonic() > copying.until:
        why = "the time limit was reached; the next attempt goes on from here"
        raise _not_copied(folder.original or "/", why, "time_limit")


def _placed(folder: _Place, item: Mapping[str, Any], names: FolderNames) -> _Place:
    name, item_id = item.get("name"), item.get("id")
    if not isinstance(name, str) or not isinstance(item_id, str):
        raise _not_copied(folder.original or "/", "an item in it has no name or no id", "unexpected_answer")
    path = f"{folder.path}/{names.safe(name, item_id)}".lstrip("/")
    return _Place(item, path, f"{folder.original}/{name}" if folder.original else name)


def _copy(copying: _Copying, place: _Place) -> None:
    """Store a file. One that changes meanwhile is looked up again; one that went away is left."""
    for attempt in range(TRIES):
        try:
            return _copy_version(copying, place)
        except FileChanged:
            if attempt == TRIES - 1:
                raise
        except ServiceRefused as error:
            if not error.missing:
                raise
        try:
            item = copying.work.tenant.graph.call(
                get("drives", copying.drive, "items", str(place.item["id"]), select=_SELECT)
            )
        except ServiceRefused as error:
            if not error.missing:
                raise
            copying.gone.append(place.original)
            return None
        place = _Place(item, place.path, place.original)
    raise _not_copied(place.original, "Graph lists it and does not give its content", "no_content")


def _copy_version(copying: _Copying, place: _Place) -> None:
    if "malware" in place.item:
        raise _not_copied(place.original, "OneDrive holds it back as malware: remove it, or keep it by hand", "malware")
    size = place.item.get("size")
    if not isinstance(size, int) or size < 0:
        raise _not_copied(place.original, "Graph gives it no size", "unexpected_answer")
    marker = f"{place.item.get('cTag') or place.item.get('eTag') or ''} {size}"
    if copying.writer.has(place.path, marker):
        return
    begun = {"marker": marker, "original": place.original if place.original != place.path else None}
    expected, sums = _hash_of(place.item)
    with copying.writer.file(place.path, kept=sums.update, **begun) as file:
        good = file.offset <= size and _fetched(copying, place, file, size, sums, expected)
    if not good:
        # What stands is of no use: the next attempt must begin at the beginning.
        with copying.writer.file(place.path):
            pass
        raise FileChanged(
            f"{place.original!r} is not what OneDrive says it is: its hash differs", type=INTEGRATION_ERROR,
            code="hash_mismatch", remediation="Retry the run when nobody works with the file.",
        )  # fmt: skip


def _fetched(
    copying: _Copying, place: _Place, file: FileWriter, size: int, sums: _Sum, expected: str | None
) -> bool:  # fmt: skip
    """Download what is missing, and finish the file when its hash is right."""

    def take(piece: bytes) -> None:
        sums.update(piece)
        file.write(piece)

    copying.work.tenant.graph.download(
        Call("GET", path_of("drives", copying.drive, "items", str(place.item["id"]), "content")),
        doing=repr(place.original), size=size, offset=file.offset, into=take, until=copying.until,
    )  # fmt: skip
    if expected is not None and sums.text() != expected:
        return False
    file.finish()
    copying.fetched += 1
    return True


def _hash_of(item: Mapping[str, Any]) -> tuple[str | None, _Sum]:
    """The strongest hash that Graph gives of a file (`hashes`), and the means to compute it; None: it gives none."""
    given = (item.get("file") or {}).get("hashes") or {}
    for name, made in (("sha256Hash", hashlib.sha256), ("sha1Hash", hashlib.sha1)):
        if given.get(name):
            digest = made(usedforsecurity=False)
            return str(given[name]).lower(), _Sum(digest.update, digest.hexdigest)
    quick = QuickXorHash()
    return given.get("quickXorHash") or None, _Sum(quick.update, quick.base64)


def settle_gone(writer: BackupWriter, known: Collection[str]) -> list[str]:
    """Files of which a part was stored and which are gone since: each is kept as empty and marked. Gives those not `known`."""
    gone = []
    for name in writer.unfinished():
        with writer.file(name, marker=_GONE) as file:
            file.finish()
        gone.append(name)
    return [name for name in gone if name not in known]


def _not_copied(original: str, why: str, code: str) -> StepError:
    return StepError(
        f"{original!r} could not be backed up: {why}", type=DATA_TRANSFER_FAILED, code=code,
        remediation="Mend the reason, or back the OneDrive up by hand: exeunt task add --backup. Then retry the run.",
    )  # fmt: skip
