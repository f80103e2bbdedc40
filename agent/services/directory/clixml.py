"""Objects of the ActiveDirectory module as PSRP carries them, turned into what LDAP gives for the same object.

The tags are those of [MS-PSRP] 2.2.5. Properties are what the module makes of the attributes' syntaxes, and what one level
of serialisation leaves of that:

* Unicode strings and names: text. Integers, also FILETIMEs and other large ones: I32, I64. Booleans: B.
* Generalised times: DT; here they are written as LDAP does (RFC 4517, 3.3.13), in UTC.
* objectGUID: G. Other octet strings: BA.
* A SID is an object, of which only its text is left (the string form of MS-DTYP 2.4.2.1).
* An attribute with several values is a list, also with one value in it; one that is absent is Nil.
* objectClass is the most specific class only.

pypsrp's own reading loses the difference of a text and a time, and the lists; so the XML that it keeps is read here.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

from agent.services.directory.names import sid_of
from agent.services.directory.port import Entry

#: Attributes whose syntax is String(Sid), of those that are ever asked for (MS-ADA1 to MS-ADA3).
_SIDS = frozenset({"objectsid", "sidhistory", "securityidentifier", "tokengroups"})
_LISTS = ("LST", "IE")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


def entry_of(xml: str, attributes: Sequence[str]) -> Entry:
    """The attributes that were asked for, of one object of a cmdlet's output. Raises ValueError when it is no object."""
    found = properties(xml)
    dn = next((text(e) for e in found.get("distinguishedname", ())), None)
    if dn is None:
        raise ValueError("an object without a DistinguishedName")
    values = {name.lower(): tuple(_raw(name.lower(), e) for e in found.get(name.lower(), ())) for name in attributes}
    return Entry(dn, {name: those for name, those in values.items() if those})


def properties(xml: str) -> dict[str, tuple[ET.Element, ...]]:
    """The properties of an object by their names in lower case, each with its values; none for null."""
    try:
        root = ET.fromstring(xml)
    except ET.ParseError as error:
        raise ValueError(f"no object: {error}") from None
    by_id = {e.get("RefId", ""): e for e in root.iter("Obj")}
    found: dict[str, tuple[ET.Element, ...]] = {}
    for part in (*root.findall("Props"), *root.findall("MS")):
        for element in part:
            found[text_of(element.get("N", "")).lower()] = tuple(_values(element, by_id))
    return found


def text(element: ET.Element) -> str:
    """A single value as text: that of an object is what its ToString said."""
    if element.tag == "Obj":
        return text_of(element.findtext("ToString") or "")
    return text_of(element.text or "")


def text_of(escaped: str) -> str:
    """Undo the escapes of UTF-16 code units [MS-PSRP 2.2.5.3.2]."""
    units = _ESCAPED.sub(lambda m: chr(int(m[1], 16)), escaped)
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _values(element: ET.Element, by_id: dict[str, ET.Element]) -> Iterator[ET.Element]:
    if element.tag == "Ref":
        element = by_id[element.get("RefId", "")]
    if element.tag == "Nil":
        return
    listed = next((e for kind in _LISTS for e in element.findall(kind)), None) if element.tag == "Obj" else None
    if listed is None:
        yield element
        return
    inner: Iterable[ET.Element] = listed
    for part in inner:
        yield from _values(part, by_id)


def _raw(name: str, element: ET.Element) -> bytes:
    """One value as LDAP gives it. Raises ValueError for one that is not as its tag says."""
    if element.tag == "BA":
        return b64decode(element.text or "", validate=True)
    said = text(element)
    if element.tag == "G":
        return UUID(said).bytes_le
    if element.tag == "B":
        return b"TRUE" if said.lower() == "true" else b"FALSE"
    if element.tag == "DT":
        return _generalised(said)
    return sid_of(said) if name in _SIDS else said.encode()


def _generalised(said: str) -> bytes:
    """A time as LDAP writes it. .NET writes up to seven digits of a second, of which AD keeps none."""
    moment = datetime.fromisoformat(said)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return f"{moment:%Y%m%d%H%M%S}.0Z".encode()
