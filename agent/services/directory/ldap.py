"""The directory port over LDAP with ldap3: TLS always, verified by OpenSSL, a time limit on every wait, no referrals.

A wrong password is tried at one controller only, since each try counts towards a lock. Once something was sent that
changes, only the same controller is asked again: another one may not know of the change yet.
"""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from agent import kerberos
from agent.errors import AccessDenied, StepError, TransportError
from agent.failure_types import INTEGRATION_ERROR
from agent.services.directory import errors
from agent.services.directory.errors import NO_SUCH_OBJECT, DirectoryRefused
from agent.services.directory.names import escape_rdn
from agent.services.directory.port import Change, Entry, Scope
from agent.services.directory.settings import DirectorySettings

with warnings.catch_warnings():
    # ldap3 2.9.1 asks pyasn1 for names that it has renamed; the old ones still work.
    warnings.simplefilter("ignore", DeprecationWarning)
    import ldap3
    from ldap3.core.exceptions import LDAPException

_PAGES, _SHOW_DELETED, _TREE_DELETE = "1.2.840.113556.1.4.319", "1.2.840.113556.1.4.417", "1.2.840.113556.1.4.805"
_ROOT = ("defaultNamingContext", "schemaNamingContext", "configurationNamingContext")
_KINDS = {"replace": ldap3.MODIFY_REPLACE, "delete": ldap3.MODIFY_DELETE, "add": ldap3.MODIFY_ADD}
_ERRORS = (LDAPException, OSError)


class _VerifiedTls(ldap3.Tls):
    """TLS whose names and addresses OpenSSL checks. Keeps why a certificate was refused, which ldap3 turns into text."""

    def __init__(self, settings: DirectorySettings, host: str) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED if settings.verify else ssl.CERT_NONE)
        self.host, self.refused = host, ""
        self.context = ssl.create_default_context(cafile=settings.ca_file)
        if not settings.verify:
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        """Begin TLS on the connection's socket; the handshake is always done at once."""
        try:
            connection.socket = self.context.wrap_socket(connection.socket, server_hostname=self.host)
        except ssl.SSLCertVerificationError as error:
            self.refused = error.verify_message
            raise


