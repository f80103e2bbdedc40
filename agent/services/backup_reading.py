"""Backups as they are read: records, manifest, verification, restoring. See `backups` for what a backup is."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from agent.errors import Conflict, NotFound, StoreError, UsageError
from agent.secrets import SecretBox
from agent.services.backup_crypto import CHUNK, BackupDamaged, ChunkCipher, plain_text
from agent.services.backup_stores import BackupStore, refused

HEADER, MANIFEST, META = "header.json", "manifest", ".meta"
FORMAT = 1


@dataclass(frozen=True)
class BackupFile:
    """One file of a backup. `digest`: SHA-256 of the plain text; `sealed_digest`: of the object in the store."""

    number: str
    name: str
    size: int
    digest: str
    sealed_digest: str
    #: What the source said of this version, such as an eTag: another one makes the file be taken again.
    marker: str | None
    #: Its path in the source, where that could not be kept as the name.
    original: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What a complete backup holds. `digest`: SHA-256 of the manifest's object in the store."""

    backup: str
    created_at: str
    completed_at: str
    tool: str
    files: tuple[BackupFile, ...]
    #: The header as it was, without the key.
    about: Mapping[str, Any]
    location: str
    digest: str

    @property
    def size(self) -> int:
        """Bytes of plain text."""
        return sum(f.size for f in self.files)


def manifest_of(store: BackupStore, box: SecretBox, backup: str) -> Manifest:
    """The manifest of a complete backup. Raises NotFound for an incomplete one, BackupDamaged, StoreUnavailable."""
    header = header_of(store, backup)
    if header is None:
        raise NotFound(f"there is no backup {backup!r} in {store.location}")
    if not has_object(store, f"{backup}/{MANIFEST}"):
        raise NotFound(f"the backup {backup} is incomplete: it has no manifest")
    key = key_of(box, backup, header)
    with store.read(f"{backup}/{MANIFEST}") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    found = opened_json(store, key, backup, MANIFEST)
    return Manifest(
        backup, found["created_at"], found["completed_at"], found["tool"], tuple(BackupFile(**f) for f in found["files"]),
        found["about"], f"{store.location}/{backup}", digest,
    )  # fmt: skip


def verify(store: BackupStore, box: SecretBox, backup: str, *, digest: str | None = None) -> list[str]:
    """Decrypt everything and compare it with the manifest: faults, empty when there are none.

    `digest`: that of the manifest as it was noted elsewhere. Raises NotFound, StoreUnavailable.
    """
    try:
        manifest = manifest_of(store, box, backup)
    except BackupDamaged as error:
        return [f"the manifest: {error}"]
    faults = [] if digest in (None, manifest.digest) else ["the manifest is not the one that was recorded"]
    if about_of(header_of(store, backup) or {}) != manifest.about:
        faults.append("the header says something else than when the backup was completed")
    key = read_key(store, box, backup)
    for file in manifest.files:
        faults += [f"{file.name!r}: {fault}" for fault in _faults_of(store, key, backup, file)]
    expected = {f"{backup}/{f.number}{ending}" for f in manifest.files for ending in ("", META)}
    expected |= {f"{backup}/{HEADER}", f"{backup}/{MANIFEST}"}
    faults += [f"{name} is no part of the backup" for name in store.names(f"{backup}/*") if name not in expected]
    return faults


def contents(store: BackupStore, key: bytes, backup: str, file: BackupFile) -> Iterator[bytes]:
    """The plain text of a file, piece by piece. Raises BackupDamaged, NotFound, StoreUnavailable."""
    with store.read(f"{backup}/{file.number}") as sealed:
        try:
            yield from plain_text(sealed, ChunkCipher(key, backup, file.number))
        except OSError as error:
            raise refused(store.location, error) from error


def read_key(store: BackupStore, box: SecretBox, backup: str) -> bytes:
    """The key of a backup. Raises NotFound, SettingsError when the master key does not fit, BackupDamaged."""
    header = header_of(store, backup)
    if header is None:
        raise NotFound(f"there is no backup {backup!r} in {store.location}")
    return key_of(box, backup, header)


def listed(store: BackupStore, client: str = "*") -> list[dict[str, Any]]:
    """Headers of the backups of a client's slug, or of all, without their keys; `complete` says whether it is.

    Raises StoreUnavailable, BackupDamaged.
    """
    complete = {name.rpartition("/")[0] for name in store.names(f"{client}/*/{MANIFEST}")}
    found = []
    for name in store.names(f"{client}/*/{HEADER}"):
        backup = name.rpartition("/")[0]
        found.append({**about_of(header_of(store, backup) or {}), "backup": backup, "complete": backup in complete})
    return found


