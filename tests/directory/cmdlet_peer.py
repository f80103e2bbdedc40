"""Cmdlets of the ActiveDirectory module for the WS-Man peer, carried out by LDAP on the Samba controller of the tests.

Written from Microsoft Learn, "ActiveDirectory Module": names of parameters, their types, which exclude each other, what comes
back. A parameter that the cmdlet does not have, a value of another type than it takes, and script text are refused, as
PowerShell's binder and a constrained session configuration would. Objects go back as remoting leaves them after one level of
serialisation: SIDs as text, several values as ADPropertyValueCollection, times as DateTime, missing ones as null. Errors
are records with the identifiers that the module gives (seen in many published transcripts).

It leaves out: the web service between module and directory with its limits, and all parameters that are not listed here
(-Filter, -Partition, -AuthType, -PassThru, -Instance, pipeline input, -WhatIf); conversions of the binder other than text
to an enumeration; the properties that ADObject has beside attributes (Created, ProtectedFromAccidentalDeletion, ...);
security descriptors; warnings and progress; sites and the choice of a controller. Whether the real module puts the four
parameters of Set-ADObject into one request cannot be seen here: this peer does.
"""

from __future__ import annotations

import threading
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from psrpcore.types import (
    ErrorCategoryInfo,
    ErrorRecord,
    NETException,
    PSBool,
    PSByteArray,
    PSCredential,
    PSDateTime,
    PSDict,
    PSGuid,
    PSInt,
    PSInt64,
    PSListBase,
    PSNoteProperty,
    PSObject,
    PSSecureString,
    PSString,
    PSType,
)
from samba_peer import Controller
from wsman_peer import Call, Peer
from wsman_peer.authentication import Accounts
from wsman_peer.handlers import Terminating

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import ldap3

MODULE = "Microsoft.ActiveDirectory.Management"
DELETED, TREE = ("1.2.840.113556.1.4.417", True, None), ("1.2.840.113556.1.4.805", True, None)
SCOPES = {"base": ldap3.BASE, "onelevel": ldap3.LEVEL, "subtree": ldap3.SUBTREE}
#: Exceptions by LDAP's result code; all others are ADException.
EXCEPTIONS = {
    34: ("ADIdentityNotFoundException", "Cannot find an object with this identity"),
    32: ("ADIdentityNotFoundException", "Directory object not found"),
    50: ("ADException", "Insufficient access rights to perform the operation"),
    66: ("ADException", "The directory service can perform the requested operation only on a leaf object"),
    68: ("ADException", "An attempt was made to add an object to the directory with a name that is already in use"),
}
#: What Windows says where Samba gives no code of its own.
WIN32 = {16: 8202, 19: 8239, 20: 8205, 50: 8344, 53: 8245, 66: 8213, 68: 8305}


@PSType([f"{MODULE}.ADPropertyValueCollection", "System.Collections.CollectionBase"])
class Values(PSListBase):
    """What an attribute with several values is."""


def ad_object(kind: str, found: Mapping[str, Any]) -> PSObject:
    """An object of the module."""
    made = PSObject()
    made.PSObject.type_names = [f"{MODULE}.{kind}", f"{MODULE}.ADEntity", "System.Object"]
    counted = {"PropertyNames": Values(found), "AddedProperties": Values(), "RemovedProperties": Values()}
    for name, value in {**found, **counted, "PropertyCount": PSInt(len(found))}.items():
        made.PSObject.adapted_properties.append(PSNoteProperty(name, value=value))
    return made


def failure(cmdlet: str, exception: str, message: str, *, win32: int | None = None, server: str = "") -> Terminating:
    """What a cmdlet of the module ends with."""
    base = "System" if exception in ("ArgumentException", "UnauthorizedAccessException", "TimeoutException") else MODULE
    if exception == "AuthenticationException":
        base = "System.Security.Authentication"
    made = NETException(Message=message)
    made.PSObject.type_names = [f"{base}.{exception}", *made.PSObject.type_names]
    if win32 is not None:
        made.PSObject.adapted_properties.append(PSNoteProperty("ServerErrorMessage", value=server or None))
        made.PSObject.adapted_properties.append(PSNoteProperty("ErrorCode", value=PSInt(win32)))
    known_by = f"ActiveDirectoryServer:{win32}" if win32 is not None else f"ActiveDirectoryCmdlet:{base}.{exception}"
    record = ErrorRecord(
        Exception=made, CategoryInfo=ErrorCategoryInfo(Activity=cmdlet, Reason=exception),
        FullyQualifiedErrorId=f"{known_by},{MODULE}.Commands.{cmdlet.replace('-', '')}",
    )  # fmt: skip
    record.serialize_extended_info = False
    return Terminating(message, record)


