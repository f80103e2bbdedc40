"""The leaver's mailbox as an encrypted backup: every message as MIME, in mbox files by folder and month.

mbox with `>From ` quoting (RFC 4155; the variant mboxrd) is opened by Thunderbird, Apple Mail and Python. A part holds the
messages of one month of one folder, 200 at most, so a break costs one part. What the mailbox holds besides messages is left out
and named: calendar, contacts, tasks, the archive mailbox, and what was deleted for good.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agent.errors import StepError
from agent.failure_types import DATA_TRANSFER_FAILED
from agent.functions import backups
from agent.functions.base import Outcome
from agent.functions.microsoft365.backup import DEPTH, SHOWN, BackupParameters, settle_gone
from agent.functions.microsoft365.base import UserFunction, Work
from agent.services.backup_names import FolderNames
from agent.services.backups import BackupWriter
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.graph import Call, get, path_of

BACKUP = "mailbox"
FORMAT = "mbox"
#: Messages of one part, and those that are fetched at once: Exchange takes four requests of an app per mailbox.
PART, AT_ONCE = 200, 4
#: Bytes of the largest message that is taken: Exchange allows 150 MB, which base64 makes a third larger.
LARGEST = 256 << 20
LEFT_OUT = ("calendar", "contacts", "tasks", "archive mailbox", "recoverable items")
_FOLDER = "id,displayName,childFolderCount"
_FROM = re.compile(rb"^(>*From )", re.MULTILINE)


@dataclass
class _Copying:
    """One attempt."""

    work: Work[BackupParameters]
    writer: BackupWriter
    until: float
    folders: int = 0
    messages: int = 0
    fetched: int = 0
    gone: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Folder:
    """A folder of mail, the path under which it is kept, and its path in the mailbox."""

    id: str
    path: str
    original: str
    has_children: bool


class BackupMailbox(UserFunction[BackupParameters]):
    """Downloads every message, and is done only when all of them are stored and were read back."""

    name = "m365.backup_mailbox"
    summary = "Back up the messages of a mailbox as mbox files into the encrypted backup store"
    Parameters = BackupParameters
    repeatable = True
    backs_up = True
    failure_type = DATA_TRANSFER_FAILED
    impact = "The mailbox is not backed up. It is still there."

    def preview(self, parameters: BackupParameters) -> str:
        """What would be read, and where it goes."""
        return f"GET every message of the mailbox of {parameters.user} as MIME, encrypted into the backup store"

    def change(self, work: Work[BackupParameters]) -> Outcome:
        """Copy what is not stored yet, complete the backup, and read it back. Nothing changes in the tenant."""
        folders = get_folders(work)
        try:
            top = work.tenant.graph.call(folders)
        except ServiceRefused as error:
            if error.missing:
                return Outcome.skipped("the account has no mailbox")
            raise
        shown = {"backup_format": FORMAT, "left_out": list(LEFT_OUT)}
        found = backups.completed(work.context, BACKUP)
        if found is not None:
            return Outcome.succeeded(outcome="already", verified=True, **found, **shown)
        until = time.monotonic() + 60 * work.parameters.time_limit_minutes
        with backups.open_backup(work.context, BACKUP) as writer:
            copying = _Copying(work, writer, until)
            for folder in _folders(copying, work.tenant.graph.rest(top, folders)):
                _copy_folder(copying, folder)
            copying.gone += settle_gone(writer, copying.gone)
            backups.complete(work.context, writer)
        made = backups.completed(work.context, BACKUP)
        assert made is not None, "it was completed a moment ago"
        return Outcome.succeeded(
            outcome="changed", verified=True, folders=copying.folders, messages=copying.messages, fetched=copying.fetched,
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


def get_folders(work: Work[Any], parent: str | None = None) -> Call:
    """The question for the folders of mail, hidden ones too: all at the top, or those inside one."""
    below = ("mailFolders", parent, "childFolders") if parent else ("mailFolders",)
    query = {"$select": _FOLDER, "$top": "200", "includeHiddenFolders": "true"}
    return Call("GET", work.path(*below), query=query)


def _folders(copying: _Copying, top: Sequence[Mapping[str, Any]]) -> Iterator[_Folder]:
    """Every folder, each before those inside it."""
    waiting = [_placed(top, "", "")]
    while waiting:
        level = waiting.pop()
        for folder in level:
            if folder.path.count("/") >= DEPTH:
                raise _not_copied(
                    folder.original, f"there are more than {DEPTH} folders within one another", "too_deep"
                )
            yield folder
            if folder.has_children:
                inside = copying.work.tenant.graph.all(get_folders(copying.work, folder.id))
                waiting.append(_placed(inside, folder.path + "/", folder.original + "/"))


def _placed(entries: Sequence[Mapping[str, Any]], path: str, original: str) -> list[_Folder]:
    names = FolderNames()
    return [
        _Folder(
            str(e["id"]), path + names.safe(str(e.get("displayName") or "_"), str(e["id"])),
            original + str(e.get("displayName") or ""), bool(e.get("childFolderCount")),
        )
        for e in entries
    ]  # fmt: skip


def _copy_folder(copying: _Copying, folder: _Folder) -> None:
    """Store a folder part by part; at no time more than the list of one part is held."""
    copying.folders += 1
    number, month = 0, ""
    for part in _parts(copying, folder):
        begun = _month(part[0])
        number, month = (number + 1 if begun == month else 1), begun
        _copy_part(copying, folder, f"{folder.path}/{month} {number:03}.mbox", part)


def _parts(copying: _Copying, folder: _Folder) -> Iterator[list[Mapping[str, Any]]]:
    """The messages of a folder in the order of their arrival, in lists of one month and PART messages at most."""
    listing = get(
        "users", copying.work.user.id, "mailFolders", folder.id, "messages", select="id,changeKey,receivedDateTime",
        orderby="receivedDateTime", top="500",
    )  # fmt: skip
    part: list[Mapping[str, Any]] = []
    for page in copying.work.tenant.graph.pages(listing):
        for message in page:
            if part and (len(part) >= PART or _month(message) != _month(part[0])):
                yield part
                part = []
            part.append(message)
    if part:
        yield part


def _month(message: Mapping[str, Any]) -> str:
    return str(message.get("receivedDateTime") or "")[:7] or "undated"


def _copy_part(copying: _Copying, folder: _Folder, name: str, part: list[Mapping[str, Any]]) -> None:
    """Store the messages of a part, unless the same ones are stored already."""
    copying.messages += len(part)
    listed = "\n".join(f"{m['id']} {m.get('changeKey') or ''}" for m in part)
    marker = hashlib.sha256(listed.encode()).hexdigest()
    if copying.writer.has(name, marker):
        return
    if name in copying.writer.unfinished():
        # A message that broke off cannot be gone on with: the part is begun anew.
        with copying.writer.file(name):
            pass
    before = len(copying.gone)
    with copying.writer.file(name, marker=marker, original=f"{folder.original}/{name.rpartition('/')[2]}") as file:
        for message, mime in _fetched(copying, folder, part):
            if mime is None:
                copying.gone.append(f"{folder.original}/{message['id']}")
            else:
                _write(file.write, message, mime)
                copying.fetched += 1
        file.finish()
    copying.messages -= len(copying.gone) - before


def _fetched(
    copying: _Copying, folder: _Folder, part: list[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], bytes | None]]:
    """The messages in their order, some at a time; None for one that is not there any more."""

    def fetch(message: Mapping[str, Any]) -> bytes | None:
        path = path_of("users", copying.work.user.id, "messages", str(message["id"])) + "/$value"
        doing = f"a message of {folder.original!r}"
        try:
            return copying.work.tenant.graph.content(Call("GET", path), doing=doing, largest=LARGEST)
        except ServiceRefused as error:
            if error.missing:
                return None
            raise

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, len(part), AT_ONCE):
            if time.monotonic() > copying.until:
                why = "the time limit was reached; the next attempt goes on from here"
                raise _not_copied(folder.original, why, "time_limit")
            some = part[start : start + AT_ONCE]
            yield from zip(some, pool.map(fetch, some), strict=True)


def _write(write: Callable[[bytes], None], message: Mapping[str, Any], mime: bytes) -> None:
    """One message of an mbox: a line that begins with `From `, the message with such lines quoted, an empty line."""
    write(b"From MAILER-DAEMON " + _moment(message).encode("ascii") + b"\n")
    write(_FROM.sub(rb">\1", mime))
    write(b"\n" if mime.endswith(b"\n") else b"\n\n")


def _moment(message: Mapping[str, Any]) -> str:
    try:
        found = datetime.fromisoformat(str(message.get("receivedDateTime") or ""))
    except ValueError:
        return "Thu Jan  1 00:00:00 1970"
    return found.strftime("%a %b %e %H:%M:%S %Y")


def _not_copied(original: str, why: str, code: str) -> StepError:
    return StepError(
        f"the folder {original!r} could not be backed up: {why}", type=DATA_TRANSFER_FAILED, code=code,
        remediation="Mend the reason, or back the mailbox up by hand: exeunt task add --backup. Then retry the run.",
    )  # fmt: skip
