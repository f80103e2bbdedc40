"""Files that wait between their upload and the confirmation of what they would do: in the workspace, for an hour.

They may hold people and definitions: what nobody confirms does not stay. The application looks every hour.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path

from agent.errors import NotFound, SettingsError
from agent.settings import Settings

#: Seconds for which an upload is kept.
KEPT = 3600


def keep(settings: Settings, owner: str, content: bytes) -> str:
    """Keep a file for its owner (a user's id); the token to get it by. What is too old goes."""
    folder = settings.workspace / "uploads"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        sweep(settings)
        token = secrets.token_hex(16)
        number = os.open(_file(settings, owner, token), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "wb") as file:
            file.write(content)
    except OSError as error:
        raise SettingsError(f"the upload cannot be kept in {folder}: {error.strerror}") from error
    return token


def sweep(settings: Settings) -> int:
    """Remove what was never confirmed and is too old; how many files. Raises OSError."""
    folder = settings.workspace / "uploads"
    old = [f for f in folder.iterdir() if f.stat().st_mtime < time.time() - KEPT] if folder.is_dir() else []
    for file in old:
        file.unlink(missing_ok=True)
    return len(old)


def kept(settings: Settings, owner: str, token: str) -> bytes:
    """A file that its owner uploaded. Raises NotFound."""
    try:
        return _file(settings, owner, token).read_bytes()
    except FileNotFoundError:
        raise NotFound("the upload is not kept any more: upload the file again") from None


def forget(settings: Settings, owner: str, token: str) -> None:
    """Remove a file that was used."""
    _file(settings, owner, token).unlink(missing_ok=True)


def _file(settings: Settings, owner: str, token: str) -> Path:
    if not re.fullmatch(r"[0-9a-f]{32}", token) or not re.fullmatch(r"[\w.:-]{1,100}", owner):
        raise NotFound("there is no such upload")
    return settings.workspace / "uploads" / f"{owner}-{token}"
