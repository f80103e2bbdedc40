"""Previews say under which condition a step is carried out, and which steps cannot apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from command_line import WRAPPER, Cli, write_script
from sqlmodel import select

from agent.installation import open_installation
from agent.model.fields import ExtraField
from agent.running.conditions import only_if

STEPS = f"""name: Conditional
role: wrapper
steps:
  - {{name: Children, children: {WRAPPER}}}
  - {{name: Fallback, fallback: Failed Uninstall Process}}
  - name: Agent
    script: Last
    when: [{{value: outcome.agent, is: remove}}, {{value: computer.platform, is: linux}}]
  - name: Retire
    function: inventory.retire
    when: [{{value: step.Agent.state, in: [succeeded, skipped]}}, {{value: outcome.agent, is: remove}}]
  - {{name: Windows, script: Last, when: [{{value: computer.platform, is: windows}}]}}
  - {{name: Server, script: Last, when: [{{value: computer.is_server, is: "1"}}, {{value: outcome.agent, is: keep}}]}}
"""
FALLBACK = """name: Failed Uninstall Process - Note
role: fallback
option: Note
outcome: {screenconnect: keep, agent: keep, failure_ticket: false}
steps:
  - name: Say It
    function: ticket.create
    with: {subject: it failed, body: see the run}
    when: [{value: outcome.failure_ticket, is_not: "1"}]
"""


def prepared(fleet: Cli, child: Callable[..., None]) -> Cli:
    child("exit 0")
    write_script(fleet, "last", "name: Last\nbody: run.sh\n", {"run.sh": "true\n"})
    write_script(fleet, "conditional", STEPS)
    write_script(fleet, "note", FALLBACK)
    installation = open_installation(fleet.workspace)
    with installation.database.session() as session:
        field = session.exec(select(ExtraField).where(ExtraField.name == "Failed Uninstall Process")).one()
        field.fill = "Note~" + field.fill
    installation.database.close()
    fleet("edf", "set", "Failed Uninstall Process", "Note", "--client", "contoso")
    return fleet


def conditions(steps: list[dict[str, Any]]) -> dict[str, tuple[str | None, bool]]:
    return {step["name"]: (step["condition"], step["skipped"]) for step in steps}


def test_a_preview_tells_what_is_decided_at_run_time(fleet: Cli, child: Callable[..., None]) -> None:
    cli = prepared(fleet, child)
    (target,) = cli.json("script", "test", "Conditional", "--computer", "con1", "--dry-run")
    found = conditions(target["steps"])
    assert found["Leave contoso"] == (None, False)
    note = "only if children.state is not succeeded and outcome.failure_ticket is not 1"
    assert found["Say It"] == (note, False)
    assert found["Last"] == ("only if outcome.agent is remove", False)
    assert found["Retire"] == (
        "only if step.Agent.state is one of succeeded, skipped and outcome.agent is remove",
        False,
    )
    assert found["Windows"] == (None, True) and found["Server"] == (None, True)
    shown = cli("script", "test", "Conditional", "--computer", "con1", "--dry-run").stdout
    lines = {line.split(": ")[0].split(". ")[1]: line for line in shown.splitlines() if ". " in line}
    assert lines["Last"].endswith(" (only if outcome.agent is remove)")
    assert lines["Windows"].endswith("Windows: skip: computer.platform is linux")
    assert lines["Server"].endswith("Server: skip: computer.is_server is 0")
    assert "only if" not in lines["Leave contoso"]


def test_a_monitor_s_preview_says_the_same(fleet: Cli, child: Callable[..., None]) -> None:
    child("exit 0")
    write_script(fleet, "last", "name: Last\nbody: run.sh\n", {"run.sh": "true\n"})
    fleet("edf", "set", "Offboard Computer", "1", "--computer", "con1")
    file = fleet.workspace / "content" / "scripts" / "test_wrapper" / "script.yaml"
    file.write_text(
        file.read_text() + "  - {name: End, script: Last, when: [{value: children.state, is_not: failed}]}\n"
    )
    (target,) = fleet.json("monitor", "run", "Offboarding", "--dry-run")["planned"]
    assert conditions(target["steps"])["Last"] == ("only if children.state is not failed", False)
    shown = fleet("monitor", "run", "Offboarding", "--dry-run").stdout
    assert "(only if children.state is not failed)" in shown


def test_conditions_that_the_plan_knew_and_repetitions_are_left_out() -> None:
    open_, known = (
        {"value": "children.state", "is_not": "succeeded"},
        {"value": "a", "is": "1", "known": 1, "holds": True},
    )
    assert only_if([known]) is None
    assert only_if([open_, known, open_]) == "only if children.state is not succeeded"
