"""Which KDCs the machine's own configuration names for a realm (krb5.conf(5) of MIT Kerberos).

For messages only: the library reads the same files itself, and asks the domain's DNS besides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

_DEFAULT = "/etc/krb5.conf"
_PORT = 88
#: Files that include each other go no deeper.
_DEPTH = 8
_INCLUDED = re.compile(r"[A-Za-z0-9_-]+|[^.].*\.conf")
_KDC = re.compile(r"(?:(?:tcp|udp)/)?(?P<host>\[[^]]+\]|[^:/\s]+)(?::(?P<port>\d+))?")


def kdcs(realm: str) -> list[str]:
    """`host port n` of each KDC that is named for the realm, in order; empty when none is, or no file can be read."""
    found: list[str] = []
    for file in os.environ.get("KRB5_CONFIG", _DEFAULT).split(":"):
        found += [shown for value in _values(_lines(Path(file), 0), realm) for shown in [_shown(value)]]
    return list(dict.fromkeys(found))


def _values(lines: Iterator[str], realm: str) -> Iterator[str]:
    """What stands after `kdc =` in the realm's braces in the section `realms`."""
    section, inside = "", [""]
    for line in lines:
        if line.startswith("["):
            section, inside = line.strip("[]* "), [""]
            continue
        name, _, value = (part.strip() for part in line.partition("="))
        if line.startswith("}"):
            inside = inside[:-1] or [""]
        elif value.startswith("{"):
            inside.append(name)
        elif section == "realms" and inside[1:] == [realm] and name == "kdc":
            yield value


def _lines(file: Path, depth: int) -> Iterator[str]:
    """The lines that say something, with those of included files in their places."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in map(str.strip, text.splitlines()):
        word, _, argument = line.partition(" ")
        if word in ("include", "includedir") and depth < _DEPTH:
            for other in _included(Path(argument.strip()), word):
                yield from _lines(other, depth + 1)
        elif line and line[0] not in "#;":
            yield line


def _included(path: Path, word: str) -> list[Path]:
    if word == "include":
        return [path]
    try:
        return sorted(entry for entry in path.iterdir() if _INCLUDED.fullmatch(entry.name))
    except OSError:
        return []


def _shown(value: str) -> str:
    """A KDC proxy (`https://...`) stands as it is."""
    parts = _KDC.fullmatch(value)
    return f"{parts['host']} port {parts['port'] or _PORT}" if parts else value
