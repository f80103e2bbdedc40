"""The directory port over PSRP: cmdlets of the ActiveDirectory module on a domain controller, where LDAP is closed.

A session configuration that shows these seven and nothing else is enough: Get-ADRootDSE, Get-ADObject, Set-ADObject,
Set-ADAccountPassword, Move-ADObject, Remove-ADObject, Restore-ADObject. What they take and do: Microsoft Learn,
"ActiveDirectory Module".

The cmdlets ask `psrp_server`, which is the host itself unless that is set: a sign-in over the network reaches no further
than its host (Microsoft Learn, "Making the second hop in PowerShell Remoting"), and what was changed is read back where it
was changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pypsrp.serializer import TaggedValue

from agent.errors import StepError
from agent.failure_types import INTEGRATION_ERROR
from agent.services.directory import clixml
from agent.services.directory.errors import NO_SUCH_OBJECT, DirectoryRefused
from agent.services.directory.names import escape_filter, guid_of
from agent.services.directory.port import Change, Entry, Scope
from agent.services.directory.powershell_session import CmdletSession
from agent.services.directory.schema import integer_bits, is_boolean, is_common
from agent.services.directory.settings import DirectorySettings

_ROOT = ("defaultNamingContext", "schemaNamingContext", "configurationNamingContext")
#: ADSearchScope (Microsoft.ActiveDirectory.Management).
_SCOPES = {Scope.BASE: "Base", Scope.CHILDREN: "OneLevel", Scope.SUBTREE: "Subtree"}


class PowershellDirectory:
    """See agent.services.directory.port.Directory. `prefer`: the controller to ask first, if it is one of them.

    objectClass is the most specific class only, since Get-ADObject says no more.
    """

    def __init__(self, settings: DirectorySettings, password: str, *, prefer: str | None = None) -> None:
        self._settings = settings
        self._session = CmdletSession(settings, password, prefer=prefer)
        self._root: Mapping[str, str] = {}
        #: Attributes that are not common to all schemas, and whether this one has them.
        self._known: dict[str, bool] = {}

    @property
    def controller(self) -> str:
        """Name of the domain controller that answers."""
        return self._session.controller

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
        """See Directory.search. The cmdlet itself asks page by page."""
        parameters = {
            "LDAPFilter": filter_text, "SearchBase": base, "SearchScope": _SCOPES[scope],
            "ResultPageSize": self._settings.page_size, **_shown(deleted), **self._properties(attributes),
        }  # fmt: skip
        if limit is not None:
            parameters["ResultSetSize"] = limit
        return self._entries(parameters, attributes, f"search below {base}")

    def read(self, dn: str, attributes: Sequence[str], *, deleted: bool = False) -> Entry | None:
        """See Directory.read."""
        parameters = {"Identity": _identity(dn), **_shown(deleted), **self._properties(attributes)}
        try:
            found = self._entries(parameters, attributes, f"read {dn}")
        except DirectoryRefused as error:
            if error.result_code == NO_SUCH_OBJECT:
                return None
            raise
        return found[0] if found else None

    def modify(self, dn: str, changes: Sequence[Change]) -> None:
        """See Directory.modify. The four parameters of one Set-ADObject are one request to the directory."""
        hashes: dict[str, dict[str, Any]] = {"Replace": {}, "Add": {}, "Remove": {}}
        clear = []
        for change in changes:
            if not change.values:
                clear.append(change.attribute)
                continue
            values = [_typed(change.attribute, value) for value in change.values]
            kind = {"replace": "Replace", "add": "Add", "delete": "Remove"}[change.kind]
            hashes[kind][change.attribute] = values[0] if len(values) == 1 else values
        parameters: dict[str, Any] = {"Identity": _identity(dn), **{k: v for k, v in hashes.items() if v}}
        if clear:
            parameters["Clear"] = clear
        names = ", ".join(dict.fromkeys(change.attribute for change in changes))
        self._session.ask("Set-ADObject", parameters, f"change {names} of {dn}", change=True)

    def set_password(self, dn: str, password: str) -> None:
        """See Directory.set_password. The password travels as a SecureString, encrypted once more with the pool's key."""
        parameters = {"Identity": _identity(dn), "Reset": True, "NewPassword": TaggedValue("SS", password)}
        self._session.ask("Set-ADAccountPassword", parameters, f"set the password of {dn}", change=True, secret=True)

    def move(self, dn: str, rdn: str, parent: str) -> None:
        """See Directory.move. The cmdlet keeps the first part of the name."""
        self._session.ask(
            "Move-ADObject", {"Identity": _identity(dn), "TargetPath": parent}, f"move {dn} to {parent}", change=True
        )

    def delete(self, dn: str, *, subtree: bool = False) -> None:
        """See Directory.delete."""
        parameters = {"Identity": _identity(dn), "Confirm": False, **({"Recursive": True} if subtree else {})}
        self._session.ask("Remove-ADObject", parameters, f"delete {dn}", change=True)

    def restore(self, deleted: Entry, name: str, parent: str) -> None:
        """See Directory.restore."""
        parameters = {"Identity": str(deleted.guid), "NewName": name, "TargetPath": parent}
        self._session.ask("Restore-ADObject", parameters, f"restore {deleted.guid} to {parent}", change=True)

    def close(self) -> None:
        """Let go of the shell and the connection. Never raises."""
        self._session.close()

    def _entries(self, parameters: Mapping[str, Any], attributes: Sequence[str], doing: str) -> list[Entry]:
        output = self._session.ask("Get-ADObject", parameters, doing)
        try:
            return [clixml.entry_of(xml, attributes) for xml in output]
        except ValueError as error:
            raise self._malformed(doing, error) from error

    def _malformed(self, doing: str, error: ValueError) -> StepError:
        return StepError(
            f"{self.controller} answered the request to {doing} with something else: {error}", type=INTEGRATION_ERROR,
            code="malformed", remediation="Look what the cmdlets of the session configuration are.",
        )  # fmt: skip

    def _properties(self, attributes: Sequence[str]) -> dict[str, Any]:
        """Those that the schema has: other than LDAP, the cmdlet refuses a name that it does not know."""
        unsure = [a for a in attributes if not is_common(a) and a.lower() not in self._known]
        if unsure:
            names = "".join(f"(lDAPDisplayName={escape_filter(a)})" for a in unsure)
            parameters = {
                "LDAPFilter": f"(&(objectClass=attributeSchema)(|{names}))", "SearchBase": self.schema_context,
                "SearchScope": "OneLevel", "Properties": ["lDAPDisplayName"],
            }  # fmt: skip
            found = self._entries(parameters, ("lDAPDisplayName",), "look into the schema")
            has = {(e.text("lDAPDisplayName") or "").lower() for e in found}
            self._known.update({a.lower(): a.lower() in has for a in unsure})
        return {"Properties": [a for a in attributes if self._known.get(a.lower(), True)]}

    def _rooted(self, name: str) -> str:
        if not self._root:
            output = self._session.ask("Get-ADRootDSE", {}, "read its root")
            try:
                found = clixml.properties(output[0]) if output else {}
            except ValueError as error:
                raise self._malformed("read its root", error) from error
            self._root = {n: clixml.text(v[0]) for n in _ROOT for v in [found.get(n.lower(), ())] if v}
        value = self._root.get(name)
        if not value:
            raise StepError(
                f"{self.controller} does not say its {name}: it reaches no domain controller", type=INTEGRATION_ERROR,
                code="no_domain_controller", remediation="Check `controllers` and `psrp_server` of the credential.",
            )  # fmt: skip
        return value


def _identity(dn: str) -> str:
    """How the cmdlets name an object: by its distinguished name or its GUID."""
    inner = dn.removeprefix("<GUID=").removesuffix(">")
    guid = guid_of(inner) if inner != dn else None
    return dn if guid is None else str(guid)


def _shown(deleted: bool) -> dict[str, Any]:
    return {"IncludeDeletedObjects": True} if deleted else {}


def _typed(attribute: str, value: str | bytes) -> Any:
    """A value of the port as the .NET type of the attribute's syntax."""
    bits = integer_bits(attribute)
    if bits is not None:
        return TaggedValue("I64", int(value)) if bits == 64 else int(value)
    if is_boolean(attribute):
        return value in ("TRUE", b"TRUE")
    return value
