"""From a monitor's rows to one released plan: what is agreed to, what is refused, and what a death in between leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from command_line import Cli

from agent.errors import Conflict, GuardrailRefused, UsageError
from agent.installation import Installation, open_installation
from agent.monitoring import dispatching
from agent.monitoring.dispatching import dispatch_tick, fingerprint, run_monitor
from agent.monitoring.evaluation import evaluate
from agent.running.engine import EnginePort

Child = Callable[..., None]


@pytest.fixture
def opened(fleet: Cli, child: Child) -> Iterator[Installation]:
    child("exit 0")
    fleet("edf", "set", "Offboard Computer", "1", "--computer", "con1")
    installation = open_installation(fleet.workspace)
    yield installation
    installation.database.close()


def test_what_differs_from_what_was_shown_is_not_started(fleet: Cli, opened: Installation) -> None:
    shown = run_monitor(opened, "Offboarding", actor="tester", dry_run=True)
    assert shown.draft is not None
    agreed = fingerprint(shown.draft)
    fleet("edf", "set", "Offboard Computer", "1", "--computer", "con2")
    with pytest.raises(Conflict, match="has changed since it was shown"):
        run_monitor(opened, "Offboarding", actor="tester", confirmed=True, agreed=agreed)
    assert fleet.json("run", "plans") == []
    fleet("edf", "set", "Offboard Computer", "0", "--computer", "con2")
    done = run_monitor(opened, "Offboarding", actor="tester", confirmed=True, agreed=agreed)
    assert done.stored is not None and done.stored.state == "planned"
    assert [r["target"] for r in fleet.json("run", "list")] == ["con-PC1"]


def test_an_edited_script_is_not_what_was_agreed_to(fleet: Cli, opened: Installation) -> None:
    shown = run_monitor(opened, "Offboarding", actor="tester", dry_run=True)
    assert shown.draft is not None
    body = fleet.workspace / "content" / "scripts" / "clients" / "contoso" / "leave" / "run.sh"
    body.write_text("exit 1\n")
    opened.content.reload()
    with pytest.raises(Conflict):
        run_monitor(opened, "Offboarding", actor="tester", confirmed=True, agreed=fingerprint(shown.draft))
    assert fleet.json("run", "list") == []


def test_who_dies_before_the_plan_is_stored_loses_nothing(
    fleet: Cli, opened: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    def dies(*_: object, **__: object) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(dispatching, "store_plan", dies)
        with pytest.raises(Died):
            run_monitor(opened, "Offboarding", actor="tester", confirmed=True)
    assert [a["script_pending"] for a in fleet.json("alert", "list")] == [True]
    done = run_monitor(opened, "Offboarding", actor="tester", confirmed=True)
    assert done.stored is not None and len(done.stored.run_ids) == 1
    assert run_monitor(opened, "Offboarding", actor="tester", confirmed=True).stored is None
    assert [a["script_pending"] for a in fleet.json("alert", "list")] == [False]


def test_a_tick_is_held_until_somebody_confirmed_the_monitor(fleet: Cli, opened: Installation) -> None:
    port = EnginePort(opened.settings)
    done = dispatch_tick(opened, evaluate(opened, "Offboarding", actor="system", tick="t1"), port)
    assert done.stored is not None and [h["guardrail"] for h in done.stored.holds] == ["first_run"]
    again = evaluate(opened, "Offboarding", actor="system", tick="t1")
    assert again.repeated and dispatch_tick(opened, again, port).stored is None
    port.close()
    assert [p["state"] for p in fleet.json("run", "plans")] == ["held"]


def test_a_tick_that_a_guardrail_refuses_starts_nothing(fleet: Cli, opened: Installation) -> None:
    fleet("edf", "default", "Offboard Computer", "1", "--level", "computer", "--flag-every-place")
    port = EnginePort(opened.settings)
    with pytest.raises(GuardrailRefused):
        dispatch_tick(opened, evaluate(opened, "Offboarding", actor="system", tick="t1"), port)
    port.close()
    assert fleet.json("run", "plans") == []


def test_an_override_without_a_reason_changes_nothing(fleet: Cli, opened: Installation) -> None:
    with pytest.raises(UsageError, match="needs a reason"):
        run_monitor(opened, "Offboarding", actor="tester", overrides=["whole_fleet"])
    assert fleet.json("alert", "list") == []
