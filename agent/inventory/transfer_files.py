"""CSV and JSON files of places: rows with their line numbers in, rows out. Nothing here knows the database.

CSV: UTF-8, a header, commas (or semicolons or tabs, as the header has them). A spreadsheet takes a cell that begins with
one of `= + - @`, a tab or a line break for a formula; on export such a cell gets an apostrophe in front, which is taken away on
import (an apostrophe before anything else stays). JSON: one array of objects.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from agent.errors import ImportLineError, UsageError

FORMULA_STARTS = "=+-@\t\r\n"
FORMATS = ("csv", "json")

Row = dict[str, str]


def file_format(path: Path) -> str:
    """`csv` or `json` by the file's ending. Raises UsageError for another."""
    ending = path.suffix.lower().lstrip(".")
    if ending not in FORMATS:
        raise UsageError(f"{path}: the format is told by the ending, which must be .csv or .json")
    return ending


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of a file with the line each begins on (from 1; a CSV header is line 1). Cells are text.

    The first row of a CSV file is given as line 1 with its columns' names as keys and no meaning in its values, so that a
    header can be judged although no line follows. Raises ImportLineError for a file that is malformed there.
    """
    reader = _read_csv if file_format(path) == "csv" else _read_json
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield from reader(path, stream)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: it is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path}: it cannot be read: {error.strerror}") from error


def _read_csv(path: Path, stream: TextIO) -> Iterator[tuple[int, Row]]:
    first = stream.readline()
    stream.seek(0)
    reader = csv.reader(stream, delimiter=max(",;\t", key=first.count), strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise ImportLineError(f"it is no CSV: {error}", file=path, line=line) from None
        if cells is None:
            break
        if not cells:
            continue
        if not header:
            header = _checked_header(path, cells)
            yield line, dict.fromkeys(header, "")
        elif len(cells) != len(header):
            raise ImportLineError(f"it has {len(cells)} cells, but the header has {len(header)}", file=path, line=line)
        else:
            yield line, {name: _plain(cell) for name, cell in zip(header, cells, strict=True)}
    if not header:
        raise ImportLineError("it is empty: the first line names the columns", file=path, line=1)


def _checked_header(path: Path, header: list[str]) -> list[str]:
    for name in header:
        if not name or header.count(name) > 1:
            what = f"the column {name!r} occurs more than once" if name else "a column has no name"
            raise ImportLineError(what, file=path, line=1)
    return header


def _read_json(path: Path, stream: TextIO) -> Iterator[tuple[int, Row]]:
    text = stream.read()
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)
    position, line = 0, 1

    def skip(expected: str) -> str:
        nonlocal position, line
        start = position
        while position < len(text) and text[position] in " \t\r\n":
            position += 1
        line += text.count("\n", start, position)
        found = text[position : position + 1]
        if found not in expected or not found:
            raise ImportLineError(
                f"{' or '.join(expected)} is expected: write an array of objects", file=path, line=line
            )
        return found

    skip("[")
    position += 1
    mark = skip("{]")
    while mark != "]":
        skip("{")
        start = position
        try:
            value, position = decoder.raw_decode(text, position)
            row = {name: _cell(content) for name, content in value.items()}
        except (ValueError, RecursionError) as error:
            raise ImportLineError(f"it is no object that can be imported: {error}", file=path, line=line) from None
        yield line, row
        line += text.count("\n", start, position)
        mark = skip(",]")
        position += mark == ","
    if text[position + 1 :].strip():
        raise ImportLineError("something follows the array", file=path, line=line)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs more than once")
    return result


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, (str, int, float)):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _plain(cell: str) -> str:
    return cell[1:] if len(cell) > 1 and cell[0] == "'" and cell[1] in FORMULA_STARTS + "'" else cell


def _safe(cell: str) -> str:
    guarded = cell[:1] and (cell[0] in FORMULA_STARTS or (cell[0] == "'" and cell[1:2] in [*FORMULA_STARTS, "'"]))
    return "'" + cell if guarded else cell


def write_rows(stream: TextIO, file_format: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as they come; how many. JSON keeps the values' types, CSV takes text."""
    count = 0
    if file_format == "csv":
        writer = csv.writer(stream, lineterminator="\r\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_safe(_cell(row[name])) for name in columns])
            count += 1
        return count
    stream.write("[")
    for row in rows:
        stream.write(",\n" if count else "\n")
        stream.write(json.dumps({name: row[name] for name in columns}, ensure_ascii=False))
        count += 1
    stream.write("\n]\n")
    return count


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A file that appears complete or not at all, readable by its owner only. Raises UsageError when it cannot be written."""
    try:
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UsageError(f"{path}: it cannot be written: {error.strerror}") from error
    partial = Path(name)
    try:
        with os.fdopen(number, "w", encoding="utf-8", newline="") as stream:
            yield stream
        partial.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: it cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
