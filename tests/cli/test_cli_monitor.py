"""`exeunt monitor run`: what it prints, what it starts, and its exit codes; Fabrikam never gets anything."""

from __future__ import annotations

import contextlib
import shlex
import sqlite3
from collections.abc import Callable

import pytest
from command_line import WRAPPER, Cli

Child = Callable[..., None]


def flag(cli: Cli, number: int = 1) -> None:
    cli("edf", "set", "Offboard Computer", "1", "--computer", f"con{number}")


def runs(cli: Cli, *arguments: str) -> list[dict[str, str]]:
    return list(cli.json("run", "list", *arguments))


def test_nothing_matched_is_4(fleet: Cli) -> None:
    found = fleet.json("monitor", "run", "Offboarding", "--yes", expect=4)
    assert found["matched"] == found["runs"] == [] and found["plan"] is None


def test_a_dry_run_shows_the_steps_and_changes_nothing(fleet: Cli, child: Child) -> None:
    child("exit 0")
    flag(fleet)
    before = fleet.json("audit", "verify")["entries"]
    found = fleet.json("monitor", "run", "Offboarding", "--dry-run")
    text = fleet("monitor", "preview", "Offboarding").stdout
    (planned,) = found["planned"]
    assert (planned["computer"], planned["client"], planned["levels"]) == ("con-PC1", "contoso", ["computer"])
    assert [s["name"] for s in planned["steps"]] == ["Leave contoso"]
    assert "Flagged by computer" in text and "con-PC1" in text and "run run.sh of 'Leave contoso'" in text
    assert fleet.json("audit", "verify")["entries"] == before
    assert fleet.json("alert", "list", "--all") == runs(fleet) == fleet.json("run", "plans") == []
    assert fleet.json("monitor", "show", "Offboarding")["last_scan"] is None


def test_yes_wait_json_prints_exactly_this(fleet: Cli, child: Child) -> None:
    child("exit 0")
    flag(fleet)
    found = fleet.json("monitor", "run", "Offboarding", "--yes", "--wait")
    run_id = runs(fleet)[0]["id"]
    plan_id = fleet.json("run", "plans")[0]["id"]
    assert found == {
        "monitor": "Offboarding",
        "matched": [{"computer": "con-PC1", "client": "Contoso", "location": "HQ", "levels": ["computer"]}],
        "skipped": [],
        "alerts_opened": 1,
        "runs": [{"id": run_id, "computer": "con-PC1", "state": "succeeded"}],
        "plan": plan_id, "holds": [], "refused": [], "warnings": [],
    }  # fmt: skip
    assert fleet.json("alert", "list")[0]["plan_id"] == plan_id
    assert runs(fleet, "--client", "fabrikam") == []
    document = fleet.json("run", "show", run_id[:8])
    assert document["success"] == ["Leave contoso"] and document["state"] == "succeeded"


def test_a_run_that_fails_is_1_and_so_is_watching_it(fleet: Cli, child: Child) -> None:
    child("echo cannot >&2; exit 7")
    flag(fleet)
    found = fleet.json("monitor", "run", "Offboarding", "--yes", "--wait", expect=1)
    run_id = found["runs"][0]["id"]
    assert found["runs"][0]["state"] == "failed"
    fleet("run", "watch", run_id, expect=1)
    assert "cannot" in fleet("run", "output", run_id).stdout
    assert runs(fleet, "--client", "fabrikam") == []


def test_an_alert_that_was_given_starts_nothing_again_until_reset(fleet: Cli, child: Child) -> None:
    child("exit 0")
    flag(fleet)
    fleet("monitor", "run", "Offboarding", "--yes", "--wait")
    again = fleet("monitor", "run", "Offboarding", "--yes", "--wait")
    assert "nothing was started" in again.stderr
    reset = fleet.json("monitor", "run", "Offboarding", "--yes", "--wait", "--reset")
    assert [r["state"] for r in reset["runs"]] == ["succeeded"] and len(runs(fleet)) == 2


def test_all_computers_of_a_monitor_run_are_one_plan(fleet: Cli, child: Child) -> None:
    child("exit 0")
    flag(fleet, 1)
    flag(fleet, 2)
    found = fleet.json("monitor", "run", "Offboarding", "--yes", "--wait")
    assert {r["computer"] for r in found["runs"]} == {"con-PC1", "con-PC2"}
    assert {r["plan"] for r in runs(fleet)} == {found["plan"]}
    assert {a["plan_id"] for a in fleet.json("alert", "list")} == {found["plan"]}


def test_without_a_terminal_and_without_yes_it_says_how_to_go_on(fleet: Cli, child: Child) -> None:
    child("exit 0")
    flag(fleet)
    result = fleet("monitor", "run", "Offboarding", expect=2)
    assert "--dry-run" in result.stderr and "--yes" in result.stderr
    assert runs(fleet) == [] and fleet.json("alert", "list") == []