@dataclass(frozen=True)
class Takes:
    """The parameters of a cmdlet by name, each with the types that it takes, and those that are mandatory."""

    parameters: Mapping[str, tuple[type, ...]]
    mandatory: frozenset[str]


def _takes(mandatory: Iterable[str], **parameters: type | tuple[type, ...]) -> Takes:
    types = {n: t if isinstance(t, tuple) else (t,) for n, t in parameters.items()}
    return Takes({**types, "Server": (str,), "Credential": (PSCredential,)}, frozenset(mandatory))


TAKES = {
    "Get-ADRootDSE": _takes([], Properties=list),
    "Get-ADObject": _takes(
        [], Identity=str, LDAPFilter=str, SearchBase=str, SearchScope=str, Properties=list, IncludeDeletedObjects=PSBool,
        ResultPageSize=PSInt, ResultSetSize=PSInt,
    ),
    "Set-ADObject": _takes(["Identity"], Identity=str, Replace=PSDict, Add=PSDict, Remove=PSDict, Clear=list),
    "Set-ADAccountPassword": _takes(["Identity"], Identity=str, Reset=PSBool, NewPassword=PSSecureString),
    "Move-ADObject": _takes(["Identity", "TargetPath"], Identity=str, TargetPath=str),
    "Remove-ADObject": _takes(["Identity"], Identity=str, Recursive=PSBool, Confirm=PSBool),
    "Restore-ADObject": _takes(["Identity"], Identity=str, NewName=str, TargetPath=str),
}  # fmt: skip
#: Parameter sets of Get-ADObject: what belongs to a search only.
SEARCHING = {"LDAPFilter", "SearchBase", "SearchScope", "ResultPageSize", "ResultSetSize"}


def bound(call: Call) -> dict[str, Any]:
    """The arguments of a call, as the binder would take them."""
    cmdlet = str(call.cmdlet)
    takes = TAKES[cmdlet]
    for name, value in call.arguments.items():
        if name not in takes.parameters:
            raise Terminating(
                f"A parameter cannot be found that matches parameter name '{name}'.", "NamedParameterNotFound"
            )
        # A boolean is a number in Python, and none in .NET.
        right = isinstance(value, takes.parameters[name]) and (
            not isinstance(value, bool) or bool in takes.parameters[name] or PSBool in takes.parameters[name]
        )
        if not right or (isinstance(value, list) and not all(isinstance(part, str) for part in value)):
            raise Terminating(f"Cannot bind parameter '{name}' to {type(value).__name__}.", "CannotConvertArgument")
    missing = takes.mandatory - set(call.arguments)
    if missing:
        raise Terminating(f"Missing mandatory parameters: {', '.join(missing)}", "MissingMandatoryParameter")
    return dict(call.arguments)


