"""Whether another distribution has installed a package called `agent` over ours (it happens without a word from pip).

`importlib.metadata.packages_distributions` tells the same, and takes 100 ms: too long for every start.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agent.errors import SettingsError

OURS = "exeunt"


def check(path: list[str] | None = None) -> None:
    """Raises SettingsError that names the other distribution."""
    others = sorted(owners(path if path is not None else sys.path) - {OURS})
    if others:
        raise SettingsError(
            f"the import name `agent` also belongs to {', '.join(others)}, whose files may have replaced ours: install "
            "exeunt into an environment of its own (`python3 -m venv`, then `pip install exeunt` there)"
        )


def owners(path: list[str]) -> set[str]:
    """Names of the distributions on a path that install a top-level `agent`, in lower case."""
    found = set()
    for folder in dict.fromkeys(path):
        try:
            with os.scandir(folder or ".") as entries:
                names = [e.name for e in entries if e.name.endswith((".dist-info", ".egg-info"))]
        except OSError:
            continue  # not a folder: a zip file, or gone
        found |= {_distribution(name) for name in names if _brings_agent(Path(folder, name))}
    return found


def _distribution(folder_name: str) -> str:
    return folder_name.rsplit(".", 1)[0].split("-")[0].replace("_", "-").lower()


def _brings_agent(folder: Path) -> bool:
    top = _read(folder / "top_level.txt")
    if top is not None:
        return b"agent" in top.split()
    record = _read(folder / "RECORD")
    return record is not None and (record.startswith(b"agent/") or b"\nagent/" in record or b"\nagent.py," in record)


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None