def test_a_client_flag_is_held_until_the_client_is_confirmed_by_name(fleet: Cli, child: Child) -> None:
    child("exit 0")
    said = fleet("edf", "set", "Offboard Client", "1", "--client", "contoso").stderr
    assert "added to Contoso later" in said
    held = fleet.json("monitor", "run", "Offboarding", "--yes", "--wait", expect=3)
    assert [h["guardrail"] for h in held["holds"]] == ["share_of_fleet", "client_flag"]
    assert {r["state"] for r in held["runs"]} == {"held"} and held["warnings"]
    fleet("run", "approve", held["plan"], "--reason", "they leave", expect=3)
    fleet("run", "approve", held["plan"], "--reason", "they leave", "--confirm-client", "fabrikam", expect=3)
    fleet("run", "approve", held["plan"], "--reason", " ", "--confirm-client", "contoso", expect=2)
    assert {r["state"] for r in runs(fleet)} == {"held"}
    fleet("run", "approve", held["plan"], "--reason", "they leave", "--confirm-client", "contoso", "--wait")
    assert {r["state"] for r in runs(fleet)} == {"succeeded"} and len(runs(fleet)) == 4
    assert runs(fleet, "--client", "fabrikam") == []


def test_who_may_not_confirm_a_client_starts_nothing(fleet: Cli, child: Child) -> None:
    child("exit 0")
    fleet("edf", "set", "Offboard Client", "1", "--client", "contoso")
    fleet("property", "set", "_sysOffboardingClientApprovers", "somebody.else")
    result = fleet("monitor", "run", "Offboarding", "--yes", "--confirm-client", "contoso", expect=3)
    assert "'tester' may not confirm" in result.stderr
    assert runs(fleet) == [] and fleet.json("alert", "list") == []


def test_a_default_flag_is_refused_and_the_alerts_are_not_lost(fleet: Cli, child: Child) -> None:
    child("exit 0")
    refused = fleet("edf", "default", "Offboard Computer", "1", "--level", "computer", expect=2)
    assert "--flag-every-place" in refused.stderr
    fleet("edf", "default", "Offboard Computer", "1", "--level", "computer", "--flag-every-place")
    found = fleet("monitor", "run", "Offboarding", "--yes", "--json", expect=3)
    assert "guardrail: default_flag" in found.stderr and "--override default_flag" in found.stderr
    assert runs(fleet) == [] and fleet.json("run", "plans") == []
    assert all(a["script_pending"] and a["plan_id"] is None for a in fleet.json("alert", "list"))
    (fault,) = [f for f in fleet.json("doctor", expect=1) if f["check"] == "flags"]
    assert fault["mend"] == "exeunt edf default 'Offboard Computer' --clear --level computer"
    fleet(*shlex.split(fault["mend"])[1:])
    flag(fleet)
    later = fleet.json("monitor", "run", "Offboarding", "--yes", "--wait")
    assert [r["computer"] for r in later["runs"]] == ["con-PC1"]
    assert runs(fleet, "--client", "fabrikam") == []


def test_an_override_needs_its_exact_name_and_a_reason(fleet: Cli, child: Child) -> None:
    child("exit 0")
    fleet("edf", "default", "Offboard Computer", "1", "--level", "computer", "--flag-every-place")
    run = ("monitor", "run", "Offboarding", "--yes")
    fleet(*run, "--override", "default_flags", "--reason", "meant", expect=2)
    fleet(*run, "--override", "default_flag", expect=2)
    fleet(*run, "--override", "default_flag", "--reason", "meant", expect=3)  # the whole fleet matches as well
    assert runs(fleet) == []
    fleet(*run, "--override", "default_flag", "--override", "whole_fleet", "--reason", "meant", expect=3)
    assert {r["state"] for r in runs(fleet)} == {"held"}
    (stored,) = fleet.json("audit", "list", "--action", "plan.store")
    assert stored["details"]["overrides"] == ["default_flag", "whole_fleet"] and stored["details"]["reason"] == "meant"


def test_excluded_and_maintained_computers_are_left_out_with_their_reason(fleet: Cli, child: Child) -> None:
    child("exit 0")
    for number in (1, 2, 3):
        flag(fleet, number)
    fleet("edf", "set", "Exclude From Offboarding", "1", "--computer", "con1")
    fleet("inventory", "maintenance", "--computer", "con2", "--minutes", "30")
    found = fleet.json("monitor", "run", "Offboarding", "--yes", "--wait")
    assert [r["computer"] for r in found["runs"]] == ["con-PC3"]
    reasons = {s["computer"]: s["reason"] for s in found["skipped"]}
    assert "Exclude From Offboarding" in reasons["con-PC1"] and "maintenance" in reasons["con-PC2"]


