"""Signatures of packages: Ed25519 over the manifest, and whose are trusted here.

Who signs keeps a private key in the workspace (`package-signing.key`, readable by its owner only). Who trusts names the
public key in the system property `_sysTrustedPublishers`.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent.errors import Conflict, SettingsError, UsageError
from agent.services.properties import trusted_publishers

KEY_FILE = "package-signing.key"


@dataclass(frozen=True)
class Signed:
    """Who signed a manifest, as far as that is known. `publisher`: the trusted name of the key, None for a strange key."""

    key: str
    publisher: str | None


def make_key(workspace: Path) -> str:
    """Make the workspace's signing key; the public key as text. Raises Conflict when there is one already."""
    file = workspace / KEY_FILE
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Conflict(f"{file} is there already: whoever trusts it would not trust another one") from None
    with os.fdopen(handle, "wb") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    return _text(key.public_key())


def public_key(workspace: Path) -> str | None:
    """The workspace's public key as text, None when it signs nothing. Raises SettingsError for a file that is no key."""
    key = _private(workspace)
    return _text(key.public_key()) if key else None


def sign(workspace: Path, manifest: bytes) -> dict[str, str] | None:
    """The signature of a manifest as an archive holds it; None when the workspace has no key."""
    key = _private(workspace)
    if key is None:
        return None
    return {"key": _text(key.public_key()), "signature": base64.b64encode(key.sign(manifest)).decode()}


def verify(signature: Any, manifest: bytes, trusted: str) -> Signed | None:
    """Who signed a manifest; None when nobody did. `trusted`: the property's value.

    Raises UsageError for a signature that does not belong to the manifest: somebody changed one of the two.
    """
    if signature is None:
        return None
    try:
        key, signed = signature["key"], base64.b64decode(signature["signature"], validate=True)
        Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True)).verify(signed, manifest)
    except (InvalidSignature, KeyError, TypeError, ValueError, binascii.Error):
        raise UsageError("the signature does not belong to this archive: it was changed after it was signed") from None
    names = {held: name for name, held in trusted_publishers(trusted).items()}
    return Signed(key, names.get(key))


def _private(workspace: Path) -> Ed25519PrivateKey | None:
    file = workspace / KEY_FILE
    if not file.exists():
        return None
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"{file} cannot be read as a signing key: {type(error).__name__}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{file} is no Ed25519 key")
    return key


def _text(key: Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes_raw()).decode()
