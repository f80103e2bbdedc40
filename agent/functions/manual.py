"""The manuals' tables of functions, made from their declarations. `python -m agent.functions.manual FILE...` renews them.

`scripts/README.md` has the functions that come with Exeunt; the README of a package has those of its system, between the
lines `<!-- functions of zoom: made by ... -->` and `<!-- end of functions -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from agent.functions import registry

_BEGIN = "<!-- functions{}: made by `python -m agent.functions.manual` -->\n"
_END = "<!-- end of functions -->\n"
_PLACE = re.compile(_BEGIN.format("(?: of ([a-z][a-z0-9_]*))?") + ".*?" + re.escape(_END), re.S)


def table(system: str | None = None) -> str:
    """One row per function of a system's module (None: of the built-in ones): name, what it does, its parameters."""
    rows = ["| Function | Does | Parameters |", "|---|---|---|"]
    for name in sorted(registry.BUILT_IN if system is None else registry.of_system(system)):
        function = registry.get(name)
        parameters = ", ".join(_parameter(n, f) for n, f in function.Parameters.model_fields.items()) or "none"
        rows.append(f"| `{name}` | {_cell(function.summary)} | {_cell(parameters)} |")
    return "\n".join(rows) + "\n"


def _parameter(name: str, field: Any) -> str:
    if field.is_required():
        return f"`{name}` (required)"
    default = field.default
    if default is PydanticUndefined or default is None or default in ("", ()):
        return f"`{name}`"
    return f"`{name}` (default `{str(default).lower() if isinstance(default, bool) else default}`)"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def renewed(manual: str) -> str:
    """A manual with its tables of functions as they must be now. Raises ValueError when it has no place for one."""
    if not _PLACE.search(manual):
        raise ValueError(f"the manual has no lines {_BEGIN.format('').strip()} and {_END.strip()}")
    return _PLACE.sub(lambda m: _BEGIN.format(f" of {m[1]}" if m[1] else "") + table(m[1]) + _END, manual)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        file = Path(argument)
        file.write_text(renewed(file.read_text(encoding="utf-8")), encoding="utf-8")
