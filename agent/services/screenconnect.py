"""The web portal of ScreenConnect (CW Control): ending the session of a computer whose agent was removed.

Two ways, both `POST <portal>/<path>` with a JSON list of positional values; a session event of type 21 ends a session.

* The extension of ConnectWise Automate, as its public PowerShell module AutomateAPI uses it:
  `ReplicaService.ashx/PageAddEventToSessions` takes [user, [session], 21, ""], and the report `Session` of
  `ReportService.ashx/GenerateReportForAutomate` tells whether it is ended. The integration key never travels: the header
  CWAIKToken holds the HMAC-SHA256 of the time in steps of ten minutes. Or a user of the portal signs in by HTTP Basic.
* Another extension whose command is named by `end_session_path`, such as RMM+ of ProVal's End Session script, whose
  address is not published: [[group], [session], 21, ""] with the access key in a header and an allowed `Origin`. The
  RESTful API Manager's `GetSessionBySessionID` then answers an empty list for a session that is no more.

Credential of the kind `screenconnect`: settings `url` (https), and where they differ from the defaults `port`,
`username` (a user of the portal; the secret is its password), `end_session_path`, `session_path` (empty: not verified),
`key_header`, `group`, `ca_file`, `instance`; secrets `key` and, if the origin is to stay secret, `headers`. The system
properties RMMPlus_AccessKey (with `end_session_path`), RMMPlus_Headers (`Origin: host`) and RMMPlus_Timeout
(milliseconds) count where the credential says nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
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
#: Seconds in which a token of the integration key stays the same.
TOKEN_STEP = 600
#: Whom the portal shows as the one who ended a session, where nobody signs in.
EVENT_USER = "Exeunt"
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
    #: A user of the portal who signs in to the extension of ConnectWise Automate instead of its integration key.
    username: str = ""
    #: Command of another extension; empty: the extension of ConnectWise Automate.
    end_session_path: str = ""
    #: How a session is looked for; empty: it is not. None: by the Automate extension, else by the RESTful API Manager.
    session_path: str | None = None
    key_header: str = Field("CTRLAuthHeader", pattern=r"^[A-Za-z0-9-]+$")
    #: First value of another extension's command: the session group it is looked for in.
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
    def by_automate(self) -> bool:
        """Whether the extension of ConnectWise Automate is used."""
        return not self.end_session_path

    @property
    def base(self) -> str:
        """Address of the portal with the port in use."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else str(parts.hostname)
        port = self.port or parts.port
        return f"https://{host}" + (f":{port}" if port else "") + parts.path


class Portal:
    """One portal. Use as a context manager. `key`: integration key, password of the user, or access key."""

    def __init__(self, settings: PortalSettings, key: str, headers: Mapping[str, str], seconds: float) -> None:
        self.settings, self._key = settings, b""
        given, signs_in = dict(headers), None
        if not settings.by_automate:
            given[settings.key_header] = key
        elif settings.username:
            signs_in = httpx.BasicAuth(settings.username, key)
        else:
            self._key = integration_key(key)
        tls = ssl.create_default_context(cafile=settings.ca_file)
        self._client = httpx.Client(
            base_url=settings.base + "/", verify=tls, timeout=seconds, headers=given, auth=signs_in
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
        self._end(guid)
        for look in range(LOOKS):
            present = self.has_session(guid)
            if present is not True:
                return None if present is None else True
            time.sleep(min(0.1 * 2**look, LOOK_WAIT))
        return False

    def has_session(self, guid: str) -> bool | None:
        """Whether the portal has an open session of that GUID; None when it has no way to tell. Raises StepError."""
        path = self.settings.session_path
        if path == "":
            return None
        if path is None and self.settings.by_automate:
            return self._in_report(guid)
        path = path or f"{RESTFUL_EXTENSION}/Service.ashx/GetSessionBySessionID"
        answer = self._post(path, [guid], missing_is_none=True)
        if answer is None:
            return None
        found = _json(answer, path)
        rows = found if isinstance(found, list) else [found] if found else []
        return any(isinstance(row, dict) and not _is_ended(row) for row in rows)

    def _end(self, guid: str) -> None:
        if self.settings.by_automate:
            path = f"{AUTOMATE_EXTENSION}/ReplicaService.ashx/PageAddEventToSessions"
            self._post(path, [self.settings.username or EVENT_USER, [guid], END_SESSION, ""])
        else:
            self._post(self.settings.end_session_path, [[self.settings.group], [guid], END_SESSION, ""])

    def _in_report(self, guid: str) -> bool:
        """Ask the report `Session`: its columns in FieldNames, its rows in Items. `guid` is in its canonical form."""
        path = f"{AUTOMATE_EXTENSION}/ReportService.ashx/GenerateReportForAutomate"
        answer = self._post(path, ["Session", "", ["SessionID", "IsEnded"], f"SessionID='{guid}'", "", 10])
        found = _json(answer, path) if answer is not None else None
        if not isinstance(found, dict) or not isinstance(found.get("FieldNames"), list):
            raise _failure(f"the portal's answer to {path} is no report", "portal_refused")
        rows = [dict(zip(found["FieldNames"], row, strict=False)) for row in found.get("Items") or ()]
        return any(str(row.get("SessionID", "")).lower() == guid and not _is_ended(row) for row in rows)

    def _post(self, path: str, values: list[Any], *, missing_is_none: bool = False) -> httpx.Response | None:
        # Both requests may be repeated: an ended session cannot be ended further.
        try:
            for attempt in stamina.retry_context(
                on=(httpx.TransportError, _Passing), attempts=ATTEMPTS, timeout=30.0, wait_jitter=0.2
            ):
                with attempt:
                    # A token is made for each request: it is good for some minutes only.
                    token = {"CWAIKToken": token_of(self._key, time.time())} if self._key else None
                    answer = self._client.post(path.lstrip("/"), json=values, headers=token)
                    if answer.status_code == 429 or answer.status_code >= 500:
                        raise _Passing(answer.status_code)
        except _Passing as error:
            raise _failure(f"the portal answered {error.status}", "portal_unavailable") from error
        except httpx.TransportError as error:
            raise _failure(f"the portal cannot be reached: {error}", "portal_unreachable") from error
        if answer.status_code in (401, 403):
            raise _failure(
                "the portal refused the key, the user or the origin (a token of the integration key also needs the right "
                "time on this machine)",
                "portal_access_denied",
                answer.status_code,
            )
        if answer.status_code == 404 and missing_is_none:
            return None
        if answer.status_code != 200:
            raise _failure(f"the portal answered {answer.status_code} to {path}", "portal_refused", answer.status_code)
        return answer


def integration_key(text: str) -> bytes:
    """The integration key of the Automate extension from its base64. Raises StepError."""
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise _failure(
            "the secret `key` is no integration key of the ConnectWise Automate extension, which is base64; for the access "
            "key of another extension, such as RMM+, name its command by `end_session_path`", "wrong_credential",
        )  # fmt: skip
    return key


def token_of(key: bytes, moment: float) -> str:
    """The token of an integration key at a time (seconds since 1970): HMAC-SHA256 over the nearest step, big-endian."""
    step = round(moment / TOKEN_STEP).to_bytes(8, "big")
    return base64.b64encode(hmac.new(key, step, hashlib.sha256).digest()).decode("ascii")


def _is_ended(row: Mapping[str, Any]) -> bool:
    return str(row.get("IsEnded") or "0").lower() not in ("0", "false")


def _json(answer: httpx.Response, path: str) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise _failure(f"the portal's answer to {path} is no JSON", "portal_refused") from error


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
