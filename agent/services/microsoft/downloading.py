"""Contents of a file of Graph's as a stream: from where an earlier attempt ended, and never more than was announced.

Graph answers `/content` with a redirect to an address that needs no sign-in and is as good as a key (Microsoft Graph,
"Download driveItem content"). So the token goes to Graph alone, and the address stands in no message. A cut connection is
gone on with by `Range` (RFC 9110, 14.2), each time from Graph on, since such an address lasts minutes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpx

from agent.errors import StepError
from agent.failure_types import INTEGRATION_ERROR
from agent.services.microsoft.errors import THROTTLED, refusal, unreachable
from agent.services.microsoft.sending import Channel, decoded
from agent.services.rest.waiting import retry_after

#: Bytes that are held at a time, and redirects that are followed.
PIECE, HOPS = 1 << 18, 4
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class FileChanged(StepError):
    """What arrives is not what the listing announced: the file was changed meanwhile."""


@dataclass(frozen=True)
class Wanted:
    """What is to be downloaded. `address`: of Graph; `doing` names it in messages; `size` as it was announced."""

    address: str
    doing: str
    size: int
    #: Moment of `time.monotonic` at which to stop.
    until: float = float("inf")


def download(channel: Channel, wanted: Wanted, offset: int, into: Callable[[bytes], None]) -> None:
    """Give every byte from `offset` on to `into`, repeating what breaks off as long as it gets on.

    Raises FileChanged, ServiceRefused, CannotConnect, StepError (`time_limit`, `download_cut`), and what `into` raises.
    """
    at, deadline = offset, channel.deadline()
    while at < wanted.size:
        before, asked = at, None
        try:
            with _opened(channel, wanted, at) as (answer, by_graph):
                if answer.is_success:
                    for piece in _pieces(answer, wanted, at):
                        into(piece)
                        at += len(piece)
                    failure: Exception = _cut(wanted, f"it ended after {at} of {wanted.size} bytes")
                else:
                    asked = retry_after(answer.headers.get("Retry-After"))
                    failure = _judged(answer, wanted, by_graph, asked)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            failure = unreachable("OneDrive", type(error).__name__)
        except httpx.TransportError as error:
            failure = _cut(wanted, type(error).__name__)
        if at > before:
            deadline = channel.deadline()
        if at < wanted.size and not deadline.wait(asked):
            raise failure


def whole(channel: Channel, address: str, doing: str, largest: int) -> bytes:
    """A content of which Graph tells no size beforehand and gives no ranges, as one piece; what breaks off is begun anew.

    Raises ServiceRefused, CannotConnect, StepError (`download_cut`, `too_large`).
    """
    deadline = channel.deadline()
    while True:
        asked = None
        try:
            with channel.streamed(address, {"Accept-Encoding": "identity"}, signed_in=True) as answer:
                if answer.is_success:
                    return _held(answer, doing, largest)
                asked = retry_after(answer.headers.get("Retry-After"))
                answer.read()
                failure: Exception = refusal("Graph", doing, answer.status_code, decoded(answer), asked)
                if answer.status_code < 500 and answer.status_code not in (401, *THROTTLED):
                    raise failure
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            failure = unreachable("Graph", type(error).__name__)
        except httpx.TransportError as error:
            failure = StepError(
                f"the download of {doing} broke off: {type(error).__name__}", type=INTEGRATION_ERROR, code="download_cut",
                remediation="Retry the run: it goes on where it was.",
            )  # fmt: skip
        if not deadline.wait(asked):
            raise failure


def _held(answer: httpx.Response, doing: str, largest: int) -> bytes:
    """All of an answer. Its end is sure: httpx raises for one that is shorter than announced."""
    data = bytearray()
    for piece in answer.iter_bytes(PIECE):
        data += piece
        if len(data) > largest:
            raise StepError(
                f"{doing} is larger than {largest} bytes", type=INTEGRATION_ERROR, code="too_large",
                remediation="Keep it by hand: exeunt task add --backup",
            )  # fmt: skip
    return bytes(data)


@contextmanager
def _opened(channel: Channel, wanted: Wanted, at: int) -> Iterator[tuple[httpx.Response, bool]]:
    """The answer at the end of the redirects, and whether it is Graph's own. The token goes with the first request only."""
    url, by_graph = wanted.address, True
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={at}-"} if at else {})}
    for _ in range(HOPS):
        with channel.streamed(url, headers, signed_in=by_graph) as answer:
            location = answer.headers.get("Location")
            if answer.status_code not in (301, 302, 303, 307, 308) or not location:
                yield answer, by_graph
                return
            url, by_graph = _target(url, location, wanted), False
    raise _nonsense(f"the download of {wanted.doing} is redirected again and again")


