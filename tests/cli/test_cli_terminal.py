"""A person at a terminal: the preview, the questions, and what the answers lead to."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from command_line import Cli, clean_environment

Child = Callable[..., None]


def converse(cli: Cli, arguments: Sequence[str], answers: Sequence[tuple[str, str]]) -> tuple[int, str]:
    """Run a command on a terminal of its own; each answer is typed when its question has appeared."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "agent.cli", "--workspace", str(cli.workspace), "--user", "tester", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, env=clean_environment(TERM="xterm", COLUMNS="160"), start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown, left, end = "", list(answers), time.monotonic() + 180
    while time.monotonic() < end:
        if not select.select([ours], [], [], 0.2)[0]:
            continue
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break  # the other side is closed
        shown += piece.decode(errors="replace")
        if left and left[0][0] in shown:
            os.write(ours, left.pop(0)[1].encode())
    code = process.wait(timeout=60)
    os.close(ours)
    assert not left, f"never asked: {left[0][0]}\n{shown}"
    return code, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)


def test_what_was_shown_is_started_after_a_yes(fleet: Cli, child: Child) -> None:
    child("exit 0")
    fleet("edf", "set", "Offboard Computer", "1", "--computer", "con1")
    code, shown = converse(fleet, ["monitor", "run", "Offboarding", "--wait"], [("Start this on 1 computer?", "y\n")])
    assert code == 0, shown
    assert "Flagged by computer" in shown and "Leave contoso" in shown and "succeeded" in shown
    assert [r["state"] for r in fleet.json("run", "list")] == ["succeeded"]


def test_a_no_starts_nothing(fleet: Cli, child: Child) -> None:
    child("exit 0")
    fleet("edf", "set", "Offboard Computer", "1", "--computer", "con1")
    code, shown = converse(fleet, ["monitor", "run", "Offboarding", "--wait"], [("Start this on 1 computer?", "n\n")])
    assert code == 1 and "stopped" in shown
    assert fleet.json("run", "list") == fleet.json("alert", "list") == []


def test_a_whole_client_is_confirmed_by_typing_its_slug(fleet: Cli, child: Child) -> None:
    child("exit 0")
    fleet("edf", "set", "Offboard Client", "1", "--client", "contoso")
    questions = [("Start this on 4 computers?", "y\n"), ("Type its slug to confirm", "fabrikam\n")]
    code, shown = converse(fleet, ["monitor", "run", "Offboarding"], questions)
    assert code == 2 and "nothing was started" in shown and fleet.json("run", "list") == []
    questions[1] = ("Type its slug to confirm", "contoso\n")
    code, shown = converse(fleet, ["monitor", "run", "Offboarding"], questions)
    # Half of the fleet is still more than the monitor's limit: that waits for an approval.
    assert code == 3, shown
    assert {tuple(h["guardrail"] for h in p["holds"]) for p in fleet.json("run", "plans")} == {("share_of_fleet",)}


def test_tables_show_square_brackets_as_they_are(fleet: Cli) -> None:
    fleet("inventory", "add-client", "[bold]Acme[/bold]")
    code, shown = converse(fleet, ["inventory", "list", "clients"], [])
    assert code == 0 and "[bold]Acme[/bold]" in shown
