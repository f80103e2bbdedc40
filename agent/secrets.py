"""Secrets at rest: Fernet tokens `enc:v1:...`, whose key is kept apart from the database.

The key is in the file `<workspace>/secrets.key`, in the environment (`EXEUNT_SECRETS_KEY`) or in a keyring whose
backend is named (`EXEUNT_SECRETS_KEYRING`). There may be several keys: the first encrypts, all decrypt.
A token carries the place that it was made for, so a token that is copied to another credential or client is refused.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from agent.errors import Conflict, SettingsError, StoreError
from agent.settings import Settings

PREFIX = "enc:v1:"
KEY_FILE = "secrets.key"
KEYRING_SERVICE = "exeunt"


class SecretBox:
    """Encrypts and decrypts. Thread-safe.

    `load` gives the keys, first the one that encrypts. It is asked again for each encryption, and when no known key
    fits a token, so a process that has been running for long follows a rotation.
    """

    def __init__(self, load: Callable[[], Sequence[str]]) -> None:
        self._load = load
        self._box = _multi(load())

    def encrypt(self, text: str, *, purpose: str = "") -> str:
        """Text -> token `enc:v1:...`, bound to `purpose`: the place where it is stored."""
        self._box = _multi(self._load())
        content = json.dumps({"for": purpose, "text": text}).encode()
        return PREFIX + self._box.encrypt(content).decode("ascii")

    def decrypt(self, token: str, *, purpose: str = "") -> str:
        """Token -> text. Raises SettingsError when no key fits, StoreError when it was made for another place."""
        content = json.loads(self._open(token))
        if content["for"] != purpose:
            raise StoreError(
                f"the secret at {purpose or 'this place'} was stored for another place and is refused: enter it again"
            )
        return str(content["text"])

    def rotate(self, token: str) -> str:
        """The same secret for the same place, encrypted with the first key."""
        content = self._open(token)
        return PREFIX + self._box.encrypt(content).decode("ascii")

    def fits_first_key(self, token: str) -> bool:
        """Whether the first key alone can decrypt the token."""
        try:
            Fernet(self._load()[0]).decrypt(_bare(token))
        except InvalidToken:
            return False
        return True

    def _open(self, token: str) -> bytes:
        bare = _bare(token)
        try:
            return self._box.decrypt(bare)
        except InvalidToken:
            self._box = _multi(self._load())
        try:
            return self._box.decrypt(bare)
        except InvalidToken:
            raise SettingsError(
                "a secret cannot be decrypted: the key is not the one that it was encrypted with, or the stored token "
                "is damaged; put the right key back (EXEUNT_SECRETS_KEY_SOURCE says where it is looked for)"
            ) from None


def is_token(value: str) -> bool:
    """Whether a stored value looks like an encrypted secret."""
    return value.startswith(PREFIX)


def load_secret_box(settings: Settings) -> SecretBox:
    """The box of an installation. Raises SettingsError when the key is missing, malformed or readable by others."""
    return SecretBox(lambda: _keys(settings))


def generate_key() -> str:
    """A new random key in the form that the file, the environment and the keyring hold."""
    return Fernet.generate_key().decode("ascii")


def create_key(settings: Settings) -> str:
    """Make the installation's first key and say where it is.

    Raises Conflict when there is one already, SettingsError when the key comes from the environment.
    """
    source = _source(settings)
    if source == "environment":
        raise SettingsError("the key comes from the environment: set EXEUNT_SECRETS_KEY to a key of your own")
    if source == "keyring":
        backend = _keyring(settings)
        if backend.get_password(KEYRING_SERVICE, str(settings.workspace)) is not None:
            raise Conflict(f"the keyring has a key for {settings.workspace} already")
        backend.set_password(KEYRING_SERVICE, str(settings.workspace), generate_key())
        return f"keyring {settings.secrets_keyring}"
    path = settings.workspace / KEY_FILE
    _write_private(path, generate_key() + "\n", replace=False)
    return str(path)


def add_key(settings: Settings) -> None:
    """Put a new key before the present ones; from now on it encrypts. The old ones still decrypt."""
    _store_keys(settings, [generate_key(), *_keys(settings)])


def keep_first_key(settings: Settings) -> int:
    """Forget all keys but the first and return how many were forgotten. Only after every token was rotated."""
    keys = _keys(settings)
    if len(keys) > 1:
        _store_keys(settings, keys[:1])
    return len(keys) - 1


def _bare(token: str) -> bytes:
    if not is_token(token):
        raise StoreError("a stored secret is not an encrypted token: enter the secret again")
    return token[len(PREFIX) :].encode()


def _multi(keys: Sequence[str]) -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        # The value itself is left out: it may be most of a key.
        raise SettingsError(
            "the key for the secrets is malformed: a key is 44 characters of URL-safe base64 (32 bytes)"
        ) from None


def _source(settings: Settings) -> str:
    """Where the key is. A key in the environment counts unless another place was chosen, which would contradict it."""
    if settings.secrets_key is None:
        return settings.secrets_key_source
    if "secrets_key_source" in settings.model_fields_set and settings.secrets_key_source != "environment":
        raise SettingsError(
            f"EXEUNT_SECRETS_KEY is set, but EXEUNT_SECRETS_KEY_SOURCE is {settings.secrets_key_source}: remove one of them"
        )
    return "environment"


def _keys(settings: Settings) -> list[str]:
    source = _source(settings)
    if source == "environment":
        text, place = settings.secrets_key or "", "EXEUNT_SECRETS_KEY"
    elif source == "keyring":
        stored = _keyring(settings).get_password(KEYRING_SERVICE, str(settings.workspace))
        text, place = stored or "", f"the keyring {settings.secrets_keyring}"
    else:
        path = settings.workspace / KEY_FILE
        text, place = _read_private(path), str(path)
    keys = text.replace(",", " ").split()
    if not keys:
        raise SettingsError(
            f"there is no key for the secrets in {place}: put the key back, or run `exeunt init` on a new installation"
        )
    return keys


def _store_keys(settings: Settings, keys: Sequence[str]) -> None:
    source = _source(settings)
    if source == "environment":
        raise SettingsError(
            "the key comes from the environment: set EXEUNT_SECRETS_KEY to the new and the old key there"
        )
    if source == "keyring":
        _keyring(settings).set_password(KEYRING_SERVICE, str(settings.workspace), " ".join(keys))
    else:
        _write_private(settings.workspace / KEY_FILE, "\n".join(keys) + "\n", replace=True)


def _read_private(path: Path) -> str:
    """The text of the key file, "" when it does not exist. Refused when anybody else could read or change it."""
    try:
        with path.open(encoding="ascii") as file:
            status = os.fstat(file.fileno())
            if os.name == "posix" and status.st_mode & 0o077:
                raise SettingsError(
                    f"{path} can be read by others (mode {status.st_mode & 0o777:04o}): run `chmod 600 {path}`, "
                    "and consider the key known to them"
                )
            if os.name == "posix" and status.st_uid not in (0, os.geteuid()):
                raise SettingsError(f"{path} belongs to another user (id {status.st_uid}): run `chown` and `chmod 600`")
            return file.read()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {type(error).__name__}") from error


def _write_private(path: Path, text: str, *, replace: bool) -> None:
    """Write whole or not at all, mode 0600. Raises Conflict when it exists and may not be replaced."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".secrets-")  # mkstemp makes it 0600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)
    except FileExistsError:
        raise Conflict(f"{path} exists already: the secrets in the database need it") from None
    finally:
        temporary.unlink(missing_ok=True)


