"""Passwords: argon2id hashes, and what may be one (NIST SP 800-63B, 5.1.1.2: length and a list of bad ones, no rules of mixture)."""

from __future__ import annotations

import unicodedata
from functools import cache
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

from agent.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

LEAST_LENGTH = 12
#: Longer ones are refused: hashing them would only cost time.
MOST_LENGTH = 1000
_WORDS = """
password passwort passwortpasswort passwordpassword motdepasse contrasena qwerty qwertz azerty qwertyuiop qwertyuiopasdf qwertzuiop
asdfghjkl zxcvbnm iloveyou letmein welcome welcometo willkommen administrator admin adminadmin root changeme changeit changemenow
secret default monkey dragon football baseball superman batman princess sunshine trustno exeunt offboarding connectwise automate
abc abcd abcdef abcdefghijkl summer winter spring autumn
"""
_PATTERNS = """
123456789012 1234567890123 12345678901234 123456789012345 1234567890123456 012345678901 098765432109 987654321098 1q2w3e4r5t6y
1qaz2wsx3edc zaq12wsxcde3 q1w2e3r4t5y6 123qweasdzxc qwe123qwe123 qweasdzxc123 abc123abc123 abcd1234abcd 1234qwerasdf p@ssw0rdp@ss
p@ssw0rd1234 passw0rd1234 pa55word1234 pa$$word1234 letmein12345
"""
#: A password of at least 12 characters that is one of these and then digits or marks is as bad as the word alone.
_WORST_WORDS = frozenset(_WORDS.split())
_WORST = frozenset(_PATTERNS.split())
#: A hash takes 64 MiB: so many strangers' sign-ins are worked on at once, the others wait.
_AT_ONCE = BoundedSemaphore(4)


def check(password: str, *, names: tuple[str, ...] = ()) -> None:
    """Raises UsageError for a password that may not be chosen. `names` are the person's own name and address."""
    said = _normal(password)
    if len(said) < LEAST_LENGTH:
        raise UsageError(
            f"the password is too short: {LEAST_LENGTH} characters or more; several words are easy to remember"
        )
    if len(said) > MOST_LENGTH:
        raise UsageError(f"the password is too long: at most {MOST_LENGTH} characters")
    plain = said.casefold()
    own = {part for name in names for part in (_normal(name).casefold(), _normal(name).casefold().partition("@")[0])}
    if any(len(part) > 2 and part in plain for part in own):
        raise UsageError("the password holds your own name: choose another")
    if plain in _WORST or plain.rstrip("0123456789!?.,*+-_#$%&@ ") in _WORST_WORDS or len(set(plain)) < 5:
        raise UsageError("the password is one of those that are tried first: choose another")


def hashed(password: str) -> str:
    """The argon2id hash of a password, with salt and parameters."""
    hasher = _hasher()
    with _AT_ONCE:
        return hasher.hash(_normal(password))


def fits(stored: str | None, password: str) -> bool:
    """Whether the password is that of the stored hash. None (no such person, no password) takes as long and is False."""
    from argon2.exceptions import VerificationError

    hasher = _hasher()
    with _AT_ONCE:
        try:
            hasher.verify(stored or _nobodys(), _normal(password)[: MOST_LENGTH + 1])
        except VerificationError:
            return False
    return stored is not None


def is_outdated(stored: str) -> bool:
    """Whether a hash was made with other parameters than those of today."""
    return _hasher().check_needs_rehash(stored)


def _normal(text: str) -> str:
    """The same characters however a keyboard composed them; half of a surrogate pair, which UTF-8 lacks, is replaced."""
    return unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode())


@cache
def _hasher() -> PasswordHasher:
    """The library's parameters: RFC 9106's for little memory."""
    try:
        from argon2 import PasswordHasher
    except ModuleNotFoundError as error:
        raise SettingsError("passwords need the library argon2-cffi: install exeunt[web]") from error
    return PasswordHasher()


@cache
def _nobodys() -> str:
    return _hasher().hash("nobody has this password")
