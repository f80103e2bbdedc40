"""Keeping secrets out of output: the secret itself and the forms in which commands usually print it."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MASK = "***"
#: A piece of base64 shorter than this would also match ordinary words.
_LEAST_PIECE = 6
#: A single line of a secret of several lines (a private key) is masked by itself when it has this many characters.
_LEAST_LINE = 8


def forms(secret: str) -> set[str]:
    """The secret and its encoded forms: JSON, URL, XML, quoted for a shell, base64 (also in the middle of other data)."""
    found = {secret, secret.strip()}
    lines = secret.splitlines()
    if len(lines) > 1:
        found.update({"\n".join(lines), "\r\n".join(lines)})
        found.update(line for line in map(str.strip, lines) if len(line) >= _LEAST_LINE)
    for text in tuple(found):
        escaped = json.dumps(text)[1:-1]
        found.update({escaped, escaped.replace("/", "\\/"), json.dumps(text, ensure_ascii=False)[1:-1]})
        for url in (quote(text, safe=""), quote(text), quote_plus(text)):
            found.update({url, re.sub("%..", lambda m: m[0].lower(), url)})
        found.update({html.escape(text), html.escape(text, quote=False), text.replace("'", "''")})
        found.update({text.replace("'", "'\\''"), text.replace("'", "'\"'\"'")})
    for encoding in ("utf-8", "utf-16-le"):
        found.update(_base64_pieces(secret.encode(encoding)))
    return {text for text in found if text}


def _base64_pieces(data: bytes) -> Iterable[str]:
    """What base64 makes of the data whole, and of its part that does not depend on what stands before and after it."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(data).decode()
        yield whole
        yield whole.rstrip("=")
        for shift in range(3):
            # The first characters mix with up to two bytes before, the last with what follows.
            piece = encode(b"\0" * shift + data).decode().rstrip("=")[(0, 2, 3)[shift] :]
            piece = piece if (len(data) + shift) % 3 == 0 else piece[:-1]
            if len(piece) >= _LEAST_PIECE:
                yield piece


class Masker:
    """Replaces secrets in a text that comes in pieces, also where a secret is cut by the pieces. One per stream."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # NUL never reaches the masker: see OutputCollector.
        wanted: set[str] = set()
        for secret in secrets:
            if secret:
                wanted |= forms(secret)
        self._forms = sorted(wanted)
        self._any = re.compile("|".join(map(re.escape, sorted(wanted, key=len, reverse=True)))) if wanted else None
        self._longest = max(map(len, self._forms), default=0)
        self._held = ""
        #: So many characters at the start of what is held belong to a secret whose mask was given out already.
        self._covered = 0

    def feed(self, text: str) -> str:
        """The next piece of the masked text. What may be the beginning of a secret is held back."""
        if self._any is None:
            return text
        text = self._held + text
        return self._take(text, self._beginning(text))

    def flush(self) -> str:
        """The rest, at the end of the text."""
        return self._take(self._held, len(self._held))

    def _take(self, text: str, end: int) -> str:
        """Mask `text` up to `end` and hold the rest, of which a part may belong to a secret that began before."""
        pieces: list[str] = []
        done, covered, spans = 0, self._covered, self._spans(text)
        self._held, self._covered = text[end:], 0
        for start, stop in spans:
            if start >= end:
                break
            pieces.append(text[done:start])
            pieces.append("" if start == 0 and covered else MASK)
            done = min(stop, end)
            self._covered = max(0, stop - end)
        return "".join([*pieces, text[done:end]])

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Where secrets stand, overlapping ones joined, in order."""
        found = [(0, self._covered)] if self._covered else []
        if self._any is None or not self._any.search(text):
            return found
        for form in self._forms:
            at = text.find(form)
            while at >= 0:
                found.append((at, at + len(form)))
                at = text.find(form, at + 1)
        joined: list[tuple[int, int]] = []
        for start, stop in sorted(found):
            if joined and start < joined[-1][1]:
                joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
            else:
                joined.append((start, stop))
        return joined

    def _beginning(self, text: str) -> int:
        """Where the earliest end of `text` starts that a secret begins with; its length if there is none."""
        first = max(0, len(text) - self._longest + 1)
        earliest = len(text)
        for form in self._forms:
            at = text.find(form[0], max(first, len(text) - len(form) + 1))
            while 0 <= at < earliest:
                if form.startswith(text[at:]):
                    earliest = at
                at = text.find(form[0], at + 1)
        return earliest


def mask(text: str, secrets: Iterable[str]) -> str:
    """A whole text with its secrets masked."""
    masker = Masker(secrets)
    return masker.feed(text) + masker.flush()
