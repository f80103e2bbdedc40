"""A function of somebody else's that raises: the step ends in a known state, and its secret is in no log and no row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from test_executor import execute, plan

from agent.errors import StepError
from agent.functions import base, registry
from agent.installation import Installation
from agent.model.runs import StepState
from agent.secrets import create_key
from agent.services import credentials

if TYPE_CHECKING:
    from conftest import Places

TOKEN = "t0ken-Sw0rdfish-81"


class Raising(base.Function["Raising.Parameters"]):
    """Puts its secret into the message of what it raises, as careless clients of services do."""

    name = "test.raising"
    summary = "raise"
    destructive = True

    class Parameters(base.Parameters):
        """Its secret."""

        token: SecretStr

    Parameters = Parameters

    def preview(self, parameters: Any) -> str:
        return "raise"

    def do(self, context: base.Context, parameters: Any) -> base.Outcome:
        raise RuntimeError(f"GET /?key={parameters.token.get_secret_value()} failed")


def test_what_it_raises_is_told_without_its_secret(
    installation: Installation, two_clients: Places, write_script: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    create_key(installation.settings)
    credentials.add(
        installation,
        kind="secret",
        name="portal",
        client_id=two_clients.contoso,
        secret={"secret": TOKEN},
        actor="tester",
    )
    get = registry.get
    monkeypatch.setattr(registry, "get", lambda name: Raising() if name == "test.raising" else get(name))
    write_script(
        "raises", "name: Raises\nsteps:\n  - {name: R, function: test.raising, with: {token: {secret: portal}}}\n"
    )
    tree = execute(installation, plan(installation, "Raises", two_clients.contoso_computers[0]).run_ids[0])
    step = tree.steps[0]
    assert step.state == StepState.UNKNOWN and step.error is not None and step.error["type"] == "internal_error"
    printed = "".join(capsys.readouterr())
    assert "RuntimeError" in printed and "***" in printed
    assert TOKEN not in printed and TOKEN not in str(step.error)


@pytest.mark.parametrize(("kind", "attempts"), [("PERMISSION_DENIED", 1), ("INTEGRATION_ERROR", 3)])
def test_only_what_a_repetition_can_mend_is_tried_again(
    installation: Installation, two_clients: Places, write_script: Any, monkeypatch: pytest.MonkeyPatch, kind: str,
    attempts: int,
) -> None:  # fmt: skip
    class Refused(Raising):
        class Parameters(base.Parameters):
            """None."""

        Parameters = Parameters  # type: ignore[assignment]

        def do(self, context: base.Context, parameters: Any) -> base.Outcome:
            return base.Outcome.failed(StepError("the service says no", type=kind))

    get = registry.get
    monkeypatch.setattr(registry, "get", lambda name: Refused() if name == "test.raising" else get(name))
    retries = "retries: {attempts: 3, wait: 0.1}"
    write_script("no", f"name: No\nsteps:\n  - {{name: R, function: test.raising, {retries}}}\n")
    tree = execute(installation, plan(installation, "No", two_clients.contoso_computers[0]).run_ids[0])
    assert tree.steps[0].state == StepState.FAILED and tree.steps[0].attempts == attempts
