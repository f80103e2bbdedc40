"""What a function sees of a run on a contact, and one attempt at a step as the engine makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.errors import ExeuntError, StepError
from agent.functions import registry
from agent.functions.base import FinishedStep, Outcome
from agent.installation import Installation
from agent.running import acting


@dataclass
class ContactContext:
    """What a function sees of a run on a contact of Contoso. `finished` are the earlier steps of the run."""

    installation: Installation
    credentials: dict[str, tuple[Mapping[str, Any], Mapping[str, str]]]
    places: dict[str, Any] = field(default_factory=lambda: {"client": {"name": "Contoso & Sons", "clientid": 1}})
    run_id: str = "run1"
    root_id: str = "root1"
    step_id: str = "step1"
    step_name: str = "Step"
    root_script: str = "User Offboarding Wrapper"
    started_by: str = "tester"
    target_kind: str = "contact"
    target_id: int = 1
    client_id: int = 1
    plan: dict[str, Any] = field(default_factory=dict)
    finished: list[FinishedStep] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    #: Parameters of every step that does not give them itself.
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def credential(self, kind: str) -> tuple[Mapping[str, Any], Mapping[str, str]] | None:
        return self.credentials.get(kind)

    def finished_steps(self) -> list[FinishedStep]:
        return self.finished

    def system_property(self, name: str) -> str | None:
        return None

    def state(self, variable: str) -> str | None:
        return self.states.get(variable)

    def set_state(self, variable: str, value: str) -> None:
        self.states[variable] = value

    def run(self, function: str, **values: Any) -> Outcome:
        """One attempt at a step, as the engine makes it: an answer that was lost is settled by asking."""
        found = registry.get(function)
        parameters = found.Parameters.model_validate({**self.parameters, **values})
        try:
            return acting._settle(lambda: found.do(self, parameters), lambda: found.verify(self, parameters))  # type: ignore[arg-type]
        except StepError as error:
            return Outcome.failed(error)
        except ExeuntError as error:
            return Outcome.failed(acting._typed(error))

    def verify(self, function: str, **values: Any) -> bool | None:
        """What the function says of the state."""
        found = registry.get(function)
        return found.verify(self, found.Parameters.model_validate({**self.parameters, **values}))  # type: ignore[arg-type]