class ActiveDirectory:
    """The module on a domain controller. `passwords`: of those who may sign in at the host, by user name."""

    def __init__(self, controller: Controller, passwords: dict[str, str], *, is_controller: bool = True) -> None:
        self._controller, self._passwords, self._is_controller = controller, passwords, is_controller
        self._lock = threading.Lock()
        self._connections: dict[tuple[str, str], Any] = {}
        self._syntaxes: dict[str, tuple[str, bool]] = {}
        #: Name and parameters of each cmdlet that was carried out.
        self.ran: list[tuple[str, dict[str, Any]]] = []
        #: Raised once by the next cmdlet of that name, before it does anything or after.
        self.before: dict[str, Terminating] = {}
        self.after: dict[str, Terminating] = {}

    def serve(self, peer: Peer) -> None:
        """Let the peer's session configuration show these cmdlets and nothing else."""
        acts: dict[str, Callable[[str, dict[str, Any], Any], Iterable[PSObject]]] = {
            "Get-ADRootDSE": self._root, "Get-ADObject": self._get, "Set-ADObject": self._set,
            "Set-ADAccountPassword": self._password, "Move-ADObject": self._move, "Remove-ADObject": self._remove,
            "Restore-ADObject": self._restore,
        }  # fmt: skip

        def handler(act: Callable[[str, dict[str, Any], Any], Iterable[PSObject]]) -> Callable[[Call], None]:
            def carry_out(call: Call) -> None:
                name, given = str(call.cmdlet), bound(call)
                if name in self.before:
                    raise self.before.pop(name)
                with self._lock:
                    self.ran.append((name, given))
                    found = list(act(name, given, self._connection(name, given, call.user)))
                if name in self.after:
                    raise self.after.pop(name)
                for item in found:
                    call.output(item)

            return carry_out

        peer.service.handlers.cmdlets.update({name: handler(act) for name, act in acts.items()})

    def bind(self, user: str, password: str) -> Any:
        """A connection to the directory as somebody; None when the directory refuses."""
        tls = ldap3.Tls(ca_certs_file=self._controller.ca_file)
        server = ldap3.Server(self._controller.address, port=636, use_ssl=True, tls=tls, get_info=ldap3.NONE)
        connection = ldap3.Connection(server, user, password, check_names=False, auto_referrals=False)
        if connection.bind():
            return connection
        connection.unbind()
        return None

    def close(self) -> None:
        for connection in self._connections.values():
            connection.unbind()

    def _connection(self, cmdlet: str, given: Mapping[str, Any], user: str) -> Any:
        """Whom the directory sees: who is signed in, which reaches no further than this host, or the credential given."""
        credential, local = given.get("Credential"), given.get("Server", "localhost") == "localhost"
        if local and not self._is_controller:
            raise failure(cmdlet, "ADServerDownException", "Unable to contact the server.", win32=0)
        if credential is not None:
            user, password = str(credential.UserName), str(credential.Password.decrypt())
        elif local:
            password = self._passwords[user]
        else:
            raise failure(cmdlet, "AuthenticationException", "The server has rejected the client credentials.")
        if (user, password) not in self._connections:
            connection = self.bind(user, password)
            if connection is None:
                raise failure(cmdlet, "AuthenticationException", "The server has rejected the client credentials.")
            self._connections[user, password] = connection
        return self._connections[user, password]

    def _root(self, cmdlet: str, given: dict[str, Any], connection: Any) -> Iterable[PSObject]:
        names = ["defaultNamingContext", "schemaNamingContext", "configurationNamingContext", "dnsHostName"]
        found = _searched(connection, "", "(objectClass=*)", ldap3.BASE, names, cmdlet)
        return [ad_object("ADRootDSE", {n: PSString(v[0].decode()) for n, v in found[0]["raw_attributes"].items()})]

    def _get(self, cmdlet: str, given: dict[str, Any], connection: Any) -> Iterable[PSObject]:
        if ("Identity" in given) == ("LDAPFilter" in given) or ("Identity" in given and SEARCHING & set(given)):
            raise Terminating(
                "Parameter set cannot be resolved using the specified named parameters.", "AmbiguousParameterSet"
            )
        asked = [str(p) for p in given.get("Properties", [])]
        syntaxes = {name: self._syntax(connection, name, cmdlet) for name in ("Name", *asked)}
        controls = [DELETED] if given.get("IncludeDeletedObjects") else None
        if "Identity" in given:
            where, what, scope = _dn(given["Identity"]), "(objectClass=*)", ldap3.BASE
        else:
            scope = SCOPES.get(str(given.get("SearchScope", "Subtree")).lower())
            if scope is None:
                raise Terminating("Cannot convert value to type ADSearchScope.", "CannotConvertArgument")
            where, what = str(given["SearchBase"]), str(given["LDAPFilter"])
        found = _searched(
            connection, where, what, scope, [*asked, "name", "objectClass", "objectGUID"], cmdlet, controls=controls,
            page=given.get("ResultPageSize", 256), limit=given.get("ResultSetSize"),
        )  # fmt: skip
        return [ad_object("ADObject", _shown(entry, asked, syntaxes)) for entry in found]

    def _set(self, cmdlet: str, given: dict[str, Any], connection: Any) -> Iterable[PSObject]:
        changes: dict[str, list[Any]] = {}
        kinds = {"Remove": ldap3.MODIFY_DELETE, "Add": ldap3.MODIFY_ADD, "Replace": ldap3.MODIFY_REPLACE}
        for parameter, kind in kinds.items():
            for name, value in given.get(parameter, {}).items():
                syntax, _ = self._syntax(connection, str(name), cmdlet)
                values = list(value) if isinstance(value, list) else [value]
                changes.setdefault(str(name), []).append(
                    (kind, [_stored(syntax, v, str(name), cmdlet) for v in values])
                )
        for name in given.get("Clear", []):
            self._syntax(connection, str(name), cmdlet)
            changes.setdefault(str(name), []).append((ldap3.MODIFY_REPLACE, []))
        connection.modify(_dn(given["Identity"]), changes)
        return _done(connection, cmdlet)

    def _password(self, cmdlet: str, given: dict[str, Any], connection: Any) -> Iterable[PSObject]:
        if not given.get("Reset") or "NewPassword" not in given:
            raise Terminating("Without -Reset the old password is asked for at the prompt.", "InvalidOperation")
        quoted = f'"{given["NewPassword"].decrypt()}"'.encode("utf-16-le")
        connection.modify(_dn(given["Identity"]), {"unicodePwd": [(ldap3.MODIFY_REPLACE, [quoted])]})
        return _done(connection, cmdlet)

    def _move(self, cmdlet: str, given: dict[str, Any], connection: Any) -> Iterable[PSObject]:
        entry = _searched(connection, _dn(given["Identity"]), "(objectClass=*)", ldap3.BASE, ["name"], cmdlet)[0]
        rdn = ldap3.utils.dn.safe_rdn(entry["dn"])[0]
        connection.modify_dn(entry["dn"], rdn, new_superior=str(given["TargetPath"]))
        return _done(connection, cmdlet)

    def _remove(self, cmdlet: str, given: dict[str, Any], connection: Any) -> Iterable[PSObject]:
        if given.get("Confirm", True):
            raise Terminating("A command that prompts the user failed because the host does not support it.", "Prompt")
        connection.delete(_dn(given["Identity"]), controls=[TREE] if given.get("Recursive") else None)
        return _done(connection, cmdlet)

    def _restore(self, cmdlet: str, given: dict[str, Any], connection: Any) -> Iterable[PSObject]:
        what = f"(objectGUID={ldap3.utils.conv.escape_bytes(uuid.UUID(str(given['Identity'])).bytes_le)})"
        root = "DC=corp,DC=example,DC=test"
        found = _searched(connection, root, what, ldap3.SUBTREE, ["name"], cmdlet, controls=[DELETED])
        if not found:
            raise failure(
                cmdlet, "ADIdentityNotFoundException", f"Cannot find an object with identity: '{given['Identity']}'"
            )
        name = ldap3.utils.dn.escape_rdn(str(given["NewName"]))
        changes = {
            "isDeleted": [(ldap3.MODIFY_DELETE, [])],
            "distinguishedName": [(ldap3.MODIFY_REPLACE, [f"CN={name},{given['TargetPath']}"])],
        }
        connection.modify(found[0]["dn"], changes, controls=[DELETED])
        return _done(connection, cmdlet)

    def _syntax(self, connection: Any, attribute: str, cmdlet: str) -> tuple[str, bool]:
        """The syntax of an attribute, and whether it has one value only. One that there is not is refused."""
        if attribute.lower() not in self._syntaxes:
            found = _searched(
                connection, "CN=Schema,CN=Configuration,DC=corp,DC=example,DC=test",
                f"(&(objectClass=attributeSchema)(lDAPDisplayName={attribute}))", ldap3.LEVEL,
                ["attributeSyntax", "isSingleValued"], cmdlet,
            )  # fmt: skip
            if not found:
                message = f"One or more properties are invalid.\nParameter name: {attribute}"
                raise failure(cmdlet, "ArgumentException", message)
            raw = found[0]["raw_attributes"]
            self._syntaxes[attribute.lower()] = (
                raw["attributeSyntax"][0].decode(),
                raw["isSingleValued"][0] == b"TRUE",
            )
        return self._syntaxes[attribute.lower()]


