"""What a directory refuses, as typed errors of the exit report, with code, impact and remediation.

Result codes: RFC 4511, appendix A. Active Directory puts a Win32 code in eight hexadecimal digits before its message
(MS-ADTS 3.1.1.3.1.9), and for a refused bind a second one after the word `data`.
"""

from __future__ import annotations

import re

from agent.errors import AccessDenied, AnswerLost, CannotConnect, StepError, TransportError
from agent.failure_types import ACCOUNT_NOT_FOUND, INTEGRATION_ERROR, PERMISSION_DENIED

NO_SUCH_OBJECT, NOT_ON_NON_LEAF, ALREADY_EXISTS, ACCESS_DENIED, OTHER = 32, 66, 68, 50, 80
_TYPES = {NO_SUCH_OBJECT: ACCOUNT_NOT_FOUND, ACCESS_DENIED: PERMISSION_DENIED}
_LATER = "The controller is busy: retry the run."
_REMEDIES = {
    3: _LATER,
    8: "The controller wants another kind of encryption: set `encryption` of the credential to ldaps or starttls.",
    10: "The controller holds no copy that can be written: name a writable controller of this domain first.",
    11: _LATER,
    19: "A rule of the domain forbids the value, such as its password policy.",
    NO_SUCH_OBJECT: "Look where the object is now, and whether `base_dn` of the credential includes it.",
    ACCESS_DENIED: "Delegate this right on the account's OU to the account of the credential. An object that is protected "
    "from accidental deletion, or from changes because it is an administrator, refuses it too.",
    51: _LATER,
    52: _LATER,
    53: "The directory does not allow this change on this object; its message says why.",
    NOT_ON_NON_LEAF: "Something stands below the object, such as its mobile devices: set `subtree` to delete that too.",
    ALREADY_EXISTS: "An object of that name is there already: rename one of the two.",
}
#: Sub-codes of a refused bind (Win32 error codes in hexadecimal) and what they mean.
_SIGN_IN = {
    "525": "there is no such account",
    "52e": "the user name or the password is wrong",
    "52f": "the account may not sign in this way",
    "530": "the account may not sign in at this time",
    "531": "the account may not sign in from here",
    "532": "the password has expired",
    "533": "the account is disabled",
    "701": "the account has expired",
    "773": "the password must be changed first",
    "775": "the account is locked",
}
_WIN32 = re.compile(r"^([0-9A-Fa-f]{8}):")
_DATA = re.compile(r"\bdata ([0-9a-f]+)")


class DirectoryRefused(StepError):
    """The directory answered no. `result_code` is LDAP's."""

    def __init__(self, message: str, *, result_code: int, type: str, code: str, remediation: str | None) -> None:
        super().__init__(message, type=type, code=code, remediation=remediation)
        self.result_code = result_code


def refusal(controller: str, doing: str, result_code: int, name: str, text: str) -> DirectoryRefused:
    """The error of an answer. `doing` names the request; `name` and `text` are the code's name and the message."""
    win32 = _WIN32.match(text)
    code = f"ldap {result_code}" + (f" / {win32[1].upper()}" if win32 else "")
    said = " ".join(text.split("\0")[0].split())[:300]
    return DirectoryRefused(
        f"{controller} refused to {doing}: {name}" + (f" ({said})" if said else ""),
        result_code=result_code, type=_TYPES.get(result_code, INTEGRATION_ERROR), code=code,
        remediation=_REMEDIES.get(result_code),
    )  # fmt: skip


def bind_refused(controller: str, username: str, result_code: int, name: str, text: str) -> TransportError | StepError:
    """The error of a bind that was answered no."""
    if result_code != 49:
        return refusal(controller, f"sign in {username}", result_code, name, text)
    found = _DATA.search(text)
    meaning = _SIGN_IN.get(found[1], f"error {found[1]}") if found else "the user name or the password is wrong"
    code = "ldap 49" + (f" / data {found[1]}" if found else "")
    return _typed(
        AccessDenied(f"{controller} refused {username}: {meaning}"), PERMISSION_DENIED, code,
        "Check the account, then enter its password: exeunt credential update",
    )  # fmt: skip


def sign_in_refused(controller: str, username: str, why: str, remediation: str | None = None) -> TransportError:
    """The host that stands before the directory does not let us in, or is not let in; nothing was asked of the directory."""
    return _typed(
        AccessDenied(f"{controller} refused {username}: {why}"), PERMISSION_DENIED, "sign_in",
        remediation or "Check the account and its right to sign in remotely, then enter its password: exeunt credential update",
    )  # fmt: skip


def kerberos_refused(error: TransportError) -> TransportError:
    """No ticket, or the controller and the ticket do not fit; the error says which of the two, and what to do."""
    permission = isinstance(error, AccessDenied)
    return _typed(
        error, PERMISSION_DENIED if permission else INTEGRATION_ERROR, "kerberos",
        "Do what the message says, then retry the run.",
    )  # fmt: skip


def identity_refused(controller: str, why: str) -> TransportError:
    """The controller's certificate is not to be trusted; nothing was said to it."""
    return _typed(
        AccessDenied(f"the certificate of {controller} was refused: {why}"), PERMISSION_DENIED, "certificate",
        "Name the controller as its certificate does, and set `ca_file` of the credential to the authority's certificate.",
    )  # fmt: skip


def unreachable(controllers: str, why: str) -> TransportError:
    """Nothing was sent."""
    return _typed(
        CannotConnect(f"{controllers} cannot be reached: {why}"), INTEGRATION_ERROR, "unreachable",
        "Check the controllers' addresses, ports and firewalls, then retry the run.",
    )  # fmt: skip


def answer_lost(controller: str, doing: str, why: str) -> TransportError:
    """It was sent, and may have been carried out."""
    error = AnswerLost(f"{controller} gave no answer to the request to {doing}: {why}")
    typed = _typed(error, INTEGRATION_ERROR, "answer_lost", "Look at the account, then retry the run: it looks first.")
    if typed.typed is not None:
        typed.typed.impact = "It may or may not have happened."
    return typed


def _typed(error: TransportError, type: str, code: str, remediation: str) -> TransportError:
    impact = "Nothing was changed in Active Directory by this step."
    error.typed = StepError(str(error), type=type, code=code, impact=impact, remediation=remediation)
    return error