def _keyring(settings: Settings) -> _Keyring:
    """The named backend of the library `keyring`; one that it would choose by itself is never used."""
    if not settings.secrets_keyring:
        raise SettingsError(
            "EXEUNT_SECRETS_KEYRING must name the keyring's backend, such as keyring.backends.SecretService.Keyring"
        )
    try:
        from keyring.core import load_keyring
    except ModuleNotFoundError as error:
        raise SettingsError("the key is in a keyring, but the library is missing: install exeunt[keyring]") from error
    try:
        return _Keyring(load_keyring(settings.secrets_keyring))
    except (ImportError, AttributeError, ValueError, RuntimeError) as error:
        raise SettingsError(f"EXEUNT_SECRETS_KEYRING: {settings.secrets_keyring} cannot be used: {error}") from error


class _Keyring:
    """The two calls that are needed, with the library's errors said in our words."""

    def __init__(self, backend: object) -> None:
        self._backend = backend

    def get_password(self, service: str, name: str) -> str | None:
        return self._call("get_password", service, name)

    def set_password(self, service: str, name: str, text: str) -> None:
        self._call("set_password", service, name, text)

    def _call(self, verb: str, *arguments: str) -> str | None:
        from keyring.errors import KeyringError

        try:
            answer: str | None = getattr(self._backend, verb)(*arguments)
        except (KeyringError, OSError) as error:
            raise SettingsError(f"the keyring refused {verb.replace('_', ' ')}: {type(error).__name__}") from error
        return answer
