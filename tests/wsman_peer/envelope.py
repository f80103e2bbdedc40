"""WS-Man messages: reading a request, writing an answer or a fault [MS-WSMV 2.2, DSP0226]."""

from __future__ import annotations

import re
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass

NS = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "p": "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd",
    "f": "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault",
    "rsp": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    "n": "http://schemas.xmlsoap.org/ws/2004/09/enumeration",
    "cfg": "http://schemas.microsoft.com/wbem/wsman/1/config",
    "pwsh": "http://schemas.microsoft.com/powershell",
}
SHELL_URI = NS["rsp"]


class SoapFault(Exception):
    """A refusal in WS-Man's words."""

    def __init__(self, code: int, subcode: str, reason: str, *, sender: bool = False) -> None:
        super().__init__(reason)
        self.code, self.subcode, self.reason, self.sender = code, subcode, reason, sender


def timed_out() -> SoapFault:
    return SoapFault(2150858793, "w:TimedOut", "The operation did not end within its time.")


def unknown(what: str) -> SoapFault:
    return SoapFault(2150858843, "w:InvalidSelectors", f"There is no such {what}.", sender=True)


def tag(name: str) -> str:
    """`rsp:Shell` in ElementTree's way of writing."""
    prefix, _, local = name.partition(":")
    return f"{{{NS[prefix]}}}{local}"


def element(parent: ET.Element | None, name: str, text: str | None = None, **attributes: str) -> ET.Element:
    """A new element, below `parent` if there is one."""
    made = ET.Element(tag(name), attributes) if parent is None else ET.SubElement(parent, tag(name), attributes)
    made.text = text
    return made


@dataclass(frozen=True)
class Request:
    """What the peer reads of a request."""

    action: str
    message_id: str
    resource: str
    selectors: dict[str, str]
    #: Seconds that a Receive may wait.
    timeout: float
    #: Bytes that an answer may have.
    max_size: int
    body: ET.Element

    @property
    def operation(self) -> str:
        return self.action.rpartition("/")[2]

    def part(self, path: str) -> ET.Element:
        """The element of the body at this path. Raises SoapFault when it is missing."""
        found = self.body.find(path, NS)
        if found is None:
            raise SoapFault(87, "w:SchemaValidationError", f"The request has no {path}.", sender=True)
        return found


def read(data: bytes) -> Request:
    """Read a request. Raises SoapFault when it is none."""
    try:
        root = ET.fromstring(data)
    except ET.ParseError as error:
        raise SoapFault(2150858770, "w:SchemaValidationError", f"Not XML: {error}", sender=True) from error
    header, body = root.find("s:Header", NS), root.find("s:Body", NS)
    if header is None or body is None:
        raise SoapFault(2150858770, "w:SchemaValidationError", "Not an envelope.", sender=True)
    return Request(
        action=header.findtext("a:Action", "", NS),
        message_id=header.findtext("a:MessageID", "", NS),
        resource=header.findtext("w:ResourceURI", "", NS),
        selectors={s.get("Name", ""): s.text or "" for s in header.findall("w:SelectorSet/w:Selector", NS)},
        timeout=seconds(header.findtext("w:OperationTimeout", "PT60S", NS)),
        max_size=int(header.findtext("w:MaxEnvelopeSize", "153600", NS)),
        body=body,
    )


def seconds(duration: str) -> float:
    """Seconds of an XML duration such as PT1M20.5S."""
    found = re.fullmatch(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?", duration)
    if found is None:
        raise SoapFault(2150858767, "w:InvalidTimeout", f"Not a duration: {duration}", sender=True)
    hours, minutes, rest = found.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest or 0)


def answer(request: Request, *parts: ET.Element) -> bytes:
    """The answer to a request, with these elements in its body."""
    return _envelope(request.action + "Response", request.message_id, parts)


def fault(message_id: str, error: SoapFault) -> bytes:
    """The answer that refuses a request."""
    part = element(None, "s:Fault")
    code = element(part, "s:Code")
    element(code, "s:Value", "s:Sender" if error.sender else "s:Receiver")
    element(element(code, "s:Subcode"), "s:Value", error.subcode)
    element(element(part, "s:Reason"), "s:Text", error.reason)
    detail = element(element(part, "s:Detail"), "f:WSManFault", Code=str(error.code), Machine="peer.example.test")
    element(detail, "f:Message", error.reason)
    return _envelope("http://schemas.dmtf.org/wbem/wsman/1/wsman/fault", message_id, [part])


def _envelope(action: str, relates_to: str, parts: list[ET.Element] | tuple[ET.Element, ...]) -> bytes:
    for prefix, uri in NS.items():
        ET.register_namespace(prefix, uri)
    root = element(None, "s:Envelope")
    header = element(root, "s:Header")
    element(header, "a:Action", action)
    element(header, "a:MessageID", f"uuid:{uuid.uuid4()}".upper().replace("UUID:", "uuid:"))
    element(header, "a:To", "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous")
    element(header, "a:RelatesTo", relates_to)
    body = element(root, "s:Body")
    body.extend(parts)
    return ET.tostring(root, encoding="utf-8")
