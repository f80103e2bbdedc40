"""Names of the shells that we open on a host, so that one that was left over can be found and ended."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET

#: The resource that stands for all shells of a host [MS-WSMV 3.1.4.11].
ALL_SHELLS = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"

ENUMERATION = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"

#: More shells than a host can have.
MAX_ELEMENTS = 32000


def shell_prefix(tag: str) -> str:
    """How the names of all shells for runs with this tag begin."""
    return f"exeunt:{tag}:"


def shell_name(tag: str, unique: uuid.UUID) -> str:
    """The name of a new shell for a run with this tag."""
    return f"{shell_prefix(tag)}{unique}"


def enumeration_request() -> ET.Element:
    """The body of an Enumerate that answers with all shells at once."""
    request = ET.Element(f"{{{ENUMERATION}}}Enumerate")
    ET.SubElement(request, f"{{{WSMAN}}}OptimizeEnumeration")
    ET.SubElement(request, f"{{{WSMAN}}}MaxElements").text = str(MAX_ELEMENTS)
    return request


def own_shells(answer: ET.Element, prefix: str) -> list[tuple[str, str]]:
    """Id and resource of the shells in an EnumerateResponse whose name begins with the prefix."""
    found: list[tuple[str, str]] = []
    for shell in answer.iter(f"{{{SHELL}}}Shell"):
        name = shell.findtext(f"{{{SHELL}}}Name") or ""
        shell_id, resource = shell.findtext(f"{{{SHELL}}}ShellId"), shell.findtext(f"{{{SHELL}}}ResourceUri")
        if name.startswith(prefix) and shell_id and resource:
            found.append((shell_id, resource))
    return found
