"""Encryption of backups: a file becomes chunks of AES-256-GCM, so it is written and read as a stream and can be resumed.

A chunk on disk is its nonce (12 bytes), the length of what follows (4 bytes, big-endian) and the ciphertext with its tag. The
nonce is random; the key is random per backup, so that 2^32 chunks of 1 MiB stay far from the limit of NIST SP 800-38D for
random nonces. Each chunk is bound to its backup, its object, its place in it and whether it is the last one: chunks that are
swapped, moved, left out or cut off at the end do not decrypt.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.errors import ExeuntError

#: Bytes of plain text in every chunk but the last.
CHUNK = 1 << 20
KEY_BYTES = 32
_NONCE, _LENGTH, _TAG = 12, 4, 16


class BackupDamaged(ExeuntError):
    """A backup is not what was written: changed, cut off, incomplete, or another backup's."""


class ChunkCipher:
    """Seals and opens the chunks of one object of one backup."""

    def __init__(self, key: bytes, backup: str, number: str) -> None:
        self._cipher = AESGCM(key)
        self._about = f"exeunt-backup-1\0{backup}\0{number}\0".encode()

    def seal(self, place: int, plain: bytes, *, last: bool) -> bytes:
        """A chunk as it stands on disk."""
        nonce = os.urandom(_NONCE)
        sealed = self._cipher.encrypt(nonce, plain, self._bound(place, last))
        return nonce + struct.pack(">I", len(sealed)) + sealed

    def open(self, place: int, chunk: bytes) -> tuple[bytes, bool]:
        """The plain text of a chunk, and whether it is the last. Raises BackupDamaged."""
        nonce, sealed = chunk[:_NONCE], chunk[_NONCE + _LENGTH :]
        for last in (False, True):
            try:
                return self._cipher.decrypt(nonce, sealed, self._bound(place, last)), last
            except InvalidTag:
                continue
        raise BackupDamaged(f"chunk {place} does not decrypt")

    def _bound(self, place: int, last: bool) -> bytes:
        return self._about + struct.pack(">Q?", place, last)


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """The chunks of a stream as they stand there; a piece of one at the end is left out."""
    while True:
        head = file.read(_NONCE + _LENGTH)
        if len(head) < _NONCE + _LENGTH:
            return
        (length,) = struct.unpack(">I", head[_NONCE:])
        if not _TAG <= length <= CHUNK + _TAG:
            return
        body = file.read(length)
        if len(body) < length:
            return
        yield head + body


def plain_text(file: BinaryIO, cipher: ChunkCipher) -> Iterator[bytes]:
    """The plain text of a whole object, piece by piece. Raises BackupDamaged when it does not end with its last chunk."""
    ended = False
    for place, chunk in enumerate(chunks(file)):
        if ended:
            raise BackupDamaged("something stands after the last chunk")
        plain, ended = cipher.open(place, chunk)
        yield plain
    if not ended:
        raise BackupDamaged("the end is missing")
