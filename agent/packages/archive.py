"""Packages as one file: a zip archive with a manifest, read as if somebody wished us ill, written to the same bytes always.

    manifest.json                 format, product version, packages with versions and the digest of each file, what they need
    signature.json                who signed the manifest (optional)
    packages/<key>/...            the packages' files

Members are stored without compression, so that a given content has one form only.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.content.loading import BODY_BYTES
from agent.content.package_files import DEPTH, EXTENSIONS, FILES
from agent.errors import UsageError

FORMAT = 1
MANIFEST, SIGNATURE = "manifest.json", "signature.json"
#: Bounds of an archive, in bytes and members.
ARCHIVE_BYTES, TOTAL_BYTES, MEMBERS, PACKAGES = 50_000_000, 50_000_000, 5_000, 100
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99})*")
_KEY = re.compile(r"[a-z][a-z0-9_]{0,59}")
#: The first moment that a zip archive can hold: files of an archive have no times of their own.
_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Archive:
    """An archive whose every file is the one that its manifest says."""

    manifest: Mapping[str, Any]
    manifest_bytes: bytes
    signature: Any
    #: Key of a package -> path below its folder -> text.
    packages: Mapping[str, Mapping[str, str]]
    #: SHA-256 of the whole archive, hexadecimal.
    digest: str


def write(manifest: Mapping[str, Any], packages: Mapping[str, Mapping[str, str]]) -> bytes:
    """The bytes of a manifest with the files' digests put in."""
    listed = [
        {**entry, "files": {p: _sha(t.encode()) for p, t in sorted(packages[entry["key"]].items())}}
        for entry in manifest["packages"]
    ]
    return canonical({**manifest, "format": FORMAT, "packages": listed})


def pack(manifest: bytes, signature: Mapping[str, str] | None, packages: Mapping[str, Mapping[str, str]]) -> bytes:
    """The archive. The same content gives the same bytes."""
    members = {MANIFEST: manifest}
    if signature is not None:
        members[SIGNATURE] = canonical(signature)
    for key, files in packages.items():
        members |= {f"packages/{key}/{path}": text.encode() for path, text in files.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members, key=lambda n: (n != MANIFEST, n != SIGNATURE, n)):
            info = zipfile.ZipInfo(name, _TIME)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.create_system = 3
            archive.writestr(info, members[name])
    return buffer.getvalue()


def canonical(value: Any) -> bytes:
    """JSON in one form only, with a line end."""
    return (json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1) + "\n").encode()


def read(data: bytes) -> Archive:
    """Read an archive. Raises UsageError that names everything that is missing, changed, unknown or not allowed."""
    if len(data) > ARCHIVE_BYTES:
        raise UsageError(f"the archive is larger than {ARCHIVE_BYTES} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = _members(archive)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, zlib.error) as error:
        raise UsageError(f"this is no archive of packages: {error}") from None
    if MANIFEST not in members:
        raise UsageError(f"the archive has no {MANIFEST}: it was not made by `exeunt package export`")
    manifest = _json(members[MANIFEST], MANIFEST)
    packages, faults = _checked(manifest, {n: d for n, d in members.items() if n not in (MANIFEST, SIGNATURE)})
    if faults:
        raise UsageError(f"the archive is not as it was made: {'; '.join(faults)}")
    signature = _json(members[SIGNATURE], SIGNATURE) if SIGNATURE in members else None
    return Archive(manifest, members[MANIFEST], signature, packages, _sha(data))


def _members(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """Every member's content. What a member says of its size is not believed: reading stops at the bound."""
    infos = archive.infolist()
    if len(infos) > MEMBERS:
        raise UsageError(f"the archive has more than {MEMBERS} members")
    found: dict[str, bytes] = {}
    folded: set[str] = set()
    total = 0
    for info in infos:
        _check_member(info)
        if info.filename.casefold() in folded:
            raise UsageError(f"the archive has {info.filename!r} twice")
        folded.add(info.filename.casefold())
        with archive.open(info) as stream:
            content = stream.read(BODY_BYTES + 1)
        total += len(content)
        if len(content) > BODY_BYTES or total > TOTAL_BYTES:
            raise UsageError(
                f"{info.filename!r} is too large: a member has at most {BODY_BYTES} bytes, all {TOTAL_BYTES}"
            )
        found[info.filename] = content
    return found


def _check_member(info: zipfile.ZipInfo) -> None:
    name, mode = info.filename, info.external_attr >> 16
    # What the archive says, before zipfile cuts it at a NUL.
    if info.orig_filename != name or not _NAME.fullmatch(name) or ".." in name.split("/"):
        raise UsageError(f"the archive has a member with the name {info.orig_filename!r}, which is not allowed")
    if info.is_dir() or (mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode)):
        raise UsageError(f"{name!r} is no plain file: folders, links and devices are not allowed")
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UsageError(f"{name!r} is encrypted, or compressed in a way that is not allowed")
    if info.file_size > BODY_BYTES:
        raise UsageError(f"{name!r} is too large: a member has at most {BODY_BYTES} bytes")


def _json(data: bytes, name: str) -> Any:
    try:
        return json.loads(data.decode())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{name} is no JSON: {type(error).__name__}") from None


def _checked(manifest: Any, members: Mapping[str, bytes]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The packages' files, compared with the manifest; and everything in which the two differ."""
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise UsageError(f"the manifest has the format {found!r}, and this version reads {FORMAT}")
    listed = manifest.get("packages")
    if not isinstance(listed, list) or not all(isinstance(e, dict) for e in listed) or len(listed) > PACKAGES:
        raise UsageError("the manifest has no list of packages")
    packages: dict[str, dict[str, str]] = {}
    faults, expected = [], set()
    for entry in listed:
        key, files = entry.get("key"), entry.get("files")
        if not (isinstance(key, str) and _KEY.fullmatch(key)) or key in packages or not isinstance(files, dict):
            raise UsageError(f"the manifest has a package {key!r}, which is not allowed, or there twice")
        if not all(isinstance(entry.get(n), str) for n in ("name", "version", "digest")) or len(files) > FILES:
            raise UsageError(f"the manifest's entry of {key} is not whole")
        packages[key] = {}
        for path, digest in files.items():
            name = f"packages/{key}/{path}"
            expected.add(name)
            content = members.get(name)
            if content is None:
                faults.append(f"{name} is missing")
            elif not path.endswith(EXTENSIONS) or path.count("/") >= DEPTH:
                faults.append(f"{name} has no place in a package")
            elif _sha(content) != digest:
                faults.append(f"{name} was changed")
            else:
                packages[key][path] = _utf8(content, name)
    faults += [f"{name} is not in the manifest" for name in members if name not in expected]
    return packages, faults


def _utf8(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not UTF-8 text") from None


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
