"""Unexpected errors: their traceback is kept in the workspace, readable by its owner only."""

from __future__ import annotations

import os
import traceback
from datetime import UTC, datetime
from pathlib import Path

from agent.cli.caller import Caller

FILE = "errors.log"


def keep(error: BaseException, caller: Caller) -> Path | None:
    """Append the traceback to `<workspace>/errors.log` (mode 0600); None when that cannot be."""
    try:
        file = caller.folder / FILE
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o600)
        with os.fdopen(handle, "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(f"--- {datetime.now(UTC).isoformat()}\n" + "".join(traceback.format_exception(error)))
    except OSError:
        return None
    return file