def test_a_monitor_is_switched_off_and_given_another_template(fleet: Cli) -> None:
    fleet("monitor", "disable", "Offboarding")
    assert fleet.json("monitor", "show", "Offboarding")["enabled"] is False
    fleet("monitor", "enable", "Offboarding")
    fleet("monitor", "assign-template", "Offboarding", "No Such Template", expect=2)
    fleet("monitor", "assign-template", "Offboarding", "△ Custom - Ticket Creation - Computer")
    assert fleet.json("monitor", "show", "Offboarding")["alert_template"] == "△ Custom - Ticket Creation - Computer"
    flag(fleet)
    fleet("monitor", "run", "Offboarding", "--yes")
    assert [t["status"] for t in fleet.json("ticket", "list")] == ["open"] and runs(fleet) == []
    fleet("monitor", "assign-template", "Offboarding", "--default")
    assert [e["actor"] for e in fleet.json("audit", "list", "--action", "monitor.*")] == ["tester"] * 4


@pytest.mark.parametrize(
    "arguments", [("monitor", "run", "Nothing", "--yes"), ("run", "show", "ffff"), ("ticket", "show", "9")]
)
def test_what_does_not_exist_is_2(fleet: Cli, arguments: tuple[str, ...]) -> None:
    assert fleet(*arguments, expect=2).stderr.startswith("error: there is no ")


def test_a_script_is_run_by_hand_and_tried_again(fleet: Cli, child: Child) -> None:
    child("exit 3")
    place = ("--computer", "con1")
    fleet("script", "run", WRAPPER, *place, expect=2)
    (document,) = fleet.json("script", "run", WRAPPER, *place, "--yes", "--wait", expect=1)
    assert document["state"] == "failed" and document["started_by"] == "tester"
    fleet("run", "retry", document["id"], "--wait", expect=1)
    assert [r["retry_of"] for r in runs(fleet)] == [document["id"], None]
    assert runs(fleet, "--client", "fabrikam") == []


def test_a_queued_run_waits_and_can_be_cancelled(fleet: Cli, child: Child) -> None:
    child("exit 0")
    flag(fleet)
    started = fleet.json("monitor", "run", "Offboarding", "--yes")
    assert [r["state"] for r in started["runs"]] == ["queued"]
    assert [r["queue"] for r in runs(fleet)] == ["waiting"]
    fleet("run", "cancel", started["runs"][0]["id"], "--reason", "changed our mind")
    assert [r["state"] for r in runs(fleet)] == ["cancelled"]
    fleet("run", "cancel", started["runs"][0]["id"], expect=2)


def test_nothing_matched_because_the_flagged_computer_is_offline(fleet: Cli) -> None:
    """A newcomer without a worker is not left with a bare zero."""
    flag(fleet)
    with contextlib.closing(sqlite3.connect(fleet.workspace / "inventory.db")) as database, database:
        database.execute("UPDATE computers SET lastcontact = '2020-01-01 00:00:00.000000'")
    result = fleet("monitor", "run", "Offboarding", "--yes", expect=4)
    assert "1 flagged computer offline" in result.stderr
    assert "exeunt inventory probe" in result.stderr


def own_monitor(cli: Cli, sql: str) -> None:
    """A monitor that opens tickets, and its query."""
    folder = cli.workspace / "content" / "monitors"
    (folder / "own.sql").write_text(sql)
    (folder / "own.yaml").write_text(
        'name: Own\ninterval: 300\nsql: own.sql\nalert_template: "△ Custom - Ticket Creation - Computer"\n'
    )


def test_what_became_of_rows_without_a_run_is_said(fleet: Cli) -> None:
    own_monitor(fleet, "SELECT 1 AS TestValue, name AS IdentityField, computerid AS ComputerID FROM computers LIMIT 1")
    first = fleet("monitor", "run", "Own", "--yes")
    assert "1 alert answered by the alert template" in first.stderr and len(fleet.json("ticket", "list")) == 1
    assert "every alert was given before" in fleet("monitor", "run", "Own", "--yes").stderr
    flag(fleet)
    assert "all were left out" in fleet("monitor", "run", "Offboarding", "--yes").stderr, "there is no child script"


def test_an_error_of_a_query_names_monitor_and_file(fleet: Cli) -> None:
    own_monitor(fleet, "SELECT 1 AS TestValue FROM computers")
    said = fleet("monitor", "run", "Own", "--yes", expect=1).stderr
    assert "monitor 'Own', " in said and "own.sql: the query gives no column" in said


def test_a_wrong_name_is_told_before_a_question_is(fleet: Cli) -> None:
    assert "there is no monitor 'Offbording'" in fleet("monitor", "run", "Offbording", expect=2).stderr
