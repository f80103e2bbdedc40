"""`agent.remove` and `inventory.retire`: the end of an offboarding (CWA-67 to CWA-69).

The agent is removed by a detached task that outlives it and writes a completion marker on the computer: planted,
running, done or failed. The marker is waited for as long as the computer answers, and recorded.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from agent.errors import AnswerLost, CannotConnect, StepError, TimeLimitReached
from agent.functions import removal
from agent.functions.base import Context, Function, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.inventory import places
from agent.inventory.effective import effective_values
from agent.model.places import Computer

SCRIPT = "Automate Agent - On The Computer"
LOOK_SECONDS, PLANT_SECONDS = 120.0, 300.0
#: Seconds between two looks at the marker: the first, and the longest.
FIRST_WAIT, LONGEST_WAIT = 1.0, 15.0
#: Markers of a task that has not ended yet.
UNDER_WAY = ("planted", "running")
ALLOW_PROBE = "Allow Probe Offboarding"


class RemoveParameters(BaseParameters):
    """How the agent is removed. The defaults are those of ConnectWise Automate."""

    #: Linux and Mac: folder of the agent; empty: /usr/local/ltechagent.
    folder: str = ""
    #: Linux: service of the agent; empty: ltechagent.
    service: str = ""
    #: Where the task keeps its marker; empty: a folder of the administrator.
    state_folder: str = ""
    #: Names of further scheduled tasks that would install the agent again, joined by `;;`.
    health_tasks: str = ""
    #: Seconds before the task begins.
    delay: int = Field(10, ge=0, le=600)
    #: Seconds to wait for the completion marker.
    wait: float = Field(900.0, ge=0, le=3600)

    def of_body(self) -> dict[str, Any]:
        """The parameters of the body; what is empty is left to the body's default."""
        given = {"Folder": self.folder, "Service": self.service, "State_Folder": self.state_folder}
        given["Health_Tasks"] = self.health_tasks
        return {name: value for name, value in given.items() if value}


class Remove(Function[RemoveParameters]):
    """Removes the Automate agent from the computer."""

    name = "agent.remove"
    summary = "Remove the Automate agent by a detached task, after the tasks that would install it again"
    Parameters = RemoveParameters
    destructive = True
    repeatable = True  # a task that is under way is not planted again
    on_target = True
    uses_scripts = (SCRIPT,)

    def preview(self, parameters: RemoveParameters) -> str:
        """What would be done."""
        return (
            "Remove the scheduled tasks that would install the Automate agent again, plant a detached task that removes "
            f"the agent, and wait up to {parameters.wait:g} seconds for its completion marker"
        )

    def label(self, parameters: RemoveParameters, step_name: str) -> str:
        """As it stands among the removed applications."""
        return "Automate agent"

    def verify(self, context: Context, parameters: RemoveParameters) -> bool | None:
        """Whether the agent is gone."""
        answer = _look(context, parameters)
        return None if answer is None else not answer["present"]

    def do(self, context: Context, parameters: RemoveParameters) -> Outcome:
        """Plant the task and wait for its marker. Raises StepError for a probe that is not opted in."""
        _refuse_probe(context)
        before = _look(context, parameters)
        if before is not None and before["marker"] in UNDER_WAY:
            return _wait(context, parameters, list(before.get("health_tasks") or []))
        if before is not None and not before["present"]:
            done = "removed" if before["marker"] == "done" else "already_absent"
            return Outcome.succeeded(outcome=done, marker=before["marker"])
        planted = context.run_body(
            SCRIPT, {"Mode": "plant", "Token": _token(context), "Delay": parameters.delay, **parameters.of_body()},
            time_limit=PLANT_SECONDS,
        )  # fmt: skip
        health = list((planted.answer or {}).get("health_tasks") or [])
        if planted.execution.exit_code != 0 or planted.answer is None:
            log = removal.log_of("plant", planted)[-removal.LOG_CHARACTERS :]
            return Outcome.failed(_error("the task that removes it could not be planted"), health_tasks=health, log=log)
        return _wait(context, parameters, health)


