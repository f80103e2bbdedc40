"""Between a plan and its first step may lie days: what has changed by then about the place is looked at once more."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from agent.installation import Installation
from agent.inventory import field_values, groups, places
from agent.model.base import utcnow
from agent.model.fields import Form
from agent.model.monitors import Alert
from agent.model.places import Computer, MaintenanceMode
from agent.model.runs import RunState, ScriptRun
from agent.reporting.run_report import run_document
from agent.running.executor import Executor
from agent.running.planning import draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.tree import RunTree, load_tree
from agent.settings import Settings

if TYPE_CHECKING:
    from conftest import Places

MARK = "name: Offboard It\nexclusive: true\nsteps:\n  - {name: Work, script: Mark}\n"
EXCLUDE = "Exclude From Offboarding"


class Port:
    """Stands where the engine stands: remembers what would be queued."""

    def __init__(self) -> None:
        self.queued: list[tuple[str, int, float]] = []

    def enqueue(self, run_id: str, segment: int, client_id: int, *, delay_seconds: float = 0.0) -> None:
        self.queued.append((run_id, segment, delay_seconds))


class Offboarding:
    """One computer's offboarding, planned and queued by the monitor and not begun."""

    def __init__(self, store: Installation, computer: int, *, by_hand: bool = False) -> None:
        self.store, self.computer, self.port = store, computer, Port()
        with store.database.session() as session:
            field_values.set_value(session, Form.COMPUTER, computer, "Offboard Computer", "1", actor="ann")
            alert = Alert(
                monitor="Offboarding", target_kind="computer", target_id=computer, identity="it", alerted_at=utcnow()
            )
            session.add(alert)
            session.flush()
            self.alert = alert.id
        request = RunRequest("Offboard It", "computer", computer, {}, self.alert, ("computer",))
        origin = PlanOrigin("ann", confirmed=True, monitor=None if by_hand else "Offboarding")
        stored = store_plan(store, draft_plan(store, [request], origin))
        (self.run,) = stored.run_ids
        with store.database.session() as session:
            run = session.get_one(ScriptRun, self.run)
            run.state = RunState.QUEUED
            session.add(run)

    def turn(self, segment: int = 0) -> RunTree:
        """Its turn has come."""
        Executor(self.store, self.port).execute(self.run, segment)  # type: ignore[arg-type]
        with self.store.database.reading() as session:
            return load_tree(session, self.run)

    def document(self) -> dict[str, Any]:
        with self.store.database.reading() as session:
            return run_document(session, self.run)


@pytest.fixture
def done(tmp_path: Path, write_script: Any) -> Path:
    """The file that the script makes when it runs."""
    mark = tmp_path / "done"
    write_script("mark", "name: Mark\nrole: function\nbody: a.sh\n", {"a.sh": f"touch {mark}"})
    write_script("offboard_it", MARK)
    return mark


def exclude(form: Form) -> Any:
    def change(session: Any, computer: Computer) -> None:
        ids = {
            Form.CLIENT: computer.client_id,
            Form.LOCATION: computer.location_id,
            Form.COMPUTER: computer.computer_id,
        }
        field_values.set_value(session, form, ids[form] or 0, EXCLUDE, "1", actor="bob")

    return change


def unflag(session: Any, computer: Computer) -> None:
    field_values.clear_value(session, Form.COMPUTER, computer.computer_id or 0, "Offboard Computer", actor="bob")


def unflag_by_sql(session: Any, computer: Computer) -> None:
    session.execute(text("UPDATE extrafielddata SET value = '0' WHERE id = :id"), {"id": computer.computer_id})


def is_server(session: Any, computer: Computer) -> None:
    computer.is_server = True


def retire(session: Any, computer: Computer) -> None:
    places.retire(session, computer, actor="bob")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (exclude(Form.CLIENT), EXCLUDE), (exclude(Form.LOCATION), EXCLUDE), (exclude(Form.COMPUTER), EXCLUDE),
        (unflag, "cleared"), (unflag_by_sql, "cleared"), (is_server, "server"), (retire, "retired"),
    ],
)  # fmt: skip
def test_what_may_not_be_offboarded_any_more_is_left_out(
    installation: Installation, two_clients: Places, done: Path, change: Any, reason: str
) -> None:
    """CWA-10: an excluded computer is never offboarded, also when it was planned before."""
    mine, other = two_clients.contoso_computers[0], two_clients.fabrikam_computers[0]
    offboarding = Offboarding(installation, mine)
    with installation.database.session() as session:
        change(session, session.get_one(Computer, mine))
    tree = offboarding.turn()
    assert not done.exists()
    assert tree.root.state == RunState.CANCELLED and [s.attempts for s in tree.steps] == [0]
    assert reason in offboarding.document()["left_out"]
    with installation.database.reading() as session:
        # Its script was not carried out: the monitor asks for it again as soon as it may be.
        assert session.get_one(Alert, offboarding.alert).script_pending
    assert not offboarding.port.queued
    assert Offboarding(installation, other).turn().root.state == RunState.SUCCEEDED and done.exists()


