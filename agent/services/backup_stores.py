"""Where backups are kept: the port, and the store in a directory (a disk, a mounted share).

Whatever has its final name is whole: it was written under another name, brought to the disk and renamed. A store that is
away or full says so with `StoreUnavailable`; a folder that is missing is never made, since it may be a share that is not
mounted.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from agent.errors import Conflict, ExeuntError, NotFound

PART = ".part"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")


class StoreUnavailable(ExeuntError):
    """A backup store cannot be used now. `code`: disk_full, unreachable, forbidden, no_bucket or not_configured."""

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)


class BackupStore(Protocol):
    """Keeps objects by names such as `contoso/3f9a-onedrive/00000001`."""

    @property
    def location(self) -> str:
        """The store, for people."""

    def put(self, name: str, content: bytes) -> None:
        """Store a small object whole, in the place of one of the same name. Raises StoreUnavailable."""

    def open_part(self, name: str) -> BinaryIO:
        """What was written of an unfinished object so far, to be read and written on. Raises StoreUnavailable."""

    def finish_part(self, name: str, part: BinaryIO) -> None:
        """The object is complete: bring it to the disk and give it its name. Raises StoreUnavailable."""

    def read(self, name: str) -> BinaryIO:
        """An object. Raises NotFound, StoreUnavailable."""

    def names(self, pattern: str) -> list[str]:
        """Names of the objects that fit, such as `contoso/3f9a/*` (`*` stands for a part without `/`), sorted.

        Unfinished ones end with `.part`. Raises StoreUnavailable.
        """

    def delete(self, backup: str, *, first: str) -> None:
        """Delete all that stands under a name, the object `first` before all others. Raises StoreUnavailable."""

    def lock(self, name: str) -> AbstractContextManager[None]:
        """A context in which nobody else writes under a name. Raises Conflict."""


class DirectoryStore:
    """Objects as files of a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def location(self) -> str:
        """The directory."""
        return str(self.root)

    def put(self, name: str, content: bytes) -> None:
        """Under a name that nobody else uses, then renamed."""
        with self._said():
            path = self._path(name, make=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            with _private(temporary, "wb") as file:
                file.write(content)
                _to_disk(file)
            temporary.replace(path)
            _folder_to_disk(path.parent)

    def open_part(self, name: str) -> BinaryIO:
        """The file `NAME.part`, at its beginning."""
        with self._said():
            path = self._path(name, make=True)
            part = path.with_name(path.name + PART)
            return _private(part, "r+b" if part.exists() else "w+b")

    def finish_part(self, name: str, part: BinaryIO) -> None:
        """To the disk, then renamed, then the directory to the disk."""
        with self._said():
            _to_disk(part)
            part.close()
            path = self._path(name, make=False)
            path.with_name(path.name + PART).replace(path)
            _folder_to_disk(path.parent)

    def read(self, name: str) -> BinaryIO:
        """The file."""
        with self._said():
            try:
                return self._path(name, make=False).open("rb")
            except (FileNotFoundError, IsADirectoryError):
                self._there()
                raise NotFound(f"there is no {name} in the backup store {self.location}") from None

    def names(self, pattern: str) -> list[str]:
        """The files that fit, without what is being written by `put`."""
        with self._said():
            self._there()
            found = (p for p in self.root.glob(pattern) if p.is_file() and not p.name.startswith("."))
            return sorted(p.relative_to(self.root).as_posix() for p in found)

    def delete(self, backup: str, *, first: str) -> None:
        """The folder; `first` is off the disk before the others are touched."""
        with self._said():
            self._there()
            folder = self._path(backup, make=False)
            if not folder.is_dir():
                return
            folder.joinpath(first).unlink(missing_ok=True)
            _folder_to_disk(folder)
            shutil.rmtree(folder)
            _folder_to_disk(folder.parent)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """A lock of the operating system, which goes with the process."""
        import fcntl

        with self._said():
            file = _private(self._path(f"{name}/lock", make=True).with_name(".lock"), "ab")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(f"somebody else writes the backup {name} now") from None
            yield

    def _path(self, name: str, *, make: bool) -> Path:
        path = self.root.joinpath(*parts_of(name))
        if make:
            self._there()
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def _there(self) -> None:
        if not self.root.is_dir():
            raise StoreUnavailable(
                f"the backup store {self.location} is not there: mount it, or make the folder", code="unreachable"
            )

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Say what the operating system refuses in the words of a store."""
        try:
            yield
        except OSError as error:
            raise refused(self.location, error) from error


def parts_of(name: str) -> list[str]:
    """The parts of an object's name. Raises NotFound for what is no such name, such as one that leads out of a store."""
    parts = name.split("/")
    if not all(_NAME.fullmatch(part) for part in parts):
        raise NotFound(f"{name!r} is no name of an object in a backup store")
    return parts


def refused(location: str, error: OSError) -> StoreUnavailable:
    """The error of a store that the operating system refuses."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    why = "is full" if full else f"cannot be used: {error.strerror}"
    return StoreUnavailable(f"the backup store {location} {why}", code="disk_full" if full else "unreachable")


def _private(path: Path, mode: str) -> BinaryIO:
    """A file for its owner only."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))  # type: ignore[return-value]


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _folder_to_disk(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