def _target(url: str, location: str, wanted: Wanted) -> str:
    """Where a redirect leads. Raises StepError unless it is an https address."""
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        httpx.URL(target)
    except (ValueError, httpx.InvalidURL):
        raise _nonsense(f"the download of {wanted.doing} leads to something that is no address") from None
    if parts.scheme != "https" or not parts.hostname or parts.username is not None:
        raise _nonsense(f"the download of {wanted.doing} leads to an address that is not https")
    return target


def _pieces(answer: httpx.Response, wanted: Wanted, at: int) -> Iterator[bytes]:
    """The bytes from `at` on, at most as many as are missing."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise _nonsense(f"the download of {wanted.doing} is encoded although that was not asked for")
    skip = at - _begin(answer, wanted, at)
    for piece in answer.iter_raw(PIECE):
        if time.monotonic() > wanted.until:
            raise StepError(
                f"the time limit was reached while {wanted.doing} was downloaded", type=INTEGRATION_ERROR, code="time_limit",
                remediation="Retry the run: it goes on where it was. Raise time_limit_minutes for a large OneDrive.",
            )  # fmt: skip
        piece, skip = piece[skip:], max(0, skip - len(piece))
        at += len(piece)
        if at > wanted.size:
            raise changed(wanted, f"it is larger than {wanted.size} bytes")
        if piece:
            yield piece


def _begin(answer: httpx.Response, wanted: Wanted, at: int) -> int:
    """The place in the file of the first byte that comes: a server may leave a Range out of account."""
    if answer.status_code == 206:
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != at:
            raise _nonsense(f"the download of {wanted.doing} was answered with another range than was asked for")
        begin, total = at, int(found[3])
    else:
        begin, total = 0, int(answer.headers.get("Content-Length", wanted.size))
    if total != wanted.size:
        raise changed(wanted, f"it has {total} bytes, not {wanted.size}")
    return begin


def _judged(answer: httpx.Response, wanted: Wanted, by_graph: bool, asked: float | None) -> Exception:
    """The error of a refusal, to be raised when there is no time left. Raises it when asking again is of no use."""
    if answer.status_code == 416:
        raise changed(wanted, "it is shorter than before")
    body = None
    if by_graph:
        answer.read()
        try:
            body = answer.json()
        except ValueError:
            body = None
    failure = refusal("Graph" if by_graph else "OneDrive", wanted.doing, answer.status_code, body, asked)
    # An address that has run out is refused by the host that it names: Graph gives another.
    if by_graph and answer.status_code < 500 and answer.status_code not in (401, *THROTTLED):
        raise failure
    return failure


def changed(wanted: Wanted, why: str) -> FileChanged:
    """The error of a file that is not what was announced."""
    return FileChanged(
        f"{wanted.doing} was changed while it was downloaded: {why}", type=INTEGRATION_ERROR, code="changed_meanwhile",
        remediation="Retry the run when nobody works with the file.",
    )  # fmt: skip


def _cut(wanted: Wanted, why: str) -> StepError:
    return StepError(
        f"the download of {wanted.doing} broke off: {why}", type=INTEGRATION_ERROR, code="download_cut",
        remediation="Retry the run: it goes on where it was.",
    )  # fmt: skip


def _nonsense(message: str) -> StepError:
    return StepError(message, type=INTEGRATION_ERROR, code="unexpected_answer", remediation="Retry the run.")