def _wait(context: Context, parameters: RemoveParameters, health: list[str]) -> Outcome:
    """Look until the marker says that it is over, the computer has gone silent, or the time is up."""
    deadline = time.monotonic() + parameters.wait
    pause, marker, silent = FIRST_WAIT, "planted", ""
    while True:
        try:
            answer = _look(context, parameters)
            silent = ""
        except (CannotConnect, AnswerLost, TimeLimitReached) as error:
            # The way to the computer may go with the agent: what is left of the time, it is asked again.
            answer, silent = None, str(error)
        marker = str(answer["marker"]) if answer is not None else marker
        if answer is not None and marker not in (*UNDER_WAY, "failed") and not answer["present"]:
            return Outcome.succeeded(outcome="removed", marker=marker, health_tasks=health)
        if marker == "failed":
            return Outcome.failed(_error("the task that removes it has failed"), marker=marker, health_tasks=health)
        left = deadline - time.monotonic()
        if left <= 0:
            why = (
                f"the computer does not answer any more: {silent}" if silent else f"the completion marker says {marker}"
            )
            return Outcome.unknown(
                _error(f"no completion within {parameters.wait:g} seconds: {why}"), marker=marker, health_tasks=health
            )
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, LONGEST_WAIT)


def _look(context: Context, parameters: RemoveParameters) -> Mapping[str, Any] | None:
    """What the computer says: {present, marker, health_tasks}; None when that cannot be told."""
    result = context.run_body(
        SCRIPT, {"Mode": "detect", "Token": _token(context), **parameters.of_body()}, body="verify",
        time_limit=LOOK_SECONDS,
    )  # fmt: skip
    answer = result.answer
    return answer if answer is not None and isinstance(answer.get("present"), bool) else None


def _token(context: Context) -> str:
    """Names the removal by its run: the same run never plants a second task, a retry plants one of its own."""
    return re.sub(r"[^A-Za-z0-9]", "", context.root_id) or "none"


def _refuse_probe(context: Context) -> None:
    computer = context.places["computer"] or {}
    with context.installation.database.reading() as session:
        allowed = effective_values(session, context.places).is_set(ALLOW_PROBE)
    if computer.get("is_probe") and not allowed:
        raise StepError(
            f"{removal.target_name(context)} is a probe: its agent is not removed",
            type="probe_refused",
            impact="The agent and what the probe watches stay as they are.",
            remediation=f"Set the extra field {ALLOW_PROBE!r} of the computer to remove it as well.",
        )


def _error(message: str) -> StepError:
    return StepError(
        f"Automate agent: {message}",
        type="agent_not_removed",
        impact="The agent may still run; the computer is not retired.",
        remediation="Look at the computer; run the script again, or remove the agent by hand and retire the computer.",
    )


class RetireParameters(BaseParameters):
    """Nothing: the computer is the run's target."""


class Retire(Function[RetireParameters]):
    """Marks the computer as retired. It is kept with all its records."""

    name = "inventory.retire"
    summary = "Retire the computer in the inventory; it is kept"
    Parameters = RetireParameters
    repeatable = True

    def preview(self, parameters: RetireParameters) -> str:
        """What would be done."""
        return "Retire the computer in the inventory; nothing is deleted"

    def verify(self, context: Context, parameters: RetireParameters) -> bool | None:
        """Whether it is retired."""
        with context.installation.database.reading() as session:
            computer = session.get(Computer, context.target_id)
            return computer is not None and computer.retired_at is not None

    def do(self, context: Context, parameters: RetireParameters) -> Outcome:
        """Set the time of retirement once. Raises StepError when the target is no computer."""
        if context.target_kind != "computer":
            raise StepError(f"a {context.target_kind} cannot be retired, only a computer", type="wrong_target")
        with context.installation.database.session() as session:
            computer = session.get(Computer, context.target_id)
            if computer is None or computer.client_id != context.client_id:
                raise StepError(f"there is no computer {context.target_id} of this client", type="wrong_target")
            known = computer.retired_at
            places.retire(session, computer, actor=context.started_by)
            assert computer.retired_at is not None
            return Outcome.succeeded(retired_at=computer.retired_at.isoformat(), already=known is not None)
