"""The script engine as the facts describe it (11.6), through the command line: variables, state, queue, history, kinds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cli.command_line import Cli, write_script
from peers import kept_port
from sqlmodel import select
from transport_help import limit_when

from agent.errors import StepError
from agent.installation import Installation, open_installation
from agent.model.base import utcnow
from agent.model.places import Computer
from agent.model.runs import RunState, RunStep, ScriptRun, ScriptState, StepState
from agent.running.answers import STATE_LENGTH, state_in
from agent.running.executor import Executor
from agent.transports.base import Body, Execution
from agent.transports.local import LocalTransport
from agent.transports.output import OutputCollector


@pytest.fixture
def cli(tmp_path: Path, made_database: Path) -> Iterator[Cli]:
    """Contoso and Fabrikam with two computers each: PC1 is local, PC2 is reached by SSH, and nobody answers there."""
    made = Cli(tmp_path / "workspace")
    made.workspace.mkdir()
    shutil.copy(made_database, made.workspace)
    made("init")
    (tmp_path / "clients.csv").write_text("external_id,name,slug\nC1,Contoso,contoso\nC2,Fabrikam,fabrikam\n")
    (tmp_path / "locations.csv").write_text("external_id,client,name\nL1,C1,HQ\nL2,C2,HQ\n")
    now = utcnow().strftime("%Y-%m-%dT%H:%M:%S+00:00")
    rows = ["external_id,location,name,platform,transport,address,port,last_contact"]
    with kept_port() as port:
        for name, site in (("con", "L1"), ("fab", "L2")):
            rows += [f"{name}1,{site},{name}-PC1,linux,local,,,{now}", f"{name}2,{site},{name}-PC2,linux,ssh,127.0.0.1,{port},{now}"]  # fmt: skip
        (tmp_path / "computers.csv").write_text("\n".join(rows) + "\n")
        made("inventory", "import", *(str(tmp_path / f"{kind}.csv") for kind in ("clients", "locations", "computers")))
        yield made


@pytest.fixture
def store(cli: Cli) -> Iterator[Installation]:
    """The same workspace, to look into and to let time pass."""
    opened = open_installation(cli.workspace)
    yield opened
    opened.database.close()


def run(cli: Cli, script: str, *parameters: str, computer: str = "con1", expect: int = 0) -> dict[str, Any]:
    """Run a script by hand and wait for its end."""
    given = [part for pair in parameters for part in ("--param", pair)]
    answered = cli("script", "run", script, "--computer", computer, *given, "--yes", "--wait", "--json", expect=expect)
    (document,) = json.loads(answered.stdout)
    return dict(document)


def output(cli: Cli, document: dict[str, Any]) -> str:
    return "".join(
        body["stdout"]["text"]
        for step in cli.json("run", "output", document["id"])
        for body in step["output"]["bodies"]
    )


# CWA-70


def test_all_kinds_of_variables_reach_a_script(cli: Cli) -> None:
    cli("property", "set", "_sysGreeting", "good day")
    cli("edf", "set", "Offboard Computer", "1", "--computer", "con1")
    write_script(
        cli, "show", "name: Show\nrole: function\nparameters: {Line: {required: true}, Kept: {required: true}}\nbody: a.sh\n",
        {"a.sh": 'printf "%s|%s" "$EXEUNT_LINE" "$EXEUNT_KEPT"'},
    )  # fmt: skip
    write_script(
        cli, "caller",
        "name: Caller\nparameters: {User: {required: true}}\nglobals: {Greeting: hello}\nsteps:\n"
        '  - {name: Show, script: Show, with: {Line: "@User@ @Greeting@ %computername% %CLIENTNAME% %_sysGreeting% 100%%",'
        " Kept: {state: Last, default: nothing yet}}}\n",
    )  # fmt: skip
    hostile = "$(id) 'x' %computername% @Greeting@\n\"y\""
    shown = output(cli, run(cli, "Caller", f"User={hostile}"))
    assert shown == f"{hostile} hello con-PC1 Contoso good day 100%|nothing yet"


COUNTING = """name: {name}
steps:
  - name: Count
    script: Counter
    with: {{Before: {{state: Runs, default: "0"}}}}