def restore(store: BackupStore, box: SecretBox, backup: str, target: Path) -> Manifest:
    """Write every file of a complete backup under a folder that is new or empty, comparing its digest.

    Raises Conflict, BackupDamaged, NotFound, StoreUnavailable, StoreError when the folder cannot be written.
    """
    manifest = manifest_of(store, box, backup)
    key = read_key(store, box, backup)
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise Conflict(f"{target} is not empty: a backup is restored into a new folder")
        for file in manifest.files:
            check_name(file.name)
            _restore_file(store, key, backup, file, target / file.name)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}") from error
    return manifest


def _restore_file(store: BackupStore, key: bytes, backup: str, file: BackupFile, path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".restore-")
    try:
        with os.fdopen(handle, "wb") as output:
            for text in contents(store, key, backup, file):
                digest.update(text)
                size += len(text)
                output.write(text)
        if (size, digest.hexdigest()) != (file.size, file.digest):
            raise BackupDamaged(f"{file.name!r}: what decrypts is not what was backed up")
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def about_of(header: Mapping[str, Any]) -> dict[str, Any]:
    """A header without its key."""
    return {k: v for k, v in header.items() if k != "key"}


def _faults_of(store: BackupStore, key: bytes, backup: str, file: BackupFile) -> Iterator[str]:
    plain, sealed, size = hashlib.sha256(), hashlib.sha256(), 0
    try:
        with store.read(f"{backup}/{file.number}") as raw:
            while piece := raw.read(CHUNK):
                sealed.update(piece)
        for text in contents(store, key, backup, file):
            plain.update(text)
            size += len(text)
    except (BackupDamaged, NotFound) as error:
        yield str(error)
        return
    if sealed.hexdigest() != file.sealed_digest:
        yield "the stored object is not the one that was written"
    if (size, plain.hexdigest()) != (file.size, file.digest):
        yield "what decrypts is not what was backed up"
    try:
        if BackupFile(**opened_json(store, key, backup, f"{file.number}{META}")) != file:
            yield "its record is not that of the manifest"
    except (BackupDamaged, NotFound) as error:
        yield f"its record: {error}"


def sealed_json(key: bytes, backup: str, name: str, content: Mapping[str, Any]) -> bytes:
    """JSON as an encrypted object."""
    text = json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
    cipher = ChunkCipher(key, backup, name)
    pieces = [text[i : i + CHUNK] for i in range(0, len(text), CHUNK)]
    return b"".join(cipher.seal(n, piece, last=n == len(pieces) - 1) for n, piece in enumerate(pieces))


def opened_json(store: BackupStore, key: bytes, backup: str, name: str) -> dict[str, Any]:
    """An encrypted object as JSON. Raises BackupDamaged, NotFound, StoreUnavailable."""
    with store.read(f"{backup}/{name}") as file:
        text = b"".join(plain_text(BytesIO(file.read()), ChunkCipher(key, backup, name)))
    found: dict[str, Any] = json.loads(text.decode("utf-8", "surrogatepass"))
    return found


def header_of(store: BackupStore, backup: str) -> dict[str, Any] | None:
    """The header of a backup, None where there is none. Raises BackupDamaged."""
    try:
        with store.read(f"{backup}/{HEADER}") as file:
            header = json.loads(file.read())
    except NotFound:
        return None
    except ValueError as error:
        raise BackupDamaged(f"the header of {backup} cannot be read") from error
    if not isinstance(header, dict) or not isinstance(header.get("key"), str) or header.get("format") != FORMAT:
        raise BackupDamaged(f"the header of {backup} is not one of a backup of this format")
    return header


def key_of(box: SecretBox, backup: str, header: Mapping[str, Any]) -> bytes:
    """The key of a backup, unwrapped. Raises SettingsError when the master key does not fit, BackupDamaged."""
    try:
        return base64.b64decode(box.decrypt(header["key"], purpose=purpose_of(backup)))
    except StoreError as error:
        raise BackupDamaged(f"the header of {backup} holds the key of something else") from error


def purpose_of(backup: str) -> str:
    """What the wrapped key of a backup is bound to."""
    return f"backup:{backup}"


def has_object(store: BackupStore, name: str) -> bool:
    """Whether the store has an object."""
    try:
        store.read(name).close()
    except NotFound:
        return False
    return True


def check_name(name: str) -> None:
    """Raises UsageError for a name that leads out of a folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or name.endswith("/"):
        raise UsageError(f"{name!r} is no path of a file in a backup: write it without a leading / and without ..")
