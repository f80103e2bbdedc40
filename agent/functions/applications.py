"""`remove_application`: removes applications by exact name and proves that they are gone (facts 9, CWA-61 to CWA-64).

For each name: look; remove by the computer's own means (packages, registry, bundles); look; run the uninstall strings
that the inventory has stored for exactly this computer and name; look. An application counts as removed only when the
last look finds nothing. What was gone before the first look is recorded as already absent, so a second run is harmless.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, field_validator
from sqlmodel import col, select

from agent.errors import StepError, TimeLimitReached
from agent.functions import removal
from agent.functions.base import BodyResult, Context, Function, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.model.places import Software

#: The script whose bodies do the work on the computer.
SCRIPT = "Remove Application - On The Computer"
#: Exit codes of installers that mean "done, after a reboot" (Windows Installer).
REBOOT_CODES = (3010, 1641)
#: Seconds that a look, and one method of removal, may take.
LOOK_SECONDS, REMOVE_SECONDS = 300.0, 1800.0
SEPARATOR = ";;"

REMOVED, ABSENT, REBOOT, FAILED, UNKNOWN = "removed", "already_absent", "reboot_needed", "failed", "unknown"


class RemoveApplicationParameters(BaseParameters):
    """What to remove."""

    #: Exact names as the Software tile shows them, joined by `;;`.
    application: str = Field(min_length=1)
    #: Open a ticket when an application could not be removed.
    enable_ticketing: bool = False
    #: Linux packages that depend on the application may be removed with it.
    allow_dependents: bool = False

    @field_validator("application")
    @classmethod
    def _names(cls, value: str) -> str:
        parts = value.split(SEPARATOR)
        if any(not part.strip() for part in parts):
            raise ValueError(f"an empty name: write exact names joined by {SEPARATOR} without blanks")
        if "\0" in value:
            raise ValueError("a name cannot hold a NUL character")
        return value

    @property
    def names(self) -> list[str]:
        """The names, each once, in order."""
        return list(dict.fromkeys(self.application.split(SEPARATOR)))


@dataclass
class Attempt:
    """What became of one application. `method` is what removed it, or the last that was tried."""

    name: str
    outcome: str = FAILED
    method: str | None = None
    version: str | None = None
    found: list[Mapping[str, Any]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    reboot_required: bool = False
    #: Names in the inventory that differ in case or outer blanks only: a hint for a misspelt name, never removed.
    similar: list[str] = field(default_factory=list)
    log: str = ""

    def note(self, title: str, result: BodyResult) -> None:
        """Keep the end of a method's output."""
        self.log = (self.log + removal.log_of(title, result))[-removal.LOG_CHARACTERS :]


class RemoveApplication(Function[RemoveApplicationParameters]):
    """Removes applications from the computer by their exact names."""

    name = "remove_application"
    summary = "Remove applications by exact name (several joined by `;;`) and verify that they are gone"
    Parameters = RemoveApplicationParameters
    destructive = True
    repeatable = True  # it looks before it removes
    on_target = True
    uses_scripts = (SCRIPT,)

    def preview(self, parameters: RemoveApplicationParameters) -> str:
        what = ", ".join(repr(n) for n in parameters.names)
        extra = " together with the packages that depend on them" if parameters.allow_dependents else ""
        return f"Remove {what}{extra}, and verify that nothing of that name is installed any more"

    def label(self, parameters: RemoveApplicationParameters, step_name: str) -> str:
        return ", ".join(parameters.names)

    def verify(self, context: Context, parameters: RemoveApplicationParameters) -> bool | None:
        answers = [_look(context, Attempt(name), _stored(context, name)) for name in parameters.names]
        return None if None in answers else not any(answers)

    def do(self, context: Context, parameters: RemoveApplicationParameters) -> Outcome:
        attempts = [_remove(context, parameters, name) for name in parameters.names]
        result: dict[str, Any] = {"applications": [vars(a) for a in attempts]}
        left = [a for a in attempts if a.outcome in (FAILED, UNKNOWN)]
        if left and parameters.enable_ticketing:
            result["ticket"] = _open_ticket(context, attempts)
        if any(a.outcome == FAILED for a in left):
            return Outcome.failed(_error(left), **result)
        if left:
            return Outcome.unknown(_error(left), **result)
        if any(a.outcome == REBOOT for a in attempts):
            return Outcome.reboot_needed(**result)
        return Outcome.succeeded(**result, reboot_required=any(a.reboot_required for a in attempts))


def _remove(context: Context, parameters: RemoveApplicationParameters, name: str) -> Attempt:
    attempt = Attempt(name, similar=_similar(context, name))
    if name.startswith("<") and name.endswith(">"):
        # Looking for it would find nothing and call that a success.
        attempt.reasons.append("it is the template's placeholder: write the application's exact name in the script")
        return attempt
    stored = _stored(context, name)
    present = _look(context, attempt, stored)
    before = attempt.found
    attempt.version = next((str(f["version"]) for f in before if f.get("version")), None)
    if present is False:
        attempt.outcome = ABSENT
        return attempt
    for method in _methods(before, stored, parameters):
        if present is not True:
            break
        _try(context, attempt, method)
        present = _look(context, attempt, stored)
    attempt.found = before
    if present is not True:
        attempt.outcome = UNKNOWN if present is None else REMOVED
    elif attempt.reboot_required:
        attempt.outcome = REBOOT
    elif not attempt.reasons:
        attempt.reasons.append("it is still installed although no method reported a failure")
    return attempt


