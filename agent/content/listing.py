"""Editing a client's `client.yaml` as text, so that what people wrote into it stays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from agent.content import loading
from agent.content.faults import Place
from agent.content.loading import Document
from agent.errors import ContentError

_HEAD = (
    "# Which scripts a wrapper runs for this client, in this order. Written by `exeunt script use`; may be edited.\n"
)


def edited_list(document: Document | None, client: str, wrapper: str, names: list[str]) -> str:
    """The text of `client.yaml` with another list for one wrapper; all else as it was. `document` None: a new file.

    Raises ContentError when the file is written in a way that cannot be edited without losing comments.
    """
    return _edited(document, client, ("scripts", wrapper), names)


def edited_lists(
    document: Document | None, client: str, lists: Mapping[str, Sequence[str]], packages: Sequence[str]
) -> str:
    """The text of `client.yaml` with other lists for these wrappers, and this order of packages. Raises ContentError."""
    wanted: dict[Place, Sequence[str]] = {
        **{("scripts", w): names for w, names in lists.items()},
        ("packages",): packages,
    }
    for place, names in wanted.items():
        for stage in _stages(_at(document, place) or [], list(names)):
            text = _edited(document, client, place, stage)
            document = loading.parse(text, document.file if document else Path("client.yaml"))
    if document is None:
        return _HEAD + _dump({"client": client})
    return document.text


def _stages(old: list[str], new: list[str]) -> Iterator[list[str]]:
    """Lists between two lists, each one a removal, a change of order or one insertion away from the one before."""
    left = [name for name in old if name in new]
    if left != old:
        yield left
    ordered = [name for name in new if name in old]
    if ordered != left:
        yield ordered
    for index, name in enumerate(new):
        if name not in old:
            ordered = [*ordered[:index], name, *ordered[index:]]
            yield ordered


def _at(document: Document | None, place: Place) -> list[str] | None:
    found: Any = document.data if document else {}
    for part in place:
        found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, list) else None


def _edited(document: Document | None, client: str, place: Place, names: list[str]) -> str:
    first = str(place[0])
    if document is None:
        return _HEAD + _dump({"client": client, first: {place[1]: names} if len(place) > 1 else names})
    expected = {**document.data, first: {**document.data.get(first, {}), place[1]: names} if len(place) > 1 else names}
    for text in (_by_lines(document, place, _at(document, place), names), _rewritten(document, expected)):
        if text is not None and _means(text, expected):
            return text
    raise document.fault("cannot be edited without losing its comments: write one script per line", (first,))


def _dump(data: Any) -> str:
    return yaml.safe_dump(data, allow_unicode=True, sort_keys=False, width=10_000)


def _means(text: str, expected: Any) -> bool:
    try:
        return bool(loading.parse(text, Path("client.yaml")).data == expected)
    except ContentError:
        return False


def _rewritten(document: Document, expected: Any) -> str | None:
    """The whole file written anew, if it holds no comment that would be lost below the head."""
    lines = document.text.splitlines(keepends=True)
    head = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    if any("#" in line for line in lines[head:]):
        return None
    return "".join(lines[:head]) + _dump(expected)


def _by_lines(document: Document, place: Place, old: list[str] | None, new: list[str]) -> str | None:
    """The file with lines put in or taken out. The caller verifies what the result means."""
    lines = document.text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    if old is None:
        return "".join(_with_list(document, lines, place, new))
    key_line = document.lines[place] - 1
    items = [document.lines[(*place, n)] - 1 for n in range(len(old))]
    if not old:
        indent = " " * (_indent(lines[key_line]) + 2)
        lines[key_line] = re.sub(r"\s*\[\s*\]\s*$", "\n", lines[key_line])
        lines[key_line + 1 : key_line + 1] = [f"{indent}- {_item(name)}" for name in new]
    elif sorted(new) == sorted(old) and len(set(old)) == len(old):
        taken = {name: lines[line] for name, line in zip(old, items, strict=True)}
        for line, name in zip(items, new, strict=True):
            lines[line] = taken[name]
    elif len(new) > len(old):
        at = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old))
        line = items[at] if at < len(old) else items[-1] + 1
        lines.insert(line, " " * _indent(lines[items[0]]) + f"- {_item(new[at])}")
    else:
        for line in sorted((line for line, name in zip(items, old, strict=True) if name not in new), reverse=True):
            del lines[line]
        if not new:
            lines[key_line] = lines[key_line].rstrip() + " []\n"
    return "".join(lines)


def _with_list(document: Document, lines: list[str], place: Place, new: list[str]) -> list[str]:
    """The file with a list at a place where there was none."""
    key, rest = str(place[0]), place[1:]
    indent = "  " * len(place)
    block = [f"{'  ' * len(rest)}{_item(str(place[-1])).rstrip()}:\n", *(f"{indent}- {_item(name)}" for name in new)]
    if not rest:
        return [*lines, *block]
    if (key,) not in document.lines:
        return [*lines, f"{key}:\n", *block]
    at = document.lines[(key,)]
    return [*lines[:at], *block, *lines[at:]]


def _item(text: str) -> str:
    """A text as a scalar of a block list, with its line end."""
    return _dump([text]).removeprefix("- ")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
