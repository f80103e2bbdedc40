"""What the cmdlets of the ActiveDirectory module refuse, as the same typed errors that LDAP's refusals are.

The FullyQualifiedErrorId of their records begins with `ActiveDirectoryServer:` and the Win32 code that the directory gave
(MS-ERREF 2.2), or with `ActiveDirectoryCmdlet:` and the type of the exception; ADException also has the directory's own
message as ServerErrorMessage. Win32 codes and LDAP's result codes belong together as in MS-ADTS 3.1.1.3.1.9 and the
sections on each operation (3.1.1.5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from agent.errors import StepError, TransportError
from agent.failure_types import INTEGRATION_ERROR
from agent.services.directory import errors
from agent.services.directory.errors import ACCESS_DENIED, ALREADY_EXISTS, NO_SUCH_OBJECT, NOT_ON_NON_LEAF

_SERVER = re.compile(r"^ActiveDirectoryServer:(\d+)$")
_CMDLET = re.compile(r"^ActiveDirectoryCmdlet:(?:[\w]+\.)*(\w+)$")
_CONSTRAINT, _BUSY, _UNAVAILABLE, _UNWILLING, _REFERRAL = 19, 51, 52, 53, 10
#: LDAP's name of each result code (RFC 4511, 4.1.9).
_NAMES = {
    _REFERRAL: "referral", 16: "noSuchAttribute", _CONSTRAINT: "constraintViolation", 20: "attributeOrValueExists",
    NO_SUCH_OBJECT: "noSuchObject", ACCESS_DENIED: "insufficientAccessRights", _BUSY: "busy", _UNAVAILABLE: "unavailable",
    _UNWILLING: "unwillingToPerform", NOT_ON_NON_LEAF: "notAllowedOnNonLeaf", ALREADY_EXISTS: "entryAlreadyExists",
}  # fmt: skip
#: Win32 codes that the directory gives (MS-ERREF 2.2), by LDAP's result code.
_RESULTS = {
    5: ACCESS_DENIED, 8344: ACCESS_DENIED,
    8240: NO_SUCH_OBJECT, 8333: NO_SUCH_OBJECT,
    8213: NOT_ON_NON_LEAF,
    8305: ALREADY_EXISTS, 1316: ALREADY_EXISTS, 1318: ALREADY_EXISTS,
    1325: _CONSTRAINT, 8239: _CONSTRAINT,
    8202: 16, 8205: 20,
    8206: _BUSY, 8207: _UNAVAILABLE, 8235: _REFERRAL,
    8245: _UNWILLING, 1377: _UNWILLING, 1378: _UNWILLING,
}  # fmt: skip
#: Exceptions of the module, and of .NET, that say enough without a code.
_EXCEPTIONS = {
    "ADIdentityNotFoundException": NO_SUCH_OBJECT,
    "ADIdentityAlreadyExistsException": ALREADY_EXISTS,
    "ADPasswordComplexityException": _CONSTRAINT,
    "ADPasswordException": _CONSTRAINT,
    "ADReferralException": _REFERRAL,
    "ADInvalidOperationException": _UNWILLING,
    "ADIllegalModifyOperationException": _UNWILLING,
    "UnauthorizedAccessException": ACCESS_DENIED,
}
#: The host could not ask the directory, or had no answer: what was asked for may have been done.
_UNANSWERED = frozenset({"ADServerDownException", "TimeoutException", "CommunicationException"})
_SERVERS_CODE = re.compile(r"^[0-9A-Fa-f]{8}:")


@dataclass(frozen=True)
class Refusal:
    """One error record. `kind`: the exception's type without its namespace; `identifier`: what the record is known by."""

    identifier: str
    kind: str
    message: str
    #: What the directory itself said, if that was passed on.
    server_message: str

    @property
    def unanswered(self) -> bool:
        """The host asked the directory and had no answer."""
        return self.kind in _UNANSWERED


def read(record: Any) -> Refusal:
    """An error record of pypsrp."""
    identifier = (record.fq_error or "").split(",")[0]
    exception = record.exception
    found = {**getattr(exception, "extended_properties", {}), **getattr(exception, "adapted_properties", {})}
    types = [str(t) for t in getattr(exception, "types", [])]
    named = _CMDLET.match(identifier)
    kind = named[1] if named else record.reason or (types[0].rpartition(".")[2] if types else "")
    message = " ".join(str(found.get("Message") or str(record) or "no message").split())[:300]
    return Refusal(identifier, kind, message, str(found.get("ServerErrorMessage") or ""))


def refused(controller: str, username: str, doing: str, said: Refusal) -> StepError | TransportError:
    """The error of a record that says no. For one that is `unanswered` see `errors.answer_lost` and `errors.unreachable`."""
    if said.kind == "AuthenticationException":
        return errors.sign_in_refused(
            controller, username, said.message,
            "The host may not ask the directory on behalf of the account: name the domain controllers themselves as "
            "`controllers`, or set `psrp_forward_credential`.",
        )  # fmt: skip
    if said.identifier == "CommandNotFoundException":
        return StepError(
            f"{controller} refused to {doing}: {said.message}", type=INTEGRATION_ERROR, code="no_cmdlet",
            impact="Nothing was changed in Active Directory by this step.",
            remediation="Install the ActiveDirectory module there (RSAT-AD-PowerShell), or let the role of the session "
            "configuration show its cmdlets.",
        )  # fmt: skip
    match = _SERVER.match(said.identifier)
    win32 = int(match[1]) if match else 0
    code = _RESULTS.get(win32) or _EXCEPTIONS.get(said.kind)
    if code is None:
        return errors.DirectoryRefused(
            f"{controller} refused to {doing}: {said.message}", result_code=errors.OTHER, type=INTEGRATION_ERROR,
            code=f"psrp {said.identifier}"[:100] if win32 == 0 else f"psrp {said.kind} / {win32:08X}", remediation=None,
        )  # fmt: skip
    text = said.server_message if _SERVERS_CODE.match(said.server_message) else said.message
    if win32 and not _SERVERS_CODE.match(text):
        text = f"{win32:08X}: {text}"
    return errors.refusal(controller, doing, code, _NAMES[code], text)