def _dn(identity: str) -> str:
    """What LDAP names an object by that a cmdlet names by GUID or distinguished name."""
    try:
        return f"<GUID={uuid.UUID(str(identity))}>"
    except ValueError:
        return str(identity)


def _searched(
    connection: Any, base: str, what: str, scope: str, attributes: list[str], cmdlet: str, *, controls: Any = None,
    page: int = 256, limit: int | None = None,
) -> list[Any]:  # fmt: skip
    found: list[Any] = []
    cookie = None
    while True:
        size = int(page) if limit is None else min(int(page), int(limit) - len(found))
        connection.search(
            base, what, scope, attributes=attributes, controls=controls, paged_size=size, paged_cookie=cookie
        )  # fmt: skip
        _done(connection, cmdlet)
        found += [r for r in connection.response if r["type"] == "searchResEntry"]
        pages = connection.result.get("controls", {}).get("1.2.840.113556.1.4.319", {})
        cookie = pages.get("value", {}).get("cookie")
        if not cookie or (limit is not None and len(found) >= limit):
            return found


def _done(connection: Any, cmdlet: str) -> Iterable[PSObject]:
    """Nothing, or the error of the module for what the directory answered."""
    result = connection.result
    if result["result"] == 0:
        return []
    message = str(result["message"]).split("\0")[0]
    try:
        win32 = int(message[:8], 16)
    except ValueError:
        win32 = WIN32.get(result["result"], 0)
    exception, said = EXCEPTIONS.get(result["result"], ("ADException", result["description"]))
    if exception == "ADIdentityNotFoundException":
        raise failure(cmdlet, exception, said)
    if result["result"] == 50 and win32 == 5:
        raise failure(cmdlet, "UnauthorizedAccessException", "Access is denied")
    if win32 == 0x52D:
        exception, said = "ADPasswordComplexityException", "The password does not meet the requirements of the domain."
    raise failure(cmdlet, exception, said, win32=win32, server=message)