def test_a_computer_that_is_still_flagged_is_offboarded(
    installation: Installation, two_clients: Places, done: Path
) -> None:
    """Another level's flag is enough, and so is the monitor's word about fields of its own."""
    first, second = two_clients.contoso_computers
    offboarding, own = Offboarding(installation, first), Offboarding(installation, second)
    with installation.database.session() as session:
        field_values.set_value(session, Form.CLIENT, two_clients.contoso, "Offboard Client", "1", actor="ann")
        unflag(session, session.get_one(Computer, first))
        # Set long before the plan, by a monitor that looks at other fields.
        session.execute(text("DELETE FROM extrafielddata WHERE id = :id"), {"id": second})
        session.execute(
            text("UPDATE script_run SET created_at = '2099-01-01 00:00:00' WHERE id = :id"), {"id": own.run}
        )
    assert offboarding.turn().root.state == RunState.SUCCEEDED
    with installation.database.session() as session:
        field_values.clear_value(session, Form.CLIENT, two_clients.contoso, "Offboard Client", actor="ann")
        session.execute(
            text("UPDATE script_run SET created_at = '2099-01-01 00:00:00' WHERE id = :id"), {"id": own.run}
        )
    assert own.turn().root.state == RunState.SUCCEEDED


@pytest.mark.parametrize("how", ["maintenance", "no alerts", "hours"])
def test_a_computer_that_is_to_be_left_alone_now_waits(
    installation: Installation, two_clients: Places, done: Path, how: str
) -> None:
    """CWA-43 holds for what waits in the queue, too."""
    mine = two_clients.contoso_computers[0]
    offboarding = Offboarding(installation, mine)
    soon, later = (utcnow() + timedelta(hours=2)).strftime("%H:%M"), (utcnow() + timedelta(hours=3)).strftime("%H:%M")
    with installation.database.session() as session:
        if how == "maintenance":
            session.add(MaintenanceMode(computer_id=mine, time_start=utcnow(), duration=30))
        elif how == "no alerts":
            groups.set_alerting(session, mine, actor="bob", no_alerts=True)
        else:
            groups.set_alerting(session, mine, actor="bob", window=(soon, later))
    tree = offboarding.turn()
    assert tree.root.state == RunState.QUEUED and not done.exists()
    assert [(s, d > 0) for _, s, d in offboarding.port.queued] == [(1, True)]
    with installation.database.session() as session:
        groups.maintenance_off(session, mine, actor="bob")
        groups.set_alerting(session, mine, actor="bob", no_alerts=False, clear_window=True)
    assert offboarding.turn(1).root.state == RunState.SUCCEEDED and done.exists()


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_its_hours_are_those_of_the_installations_time_zone(
    installation: Installation, two_clients: Places, done: Path, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setattr(Settings, "zone", ZoneInfo(zone))
    mine = two_clients.contoso_computers[0]
    offboarding = Offboarding(installation, mine)
    here = utcnow().astimezone(ZoneInfo(zone))
    before, soon, later = ((here + timedelta(hours=h)).strftime("%H:%M") for h in (-1, 1, 2))
    with installation.database.session() as session:
        groups.set_alerting(session, mine, actor="bob", window=(soon, later))
    assert offboarding.turn().root.state == RunState.QUEUED and not done.exists()
    with installation.database.session() as session:
        groups.set_alerting(session, mine, actor="bob", window=(before, soon))
    assert offboarding.turn(1).root.state == RunState.SUCCEEDED and done.exists()


def test_a_person_who_starts_it_by_hand_needs_no_flag_and_no_hours(
    installation: Installation, two_clients: Places, done: Path
) -> None:
    mine = two_clients.contoso_computers[0]
    offboarding = Offboarding(installation, mine, by_hand=True)
    with installation.database.session() as session:
        unflag(session, session.get_one(Computer, mine))
        groups.set_alerting(session, mine, actor="bob", no_alerts=True)
    assert offboarding.turn().root.state == RunState.SUCCEEDED and done.exists()
