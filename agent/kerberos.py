"""Kerberos: tickets of one credential, kept apart from those of everybody else who works in this process.

A ticket that is got with a password or a keytab lies in a memory cache of its own, which nobody else can name and which is
destroyed at the end. The caches of the process (KRB5CCNAME) are neither read nor written: what lies there may belong to another
client. Which KDC serves a realm is the machine's matter: /etc/krb5.conf or the domain's DNS.

The library waits about half a minute for a KDC that is silent and takes no limit of its own. It is asked in a thread that is left
to itself when the limit is over; what it gets after that is destroyed.

Needs the libraries of the extra `kerberos`; they are imported on first use only.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal

from agent.errors import AccessDenied, CannotConnect, SettingsError, TransportError
from agent.krb5_conf import kdcs

#: `user@REALM`; other forms of a name do not say which realm to ask.
PRINCIPAL = re.compile(r"[^\s@/\\]+(?:/[^\s@/\\]+)?@[A-Za-z0-9.-]+")

#: Errors of a KDC (RFC 4120, section 7.5.9) and, from 128 on, of MIT's library (krb5_err.et): class, what it means, what to do.
#: A `CannotConnect` with "config" is permanent: trying again with these settings cannot help.
_Sort = Literal["denied", "config", "passing"]
_FULL_NAME = "name the host by its full name in the domain (address, `controllers` or `kerberos_hostname`)"
_CLOCKS = "the clocks of this machine and of the domain differ too much; set them, for example by NTP"
_MEANINGS: dict[int, tuple[_Sort, str]] = {
    6: ("denied", "the domain knows no such account; check the username"),
    7: ("denied", "the domain knows no such service; " + _FULL_NAME),
    12: ("denied", "a rule of the domain does not let the account sign in from here or at this time"),
    14: ("denied", "the account has no key of a kind that this machine takes; set its password anew, so that it gets AES keys"),
    18: ("denied", "the account is disabled, locked or expired; enable it"),
    23: ("denied", "the password has expired; set a new one and enter it: exeunt credential update"),
    24: ("denied", "the password is wrong; enter it: exeunt credential update"),
    29: ("passing", "the KDC is not available now"),
    31: ("denied", "the password or the keytab does not fit the account; enter it anew: exeunt credential update"),
    32: ("denied", "the ticket has expired; renew it, or give the credential a password or a keytab"),
    33: ("config", _CLOCKS),
    37: ("config", _CLOCKS),
    68: ("config", "the account is of another realm; write the username as user@REALM with its own realm"),
    154: ("config", "no KDC of the realm is known here; name it in /etc/krb5.conf or let this machine ask the domain's DNS"),
    224: ("denied", "the name of the host does not tell its realm; " + _FULL_NAME),
    156: ("passing", "no KDC of the realm can be reached; check address, port 88 and firewall"),
}  # fmt: skip
_BASE = -1765328384
_EXPIRED, _EXPIRED_CREDENTIALS = 32, 11 << 16
_UNREACHABLE = 156
_REFUSED = "Kerberos refused it"
_NO_KEY = "the keytab has no key of this user; export it anew"
_NO_TICKET = "the file holds no ticket of this user; put one there, or give the credential a password or a keytab"


@dataclass(frozen=True)
class Identity:
    """Whose tickets: a principal `user@REALM`, and one of password, keytab or a file that holds a ticket."""

    username: str
    password: str = field(default="", repr=False)
    keytab_file: Path | None = None
    ticket_file: Path | None = None

    @property
    def principal(self) -> str:
        """The name with its realm in capitals, as Windows domains write it."""
        name, _, realm = self.username.rpartition("@")
        return f"{name}@{realm.upper()}"


def problem(identity: Identity) -> str | None:
    """What is wrong with an identity, or None."""
    if not PRINCIPAL.fullmatch(identity.username):
        return "Kerberos needs the username as user@REALM, such as exeunt@CONTOSO.EXAMPLE"
    given = [identity.password, identity.keytab_file, identity.ticket_file]
    if sum(map(bool, given)) == 0:
        return "Kerberos needs the secret password, or keytab_file, or ticket_file; tickets of the worker itself are not used"
    for key in ("keytab_file", "ticket_file"):
        file = getattr(identity, key)
        if file is not None and not file.is_file():
            return f"{key}: there is no file {file}"
    return None


def missing() -> str | None:
    """Why the libraries cannot be used, or None."""
    try:
        for name in ("gssapi", "krb5"):
            import_module(name)
    except ImportError as error:
        return str(error)
    return None


def raised() -> tuple[type[Exception], ...]:
    """What GSSAPI raises, for an `except`; nothing when it is not installed."""
    if missing():
        return ()
    from gssapi.raw import GSSError

    return (GSSError,)


class Tickets:
    """The tickets of one identity, got on first use. Not shared between threads.

    `seconds`: how long a KDC may take for one answer.
    """

    def __init__(self, identity: Identity, seconds: float) -> None:
        self._identity = identity
        self._seconds = seconds
        self._cache: str | None = None
        self._services: set[str] = set()

    @property
    def principal(self) -> str:
        """Whose tickets these are."""
        return self._identity.principal

    def cache(self, service: str) -> str:
        """Name of the cache that holds the tickets, for libraries that take one by name.

        `service`: what they are for, such as `ldap@host`. Its ticket is asked for here already: who signs in with the cache
        would wait for a silent KDC without a limit. Whether it is refused is for them to see and to say.
        Raises SettingsError without the libraries, AccessDenied when the KDC refuses, CannotConnect when it cannot be asked.
        """
        if self._cache is None:
            lacking = missing()
            if lacking:
                raise SettingsError(f"Kerberos needs further libraries: install exeunt[kerberos] ({lacking})")
            wrong = problem(self._identity)
            if wrong:
                raise SettingsError(wrong)
            self._cache = _fill(self._identity, self._seconds)
        if service not in self._services:
            try:
                _ask_for(service, self._identity, self._cache, self._seconds)
            except CannotConnect:
                # The thread that still waits for it must not destroy what we would use.
                self.close()
                raise
            self._services.add(service)
        return self._cache

    def close(self) -> None:
        """Destroy the tickets that were got here. Never raises."""
        cache, self._cache = self._cache, None
        self._services.clear()
        if cache is not None:
            _destroy(cache)


def explained(error: BaseException, where: str) -> TransportError | None:
    """The error to raise for what GSSAPI says, on whatever level of causes; None if there is nothing of Kerberos in it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(getattr(cause, "min_code", None), int):
            return _sorted(cause, where, _REFUSED)
        cause = getattr(cause, "base_error", None) or cause.__cause__
    return None


