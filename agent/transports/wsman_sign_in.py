"""Signing in by Kerberos, Negotiate and CredSSP: one way for both client libraries, since they differ in what they can.

pywinrm's own Kerberos takes no password; it uses what ticket the process has, which may be another client's. Here each
transport gets its own tickets (agent.kerberos), and pypsrp's handlers speak them on pywinrm's connections too.

Negotiate tries Kerberos when the username says its realm (`user@REALM`) and the libraries are there, else NTLM.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import requests
import spnego
from pypsrp.encryption import WinRMEncryption
from pypsrp.negotiate import HTTPNegotiateAuth
from requests.auth import AuthBase
from spnego.exceptions import BadMechanismError

from agent import kerberos
from agent.errors import CannotConnect, SettingsError
from agent.transports.wsman_target import WsmanTarget

#: The ways that this module signs in by.
WAYS = frozenset({"kerberos", "negotiate", "credssp"})
#: Lowest version of CredSSP that is taken: the first that is not open to CVE-2018-0886.
CREDSSP_VERSION = 5


class SignIn:
    """How one transport proves who it is. Not shared between threads. Raises SettingsError when a library is missing."""

    def __init__(self, target: WsmanTarget) -> None:
        lacking = _missing(target.options.auth)
        if lacking:
            raise SettingsError(
                f"auth {target.options.auth} needs further libraries: install exeunt[{target.options.auth}] ({lacking})"
            )
        self._target = target
        limit = target.options.connect_seconds
        self._tickets = kerberos.Tickets(target.identity, limit) if target.identity else None
        # The name that pypsrp's handler asks a ticket for.
        self._service = f"host@{target.options.kerberos_hostname or target.host.lower()}"

    def handler(self) -> AuthBase:
        """What signs in the requests of one new session.

        Raises AccessDenied and CannotConnect when there is no ticket to be had.
        """
        options = self._target.options
        if options.auth == "credssp":
            return _credssp(options.username, self._target.password)
        credentials, provider = self._credentials()
        return _Handler(
            # Annotated as text; pyspnego, which gets it, takes credentials.
            username=credentials,
            auth_provider=provider,
            hostname_override=options.kerberos_hostname,
            wrap_required=self._target.messages_encrypted,
        )

    def close(self) -> None:
        """Destroy the tickets. Never raises."""
        if self._tickets is not None:
            self._tickets.close()

    def _credentials(self) -> tuple[Any, str]:
        """What to sign in with, and the provider that can use it."""
        options = self._target.options
        if options.auth == "kerberos":
            assert self._tickets is not None
            return [spnego.KerberosCCache(self._tickets.cache(self._service))], "kerberos"
        password = spnego.Password(options.username, self._target.password)
        if self._tickets is None or kerberos.missing():
            return [password], "ntlm"
        try:
            return [spnego.KerberosCCache(self._tickets.cache(self._service)), password], "negotiate"
        except CannotConnect:
            # No KDC for this name, as with an account of the machine itself. What a KDC has refused is not tried again.
            self._tickets = None
            return [password], "ntlm"


class _Handler(HTTPNegotiateAuth):
    """pypsrp's handler, which otherwise takes an offer of other ways for an answer without sense."""

    def response_hook(self, response: requests.Response, **kwargs: Any) -> requests.Response:
        offered = response.headers.get("WWW-Authenticate", "nothing")
        wanted = ["Negotiate", "Kerberos"] if self.auth_provider == "kerberos" else ["Negotiate", "Kerberos", "NTLM"]
        if response.status_code == 401 and not any(way.lower() in offered.lower() for way in wanted):
            raise BadMechanismError(context_msg=f"the host offers {offered}, not {' or '.join(wanted)}")
        handle: Any = super().response_hook
        handled: requests.Response = handle(response, **kwargs)
        return handled


def _missing(way: str) -> str | None:
    """Why the libraries of this way cannot be used, or None."""
    if way == "kerberos":
        return kerberos.missing()
    if way == "credssp":
        try:
            import_module("requests_credssp")
        except ImportError as error:
            return str(error)
    return None


def _credssp(username: str, password: str) -> AuthBase:
    from requests_credssp import HttpCredSSPAuth

    # Only a name with a realm can be tried by Kerberos; for others the library would ask the default realm.
    mechanism = "auto" if kerberos.PRINCIPAL.fullmatch(username) else "ntlm"
    handler: AuthBase = HttpCredSSPAuth(username, password, auth_mechanism=mechanism, minimum_version=CREDSSP_VERSION)
    return handler


class MessageEncryption:
    """pypsrp's encryption of messages in the place of pywinrm's, which knows neither padding nor TLS 1.3."""

    def __init__(self, handler: Any, way: str) -> None:
        context = next(iter(handler.contexts.values()))
        protocol = WinRMEncryption.CREDSSP
        if way != "credssp":
            bare = context.response_auth_header == "kerberos"
            protocol = WinRMEncryption.KERBEROS if bare else WinRMEncryption.SPNEGO
        self._encryption = WinRMEncryption(context, protocol)

    def prepare_encrypted_request(
        self, session: requests.Session, endpoint: str, message: bytes
    ) -> requests.PreparedRequest:
        """See winrm.encryption.Encryption."""
        kind, body = self._encryption.wrap_message(message)
        content_type = f'{kind};protocol="{self._encryption.protocol}";boundary="Encrypted Boundary"'
        request = requests.Request("POST", endpoint, data=body, headers={"Content-Type": content_type})
        return session.prepare_request(request)

    def parse_encrypted_response(self, response: requests.Response) -> bytes:
        """See winrm.encryption.Encryption."""
        boundary = re.fullmatch(r'multipart/.*boundary="([^"]+)".*', response.headers.get("Content-Type", ""))
        if boundary is None:
            return bytes(response.content)
        return bytes(self._encryption.unwrap_message(response.content, boundary[1]))
