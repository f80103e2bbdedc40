"""Where the content lies that comes with Exeunt: in an installed wheel, an editable installation or a bare checkout."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

_HERE = Path(str(files("agent")))
#: Folder that holds monitors/, alert_templates/, scripts/ and edf_schema.sql.
ROOT: Path = _HERE / "_shipped" if (_HERE / "_shipped").is_dir() else _HERE.parent


def path(*parts: str) -> Path:
    """The path of a shipped file or folder."""
    return ROOT.joinpath(*parts)


def text(*parts: str) -> str:
    """The text of a shipped file."""
    source: Traversable = path(*parts)
    return source.read_text(encoding="utf-8")
