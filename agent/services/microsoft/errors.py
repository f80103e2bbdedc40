"""What Microsoft's services refuse, as typed errors: the nine types of the exit report, with impact and remediation.

Sources: Microsoft Graph error responses, Microsoft Entra authentication error codes (AADSTS), and for Exchange the class
names of its exceptions, which stand between bars in its messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agent.errors import AnswerLost, CannotConnect, StepError
from agent.failure_types import INTEGRATION_ERROR, PERMISSION_DENIED

#: Statuses with which a service says that it did not do it and may be asked again.
THROTTLED = (429, 503)
_DENIED_CODES = {
    "Authorization_RequestDenied", "Authentication_RequestFromNonPremiumTenantOrB2CTenant", "accessDenied",
    "AccessDenied", "ErrorAccessDenied", "Forbidden", "InvalidAuthenticationToken", "UnknownError_Forbidden",
    "CmdletAccessDeniedException", "UnauthorizedAccessException", "AuthorizationException",
}  # fmt: skip
_MISSING_CODES = {
    "Request_ResourceNotFound", "ResourceNotFound", "itemNotFound", "MailboxNotEnabledForRESTAPI", "ErrorItemNotFound",
    "MailNotEnabled", "ManagementObjectNotFoundException", "ADNoSuchObjectException", "NotFound",
    "MemberNotFoundException",
}  # fmt: skip
#: Several of these words of Exchange's answers mean "later".
_BUSY_CODES = {"ServerBusyException", "OverBudgetException", "MailboxInTransitException", "TransientException"}
_REMEDIES: Mapping[str, str] = {
    "Authorization_RequestDenied": "Give the app registration the right and consent to it; changing an administrator "
    "also needs the role Privileged Authentication Administrator.",
    "OnPremisesMastered": "The account is synchronised: change it in the local Active Directory.",
}
#: AADSTS code -> (what it means, what to do).
_SIGN_IN: Mapping[str, tuple[str, str]] = {
    "50020": ("the account is of another tenant", "Check tenant_id of the credential."),
    "50034": ("the account does not exist in the tenant", "Check tenant_id of the credential."),
    "53003": ("Conditional Access forbids it", "Exclude the app registration from that rule, or allow this address."),
    "65001": ("nobody consented to the app registration", "Let an administrator of the tenant consent to it."),
    "90002": ("there is no such tenant", "Check tenant_id of the credential."),
    "90094": ("an administrator must consent", "Let an administrator of the tenant consent to it."),
    "500011": ("the tenant does not know the service", "Check the cloud of the credential, and the licences."),
    "700016": ("the tenant does not know the app registration", "Check client_id, and let an administrator consent."),
    "700027": ("the certificate was refused", "Upload the certificate to the app registration, or check its dates."),
    "700082": ("the sign-in has expired for want of use", "Enter the secret of the credential anew."),
    "7000215": ("the client secret is wrong", "Enter the secret's value, not its id: exeunt credential update"),
    "7000222": ("the client secret has expired", "Make a new one and enter it: exeunt credential update"),
}
_AADSTS = re.compile(r"AADSTS(\d+)")
_EXCEPTION = re.compile(r"\|(?:[A-Za-z0-9_]+\.)*([A-Za-z0-9_]+Exception)\|\s*")


class ServiceRefused(StepError):
    """A service answered no. `status` is its HTTP status; `retry_after` the seconds that it asked to wait."""

    def __init__(
        self, message: str, *, type: str, status: int, code: str | None, remediation: str | None = None,
        retry_after: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message, type=type, code=code, remediation=remediation)
        self.status, self.retry_after = status, retry_after

    @property
    def missing(self) -> bool:
        """What was asked for does not exist."""
        return self.status == 404 or self.code in _MISSING_CODES

    @property
    def passing(self) -> bool:
        """It may work later, as it is."""
        return self.status in THROTTLED or self.status >= 500 or self.code in _BUSY_CODES


def refusal(service: str, doing: str, status: int, body: Any, retry_after: float | None = None) -> ServiceRefused:
    """The error of an answer. `doing` names the call; `body` is the decoded answer, None when it was no JSON."""
    code, text = _graph_words(body) if service != "Exchange" else _exchange_words(body)
    code = code or str(status)
    if "on-premises mastered" in text.lower() or "out of the current user's write scope" in text.lower():
        code = "OnPremisesMastered"
    said = f"{service} answered {status} ({code}) to {doing}" + (f": {_short(text)}" if text else "")
    kind = PERMISSION_DENIED if status in (401, 403) or code in _DENIED_CODES else INTEGRATION_ERROR
    remedy = _REMEDIES.get(code) or (_REMEDIES["Authorization_RequestDenied"] if kind == PERMISSION_DENIED else None)
    if remedy is None and (status in THROTTLED or status >= 500 or code in _BUSY_CODES):
        remedy = "The service is busy or broken for the moment: retry the run."
    return ServiceRefused(said, type=kind, status=status, code=code, remediation=remedy, retry_after=retry_after)


def _graph_words(body: Any) -> tuple[str, str]:
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        return error, str(body.get("error_description") or "")
    error = error or (body.get("odata.error") if isinstance(body, dict) else None)
    if not isinstance(error, dict):
        return "", ""
    message = error.get("message")
    return str(error.get("code") or ""), str(message.get("value") if isinstance(message, dict) else message or "")


def _exchange_words(body: Any) -> tuple[str, str]:
    """The text in the order in which Exchange fills it, and the class of the exception if it names one."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return "", ""
    found = (
        _at(error, "details", "message"), _at(error, "innererror", "internalexception", "message"), error.get("message")
    )  # fmt: skip
    text = next((str(t) for t in found if t), "")
    exception = _EXCEPTION.search(text)
    return (exception[1] if exception else str(error.get("code") or "")), _EXCEPTION.sub("", text)


