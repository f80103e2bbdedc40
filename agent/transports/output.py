"""Collecting a command's output: both streams apart, a bounded head in memory, the whole in files, secrets masked."""

from __future__ import annotations

import codecs
import os
import re
import threading
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NotRequired, TypedDict

from agent.transports.masking import Masker

STREAMS = ("stdout", "stderr")
#: Bytes that are decoded and masked at once.
_PIECE = 65_536
_STEM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class StreamResult(TypedDict):
    """What is kept of one stream. All texts are masked."""

    #: The head: at most `head_bytes` of UTF-8.
    text: str
    #: Bytes that the command wrote, before decoding and masking.
    bytes: int
    #: `text` is not the whole stream.
    truncated: bool
    #: Name of the file in the collector's folder that holds the stream from its first byte, None if `text` is all.
    file: str | None
    #: Bytes of masked text that came after the file's limit, or after the file could not be written.
    dropped: NotRequired[int]
    #: Why the file is not whole, when the file system refused it.
    lost: NotRequired[str]


class OutputCollector:
    """Takes bytes of `stdout` and `stderr` as they come; safe to use from many threads.

    folder: where files are made, created (mode 0700) when the first one is needed.
    stem: the files are `<stem>.stdout` and `<stem>.stderr` (mode 0600), UTF-8, without NUL.
    head_bytes: so much of each stream is kept in memory; above it the stream goes to its file as well.
    file_limit_bytes: largest file; what comes after is counted and dropped.
    masks: secrets; they and their encoded forms are replaced by `***` before anything is kept.
    live: write the files from the first byte, for somebody who is watching; one that the head holds whole goes at the end.
    """

    def __init__(
        self, folder: Path, stem: str, head_bytes: int, file_limit_bytes: int, masks: Iterable[str] = (), *, live: bool = False
    ) -> None:  # fmt: skip
        if not _STEM.fullmatch(stem):
            raise ValueError(f"not the stem of a file name: {stem!r}")
        self.masks = tuple(masks)
        self._lock = threading.Lock()
        self._streams = {
            name: _Stream(folder / f"{stem}.{name}", head_bytes, file_limit_bytes, Masker(self.masks), live)
            for name in STREAMS
        }
        self._result: dict[str, StreamResult] | None = None

    def decode_as(self, encoding: str) -> None:
        """Take the bytes that follow for text of this encoding (default UTF-8), such as `cp850` from Windows.

        Raises LookupError for an unknown encoding. What cannot be decoded becomes U+FFFD.
        """
        with self._lock:
            for stream in self._streams.values():
                stream.decoder = codecs.getincrementaldecoder(encoding)("replace")

    def write(self, stream: str, data: bytes) -> None:
        """Take bytes of `stdout` or `stderr`. Bytes that come after `finish` are ignored. Never fails on a full disk."""
        with self._lock:
            if self._result is None:
                view = memoryview(data)
                for start in range(0, len(view), _PIECE):
                    self._streams[stream].take(bytes(view[start : start + _PIECE]))

    def last_line(self, stream: str) -> str | None:
        """The last line that is not blank, masked, of the last `head_bytes` of a stream; None if there is none.

        Call it after `finish`: before, what may be the beginning of a secret is still held back.
        """
        with self._lock:
            lines = self._streams[stream].tail().splitlines()
            return next((line for line in reversed(lines) if line.strip()), None)

    def finish(self) -> dict[str, StreamResult]:
        """End both streams and close the files: {"stdout": {...}, "stderr": {...}}. A second call answers the same."""
        with self._lock:
            if self._result is None:
                self._result = {name: stream.finish() for name, stream in self._streams.items()}
            return self._result


class _Stream:
    def __init__(self, path: Path, head_bytes: int, file_limit: int, masker: Masker, live: bool) -> None:
        self.path, self.head_bytes, self.file_limit, self.masker, self.live = path, head_bytes, file_limit, masker, live
        self.decoder: codecs.IncrementalDecoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.received = 0
        self.head = bytearray()
        self.rest = bytearray()  # the end of what came after the head, at most two times head_bytes
        self.overflowed = False
        self.file: int | None = None
        self.written = 0
        self.offered = 0
        self.lost: str | None = None

    def take(self, data: bytes) -> None:
        self.received += len(data)
        self._keep(self.masker.feed(self.decoder.decode(data).replace("\0", "")))

    def finish(self) -> StreamResult:
        # One after the other: the decoder's last character may complete a secret.
        self._keep(self.masker.feed(self.decoder.decode(b"", True).replace("\0", "")))
        self._keep(self.masker.flush())
        self._end_file()
        result = StreamResult(
            text=self.head.decode("utf-8", "ignore"),  # a character that the limit cuts is left out
            bytes=self.received,
            truncated=self.overflowed,
            file=self.path.name if self.written else None,
        )
        if self.offered > self.written:
            result["dropped"] = self.offered - self.written
        if self.lost:
            result["lost"] = self.lost
        return result

    def tail(self) -> str:
        # Joined before decoding: the head's end may cut a character.
        return (self.head + self.rest)[-self.head_bytes :].decode("utf-8", "ignore")

    def _keep(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        if self.live or self.overflowed:
            self._store(data)
        elif len(self.head) + len(data) > self.head_bytes:
            self._store(self.head + data)
        room = self.head_bytes - len(self.head) if not self.overflowed else 0
        self.head += data[:room]
        if len(data) > room:
            self.overflowed = True
            self.rest += data[room:]
        if len(self.rest) > 2 * self.head_bytes:
            del self.rest[: -self.head_bytes]

    def _store(self, data: bytes | bytearray) -> None:
        self.offered += len(data)
        allowed = data[: max(0, self.file_limit - self.written)]
        if self.lost is None and allowed:
            self._write(allowed)

    def _write(self, data: bytes | bytearray) -> None:
        try:
            if self.file is None:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
                self.file = os.open(self.path, flags, 0o600)
            view = memoryview(data)
            while view:
                count = os.write(self.file, view)
                self.written += count
                view = view[count:]
        except OSError as error:
            self._give_up(error)

    def _end_file(self) -> None:
        if self.live and not self.overflowed:
            # Nothing is lost with it, not even where the disk was full.
            if self.file is not None:
                os.close(self.file)
                self.path.unlink(missing_ok=True)
            self.file, self.written, self.offered, self.lost = None, 0, 0, None
        self._close()

    def _close(self) -> None:
        if self.file is None:
            return
        try:
            if self.lost is None:
                os.fsync(self.file)
        except OSError as error:
            self._give_up(error)
        file, self.file = self.file, None
        if file is not None:
            os.close(file)

    def _give_up(self, error: OSError) -> None:
        """The run is worth more than its output: say what is missing and go on."""
        self.lost = f"the output after byte {self.written} could not be written to {self.path.name}: {error.strerror}"
        if self.file is not None:
            os.close(self.file)
            self.file = None


def printable(text: str) -> str:
    """A text made harmless for a terminal or a log: control characters (except newline and tab) and characters that
    turn the direction of writing are shown as escapes; Windows' line ends become plain ones.
    """
    return "".join(
        character if character in "\n\t" or not _is_control(character) else _escape(character)
        for character in text.replace("\r\n", "\n")
    )


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(character) in (
        "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
    )  # fmt: skip


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