def _fill(identity: Identity, seconds: float) -> str:
    from gssapi.raw import GSSError

    cache, fallback = f"MEMORY:exeunt-{uuid.uuid4()}", _REFUSED
    if identity.ticket_file is not None:
        cache, fallback = f"FILE:{identity.ticket_file}", _NO_TICKET
    elif identity.keytab_file is not None:
        fallback = _NO_KEY
    try:
        _within(seconds, identity, lambda: _acquire(identity, cache), cache)
    except GSSError as error:
        _destroy(cache)
        raise _sorted(error, _signing_in(identity), fallback, _asked(identity)) from error
    return cache


def _ask_for(service: str, identity: Identity, cache: str, seconds: float) -> None:
    """Let the cache hold a ticket for a service. Raises CannotConnect when a KDC is silent or cannot be reached."""
    from gssapi.raw import GSSError

    try:
        _within(seconds, identity, lambda: _greet(service, identity, cache), cache)
    except GSSError as error:
        if _number(error) == _UNREACHABLE:
            raise _sorted(error, f"{_signing_in(identity)} for {service}", _REFUSED, _asked(identity)) from error


def _within(seconds: float, identity: Identity, work: Callable[[], None], cache: str) -> None:
    """Do it in a thread of its own. Raises what it raises, and CannotConnect when it takes too long."""
    # Whoever takes it first: the thread with its result, or we with the end of our patience.
    decided = threading.Lock()
    ended: SimpleQueue[Exception | None] = SimpleQueue()

    def run() -> None:
        failed = None
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again below, in the thread that waits for it
            failed = error
        if decided.acquire(blocking=False):
            ended.put(failed)
        else:
            _destroy(cache)

    threading.Thread(target=run, name="exeunt-kerberos", daemon=True).start()
    try:
        failed = ended.get(timeout=seconds)
    except Empty:
        if decided.acquire(blocking=False):
            raise CannotConnect(
                f"{_signing_in(identity)}: no KDC of the realm has answered within {seconds:g} s ({_asked(identity)}); check "
                "address, port 88 (TCP and UDP) and firewall; connect_seconds is the limit"
            ) from None
        failed = ended.get()
    if failed is not None:
        raise failed


