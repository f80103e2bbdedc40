"""What an error of pywinrm, pypsrp or `requests` means for a run: was anything started, and may it be tried again?

The answer depends less on the error than on when it came. Before the command was sent nothing has happened; once it was
sent, only a refusal that the host put into words proves that it was not carried out.
"""

from __future__ import annotations

import struct
from enum import Enum
from xml.etree.ElementTree import ParseError

import requests
import spnego.exceptions
import urllib3.exceptions

from agent import kerberos
from agent.errors import AccessDenied, AnswerLost, CannotConnect, TransportError
from agent.transports.wsman_http import AnswerInClear, AnswerTooLarge, DeadlinePassed

CREDSSP_ERRORS: tuple[type[Exception], ...] = ()
try:
    from requests_credssp.exceptions import AuthenticationException, NTStatusException
except ImportError:
    pass  # the extra is not installed, so nothing raises them
else:
    CREDSSP_ERRORS = (AuthenticationException, NTStatusException)


class Stage(Enum):
    """How far the conversation had come."""

    OPENING = "opening the shell"
    STARTING = "starting the command"
    RUNNING = "waiting for its end"


#: What the client libraries raise for an answer of an unexpected shape: they look elements up without checking.
MALFORMED = (ParseError, ValueError, LookupError, AttributeError, TypeError, StopIteration, struct.error)

#: Everything that one exchange may raise, apart from the error classes of the two libraries.
EXCHANGE_ERRORS: tuple[type[Exception], ...] = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    spnego.exceptions.SpnegoError,
    *CREDSSP_ERRORS,
    DeadlinePassed,
    AnswerTooLarge,
    AnswerInClear,
    *MALFORMED,
)

#: Codes of WSManFault, from recordings of Windows hosts and MS-WSMV.
FAULT_TIMED_OUT = 2150858793
FAULT_QUOTA = 2150859173
FAULT_ACCESS_DENIED = 5
#: No such shell or command: it is gone.
FAULT_UNKNOWN_SELECTOR = 2150858843
#: May be different a moment later: timed out, the shells of this user are used up, too many operations, busy, stopping.
PASSING_FAULTS = frozenset({FAULT_TIMED_OUT, FAULT_QUOTA, 2150859174, 2150859175, 170, 1115})


def from_exchange(error: Exception, *, endpoint: str, stage: Stage) -> TransportError:
    """The error to raise for one of EXCHANGE_ERRORS."""
    if isinstance(error, requests.exceptions.SSLError) and stage is not Stage.RUNNING:
        if "CERTIFICATE_VERIFY_FAILED" in str(error) or "certificate verify failed" in str(error):
            return AccessDenied(
                f"{endpoint}: the host's certificate is not trusted: {reason(error)}; set ca_file to the authority "
                "that issued it"
            )
        return CannotConnect(f"{endpoint}: TLS failed: {reason(error)}")
    if isinstance(error, (spnego.exceptions.SpnegoError, *CREDSSP_ERRORS)) and stage is not Stage.RUNNING:
        told = f"{endpoint}: authentication failed"
        return kerberos.explained(error, told) or AccessDenied(
            f"{told}: {reason(error)}; check the username and the password of the credential"
        )
    if _never_sent(error) and stage is not Stage.RUNNING:
        return CannotConnect(f"{endpoint}: cannot connect: {reason(error)}")
    return _lost(f"{type(error).__name__}: {reason(error)}", endpoint=endpoint, stage=stage)


def from_status(status: int, *, endpoint: str, stage: Stage) -> TransportError:
    """The error to raise for an HTTP status without a SOAP fault."""
    if stage is Stage.RUNNING:
        return _lost(f"HTTP status {status}", endpoint=endpoint, stage=stage)
    if status in (401, 403):
        return AccessDenied(f"{endpoint}: the credential was refused (HTTP status {status})")
    if status == 413:
        return _permanent(f"{endpoint}: the host takes no message of this size (HTTP status 413)")
    if status == 404:
        return _permanent(f"{endpoint}: there is no WS-Management service here (HTTP status 404); check port and path")
    if status == 503:
        return CannotConnect(f"{endpoint}: the service is not available (HTTP status 503)")
    return _lost(f"HTTP status {status}", endpoint=endpoint, stage=stage)


def from_fault(code: int | str | None, text: str | None, *, endpoint: str, stage: Stage) -> TransportError:
    """The error to raise for a WSManFault."""
    what = f"fault {code}: {(text or 'no reason given').strip()}"
    if stage is Stage.RUNNING or (stage is Stage.STARTING and code == FAULT_TIMED_OUT):
        return _lost(what, endpoint=endpoint, stage=stage)
    if code == FAULT_ACCESS_DENIED:
        return AccessDenied(f"{endpoint}: {what}")
    if code in PASSING_FAULTS:
        return CannotConnect(f"{endpoint}: refused for now while {stage.value}: {what}")
    return _permanent(f"{endpoint}: refused while {stage.value}: {what}")


def reason(error: BaseException) -> str:
    """The innermost reason of nested network errors, on one line and of bounded length."""
    while True:
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    return " ".join(str(error).split())[:300] or type(error).__name__


def _lost(what: str, *, endpoint: str, stage: Stage) -> TransportError:
    if stage is Stage.OPENING:
        return CannotConnect(f"{endpoint}: no usable answer while {stage.value}: {what}")
    return AnswerLost(f"{endpoint}: no usable answer while {stage.value}: {what}; whether it was done is not known")


def _permanent(text: str) -> CannotConnect:
    error = CannotConnect(text)
    error.permanent = True
    return error


def _never_sent(error: Exception) -> bool:
    """Whether the connection was not even made, so that this request cannot have arrived."""
    if isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError):
        return True
    inner = error.args[0] if error.args else None
    cause = getattr(inner, "reason", inner)
    return isinstance(error, requests.ConnectionError) and isinstance(cause, urllib3.exceptions.NewConnectionError)
