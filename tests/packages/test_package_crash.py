"""Two clients, each with five packages in an order of its own: the worker is killed half-way, and the runs go on."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from leavers_help import Leavers
from made_packages import CRITERIA, list_children, write_package
from sqlmodel import select
from system_functions import Close, acts

from agent.audit import verify
from agent.content.packages import PHASES
from agent.functions.base import Context, Outcome
from agent.installation import Installation
from agent.inventory import field_values
from agent.model.fields import Form
from agent.model.runs import RunStep, ScriptRun
from agent.model.tickets import Ticket, TicketComment
from agent.packages import applying, changes
from agent.running import user_offboardings as offboardings
from agent.running import verbs
from agent.running.engine import EnginePort
from agent.running.worker import Worker
from agent.secrets import create_key

KEYS = ("aero", "brio", "cello", "duo", "echo")
ORDERS = {"contoso": ["Duo", "Brio", "Echo", "Aero", "Cello"], "fabrikam": ["Cello", "Echo", "Aero", "Duo", "Brio"]}


@pytest.fixture
def ready(installation: Installation, leavers: Leavers, tmp_path: Path) -> Installation:
    """Both clients use all five, and each leaver has an id in each system, but for John, who is not in Echo."""
    create_key(installation.settings)
    still = (
        "name: First - Offboarding\nrole: child\ntarget: contact\nsteps:\n"
        '  - {name: Note, function: task.create, with: {title: "Close it", matter: other}}\n'
    )
    write_package(installation, "first", phase=1, script=still)
    for key in KEYS:
        write_package(installation, key, folder=tmp_path, more=CRITERIA.format(name=key.capitalize()))
    for client in ORDERS:
        list_children(installation, client, {PHASES[1]: ["First - Offboarding"]})
        for key in KEYS:
            changes.perform(installation, applying.plan_apply(installation, key, client, actor="ann"), actor="ann")
        changes.perform(installation, applying.plan_order(installation, client, ORDERS[client]), actor="ann")
    with installation.database.session() as session:
        for contact in (leavers.john, leavers.max):
            for key in KEYS:
                if (contact, key) != (leavers.john, "echo"):
                    field_values.set_value(
                        session, Form.CONTACT, contact, f"{key.capitalize()} Id", f"{key}-{contact}", actor="ann"
                    )
    return installation


def start(installation: Installation) -> list[str]:
    with installation.database.session() as session:
        rows = [
            offboardings.plan(session, offboardings.Request(person), actor="ann").row.id
            for person in ("john@contoso.example", "max@fabrikam.example")
        ]
    port = EnginePort(installation.settings)
    stored = offboardings.run_now(installation, port, rows, actor="ann")
    if stored.state == "held":
        verbs.approve(installation, port, stored.id, actor="ann", reason="test")
    port.close()
    return list(stored.run_ids)


def over(installation: Installation, runs: list[str]) -> bool:
    with installation.database.reading() as session:
        found = [session.get(ScriptRun, run) for run in runs]
    return all(run is not None and run.finished_at is not None for run in found)


def work(installation: Installation, runs: list[str], kill_in: tuple[str, str] | None) -> int:
    """Work in a forked process until the runs are over, or it is killed in the middle of an act; its wait status."""
    sys.stdout.flush()
    installation.database.close()
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        done = Close.do

        def do(self: Close, context: Context, parameters: object) -> Outcome:
            outcome = done(self, context, parameters)  # type: ignore[arg-type]
            if kill_in == (parameters.act, "after"):  # type: ignore[attr-defined]
                os.kill(os.getpid(), signal.SIGKILL)
            return outcome

        def before(self: Close, context: Context, parameters: object) -> Outcome:
            if kill_in == (parameters.act, "before"):  # type: ignore[attr-defined]
                os.kill(os.getpid(), signal.SIGKILL)
            return do(self, context, parameters)

        Close.do = before  # type: ignore[assignment, method-assign]
        own = Installation(installation.settings)
        with Worker(own):
            deadline = time.monotonic() + 300
            while time.monotonic() < deadline and not over(own, runs):
                time.sleep(0.05)
    finally:
        os._exit(0)


@pytest.mark.parametrize("point", [("brio", "after"), ("echo", "before"), ("aero", "after")])
def test_a_client_goes_on_in_its_own_order_after_a_kill(
    ready: Installation, leavers: Leavers, tmp_path: Path, point: tuple[str, str]
) -> None:
    runs = start(ready)
    assert os.WTERMSIG(work(ready, runs, point)) == signal.SIGKILL
    assert not over(ready, runs)
    assert work(ready, runs, None) == 0
    assert over(ready, runs)
    # Each account was closed once, in the client's own order; nothing of the one client stands in the other's.
    done = [line.split() for line in acts(tmp_path)]
    expected = {
        leavers.john: [f"{n.lower()}" for n in ORDERS["contoso"] if n != "Echo"],
        leavers.max: [n.lower() for n in ORDERS["fabrikam"]],
    }
    for contact, keys in expected.items():
        mine = [(act, user) for _, who, act, user in done if who == str(contact)]
        assert mine == [(key, f"{key}-{contact}") for key in keys]
    with ready.database.session() as session:
        for contact, keys in expected.items():
            run = session.exec(
                select(ScriptRun).where(
                    ScriptRun.target_id == contact, ScriptRun.role == "wrapper", ScriptRun.id.in_(runs)
                )  # type: ignore[attr-defined]
            ).one()
            assert run.state == "succeeded"
            fields = field_values.values_of(session, Form.CONTACT, contact)
            assert fields["Offboarding Sequence"].value == "6"
            ticket = session.exec(
                select(Ticket).where(Ticket.contact_id == contact, Ticket.subject.like("Offboarding of %"))
            ).one()  # type: ignore[attr-defined]
            assert fields["Offboarding Ticket"].value == str(ticket.id)
            texts = [
                c.text
                for c in session.exec(
                    select(TicketComment).where(TicketComment.ticket_id == ticket.id).order_by(TicketComment.id)
                )
            ]
            # Six child scripts, each told once, in their order.
            heads = [t.splitlines()[0] for t in texts if " of 6): " in t]
            assert [h.split(" (")[1].split(" of")[0] for h in heads] == ["1", "2", "3", "4", "5", "6"]
            assert sum("did not start" in h for h in heads) == 5 - len(keys)
        interrupted = [s for s in session.exec(select(RunStep)) if s.attempts > 1]
        assert interrupted, "no step was under way when the worker was killed"
        assert verify(session) == []