"""
COUNTER = """name: Counter
role: function
parameters: {Before: {required: true}}
body: a.sh
"""


def counting(cli: Cli, more: str = "") -> None:
    write_script(
        cli, "counter", COUNTER,
        {"a.sh": 'echo "$EXEUNT_BEFORE"\nprintf \'{"state": {"Runs": %d, "Seen": true}}\\n\' $((EXEUNT_BEFORE + 1))\n' + more},
    )  # fmt: skip
    write_script(cli, "counting", COUNTING.format(name="Counting"))


def test_a_body_keeps_state_per_script_and_computer(cli: Cli, store: Installation) -> None:
    counting(cli)
    write_script(cli, "other", COUNTING.format(name="Other"))
    firsts = [output(cli, run(cli, "Counting")).split()[0] for _ in range(3)]
    assert firsts == ["0", "1", "2"]
    assert output(cli, run(cli, "Counting", computer="fab1")).startswith("0\n")
    assert output(cli, run(cli, "Other")).startswith("0\n")
    with store.database.reading() as session:
        rows = {(s.script, s.target_id, s.variable): s.value for s in session.exec(select(ScriptState))}
        ids = {c.external_id: c.computer_id for c in session.exec(select(Computer))}
    con, fab = ids["con1"], ids["fab1"]
    assert rows == {
        ("Counting", con, "Runs"): "3", ("Counting", con, "Seen"): "1", ("Counting", fab, "Runs"): "1",
        ("Counting", fab, "Seen"): "1", ("Other", con, "Runs"): "1", ("Other", con, "Seen"): "1",
    }  # fmt: skip


def test_state_is_kept_whatever_the_exit_code_and_a_wrong_one_is_an_error(cli: Cli, store: Installation) -> None:
    counting(cli, more="exit 3\n")
    assert [output(cli, run(cli, "Counting", expect=1)).split()[0] for _ in range(2)] == ["0", "1"]
    write_script(cli, "bad", "name: Bad\nbody: a.sh\n", {"a.sh": 'echo \'{"state": {"Good": 1, "a b": "x"}}\'\n'})
    (step,) = run(cli, "Bad", expect=1)["steps"]
    assert (
        step["state"] == "failed" and step["error"]["type"] == "invalid_state" and "'a b'" in step["error"]["message"]
    )
    with store.database.reading() as session:
        assert not session.exec(select(ScriptState).where(ScriptState.variable == "Good")).all()


def test_a_state_that_was_never_kept_is_an_error_that_names_it(cli: Cli) -> None:
    write_script(cli, "counter", COUNTER, {"a.sh": "true\n"})
    write_script(cli, "asking", COUNTING.format(name="Asking").replace(', default: "0"', ""))
    (step,) = run(cli, "Asking", expect=1)["steps"]
    assert "{state: Runs} has no value" in step["error"]["message"]


@pytest.mark.parametrize(
    "state", ["x", [1], {"a": None}, {"a": [1]}, {"": "x"}, {"1a": "x"}, {"a-b": "x"}, {"a\n": "x"}, {"ä": "x"},
              {"a": "\0"}, {"a": "\ud800"}, {"a": "x" * (STATE_LENGTH + 1)}, {"x" * 101: ""}],
)  # fmt: skip
def test_what_is_no_state(state: object) -> None:
    with pytest.raises(StepError, match="cannot be kept"):
        state_in({"state": state})


def test_what_is_a_state() -> None:
    assert state_in({"state": {"a": "x\n'", "B_1": 1.5, "c": False}}) == {"a": "x\n'", "B_1": "1.5", "c": "0"}
    assert state_in({"other": 1}) == {} and state_in({"state": {}}) == {}


# CWA-71


def queue(cli: Cli) -> dict[str, str | None]:
    return {row["target"]: row["queue"] for row in cli.json("run", "list")}


class Kept:
    """Stands where the engine stands, so that the test says when a segment is executed."""

    def enqueue(self, *given: object, **more: object) -> None:
        """Nothing else waits for it."""


def test_the_queue_tells_executing_waiting_pending_and_fizzled(cli: Cli, store: Installation, tmp_path: Path) -> None:
    write_script(cli, "wait", "name: Wait\nbody: a.sh\n", {"a.sh": f"echo x > {tmp_path}/began; cat < {tmp_path}/go\n"})
    settings = {"username": "nobody", "known_hosts_file": "/dev/null", "accept_new": False, "connect_seconds": 1}
    with store.database.session() as session:
        for computer in session.exec(select(Computer)):
            computer.transport_options = settings if computer.transport == "ssh" else {}
            if computer.external_id == "fab2":
                computer.last_contact = utcnow() - timedelta(minutes=6)
            session.add(computer)
    for computer in ("con1", "con2", "fab2"):
        cli("script", "run", "Wait", "--computer", computer, "--yes")
    assert queue(cli) == {"con-PC1": "waiting", "con-PC2": "waiting", "fab-PC2": "pending"}
    assert "pending" in cli("run", "list").stdout

    (pending,) = [row for row in cli.json("run", "list") if row["target"] == "fab-PC2"]
    Executor(store, Kept()).execute(pending["id"], 0)  # type: ignore[arg-type]
    assert queue(cli)["fab-PC2"] == "pending"
    with store.database.session() as session:
        found = session.get(ScriptRun, pending["id"])
        assert found is not None and found.segment == 1 and found.state == RunState.QUEUED
        found.expires_at = utcnow() - timedelta(seconds=1)
        session.add(found)
    Executor(store, Kept()).execute(pending["id"], 1)  # type: ignore[arg-type]
    assert queue(cli)["fab-PC2"] == "fizzled"
    shown = cli.json("run", "show", pending["id"])
    assert shown["state"] == "cancelled" and "offline" in shown["fizzled"]
    assert [s["state"] for s in shown["steps"]] == ["cancelled"] and shown["steps"][0]["attempts"] == 0


def test_a_run_under_way_executes_and_one_between_two_attempts_waits(cli: Cli, store: Installation) -> None:
    write_script(cli, "wait", "name: Wait\nbody: a.sh\nretries: {attempts: 2, wait: 1 hour}\n", {"a.sh": "exit 1\n"})
    cli("script", "run", "Wait", "--computer", "con1", "--yes")
    (row,) = cli.json("run", "list")
    with store.database.session() as session:
        found = session.get(ScriptRun, row["id"])
        assert found is not None
        found.state = RunState.RUNNING
        session.add(found)
    assert queue(cli) == {"con-PC1": "executing"}
    Executor(store, Kept()).execute(row["id"], 0)  # type: ignore[arg-type]
    (row,) = cli.json("run", "list")
    assert (row["state"], row["queue"]) == ("running", "waiting")


# CWA-72


def test_the_history_keeps_who_when_what_where_and_how_it_ended(cli: Cli) -> None:
    write_script(cli, "good", "name: Good\nbody: a.sh\n", {"a.sh": "echo fine; echo really >&2\n"})
    write_script(cli, "bad", "name: Bad\nbody: a.sh\n", {"a.sh": "echo no; exit 4\n"})
    good, bad = run(cli, "Good"), run(cli, "Bad", computer="fab1", expect=1)
    rows = {row["script"]: row for row in cli.json("run", "list")}
    assert [rows[n]["state"] for n in ("Good", "Bad")] == ["succeeded", "failed"]
    assert [(rows[n]["started_by"], rows[n]["target"], rows[n]["client"]) for n in ("Good", "Bad")] == [
        ("tester", "con-PC1", "Contoso"), ("tester", "fab-PC1", "Fabrikam"),
    ]  # fmt: skip
    for row in rows.values():
        assert row["created"] <= row["started"] <= row["finished"] and row["queue"] is None
    shown = cli.json("run", "show", good["id"])
    assert shown["started_by"] == "tester" and shown["target"]["name"] == "con-PC1" and shown["finished_at"]
    (step,) = cli.json("run", "output", good["id"])
    (body,) = step["output"]["bodies"]
    assert (body["stdout"]["text"], body["stderr"]["text"], body["exit_code"]) == ("fine\n", "really\n", 0)
    assert output(cli, bad) == "no\n" and "exit code 4" in cli("run", "show", bad["id"]).stdout
    assert [row["script"] for row in cli.json("run", "list", "--client", "fabrikam")] == ["Bad"]


# CWA-73


@pytest.mark.parametrize("command", [("run", "--wait"), ("test",)])
def test_what_belongs_to_a_monitor_or_to_scripts_refuses_to_run_by_hand(cli: Cli, command: tuple[str, ...]) -> None:
    write_script(cli, "driven", "name: Driven\nmanual: false\nbody: a.sh\n", {"a.sh": "echo ran\n"})
    write_script(cli, "called", "name: Called\nrole: function\nbody: a.sh\n", {"a.sh": "echo called\n"})
    write_script(cli, "calling", "name: Calling\nsteps: [{name: It, script: Called}]\n")
    verb, *more = command
    for name, reason in (("Driven", "started by a monitor only"), ("Called", "only another script can call it")):
        refused = cli("script", verb, name, "--computer", "con1", "--yes", *more, expect=2)
        assert reason in refused.stderr
    assert not cli.json("run", "list")
    assert output(cli, run(cli, "Calling")) == "called\n"


def test_a_monitor_starts_what_is_its_own_and_no_function(cli: Cli) -> None:
    write_script(cli, "driven", "name: Driven\nmanual: false\nbody: a.sh\n", {"a.sh": "echo ran\n"})
    write_script(cli, "called", "name: Called\nrole: function\nbody: a.sh\n", {"a.sh": "echo called\n"})
    content = cli.workspace / "content"
    for name in ("Driven", "Called"):
        (content / "alert_templates" / f"{name}.yaml").write_text(
            f"name: T {name}\nguid: 11111111-2222-4333-8444-{'1' if name == 'Driven' else '2'}55555555555\n"
            f"failed: [{{run_script: {name}}}]\n"
        )
        (content / "monitors" / f"{name}.yaml").write_text(
            f"name: M {name}\ninterval: 1 hour\nsql: {name}.sql\nalert_template: T {name}\n"
        )
        (content / "monitors" / f"{name}.sql").write_text(
            "SELECT name AS TestValue, name AS IdentityField, ComputerID FROM computers WHERE name = 'con-PC1'\n"
        )
    cli("monitor", "run", "M Driven", "--yes", "--wait")
    (row,) = cli.json("run", "list")
    assert (row["script"], row["state"], row["target"]) == ("Driven", "succeeded", "con-PC1")
    left_out = cli.json("monitor", "run", "M Called", "--yes", "--wait", expect=None)
    assert "only another script can call it" in left_out["skipped"][0]["reason"]
    assert [r["script"] for r in cli.json("run", "list")] == ["Driven"]


# The time limit


STUBBORN = "name: Stubborn\nbody: a.sh\ntime_limit: 5 minutes\n{more}"


def stubborn(
    cli: Cli, store: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, verify: str | None
) -> dict[str, Any]:
    body = f"trap '' TERM\necho x >> {tmp_path}/count\nwhile :; do sleep 1; done\n"
    write_script(cli, "stubborn", STUBBORN.format(more=more), {"a.sh": body, **({"v.sh": verify} if verify else {})})
    with store.database.session() as session:
        for computer in session.exec(select(Computer).where(Computer.transport == "local")):
            computer.transport_options = {"grace_seconds": 0.2}
            session.add(computer)
    begun = [0]

    def began_again() -> bool:
        before, begun[0] = begun[0], count(tmp_path)
        return begun[0] > before

    limit_when(monkeypatch, began_again)
    (step,) = run(cli, "Stubborn", expect=1)["steps"]
    return {**step, "count": count(tmp_path)}


def count(folder: Path) -> int:
    """How often the body began; what ignores SIGTERM is set by then."""
    file = folder / "count"
    return file.read_text().count("x") if file.exists() else 0


@pytest.mark.parametrize(
    ("more", "verify", "state", "times"),
    [
        ("", None, StepState.UNKNOWN, 1),
        ("verify: {body: v.sh}\n", "exit 1", StepState.FAILED, 1),
        ("retries: {attempts: 3, wait: 0.1}\n", None, StepState.UNKNOWN, 1),
        ("verify: {body: v.sh}\nretries: {attempts: 2, wait: 0.1}\n", "exit 1", StepState.FAILED, 2),
    ],
)
def test_a_body_that_ignores_sigterm_ends_at_its_time_limit(
    cli: Cli, store: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, verify: str | None,
    state: StepState, times: int,
) -> None:  # fmt: skip
    """It may have done its work: without a verification that says no, it is not repeated though retries are asked for."""
    step = stubborn(cli, store, tmp_path, monkeypatch, more, verify)
    assert (step["state"], step["error"]["type"]) == (state, "time_limit")
    assert (step["attempts"], step["count"]) == (times, times)


def test_leftovers_are_looked_for_under_the_tag_of_the_attempt_before(
    cli: Cli, store: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    ended: list[str] = []
    really = LocalTransport.run

    def noted(self: LocalTransport, body: Body, output: OutputCollector) -> Execution:
        ran.append(body.tag)
        return really(self, body, output)

    monkeypatch.setattr(LocalTransport, "run", noted)
    monkeypatch.setattr(LocalTransport, "end_leftovers", lambda self, tag: ended.append(tag), raising=False)
    write_script(cli, "again", "name: Again\nbody: a.sh\nrepeatable: true\n", {"a.sh": "true\n"})
    run(cli, "Again")
    assert ran[0].endswith("-1") and not ended
    cli("script", "run", "Again", "--computer", "con1", "--yes")
    with store.database.session() as session:
        (root,) = session.exec(select(ScriptRun).where(ScriptRun.state == RunState.QUEUED))
        (step,) = session.exec(select(RunStep).where(RunStep.root_id == root.id))
        step.state, step.attempts, step.fence, root.state = StepState.RUNNING, 1, 1, RunState.RUNNING
        session.add_all((root, step))
        step_id, run_id = step.id, root.id
    Executor(store, Kept()).execute(run_id, 0)  # type: ignore[arg-type]
    assert ended == [f"exeunt-{step_id}-1"] and ran[1:] == [f"exeunt-{step_id}-2"]
    assert cli.json("run", "show", run_id)["state"] == "succeeded"