class LdapDirectory:
    """See agent.services.directory.port.Directory. `prefer`: the controller to ask first, if it is one of them."""

    def __init__(self, settings: DirectorySettings, password: str, *, prefer: str | None = None) -> None:
        self._settings, self._password = settings, password
        self._order = sorted(settings.controllers, key=lambda c: c != prefer)
        self._connection: Any = None
        self._controller: str | None = None
        self._tickets = kerberos.Tickets(kerberos.Identity(settings.username, password), settings.connect_seconds)
        self._root: Mapping[str, str] = {}
        #: Something that changes was sent: from here on, not to be reached means not to know.
        self._changed = False

    @property
    def controller(self) -> str:
        """Name of the domain controller that answers."""
        self._opened()
        assert self._controller is not None
        return self._controller

    @property
    def base(self) -> str:
        """Below this name, and nowhere else, stands what belongs to the client."""
        return self._settings.base_dn or self.naming_context

    @property
    def naming_context(self) -> str:
        """Name of the whole domain."""
        return self._rooted("defaultNamingContext")

    @property
    def schema_context(self) -> str:
        """Name of the schema."""
        return self._rooted("schemaNamingContext")

    @property
    def configuration_context(self) -> str:
        """Name of the forest's configuration."""
        return self._rooted("configurationNamingContext")

    def search(
        self, base: str, filter_text: str, attributes: Sequence[str], *, scope: Scope = Scope.SUBTREE,
        deleted: bool = False, limit: int | None = None,
    ) -> list[Entry]:  # fmt: skip
        """See Directory.search."""
        found: list[Entry] = []
        cookie: bytes | None = None
        controls = [(_SHOW_DELETED, True, None)] if deleted else None
        while True:
            size = self._settings.page_size if limit is None else min(self._settings.page_size, limit - len(found))

            def page(connection: Any, size: int = size, cookie: bytes | None = cookie) -> None:
                connection.search(
                    base, filter_text, scope.value, attributes=list(attributes), controls=controls,
                    paged_size=size, paged_cookie=cookie,
                )  # fmt: skip

            result, response = self._ask(page, f"search below {base}", change=False, again=cookie is None)
            found += [_entry(item) for item in response if item.get("type") == "searchResEntry"]
            cookie = result.get("controls", {}).get(_PAGES, {}).get("value", {}).get("cookie")
            if not cookie or (limit is not None and len(found) >= limit):
                return found

    def read(self, dn: str, attributes: Sequence[str], *, deleted: bool = False) -> Entry | None:
        """See Directory.read."""
        try:
            found = self.search(dn, "(objectClass=*)", attributes, scope=Scope.BASE, deleted=deleted)
        except DirectoryRefused as error:
            if error.result_code == NO_SUCH_OBJECT:
                return None
            raise
        return found[0] if found else None

    def modify(self, dn: str, changes: Sequence[Change]) -> None:
        """See Directory.modify."""
        self._modify(dn, changes)

    def set_password(self, dn: str, password: str) -> None:
        """See Directory.set_password. The value stands in quotes, as UTF-16 (MS-ADTS 3.1.1.3.1.5.1)."""
        self._modify(dn, [Change("replace", "unicodePwd", (f'"{password}"'.encode("utf-16-le"),))])

    def _modify(self, dn: str, changes: Sequence[Change], *, deleted: bool = False) -> None:
        controls = [(_SHOW_DELETED, True, None)] if deleted else None
        asked: dict[str, list[tuple[str, list[str | bytes]]]] = {}
        for change in changes:
            asked.setdefault(change.attribute, []).append((_KINDS[change.kind], list(change.values)))
        names = ", ".join(asked)
        self._ask(lambda c: c.modify(dn, asked, controls=controls), f"change {names} of {dn}", change=True)

    def move(self, dn: str, rdn: str, parent: str) -> None:
        """See Directory.move."""
        self._ask(lambda c: c.modify_dn(dn, rdn, new_superior=parent), f"move {dn} to {parent}", change=True)

    def delete(self, dn: str, *, subtree: bool = False) -> None:
        """See Directory.delete."""
        controls = [(_TREE_DELETE, True, None)] if subtree else None
        self._ask(lambda c: c.delete(dn, controls=controls), f"delete {dn}", change=True)

    def restore(self, deleted: Entry, name: str, parent: str) -> None:
        """See Directory.restore (MS-ADTS 3.1.1.5.3.7.2)."""
        changes = [
            Change("delete", "isDeleted"),
            Change("replace", "distinguishedName", (f"CN={escape_rdn(name)},{parent}",)),
        ]
        self._modify(deleted.dn, changes, deleted=True)

    def close(self) -> None:
        """Let go of the connection and of the tickets for it. Never raises."""
        self._tickets.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_ERRORS):  # all that was to be said was said before
                connection.unbind()
            _let_go(connection)

    def _ask(
        self, send: Callable[[Any], object], doing: str, *, change: bool, again: bool = True
    ) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
        """Send a request. One that only reads is sent a second time over a new connection when the answer is lost."""
        connection = self._opened()
        self._changed = self._changed or change
        try:
            send(connection)
        except _ERRORS as error:
            self.close()
            if change:
                raise errors.answer_lost(str(self._controller), doing, str(error)) from error
            if again:
                return self._ask(send, doing, change=False, again=False)
            raise self._lost(str(self._controller), str(error)) from error
        result = connection.result
        if result["result"] != 0:
            raise errors.refusal(
                str(self._controller), doing, result["result"], result["description"], result["message"]
            )
        return result, connection.response or ()

    def _opened(self) -> Any:
        if self._connection is None:
            self._connection = self._connect()
            if not self._root:
                self._read_root()
        return self._connection

    def _connect(self) -> Any:
        candidates = [self._controller] if self._changed and self._controller else self._order
        reasons, refused = [], None
        for controller in candidates:
            host, port = self._settings.address(controller)
            tls = _VerifiedTls(self._settings, host)
            try:
                connection = self._signed_in(host, port, tls, controller)
            except _ERRORS as error:
                reasons.append(f"{controller}: {error}")
                if tls.refused:
                    refused = refused or errors.identity_refused(controller, tls.refused)
                continue
            except (AccessDenied, StepError) as error:
                if not self._changed:
                    raise
                # Whoever may no longer ask after a change does not know whether it was kept.
                raise self._lost(controller, str(error)) from error
            self._controller = controller
            return connection
        if refused is not None and not self._changed:
            raise refused
        raise self._lost(", ".join(candidates), "; ".join(reasons))

    def _signed_in(self, host: str, port: int, tls: _VerifiedTls, controller: str) -> Any:
        """A connection to the first address of the host that answers, signed in. Raises what `_ERRORS` names."""
        failed: Exception = OSError("the name has no address")
        for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            connection = self._prepared(str(address[0]), port, tls)
            try:
                connection.open(read_server_info=False)
                if self._settings.encryption == "starttls":
                    connection.start_tls(read_server_info=False)
                connection.bind(read_server_info=False)
            except kerberos.raised() as error:
                _let_go(connection)
                explained = kerberos.explained(error, f"{controller} and {self._settings.username}")
                raise (errors.kerberos_refused(explained) if explained else error) from error
            except _ERRORS as error:
                failed = error
                _let_go(connection)
                continue
            result = connection.result
            if result["result"] == 0:
                return connection
            _let_go(connection)
            raise errors.bind_refused(
                controller, self._settings.username, result["result"], result["description"], result["message"]
            )
        raise failed

    def _prepared(self, address: str, port: int, tls: _VerifiedTls) -> Any:
        settings = self._settings
        server = ldap3.Server(
            address, port=port, use_ssl=settings.encryption == "ldaps", tls=tls, get_info=ldap3.NONE,
            connect_timeout=settings.connect_seconds,
        )  # fmt: skip
        return ldap3.Connection(
            server, **self._proof(tls.host), auto_bind=ldap3.AUTO_BIND_NONE, auto_referrals=False, auto_escape=False,
            check_names=False, raise_exceptions=False, receive_timeout=settings.answer_seconds,
        )  # fmt: skip

    def _proof(self, host: str) -> dict[str, Any]:
        """What signs in, in the terms of ldap3. Raises AccessDenied, CannotConnect without a ticket."""
        if self._settings.ldap_auth == "simple":
            return {"user": self._settings.username, "password": self._password, "authentication": ldap3.SIMPLE}
        try:
            store = {"ccache": self._tickets.cache(f"ldap@{host}")}
        except TransportError as error:
            raise (self._lost(host, str(error)) if self._changed else errors.kerberos_refused(error)) from error
        return {
            "user": self._tickets.principal, "authentication": ldap3.SASL, "sasl_mechanism": ldap3.KERBEROS,
            "sasl_credentials": (host,), "cred_store": store,
        }  # fmt: skip

    def _read_root(self) -> None:
        _, response = self._ask(
            lambda c: c.search("", "(objectClass=*)", ldap3.BASE, attributes=list(_ROOT)), "read its root", change=False
        )
        entry = next((_entry(item) for item in response if item.get("type") == "searchResEntry"), None)
        self._root = {name: entry.text(name) or "" for name in _ROOT} if entry else {}

    def _rooted(self, name: str) -> str:
        self._opened()
        value = self._root.get(name)
        if not value:
            raise StepError(
                f"{self._controller} does not say its {name}: it is no domain controller", type=INTEGRATION_ERROR,
                code="no_domain_controller", remediation="Check `controllers` of the credential.",
            )  # fmt: skip
        return value

    def _lost(self, controllers: str, why: str) -> TransportError:
        if self._changed:
            return errors.answer_lost(controllers, "read back what was changed", why)
        return errors.unreachable(controllers, why)


def _let_go(connection: Any) -> None:
    """Close the socket, also one that never became a connection, which ldap3 leaves open."""
    plain, connection.socket, connection.closed = connection.socket, None, True
    if plain is not None:
        plain.close()


def _entry(item: Mapping[str, Any]) -> Entry:
    raw = item["raw_attributes"]
    return Entry(str(item["dn"]), {str(n).lower(): tuple(v) for n, v in raw.items() if v})
