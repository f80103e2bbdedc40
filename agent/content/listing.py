"""Editing a client's `client.yaml` as text, so that what people wrote into it stays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from agent.content import loading
from agent.content.loading import Document
from agent.errors import ContentError

_HEAD = (
    "# Which scripts a wrapper runs for this client, in this order. Written by `exeunt script use`; may be edited.\n"
)


def edited_list(document: Document | None, client: str, wrapper: str, names: list[str]) -> str:
    """The text of `client.yaml` with another list for one wrapper; all else as it was. `document` None: a new file.

    Raises ContentError when the file is written in a way that cannot be edited without losing comments.
    """
    if document is None:
        return _HEAD + _dump({"client": client, "scripts": {wrapper: names}})
    scripts: dict[str, list[str]] = document.data.get("scripts", {})
    expected = {**document.data, "scripts": {**scripts, wrapper: names}}
    for text in (_by_lines(document, wrapper, scripts.get(wrapper), names), _rewritten(document, expected)):
        if text is not None and _means(text, expected):
            return text
    raise document.fault("cannot be edited without losing its comments: write one script per line", ("scripts",))


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


def _by_lines(document: Document, wrapper: str, old: list[str] | None, new: list[str]) -> str | None:
    """The file with lines put in or taken out. The caller verifies what the result means."""
    lines = document.text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    if old is None:
        return "".join(_with_wrapper(document, lines, wrapper, new))
    key_line = document.lines[("scripts", wrapper)] - 1
    items = [document.lines[("scripts", wrapper, n)] - 1 for n in range(len(old))]
    if not old:
        indent = " " * (_indent(lines[key_line]) + 2)
        lines[key_line] = re.sub(r"\s*\[\s*\]\s*$", "\n", lines[key_line])
        lines[key_line + 1 : key_line + 1] = [f"{indent}- {_item(name)}" for name in new]
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


def _with_wrapper(document: Document, lines: list[str], wrapper: str, new: list[str]) -> list[str]:
    block = [f"  {_item(wrapper).rstrip()}:\n", *(f"    - {_item(name)}" for name in new)]
    if ("scripts",) not in document.lines:
        return [*lines, "scripts:\n", *block]
    at = document.lines[("scripts",)]
    return [*lines[:at], *block, *lines[at:]]


def _item(text: str) -> str:
    """A text as a scalar of a block list, with its line end."""
    return _dump([text]).removeprefix("- ")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