def _signing_in(identity: Identity) -> str:
    return f"Kerberos sign-in of {identity.principal}"


def _asked(identity: Identity) -> str:
    """Where the KDCs of the realm are, as far as this machine's files tell."""
    realm = identity.principal.rpartition("@")[2]
    return f"asked for {realm}: {', '.join(kdcs(realm)) or 'what the DNS of the domain names'}"


def _acquire(identity: Identity, cache: str) -> None:
    """Let the cache hold a ticket that is valid now. Raises gssapi's GSSError."""
    import gssapi
    from gssapi.raw import acquire_cred_from, acquire_cred_with_password, store_cred_into

    how: dict[str, Any] = {"mechs": [gssapi.MechType.kerberos], "usage": "initiate"}
    # Bytes: gssapi (1.12) frees its own encoding of text before it is read, and what stands there then may be another name.
    store: dict[bytes | str, bytes | str] = {b"ccache": cache.encode()}
    name = gssapi.Name(identity.principal, gssapi.NameType.kerberos_principal)
    if identity.ticket_file is not None:
        got = acquire_cred_from(store, name=name, **how)
        # What has expired is taken; only who asks for the time that is left is told.
        gssapi.Credentials(base=got.creds).inquire(lifetime=True)
    elif identity.keytab_file is not None:
        acquire_cred_from({**store, b"client_keytab": f"FILE:{identity.keytab_file}".encode()}, name=name, **how)
    else:
        got = acquire_cred_with_password(name, identity.password.encode("utf-8", "replace"), **how)
        store_cred_into(store, got.creds, usage="initiate", mech=gssapi.MechType.kerberos, overwrite=True)


def _greet(service: str, identity: Identity, cache: str) -> None:
    """Make the first message to a service, for which a ticket is needed, and send it to nobody. Raises gssapi's GSSError."""
    import gssapi
    from gssapi.raw import acquire_cred_from

    kerberos = gssapi.MechType.kerberos
    name = gssapi.Name(identity.principal, gssapi.NameType.kerberos_principal)
    got = acquire_cred_from({b"ccache": cache.encode()}, name=name, mechs=[kerberos], usage="initiate")
    gssapi.SecurityContext(
        name=gssapi.Name(service, gssapi.NameType.hostbased_service), creds=gssapi.Credentials(base=got.creds),
        mech=kerberos, usage="initiate",
    ).step()  # fmt: skip


def _destroy(cache: str) -> None:
    """Destroy what was got here; a file that somebody else has filled stays."""
    import krb5

    if not cache.startswith("MEMORY:"):
        return
    context = krb5.init_context()
    try:
        krb5.cc_destroy(context, krb5.cc_resolve(context, cache.encode()))
    except krb5.Krb5Error:
        return  # nothing was kept under this name


def _number(error: BaseException) -> int:
    """The number of an error of GSSAPI as _MEANINGS has it."""
    major, minor = getattr(error, "maj_code", 0), getattr(error, "min_code", 0)
    signed = minor - 2**32 if minor >= 2**31 else minor
    return _EXPIRED if major & 0xFF0000 == _EXPIRED_CREDENTIALS else signed - _BASE


def _sorted(error: BaseException, where: str, fallback: str, asked: str = "") -> TransportError:
    """The error of one that carries the numbers of GSSAPI. `fallback` is said for numbers that are not in the table."""
    number = _number(error)
    said = re.search(r"Minor \(\d+\): (.+)", str(error))
    detail = " ".join((said[1] if said else str(error)).split())[:300]
    if asked and number == _UNREACHABLE:
        detail += f"; {asked}"
    sort, meaning = _MEANINGS.get(number, ("denied", fallback))
    text = f"{where}: {meaning} ({detail})"
    if sort == "denied":
        return AccessDenied(text)
    refused = CannotConnect(text)
    refused.permanent = sort == "config"
    return refused
