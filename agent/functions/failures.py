"""The nine types of failure of a person's offboarding, in one catalogue (seed 002, "Error Handling").

A function raises `failure(...)`; a report reads stored errors with `described`. What a function says of its own failure
counts; the catalogue fills in what it leaves out. A type that is none of the nine is shown as INTEGRATION_ERROR with its
own code, or its own name as the code, so nothing that was said is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.errors import StepError
from agent.failure_types import (
    ACCOUNT_NOT_FOUND,
    BACKUP_STORAGE_UNAVAILABLE,
    DATA_TRANSFER_FAILED,
    DEVICE_WIPE_FAILED,
    INTEGRATION_ERROR,
    LICENSE_REMOVAL_FAILED,
    MAILBOX_CONVERSION_FAILED,
    MANAGER_NOT_FOUND,
    PERMISSION_DENIED,
)


@dataclass(frozen=True)
class Failure:
    """What is true of every failure of one type, unless the function that failed says it better."""

    type: str
    #: For people and their ticket systems; a system's own code takes its place where there is one.
    code: str
    meaning: str
    impact: str
    remediation: str
    #: Access stays open, or data may be lost.
    critical: bool
    #: Data of the leaver may be lost if somebody goes on without mending it.
    data_at_risk: bool = False


CATALOGUE: Mapping[str, Failure] = {
    f.type: f
    for f in (
        Failure(
            ACCOUNT_NOT_FOUND, "ERR-ACCOUNT-001", "The account does not exist in the system",
            "Nothing was changed. If the name is wrong, the leaver's real account is still open.",
            "Check the account's name and which system the credential is for, then retry the run", critical=True,
        ),
        Failure(
            BACKUP_STORAGE_UNAVAILABLE, "ERR-BACKUP-001", "The backup location cannot be used",
            "The data is not backed up. It is still where it was.",
            "Verify that the backup storage is online and has room, then retry the run", critical=True, data_at_risk=True,
        ),
        Failure(
            LICENSE_REMOVAL_FAILED, "ERR-LICENSE-001", "A licence could not be taken back",
            "The licence stays assigned and is still paid for.",
            "Remove the licence in the admin centre, or from the group that gives it, then retry the run", critical=False,
        ),
        Failure(
            MAILBOX_CONVERSION_FAILED, "ERR-MAILBOX-001", "The mailbox did not become a shared one",
            "The mailbox is still a user mailbox: it goes when its licence goes.",
            "Keep the licence, look at the mailbox in the Exchange admin centre, then retry the run", critical=False,
            data_at_risk=True,
        ),
        Failure(
            PERMISSION_DENIED, "ERR-PERM-001", "The credential's rights are not enough",
            "The step was not carried out.", "Grant the missing permission to the credential, then retry the run",
            critical=False,
        ),
        Failure(
            MANAGER_NOT_FOUND, "ERR-MANAGER-001", "The manager's address is wrong or nobody's",
            "Nobody was given what was meant for the manager.",
            "Enter the manager, or name the person who takes over, then retry the run", critical=False,
        ),
        Failure(
            DATA_TRANSFER_FAILED, "ERR-DATA-001", "Files could not be handed over",
            "The files are still the leaver's, and nobody else can work with them.",
            "Hand the files over by hand, or mend what the message says and retry the run", critical=False,
            data_at_risk=True,
        ),
        Failure(
            DEVICE_WIPE_FAILED, "ERR-DEVICE-001", "A mobile device did not take the wipe command",
            "Company data stays on the leaver's devices.",
            "Wipe the device in the management console, or have it handed in, then retry the run", critical=False,
        ),
        Failure(
            INTEGRATION_ERROR, "ERR-INTEGRATION-001", "A connected system refused or cannot be reached",
            "The step was not carried out.", "Check the system and its credential, then retry the run", critical=False,
        ),
    )
}  # fmt: skip
#: Types that the engine and the transports give, where one of the nine says the same.
_SAME = {"access_denied": PERMISSION_DENIED, "missing_credential": PERMISSION_DENIED}
_NEVER_DELETE = "Do not delete the account until its data is secured"


@dataclass(frozen=True)
class Described:
    """A failure in full, as reports show it."""

    type: str
    code: str
    message: str
    impact: str
    remediation: str
    critical: bool
    data_at_risk: bool


def failure(
    type: str, message: str, *, code: str | None = None, impact: str | None = None, remediation: str | None = None,
    critical: bool | None = None,
) -> StepError:  # fmt: skip
    """The error of one of the nine types; what is left out comes from the catalogue. Raises KeyError for another type."""
    known = CATALOGUE[type]
    return StepError(
        message, type=type, code=code or known.code, impact=impact or known.impact,
        remediation=remediation or known.remediation, critical=known.critical if critical is None else critical,
    )  # fmt: skip


def described(error: Mapping[str, Any] | None) -> Described:
    """A stored error {type, code, message, impact, remediation, critical} in full; None: nothing was said."""
    said = error or {}
    own = str(said.get("type") or "")
    kind = own if own in CATALOGUE else _SAME.get(own, INTEGRATION_ERROR)
    known = CATALOGUE[kind]
    code = said.get("code") or (own if own and own != kind else None) or known.code
    return Described(
        kind, str(code), str(said.get("message") or "no reason was given"), str(said.get("impact") or known.impact),
        str(said.get("remediation") or known.remediation), bool(said.get("critical")) or known.critical,
        known.data_at_risk,
    )  # fmt: skip


def recommended_actions(failures: Iterable[Described], *, data_at_risk: bool) -> list[str]:
    """What to do, the critical first and each once. While data is at risk, not to delete anything comes first."""
    ordered = sorted(failures, key=lambda f: not f.critical)
    first = [_NEVER_DELETE] if data_at_risk else []
    return list(dict.fromkeys([*first, *(f.remediation for f in ordered)]))