def _at(value: Any, *names: str) -> Any:
    """A value by its path; names without regard to case, and the first entry of a list."""
    for name in names:
        value = value[0] if isinstance(value, list) and value else value
        if not isinstance(value, dict):
            return None
        value = next((v for k, v in value.items() if k.lower() == name), None)
    return value


def _short(text: str) -> str:
    return " ".join(text.split())[:400]


def sign_in_refused(answer: Mapping[str, Any], tenant: str) -> StepError:
    """The error of a token request that was answered without a token."""
    description = str(answer.get("error_description") or "")
    found = _AADSTS.search(description)
    code = found[1] if found else ""
    meaning, remedy = _SIGN_IN.get(
        code, (_short(description) or str(answer.get("error")), "Check the credential microsoft365.")
    )
    return StepError(
        f"signing in to the tenant {tenant} was refused: {meaning}",
        type=PERMISSION_DENIED, code=f"AADSTS{code}" if code else str(answer.get("error") or "sign_in"),
        impact="Nothing was changed by this step.", remediation=remedy,
    )  # fmt: skip


def unreachable(service: str, why: str) -> CannotConnect:
    """Nothing was sent."""
    error = CannotConnect(f"{service} cannot be reached: {why}")
    error.typed = StepError(
        str(error), type=INTEGRATION_ERROR, code="unreachable", impact="Nothing was changed by this step.",
        remediation="Check the network and the addresses of the credential microsoft365, then retry the run.",
    )  # fmt: skip
    return error


def answer_lost(service: str, doing: str, why: str) -> AnswerLost:
    """It was sent, and may have been carried out."""
    error = AnswerLost(f"{service} gave no answer to {doing}, which may have been carried out: {why}")
    error.typed = StepError(
        str(error), type=INTEGRATION_ERROR, code="answer_lost", impact="It may or may not have happened.",
        remediation="Look at the account; the step may be retried, it asks for the state first.",
    )  # fmt: skip
    return error
