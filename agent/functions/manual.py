"""The manual's table of functions, made from their declarations. `python -m agent.functions.manual FILE` renews it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from agent.functions import registry

_BEGIN, _END = "<!-- functions: made by `python -m agent.functions.manual` -->\n", "<!-- end of functions -->\n"


def table() -> str:
    """One row per function: name, what it does, its parameters with their defaults."""
    rows = ["| Function | Does | Parameters |", "|---|---|---|"]
    for name in registry.names():
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
    """A manual with its table of functions as it must be now. Raises ValueError when the place is missing."""
    pattern = re.compile(re.escape(_BEGIN) + ".*?" + re.escape(_END), re.S)
    if not pattern.search(manual):
        raise ValueError(f"the manual has no lines {_BEGIN.strip()} and {_END.strip()}")
    return pattern.sub(lambda _: _BEGIN + table() + _END, manual)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(renewed(file.read_text(encoding="utf-8")), encoding="utf-8")
