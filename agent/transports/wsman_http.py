"""HTTP to one WS-Management service with a deadline over every request and a bound on every answer.

pywinrm and pypsrp both send through `requests`, whose time-outs start anew with every packet; a host that trickles, or a
client library that asks again and again, would hold a worker for ever. This adapter is mounted into their sessions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

# At DEBUG they write whole messages, secrets included, and tokens from which a password can be guessed.
for _library in ("pypsrp", "spnego", "requests_ntlm", "requests_credssp"):
    logging.getLogger(_library).setLevel(logging.INFO)

#: Largest answer taken, in bytes. WinRM's own envelopes are at most 500 KiB unless its limit was raised.
MAX_ANSWER = 16 * 1024 * 1024


class DeadlinePassed(Exception):
    """The time for this operation is over; nothing more is sent."""


class AnswerInClear(Exception):
    """An answer that must be encrypted is not: it may be anybody's. Both clients would take it."""


class AnswerTooLarge(Exception):
    """The host sent more than an envelope may hold."""


class BoundedAdapter(HTTPAdapter):
    """Sends until `deadline` (seconds of `time.monotonic`), and never later."""

    def __init__(self, connect_timeout: float, *, encrypted_only: bool = False) -> None:
        super().__init__()
        self.connect_timeout, self.encrypted_only = connect_timeout, encrypted_only
        self.deadline = 0.0
        #: What is sent now may be sent again unchanged: a lost answer then counts as a slow one, which both clients
        #: answer with the same message. WS-Man gives the same MessageID the same answer again.
        self.repeatable = False
        #: The last answer that was handed over unread.
        self._unread: requests.Response | None = None

    def allow(self, seconds: float) -> None:
        """Set the deadline, `seconds` from now."""
        self.deadline = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds up to the deadline. Raises DeadlinePassed when there are none."""
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise DeadlinePassed("the time for this operation is over")
        return seconds

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send one request and take the whole answer before the deadline.

        Raises what `requests` raises, and DeadlinePassed, AnswerTooLarge or AnswerInClear.
        """
        remaining = self.remaining()
        wanted = timeout[1] if isinstance(timeout, tuple) else timeout
        limits = (min(self.connect_timeout, remaining), min(wanted or remaining, remaining))
        try:
            response = super().send(
                request, stream=True, timeout=limits, verify=verify, cert=cert, proxies=dict(proxies or {})
            )
            # The hooks for authentication look at the socket of an unread 401 for its certificate.
            self._unread = response if response.status_code == 401 else None
            if response.status_code != 401:
                self._take(response)
        except requests.Timeout:
            raise
        except requests.exceptions.SSLError:
            raise
        except requests.ConnectionError as error:
            if self.repeatable:
                raise requests.ReadTimeout(error, request=request) from error
            raise
        return response

    def close(self) -> None:
        """Let go of all connections, also of one whose answer nobody read since the hook that was to read it failed."""
        if self._unread is not None:
            self._unread.close()
            self._unread = None
        super().close()

    def _take(self, response: requests.Response) -> None:
        """Read the body piece by piece, so that the deadline and the bound hold."""
        pieces: list[bytes] = []
        size = 0
        try:
            while piece := response.raw.read1(65536, decode_content=False):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_ANSWER:
                    raise AnswerTooLarge(f"the host sent more than {MAX_ANSWER} bytes in one answer")
                self.remaining()
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.ReadTimeout(error, request=response.request) from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.exceptions.ConnectionError(error, request=response.request) from error
        except (DeadlinePassed, AnswerTooLarge):
            response.raw.close()
            raise
        if pieces and self.encrypted_only and not response.headers.get("Content-Type", "").startswith("multipart/"):
            raise AnswerInClear(f"an answer that is not encrypted (HTTP status {response.status_code})")
        # What `Response.content` keeps after it has read the body itself.
        response._content = b"".join(pieces)
        response._content_consumed = True
        response.raw.release_conn()


def mount(session: requests.Session, adapter: BoundedAdapter) -> None:
    """Send everything of this session through the adapter."""
    session.mount("https://", adapter)
    session.mount("http://", adapter)