def _shown(entry: Mapping[str, Any], asked: list[str], syntaxes: Mapping[str, tuple[str, bool]]) -> dict[str, Any]:
    raw = {k.lower(): v for k, v in entry["raw_attributes"].items()}
    shown: dict[str, Any] = {
        "DistinguishedName": PSString(entry["dn"]), "Name": PSString(raw["name"][0].decode()),
        "ObjectClass": PSString(raw["objectclass"][-1].decode()),
        "ObjectGUID": PSGuid(bytes_le=raw["objectguid"][0]),
    }  # fmt: skip
    present = {n.lower() for n in shown}
    for name in asked:
        if name.lower() in present:
            continue
        syntax, single = syntaxes[name]
        values = [_given(syntax, value) for value in raw.get(name.lower(), [])]
        # ADObject has a property of its own for the description, with one value.
        alone = single or name.lower() == "description"
        shown[name] = (values[0] if values else None) if alone else Values(values) if values else None
    return shown


def _given(syntax: str, value: bytes) -> Any:
    """A value of an attribute as the module and one level of serialisation give it."""
    if syntax == "2.5.5.8":
        return PSBool(value == b"TRUE")
    if syntax == "2.5.5.9":
        return PSInt(int(value))
    if syntax == "2.5.5.16":
        return PSInt64(int(value))
    if syntax == "2.5.5.11":
        moment = datetime.strptime(value.decode().replace("Z", "+0000"), "%Y%m%d%H%M%S.0%z")
        return PSDateTime(moment.astimezone(timezone(timedelta(hours=1))))
    if syntax == "2.5.5.17":
        parts = [int.from_bytes(value[i : i + 4], "little") for i in range(8, len(value), 4)]
        return PSString("-".join(["S-1", str(int.from_bytes(value[2:8], "big")), *map(str, parts)]))
    return PSByteArray(value) if syntax == "2.5.5.10" else PSString(value.decode())


#: Types that a value of a syntax must have; text for all others.
STORED: dict[str, type] = {"2.5.5.8": PSBool, "2.5.5.9": PSInt, "2.5.5.16": PSInt64, "2.5.5.10": PSByteArray}


def _stored(syntax: str, value: Any, name: str, cmdlet: str) -> Any:
    """A value as LDAP takes it. Refused when it has another type than the attribute."""
    wanted = STORED.get(syntax, PSString)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not PSBool):
        raise failure(cmdlet, "ArgumentException", f"{name} takes {wanted.__name__}, not {type(value).__name__}")
    if wanted is PSBool:
        return "TRUE" if value else "FALSE"
    return bytes(value) if wanted is PSByteArray else str(value)


class DomainAccounts(Accounts):
    """The host's accounts are the domain's: a password is right when the domain controller takes it."""

    def __init__(self, module: ActiveDirectory, passwords: dict[str, str], file: Any) -> None:
        super().__init__(passwords, file)
        self._module, self._known = module, passwords

    def accepts(self, user: str, password: str) -> bool:
        if self._known.get(user) == password:
            return True
        connection = self._module.bind(user, password)
        if connection is None:
            return False
        connection.unbind()
        self._known[user] = password
        return True
