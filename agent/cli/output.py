"""What the command line prints: tables for people, JSON for programs; nothing in it can steer a terminal."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import PurePath
from typing import Any

import click

_DIRECTIONS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
#: Characters that JSON leaves as they are and a terminal may act on.
_STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """One line that a terminal can show: control characters, line breaks too, become escapes such as `\\n`."""
    return "".join(c if c == " " or not _steers(c) else _escape(c) for c in text)


def clean_lines(text: str) -> str:
    """The same for a text of several lines: its line breaks and tabs stay."""
    return "".join(c if c in "\n\t" or not _steers(c) else _escape(c) for c in text.replace("\r\n", "\n"))


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or (
        unicodedata.bidirectional(character) in _DIRECTIONS
    )


def _escape(character: str) -> str:
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    code = ord(character)
    return known or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def cell(value: Any) -> str:
    """A value as a table shows it; None and empty text are a dash."""
    if value is None or value == "" or value == () or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Enum):
        return cell(value.value)
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(cell(v) for v in value)
    if isinstance(value, Mapping):
        return clean(json.dumps(plain(value), ensure_ascii=False))
    return clean(str(value))


def plain(value: Any) -> Any:
    """A value as JSON can hold it: times as ISO text with a zone, records as their columns."""
    if value is None or isinstance(value, bool | int | float | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date | PurePath):
        return str(value)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(value, "model_dump"):
        return plain(value.model_dump())
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Iterable):
        return [plain(v) for v in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def show_json(value: Any) -> None:
    """Print a value as indented JSON; what could steer a terminal is escaped."""
    text = json.dumps(plain(value), ensure_ascii=False, indent=2)
    click.echo(_STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "nothing") -> None:
    """Print rows: as a table on a terminal, else in plain columns; `empty` is said when there are none."""
    cells = [[cell(value) for value in row] for row in rows]
    if not cells:
        click.echo(f"({empty})")
    elif sys.stdout.isatty():
        _rich_table(columns, cells)
    else:
        _plain_table(columns, cells)


def _rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in cells:
        # Text, not str: square brackets in data are no markup.
        table.add_row(*(Text(value, style=STYLES.get(value, "")) for value in row))
    Console().print(table)


STYLES = {
    "succeeded": "green", "SUCCESS": "green", "FAILED": "red", "failed": "red", "ERROR": "red", "partial": "yellow",
    "held": "yellow", "unknown": "magenta", "cancelled": "dim", "skipped": "dim", "running": "cyan", "queued": "cyan",
}  # fmt: skip


def _plain_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    lines = [[name.upper() for name in columns], *cells]
    widths = [max(_width(line[n]) for line in lines) for n in range(len(columns))]
    for line in lines:
        padded = (text + " " * (width - _width(text)) for text, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1 for c in text
    )


def show_details(values: Mapping[str, Any]) -> None:
    """Print names and values, one per line; a text of several lines follows indented."""
    width = max((_width(name) for name in values), default=0)
    for name, value in values.items():
        lines = clean_lines(value).splitlines() if isinstance(value, str) and value else [cell(value)]
        click.echo(f"{name}{' ' * (width - _width(name))}  {lines[0]}")
        for line in lines[1:]:
            click.echo(f"{' ' * width}  {line}")


def say(text: str) -> None:
    """Print a line for people on standard output."""
    click.echo(clean_lines(text))


def tell(text: str) -> None:
    """Print a line for people on standard error, where it does not mix with results."""
    click.echo(clean_lines(text), err=True)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    click.echo("warning: " + clean_lines(text), err=True)


def counted(number: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
