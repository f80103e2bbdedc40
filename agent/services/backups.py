"""Backups of a leaver's data: encrypted files in a store, with a manifest, resumed after a break, and verified.

A backup is a folder: `header.json` (in clear: whose, when, and the key, wrapped by the installation's master key), for each
file an object `00000001` and its record `00000001.meta`, and `manifest` once it is complete. All but the header is encrypted,
names of files included. A backup without a manifest is incomplete and is never called anything else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any, BinaryIO

from agent.errors import Conflict
from agent.model.base import utcnow
from agent.secrets import SecretBox
from agent.services.backup_crypto import CHUNK, KEY_BYTES, BackupDamaged, ChunkCipher, chunks
from agent.services.backup_reading import (
    FORMAT,
    HEADER,
    MANIFEST,
    META,
    BackupFile,
    Manifest,
    about_of,
    check_name,
    has_object,
    header_of,
    key_of,
    manifest_of,
    opened_json,
    purpose_of,
    sealed_json,
)
from agent.services.backup_stores import BackupStore, refused

#: So often what was written is brought to the disk, in bytes: what a break may cost.
_SYNC_EVERY = 64 * CHUNK


class BackupWriter:
    """Writes one backup, or goes on with one that was broken off. Use it as a context; `finish` completes it.

    Leaving the context without `finish` keeps what is there for the next attempt.
    """

    def __init__(self, store: BackupStore, box: SecretBox, backup: str, about: Mapping[str, Any]) -> None:
        self.store, self.backup = store, backup
        self._box, self._about = box, dict(about)
        self._resources = ExitStack()

    def __enter__(self) -> BackupWriter:
        self._resources.enter_context(self.store.lock(self.backup))
        try:
            if has_object(self.store, f"{self.backup}/{MANIFEST}"):
                raise Conflict(f"the backup {self.backup} is complete: nothing is added to it")
            self._header = header_of(self.store, self.backup) or self._begin()
            self._key = key_of(self._box, self.backup, self._header)
            self._files = {f.name: f for f in self._recorded()}
        except BaseException:
            self._resources.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def has(self, name: str, marker: str | None = None) -> bool:
        """Whether this version of a file is in the backup already."""
        known = self._files.get(name)
        return known is not None and bool(known.digest) and known.marker == marker

    def unfinished(self) -> list[str]:
        """Names of files that were begun and not finished."""
        return [f.name for f in self._files.values() if not f.digest]

    def file(
        self, name: str, *, marker: str | None = None, original: str | None = None,
        kept: Callable[[bytes], None] | None = None,
    ) -> FileWriter:  # fmt: skip
        """Write a file, or go on with it: the caller gives what stands from `offset` on.

        `name` is its path in the source, with `/`; where that cannot be kept, `original` has it. `kept` is given the plain
        text up to `offset`, for a digest over the whole. Raises UsageError for a name that leads out of a folder,
        StoreUnavailable.
        """
        check_name(name)
        known = self._files.get(name)
        number = known.number if known else f"{len(self._files) + 1:08d}"
        fresh = known is None or known.marker != marker or bool(known.digest)
        begun = BackupFile(number, name, 0, "", "", marker, original)
        if fresh:
            # Recorded first, so that a part is never taken for another file's.
            self._record(begun)
        part = self.store.open_part(f"{self.backup}/{number}")
        return FileWriter(self, begun, part, ChunkCipher(self._key, self.backup, number), fresh=fresh, kept=kept)

    def finish(self) -> Manifest:
        """Complete the backup. Raises Conflict while a file is unfinished, StoreUnavailable."""
        open_files = self.unfinished()
        if open_files:
            raise Conflict(f"the backup {self.backup} cannot be completed: {open_files[0]!r} is unfinished")
        content = {
            "format": FORMAT, "backup": self.backup, "created_at": self._header["created_at"],
            "completed_at": utcnow().isoformat(timespec="seconds"), "tool": _tool(), "about": about_of(self._header),
            "files": [asdict(f) for f in self._files.values()],
        }  # fmt: skip
        self.store.put(f"{self.backup}/{MANIFEST}", sealed_json(self._key, self.backup, MANIFEST, content))
        return manifest_of(self.store, self._box, self.backup)

    def _record(self, file: BackupFile) -> None:
        name = f"{file.number}{META}"
        self.store.put(f"{self.backup}/{name}", sealed_json(self._key, self.backup, name, asdict(file)))
        self._files[file.name] = file

    def _begin(self) -> dict[str, Any]:
        key = base64.b64encode(os.urandom(KEY_BYTES)).decode()
        header = {
            **self._about, "format": FORMAT, "backup": self.backup, "tool": _tool(),
            "created_at": utcnow().isoformat(timespec="seconds"), "key": self._box.encrypt(key, purpose=purpose_of(self.backup)),
        }  # fmt: skip
        self.store.put(f"{self.backup}/{HEADER}", json.dumps(header, indent=2, ensure_ascii=False).encode() + b"\n")
        return header

    def _recorded(self) -> Iterator[BackupFile]:
        for name in self.store.names(f"{self.backup}/*{META}"):
            yield BackupFile(**opened_json(self.store, self._key, self.backup, name.rpartition("/")[2]))


class FileWriter:
    """Writes one file of a backup. `offset`: bytes that are stored safely, from which the caller goes on."""

    def __init__(
        self, writer: BackupWriter, file: BackupFile, part: BinaryIO, cipher: ChunkCipher, *, fresh: bool,
        kept: Callable[[bytes], None] | None = None,
    ) -> None:  # fmt: skip
        self._writer, self._file, self._part, self._cipher = writer, file, part, cipher
        self._plain, self._sealed = hashlib.sha256(), hashlib.sha256()
        self._place, self._unsynced, self._buffer = 0, 0, bytearray()
        self.offset = 0
        self._take_up(fresh, kept or (lambda data: None))

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._part.close()

    def write(self, data: bytes) -> None:
        """Take the next bytes. Raises StoreUnavailable."""
        self._buffer += data
        # The last chunk is marked as such, so one chunk is held back until more follows.
        while len(self._buffer) > CHUNK:
            self._append(bytes(self._buffer[:CHUNK]), last=False)
            del self._buffer[:CHUNK]

    def finish(self) -> BackupFile:
        """The file is whole. Raises StoreUnavailable."""
        self._append(bytes(self._buffer), last=True)
        self._writer.store.finish_part(f"{self._writer.backup}/{self._file.number}", self._part)
        done = BackupFile(
            self._file.number, self._file.name, self.offset, self._plain.hexdigest(), self._sealed.hexdigest(),
            self._file.marker, self._file.original,
        )  # fmt: skip
        self._writer._record(done)
        return done

    def _take_up(self, fresh: bool, kept: Callable[[bytes], None]) -> None:
        """Read what an earlier attempt left, as far as it decrypts; the rest is written anew."""
        good = 0
        try:
            for chunk in () if fresh else chunks(self._part):
                try:
                    plain, last = self._cipher.open(self._place, chunk)
                except BackupDamaged:
                    break
                if last:
                    break
                good += len(chunk)
                self._count(plain, chunk)
                kept(plain)
            self._part.seek(good)
            self._part.truncate()
        except OSError as error:
            self._part.close()
            raise refused(self._writer.store.location, error) from error

    def _append(self, plain: bytes, *, last: bool) -> None:
        chunk = self._cipher.seal(self._place, plain, last=last)
        try:
            self._part.write(chunk)
            self._unsynced += len(chunk)
            if self._unsynced >= _SYNC_EVERY:
                self._part.flush()
                os.fsync(self._part.fileno())
                self._unsynced = 0
        except OSError as error:
            raise refused(self._writer.store.location, error) from error
        self._count(plain, chunk)

    def _count(self, plain: bytes, chunk: bytes) -> None:
        self._plain.update(plain)
        self._sealed.update(chunk)
        self._place += 1
        self.offset += len(plain)


def _tool() -> str:
    try:
        return f"exeunt {version('exeunt')}"
    except PackageNotFoundError:
        return "exeunt"
