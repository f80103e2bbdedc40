"""`screenconnect.uninstall` and `screenconnect.end_session`: removal on both sides, computer and portal (CWA-65, CWA-66)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from agent.errors import StepError, TimeLimitReached
from agent.functions import removal
from agent.functions.base import Context, Function, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.services.screenconnect import Portal, parse_headers, portal_settings

SCRIPT = "ScreenConnect - On The Computer"
#: Methods in their order; each is tried after the one before it failed.
METHODS: Mapping[str, tuple[str, ...]] = {
    "windows": ("product", "msi", "uninstall_string"),
    "linux": ("package", "folder"),
    "macos": ("folder",),
}
LOOK_SECONDS, REMOVE_SECONDS = 300.0, 1200.0
#: Kept per computer before the agent is removed: afterwards nothing on the computer knows the session any more.
SESSION_STATE = "ScreenConnect Session"


class UninstallParameters(BaseParameters):
    """Which agent."""

    #: Instance (16 hexadecimal digits); empty: that of the credential `screenconnect`, else the only one there is.
    instance: str = Field("", pattern=r"^([0-9a-f]{16})?$")
    enable_ticketing: bool = True


class Uninstall(Function[UninstallParameters]):
    """Removes the ScreenConnect agent by an ordered list of methods."""

    name = "screenconnect.uninstall"
    summary = "Remove the ScreenConnect agent; each method is tried after the one before it failed"
    Parameters = UninstallParameters
    destructive = True
    repeatable = True  # it looks before it removes
    on_target = True
    uses_scripts = (SCRIPT,)

    def preview(self, parameters: UninstallParameters) -> str:
        """What would be done."""
        which = f" of the instance {parameters.instance}" if parameters.instance else ""
        return f"Remove the ScreenConnect agent{which} by the first method that works, and verify that it is gone"

    def label(self, parameters: UninstallParameters, step_name: str) -> str:
        """As it stands among the removed applications."""
        return "ScreenConnect agent"

    def verify(self, context: Context, parameters: UninstallParameters) -> bool | None:
        """Whether no agent of that instance is there."""
        found, trouble, _ = _look(context, _wanted(context, parameters))
        return None if trouble and not found else not found

    def do(self, context: Context, parameters: UninstallParameters) -> Outcome:
        """Remove and verify. Raises StepError when several agents are there and none is chosen."""
        wanted = _wanted(context, parameters)
        found, trouble, log = _look(context, wanted)
        if trouble and not found:
            return Outcome.unknown(_error(f"whether it is installed cannot be told: {trouble}"))
        if not found:
            return Outcome.succeeded(outcome="already_absent", session=context.state(SESSION_STATE))
        instances = sorted({str(f["instance"]) for f in found})
        if len(instances) > 1:
            raise StepError(
                f"ScreenConnect agents of several instances are installed: {', '.join(instances)}",
                type="ambiguous_instance",
                impact="None was removed: some may belong to somebody else.",
                remediation="Set `instance` of the credential screenconnect, or the step's parameter of that name.",
            )
        return _remove(context, parameters, instances[0], found, log)


def _remove(
    context: Context, parameters: UninstallParameters, instance: str, found: list[Mapping[str, Any]], log: str
) -> Outcome:
    session = next((str(f["session"]) for f in found if f.get("session")), None)
    if session:
        context.set_state(SESSION_STATE, session)
    tried: list[str] = []
    reboot = False
    for method in METHODS[str((context.places["computer"] or {})["platform"])]:
        tried.append(method)
        try:
            result = context.run_body(SCRIPT, {"Mode": method, "Instance": instance}, time_limit=REMOVE_SECONDS)
            log += removal.log_of(method, result)
            reboot |= result.execution.exit_code == 3010
        except TimeLimitReached as error:
            log += f"--- {method}\n{error}\n"
        left, trouble, _ = _look(context, instance)
        if not left and not trouble:
            return Outcome.succeeded(
                outcome="removed",
                method=method,
                tried=tried,
                instance=instance,
                session=session,
                reboot_required=reboot,
            )
        if reboot:
            return Outcome.reboot_needed(method=method, tried=tried, instance=instance, session=session)
    answer: dict[str, Any] = {"tried": tried, "instance": instance, "session": session}
    answer["log"] = log[-removal.LOG_CHARACTERS :]
    if parameters.enable_ticketing:
        name = removal.target_name(context)
        answer["ticket"] = removal.failure_ticket(
            context, "screenconnect-removal", subject=f"ScreenConnect Removal - Failed - {name}",
            body=f"The ScreenConnect agent of the instance {instance} could not be removed from {name}.\n"
            f"Tried: {', '.join(tried)}", log=answer["log"],
        )  # fmt: skip
    return Outcome.failed(_error(f"every method failed: {', '.join(tried)}"), **answer)


def _look(context: Context, instance: str) -> tuple[list[Mapping[str, Any]], str, str]:
    """Agents that are there (of one instance, or all), what kept us from telling, and the log."""
    result = context.run_body(SCRIPT, {"Mode": "detect", "Instance": instance}, body="verify", time_limit=LOOK_SECONDS)
    answer = result.answer or {}
    found = list(answer.get("found") or [])
    trouble = str(answer.get("trouble") or "")
    if result.answer is None or result.execution.exit_code not in (0, 1, 2):
        trouble = f"exit code {result.execution.exit_code}"
    return found, trouble, removal.log_of("detect", result)


def _wanted(context: Context, parameters: UninstallParameters) -> str:
    credential = context.credential("screenconnect")
    return parameters.instance or (portal_settings(credential[0]).instance if credential else "")


def _error(message: str) -> StepError:
    return StepError(
        f"ScreenConnect: {message}",
        type="screenconnect_not_removed",
        impact="The remote-control agent stays on the computer.",
        remediation="Reboot the computer and run the script again; after a second failure remove the agent by hand.",
    )


class EndSessionParameters(BaseParameters):
    """Which session."""

    #: GUID; empty: the one that `screenconnect.uninstall` found on the computer.
    session: str = ""
    enable_ticketing: bool = True


class EndSession(Function[EndSessionParameters]):
    """Ends the computer's session in the portal."""

    name = "screenconnect.end_session"
    summary = "End the computer's session in the ScreenConnect portal, and verify that it is gone"
    Parameters = EndSessionParameters
    destructive = True
    repeatable = True  # an ended session cannot be ended further

    def preview(self, parameters: EndSessionParameters) -> str:
        """What would be done."""
        return f"End {parameters.session or 'the session of the removed agent'} in the ScreenConnect portal"

    def do(self, context: Context, parameters: EndSessionParameters) -> Outcome:
        """End it. A ticket is opened when that fails."""
        session = parameters.session or context.state(SESSION_STATE)
        if not session:
            return Outcome.skipped("no session is known: no agent was found on this computer")
        try:
            with _portal(context) as portal:
                ended = portal.end_session(session)
        except ValueError:
            return self._failed(
                context, parameters, _session_error(f"{session!r} is no GUID of a session", "wrong_session")
            )
        except StepError as error:
            return self._failed(context, parameters, error)
        if ended is False:
            still = _session_error(f"the portal still has the session {session}", "session_not_ended")
            return self._failed(context, parameters, still)
        return Outcome.succeeded(session=session, verified=ended is True)

    def _failed(self, context: Context, parameters: EndSessionParameters, error: StepError) -> Outcome:
        result: dict[str, Any] = {}
        if parameters.enable_ticketing:
            name = removal.target_name(context)
            result["ticket"] = removal.failure_ticket(
                context, "screenconnect-session", subject=f"ScreenConnect Session Removal - Failed - {name}",
                body=f"The session of {name} could not be ended in the portal: {error}\n{error.remediation or ''}",
            )  # fmt: skip
        return Outcome.failed(error, **result)


def _portal(context: Context) -> Portal:
    credential = context.credential("screenconnect")
    if credential is None:
        raise _session_error("there is no credential of the kind screenconnect for this client", "missing_credential")
    given, secrets = credential
    settings = portal_settings(given)
    rmm_plus = context.system_property("RMMPlus_AccessKey")
    key = secrets.get("key") or (None if settings.by_automate else rmm_plus)
    if not key:
        said = "no secret `key`"
        if rmm_plus and settings.by_automate:
            said += "; RMMPlus_AccessKey is the key of another extension, whose command `end_session_path` must name"
        raise _session_error(f"the credential screenconnect has {said}", "missing_credential")
    headers = parse_headers(secrets.get("headers") or context.system_property("RMMPlus_Headers") or "")
    milliseconds = context.system_property("RMMPlus_Timeout") or "1000"
    return Portal(settings, key, headers, max(int(milliseconds), 1) / 1000)


def _session_error(message: str, type: str) -> StepError:
    return StepError(
        message,
        type=type,
        impact="The computer's session stays in the portal and goes on taking a licence.",
        remediation="Add or mend the credential of the kind screenconnect and retry, or end the session by hand.",
    )
