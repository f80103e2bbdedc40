"""Tokens of sessions, programs and links: 256 random bits, kept as their SHA-256 only."""

from __future__ import annotations

import hashlib
import secrets


def new_token() -> str:
    """43 characters of URL-safe base64 from the system's random source."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What is stored of a token, hexadecimal. A plain hash will do: nobody can guess 256 random bits."""
    return hashlib.sha256(token.encode("utf-8", "backslashreplace")).hexdigest()
