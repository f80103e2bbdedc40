"""Names of a source as names in a backup: safe to restore on any system, and none twice."""

from __future__ import annotations

import hashlib
import re
import unicodedata

#: Bytes that one part of a path may have, with the mark that makes it unique; systems allow 255.
_LONGEST = 200
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE | re.DOTALL)


class FolderNames:
    """The names of one folder. A name that has to be changed, or is there already, gets a mark made of the item's id."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def safe(self, name: str, item_id: str) -> str:
        """The name under which an item is kept: no part of a path, no name of Windows', nothing that cannot be seen."""
        kept = _cleaned(name)
        if kept != name or _key(kept) in self._used:
            mark = hashlib.sha256(item_id.encode("utf-8", "surrogatepass")).hexdigest()
            length = 8
            plain, kept = kept, _marked(kept, mark[:length])
            while _key(kept) in self._used and length < len(mark):
                length += 8
                kept = _marked(plain, mark[:length])
        self._used.add(_key(kept))
        return kept


def _cleaned(name: str) -> str:
    # Control, format (such as a change of direction), surrogate and unassigned characters: categories C*.
    seen = "".join("_" if unicodedata.category(c).startswith("C") else c for c in _FORBIDDEN.sub("_", name))
    kept = _cut(seen.rstrip(". "), _LONGEST).rstrip(". ").lstrip(" ") or "_"
    return "_" + kept if _RESERVED.fullmatch(kept) else kept


def _marked(name: str, mark: str) -> str:
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending) > 16:
        stem, dot, ending = name, "", ""
    return f"{_cut(stem, _LONGEST - len((dot + ending).encode()) - len(mark) - 1)}~{mark}{dot}{ending}"


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")


def _key(name: str) -> str:
    """Names that some system takes for the same have the same key."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
