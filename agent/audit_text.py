"""How an audit entry becomes text: plain JSON without secrets, and the digest over it; and the end of the trail."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import PurePath
from typing import Any

from agent.errors import UsageError

MASK = "***"
_SECRET_NAME = re.compile(r"pass(word|phrase|wd)|secret|token|(api|access|private|master)[_-]?key|credentials?$", re.I)


@dataclass(frozen=True)
class Head:
    """The end of the chain: how many entries there are, and the digest of the last. Printed as `count:digest`."""

    count: int
    digest: str

    def __str__(self) -> str:
        return f"{self.count}:{self.digest}"

    @classmethod
    def parse(cls, noted: str) -> Head:
        """Read what was noted. Raises UsageError."""
        match = re.fullmatch(r"\s*(\d+):([0-9a-f]{64})\s*", noted)
        if not match:
            raise UsageError(
                f"{noted!r} is not the end of an audit trail: write count:digest as `exeunt audit verify` prints it"
            )
        return cls(int(match[1]), match[2])


def mask(value: Any) -> Any:
    """The value as plain JSON, with what is called like a secret, or is an encrypted one, replaced by `***`."""
    if isinstance(value, Mapping):
        return {
            storable(str(k)): MASK if _SECRET_NAME.search(str(k)) and v not in (None, "") else mask(v)
            for k, v in value.items()
        }
    if isinstance(value, str):
        return MASK if value.startswith("enc:") else storable(value)
    if isinstance(value, Enum):
        return mask(value.value)
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, (date, PurePath)):
        return str(value)
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (bytes, bytearray)):
        return [mask(v) for v in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise TypeError(f"{type(value).__name__} cannot be kept in the audit trail")


def digest_of(entry: Mapping[str, Any]) -> str:
    """SHA-256 of an entry's columns without `digest`, as canonical JSON (sorted keys, no spaces, ASCII); hexadecimal."""
    columns = {name: content for name, content in entry.items() if name != "digest"}
    columns["at"] = time_text(columns["at"])
    canonical = json.dumps(columns, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def parsed(details: Any) -> Any:
    """Details as SQLite keeps them (text) or as PostgreSQL gives them. Raises ValueError."""
    return json.loads(details) if isinstance(details, str) else details


def time_text(value: object) -> str:
    """A time as the digest holds it: UTC with microseconds. What is stored and is no time is shown as what it is."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value).replace(tzinfo=UTC)
        except ValueError:
            return str(value)
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if isinstance(value, datetime) else repr(value)


def plain(value: Any) -> Any:
    """Text of a logged value; what is no text was written by hand, and is shown as what it is."""
    return value if value is None or isinstance(value, str) else repr(value)


def storable(value: str) -> str:
    """PostgreSQL keeps no NUL, and no database keeps half of a surrogate pair."""
    return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
