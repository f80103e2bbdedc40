"""A Context that runs scripts' bodies as real local processes, and what the tests of removals build with it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.content import reading
from agent.errors import StepError
from agent.functions.base import BodyResult, FinishedStep
from agent.installation import Installation
from agent.model.places import Client, Computer, Location
from agent.shipped import path as shipped_path
from agent.transports.base import Body
from agent.transports.local import LocalTransport
from agent.transports.output import OutputCollector


def load_script(name: str) -> tuple[Any, Mapping[str, str]]:
    """Definition and bodies of a shipped script, by its name."""
    for file in shipped_path("scripts").glob("*/script.yaml"):
        loaded = reading.read_script(file.parent, None)
        if loaded.name == name:
            return loaded.definition, loaded.bodies
    raise LookupError(name)


@dataclass
class LocalContext:
    """Runs the bodies of shipped scripts on this machine by the local transport. `environment` changes what they see."""

    installation: Installation
    target_id: int
    client_id: int
    places: Mapping[str, Mapping[str, Any] | None]
    run_id: str = "a1"
    root_id: str = "a0"
    step_id: str = "a2"
    step_name: str = "App1"
    root_script: str = "Offboarding Wrapper"
    started_by: str = "tester"
    target_kind: str = "computer"
    plan: dict[str, Any] = field(default_factory=dict)
    platform: str = "linux"
    folder: Path = Path()
    environment: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    credentials: dict[str, tuple[Mapping[str, Any], Mapping[str, str]]] = field(default_factory=dict)
    finished: list[FinishedStep] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    #: (script, body, parameters) of every body that was run.
    calls: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)
    #: Called before each body; it may raise what a transport raises.
    before: Callable[[Mapping[str, Any]], None] = lambda parameters: None

    def run_body(
        self, script: str, parameters: Mapping[str, Any], *, body: str = "body",
        secrets: Mapping[str, str] | None = None, time_limit: float | None = None,
    ) -> BodyResult:  # fmt: skip
        self.calls.append((script, body, parameters))
        self.before(parameters)
        definition, bodies = load_script(script)
        files = definition.body if body == "body" else definition.verify.body
        unknown = set(parameters) | set(secrets or {})
        assert unknown <= set(definition.parameters), (
            f"{script} does not declare {unknown - set(definition.parameters)}"
        )
        text = bodies[files.get(self.platform) or files["any"]]
        # What a test changes about the computer is put before the body: the transport's environment is its own.
        before = "".join(f"{k}={shlex.quote(v)}; export {k}\n" for k, v in self.environment.items())
        output = OutputCollector(self.folder, f"body{len(self.calls)}", 65_536, 1_048_576)
        execution = LocalTransport().run(
            Body(before + text, "sh", parameters, secrets or {}, time_limit or 600.0), output
        )
        streams = output.finish()
        last = output.last_line("stdout")
        answer = json.loads(last) if last and last.startswith("{") else None
        return BodyResult(execution, streams["stdout"]["text"], streams["stderr"]["text"], answer)

    def finished_steps(self) -> list[FinishedStep]:
        return self.finished

    def system_property(self, name: str) -> str | None:
        return self.properties.get(name)

    def secret(self, name: str) -> str:
        raise StepError(f"there is no credential {name!r}", type="missing_credential")

    def credential(self, kind: str) -> tuple[Mapping[str, Any], Mapping[str, str]] | None:
        return self.credentials.get(kind)

    def state(self, variable: str) -> str | None:
        return self.states.get(variable)

    def set_state(self, variable: str, value: str) -> None:
        self.states[variable] = value


@pytest.fixture
def local_context(installation: Installation, two_clients: Any, tmp_path: Path) -> Callable[[int], LocalContext]:
    """Makes a context for a computer; by default the first one of Contoso."""

    def make(computer_id: int | None = None) -> LocalContext:
        with installation.database.reading() as session:
            computer = session.get(Computer, computer_id or two_clients.contoso_computers[0])
            assert computer is not None and computer.computer_id is not None
            location, client = session.get(Location, computer.location_id), session.get(Client, computer.client_id)
        assert location is not None and client is not None
        places = {"computer": computer.model_dump(), "location": location.model_dump(), "client": client.model_dump()}
        # Debian's rpm keeps a database per home folder; a home of one's own keeps the tests apart from it.
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        return LocalContext(
            installation,
            computer.computer_id,
            computer.client_id,
            places,
            folder=tmp_path / "output",
            environment={"HOME": str(home)},
        )

    return make
