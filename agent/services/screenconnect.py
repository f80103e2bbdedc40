"""The web portal of ScreenConnect (CW Control): ending the session of a computer whose agent was removed.

What is public (facts 9 and the vendor's pages of the extensions): a request is `POST <portal>/<path>` with a JSON list
of positional values; it carries the access key in a header and an `Origin` that the extension allows. A session event of
type 21 ends a session. The RESTful API Manager's `GetSessionBySessionID` answers an empty list for a session that is no
more. The address of RMM+'s own command is not published, so both paths are settings of the credential.

Credential of the kind `screenconnect`: settings `url` (https), and if they differ from the defaults `port`,
`end_session_path`, `session_path` (empty: not verified), `key_header`, `group`, `ca_file`; secrets `key` and, if the
origin is to stay secret, `headers`. The system properties RMMPlus_AccessKey, RMMPlus_Headers (`Origin: host`) and
RMMPlus_Timeout (milliseconds) count where the credential says nothing.
"""

from __future__ import annotations

import re
import ssl
import time
import uuid
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import stamina
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agent.errors import StepError

#: Extension for ConnectWise Automate, and the RESTful API Manager; both have one fixed identifier everywhere.
AUTOMATE_EXTENSION = "App_Extensions/fc234f0e-2e8e-4a1f-b977-ba41b14031f7"
RESTFUL_EXTENSION = "App_Extensions/2d558935-686a-4bd0-9991-07539f5fe749"
#: Type of the session event that ends a session.
END_SESSION = 21
#: The portal ends a session in the background: looks, and the longest wait between two of them in seconds.
LOOKS, LOOK_WAIT = 6, 2.0
ATTEMPTS = 3
_HEADER = re.compile(r"([A-Za-z0-9-]+)\s*:\s*([^\r\n]+)")


class PortalSettings(BaseModel):
    """How to reach one portal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    port: int | None = Field(None, ge=1, le=65535)
    end_session_path: str = f"{AUTOMATE_EXTENSION}/ReplicaService.ashx/PageAddEventToSessions"
    session_path: str = f"{RESTFUL_EXTENSION}/Service.ashx/GetSessionBySessionID"
    key_header: str = Field("CTRLAuthHeader", pattern=r"^[A-Za-z0-9-]+$")
    #: First value of the end command: the session group it is looked for in.
    group: str = "All Machines"
    #: Certificate authority of the portal, if the system does not know it.
    ca_file: str | None = None
    #: The client's own instance of ScreenConnect (16 hexadecimal digits), for computers with several.
    instance: str = Field("", pattern=r"^([0-9a-f]{16})?$")

    @field_validator("url")
    @classmethod
    def _https(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError("write the portal's address as https://host[:port][/path]")
        return value.rstrip("/")

    @property
    def base(self) -> str:
        """Address of the portal with the port in use."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else str(parts.hostname)
        port = self.port or parts.port
        return f"https://{host}" + (f":{port}" if port else "") + parts.path


class Portal:
    """One portal. Use as a context manager."""

    def __init__(self, settings: PortalSettings, key: str, headers: Mapping[str, str], seconds: float) -> None:
        self.settings = settings
        tls = ssl.create_default_context(cafile=settings.ca_file)
        self._client = httpx.Client(
            base_url=settings.base + "/", verify=tls, timeout=seconds, headers={settings.key_header: key, **headers}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def end_session(self, session: str) -> bool | None:
        """End a session, and look whether it is gone: True or False, None when the portal cannot tell.

        `session` is its GUID. Raises StepError; a session that is no more counts as ended.
        """
        guid = str(uuid.UUID(session))
        if self.has_session(guid) is False:
            return True
        self._post(self.settings.end_session_path, [[self.settings.group], [guid], END_SESSION, ""])
        for look in range(LOOKS):
            present = self.has_session(guid)
            if present is not True:
                return None if present is None else True
            time.sleep(min(0.1 * 2**look, LOOK_WAIT))
        return False

    def has_session(self, guid: str) -> bool | None:
        """Whether the portal has an open session of that GUID; None when it has no way to tell. Raises StepError."""
        if not self.settings.session_path:
            return None
        answer = self._post(self.settings.session_path, [guid], missing_is_none=True)
        if answer is None:
            return None
        found = answer.json()
        rows = found if isinstance(found, list) else [found] if found else []
        return any(isinstance(row, dict) and not row.get("IsEnded") for row in rows)

    def _post(self, path: str, values: list[Any], *, missing_is_none: bool = False) -> httpx.Response | None:
        # Both requests may be repeated: an ended session cannot be ended further.
        try:
            for attempt in stamina.retry_context(
                on=(httpx.TransportError, _Passing), attempts=ATTEMPTS, timeout=30.0, wait_jitter=0.2
            ):
                with attempt:
                    answer = self._client.post(path.lstrip("/"), json=values)
                    if answer.status_code == 429 or answer.status_code >= 500:
                        raise _Passing(answer.status_code)
        except _Passing as error:
            raise _failure(f"the portal answered {error.status}", "portal_unavailable") from error
        except httpx.TransportError as error:
            raise _failure(f"the portal cannot be reached: {error}", "portal_unreachable") from error
        if answer.status_code in (401, 403):
            raise _failure(
                "the portal refused the access key or the origin", "portal_access_denied", answer.status_code
            )
        if answer.status_code == 404 and missing_is_none:
            return None
        if answer.status_code != 200:
            raise _failure(f"the portal answered {answer.status_code} to {path}", "portal_refused", answer.status_code)
        return answer


class _Passing(Exception):
    """The portal is busy or broken for the moment."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(str(status))


def portal_settings(settings: Mapping[str, Any]) -> PortalSettings:
    """Checked settings of a credential. Raises StepError that names what is wrong."""
    try:
        return PortalSettings.model_validate(dict(settings))
    except ValidationError as error:
        details = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise _failure(
            f"the settings of the credential screenconnect are wrong: {details}", "wrong_credential"
        ) from None


def parse_headers(text: str) -> dict[str, str]:
    """`Origin: host` (one per line, as in RMMPlus_Headers) -> headers. A text without a name is the origin itself."""
    headers: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        found = _HEADER.fullmatch(line)
        # A bare address has a colon as well, but before `//`.
        name, value = found.groups() if found and not found[2].startswith("//") else ("Origin", line)
        headers[name.title() if name.lower() == "origin" else name] = value.strip()
    return headers


def _failure(message: str, type: str, status: int | None = None) -> StepError:
    return StepError(
        message,
        type=type,
        code=str(status) if status else None,
        impact="The computer's session stays in the portal and goes on taking a licence.",
        remediation="Check the credential screenconnect and the portal, then retry the run or end the session by hand.",
    )
