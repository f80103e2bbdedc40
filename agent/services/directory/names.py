"""Names as a directory writes them: filters (RFC 4515), distinguished names (RFC 4514), GUIDs and SIDs."""

from __future__ import annotations

import re
from uuid import UUID

#: Bytes that stand for themselves in a filter. All others are escaped, also where the standard would not ask for it:
#: blanks at the ends of a value, for example, are lost in some parsers.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@._-")
_SPECIAL = re.compile(r'([\\,+"<>;=#])')


def escape_filter(value: str | bytes) -> str:
    """A value as it stands in a search filter; nothing in it can end the value or match more than itself."""
    raw = value.encode() if isinstance(value, str) else value
    return "".join(chr(b) if b in _PLAIN else f"\\{b:02x}" for b in raw)


def escape_rdn(value: str) -> str:
    """A value as it stands in a distinguished name."""
    escaped = _SPECIAL.sub(r"\\\1", value).replace("\0", r"\00").replace("\n", r"\0A").replace("\r", r"\0D")
    if escaped.startswith(" "):
        escaped = "\\" + escaped
    if len(value) > 1 and value.endswith(" "):
        escaped = escaped[:-1] + r"\ "
    return escaped


def split_dn(dn: str) -> tuple[str, str]:
    """The first part of a distinguished name and all after it: `CN=a\\,b,OU=c` -> (`CN=a\\,b`, `OU=c`)."""
    at = 0
    while at < len(dn):
        if dn[at] == "\\":
            at += 2
            continue
        if dn[at] == ",":
            return dn[:at], dn[at + 1 :]
        at += 1
    return dn, ""


def guid_dn(guid: UUID) -> str:
    """The name of an object that stays valid when it is renamed or moved (MS-ADTS 3.1.1.3.1.2.4)."""
    return f"<GUID={guid}>"


def guid_of(text: str) -> UUID | None:
    """The GUID that a text is, with or without braces; None when it is none."""
    match = re.fullmatch(r"\{?([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})\}?", text.strip())
    return UUID(match[1]) if match else None


def sibling_sid(sid: bytes, relative_id: int) -> bytes:
    """The SID of another object of the same domain (MS-DTYP 2.4.2: the relative id is the last four bytes)."""
    return sid[:-4] + relative_id.to_bytes(4, "little")


def relative_id(sid: bytes) -> int:
    """The relative id of a SID."""
    return int.from_bytes(sid[-4:], "little")


def sid_of(text: str) -> bytes:
    """The bytes of a SID in its string form (MS-DTYP 2.4.2.1 and 2.4.2.2). Raises ValueError when it is none."""
    match = re.fullmatch(r"S-(\d{1,3})-(\d+|0x[0-9a-fA-F]{12})((?:-\d+){1,15})", text)
    if match is None:
        raise ValueError(f"no SID: {text[:100]!r}")
    parts = [int(part) for part in match[3].split("-")[1:]]
    try:
        head = bytes((int(match[1]), len(parts))) + int(match[2], 0).to_bytes(6, "big")
        return head + b"".join(part.to_bytes(4, "little") for part in parts)
    except (OverflowError, ValueError):
        raise ValueError(f"no SID: {text[:100]!r}") from None