def _methods(
    found: Sequence[Mapping[str, Any]], stored: Sequence[str], parameters: RemoveApplicationParameters
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The methods in their order: a mode of the script's body and its parameters."""
    # An application that only its stored uninstaller knows has no main method.
    if not found or any(f.get("kind") != "stored" for f in found):
        yield "remove", {"Allow_Dependents": "1" if parameters.allow_dependents else "0"}
    for string in stored:
        yield "uninstall_string", {"Uninstall_Strings": string}


def _try(context: Context, attempt: Attempt, method: tuple[str, dict[str, Any]]) -> None:
    mode, parameters = method
    try:
        result = context.run_body(SCRIPT, {"Name": attempt.name, "Mode": mode, **parameters}, time_limit=REMOVE_SECONDS)
    except TimeLimitReached as error:
        attempt.method = mode
        attempt.reasons.append(f"{mode}: {error}")
        return
    attempt.note(mode, result)
    answer = result.answer or {}
    actions = answer.get("actions") or []
    kinds = list(dict.fromkeys(str(a.get("kind")) for a in actions))
    attempt.method = ", ".join(kinds) or mode
    attempt.reasons += [
        f"{a.get('kind')}: {a['reason']}" for a in actions if a.get("outcome") != REMOVED and a.get("reason")
    ]
    if answer.get("reboot") or result.execution.exit_code in REBOOT_CODES:
        attempt.reboot_required = True
    elif result.execution.exit_code != 0 and not actions:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        attempt.reasons.append(f"{mode}: exit code {result.execution.exit_code}: {last}")


def _look(context: Context, attempt: Attempt, stored: Sequence[str]) -> bool | None:
    """Whether the application is installed; None when that cannot be told. Keeps what was found."""
    parameters = {"Name": attempt.name, "Mode": "detect", "Uninstall_Strings": "\n".join(stored)}
    result = context.run_body(SCRIPT, parameters, body="verify", time_limit=LOOK_SECONDS)
    answer = result.answer or {}
    attempt.found = list(answer.get("found") or [])
    code = result.execution.exit_code
    if code == 1 and attempt.found:
        return True
    if code == 0 and result.answer is not None and not attempt.found:
        return False
    attempt.note("detect", result)
    attempt.reasons.append(f"whether it is installed cannot be told: {answer.get('trouble') or f'exit code {code}'}")
    return None


def _stored(context: Context, name: str) -> list[str]:
    """The uninstall strings of this computer and exactly this name; what cannot be one line is left out."""
    with context.installation.database.reading() as session:
        rows = session.exec(
            select(Software.uninstall_string)
            .where(Software.computer_id == context.target_id, Software.name == name, Software.uninstall_string != "")
            .order_by(col(Software.software_id))
        )
        return [row for row in dict.fromkeys(rows) if "\n" not in row and "\0" not in row]


def _similar(context: Context, name: str) -> list[str]:
    """Names in this computer's inventory that are the same but for case and outer blanks."""
    with context.installation.database.reading() as session:
        rows = session.exec(
            select(Software.name).where(Software.computer_id == context.target_id, Software.name != name)
        )
        return sorted({row for row in rows if row.strip().casefold() == name.strip().casefold()})


def _error(failed: Sequence[Attempt]) -> StepError:
    told = "; ".join(f"{a.name!r}: {'; '.join(a.reasons)}" for a in failed)
    refused = any("depend on it" in reason for a in failed for reason in a.reasons)
    return StepError(
        f"not removed: {told}",
        type="application_not_removed",
        code="dependents" if refused else None,
        impact=f"{len(failed)} of the client's applications stay on the computer",
        remediation="Reboot the computer and run the script again; after a second failure remove the rest by hand.",
    )


def _found_line(name: str, entry: Mapping[str, Any]) -> str:
    return f"- {name}: " + " ".join(str(entry[k]) for k in ("kind", "id", "version") if entry.get(k))


def _open_ticket(context: Context, attempts: Sequence[Attempt]) -> int | None:
    """A ticket that lists what was found and what failed, with the log as a comment (facts 9, CWA-63)."""
    name = removal.target_name(context)
    lines = [f"Applications could not be removed from {name}.", "", "Found:"]
    lines += [_found_line(a.name, f) for a in attempts for f in a.found] or ["- nothing"]
    lines += ["", "Failed:"]
    lines += [f"- {a.name}: {'; '.join(a.reasons)}" for a in attempts if a.outcome in (FAILED, UNKNOWN)]
    return removal.failure_ticket(
        context, "application-removal", subject=f"Application Removal - Failed - {name}", body="\n".join(lines),
        log="\n".join(f"=== {a.name}\n{a.log}" for a in attempts if a.log),
    )  # fmt: skip
