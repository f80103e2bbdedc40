"""What would become of each computer of a flagged place, on both databases: the same as the monitor and the guardrails say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlmodel import col, select

from agent.errors import UsageError
from agent.installation import Installation
from agent.inventory import field_values, groups, places
from agent.inventory.flags import ALLOW_PROBE, ALLOW_SERVER, EXCLUDE, flags
from agent.inventory.reach import FieldSets, Outcome, of_clients, of_place, reach
from agent.model.base import utcnow
from agent.model.fields import Form
from agent.model.places import Computer, MaintenanceMode
from agent.monitoring.scope import hours_reason

if TYPE_CHECKING:
    from conftest import Places

UTC_ZONE = ZoneInfo("UTC")
OFFLINE = {"last_contact": "2026-01-01T00:00:00Z"}


def outcomes(
    installation: Installation, place: tuple[Form, int], now: datetime | None = None, zone: ZoneInfo = UTC_ZONE
) -> dict[Outcome, int]:
    with installation.database.reading() as session:
        found = reach(session, of_place(*place), online_seconds=300, zone=zone, now=now)
        assert {o: len(names) for o, names in found.samples.items()} == found.counts
        assert found.reached == found.counts.get(Outcome.GOES, 0) + found.counts.get(Outcome.OFFLINE, 0)
        return found.counts


def test_each_outcome_is_counted(any_installation: Installation, any_two_clients: Places) -> None:
    site, client = any_two_clients.contoso_site, (Form.CLIENT, any_two_clients.contoso)
    with any_installation.database.session() as session:

        def add(**given: Any) -> int:
            given = {"last_contact": utcnow()} | given
            return places.add_computer(session, location_id=site, actor="ann", **given).computer_id or 0

        add(name="offline", **OFFLINE)
        add(name="never", last_contact=None)
        places.retire(session, session.get_one(Computer, add(name="retired")), actor="ann")
        excluded = add(name="excluded")
        field_values.set_value(session, Form.COMPUTER, excluded, EXCLUDE, "1", actor="ann")
        add(name="server", is_server=True)
        allowed = add(name="allowed", is_server=True)
        field_values.set_value(session, Form.COMPUTER, allowed, ALLOW_SERVER, "1", actor="ann")
        add(name="probe", is_probe=True)
        groups.set_alerting(session, add(name="quiet"), actor="ann", no_alerts=True)
        groups.maintenance_on(session, add(name="resting"), minutes=60, actor="ann")
        endless = 2**31 - 1 if any_installation.settings.database_url else 10**14
        session.add(MaintenanceMode(computer_id=add(name="endless"), time_start=utcnow(), duration=endless))
        groups.maintenance_on(session, add(name="rested"), minutes=60, actor="ann", start=utcnow() - timedelta(hours=2))
    assert outcomes(any_installation, client) == {
        Outcome.GOES: 4, Outcome.OFFLINE: 2, Outcome.RETIRED: 1, Outcome.EXCLUDED: 1, Outcome.SERVER: 1, Outcome.PROBE: 1,
        Outcome.QUIET: 3,
    }  # fmt: skip
    assert outcomes(any_installation, (Form.CLIENT, any_two_clients.fabrikam)) == {Outcome.GOES: 2}
    assert outcomes(any_installation, (Form.LOCATION, site))[Outcome.GOES] == 4
    assert outcomes(any_installation, (Form.COMPUTER, excluded)) == {Outcome.EXCLUDED: 1}
    assert outcomes(any_installation, (Form.CONTACT, 1)) == {}


def test_an_opt_in_of_the_client_counts_unless_the_computer_says_no(
    any_installation: Installation, any_two_clients: Places
) -> None:
    here = any_two_clients
    with any_installation.database.session() as session:
        session.execute(text("UPDATE computers SET isserver = TRUE, isprobe = TRUE"))
        field_values.set_value(session, Form.CLIENT, here.contoso, ALLOW_SERVER, "1", actor="ann")
        field_values.set_default(session, Form.LOCATION, ALLOW_PROBE, "1", actor="ann")
        field_values.set_value(session, Form.COMPUTER, here.contoso_computers[0], ALLOW_SERVER, "0", actor="ann")
    assert outcomes(any_installation, (Form.CLIENT, here.contoso)) == {Outcome.GOES: 1, Outcome.SERVER: 1}
    assert outcomes(any_installation, (Form.CLIENT, here.fabrikam)) == {Outcome.SERVER: 2}


@pytest.mark.parametrize("form", [Form.CLIENT, Form.LOCATION, Form.COMPUTER])
def test_an_exclusion_counts_at_each_level_and_by_default(
    any_installation: Installation, any_two_clients: Places, form: Form
) -> None:
    here = any_two_clients
    with any_installation.database.session() as session:
        field_values.set_default(session, form, EXCLUDE, "1", actor="ann")
        for place in {Form.CLIENT: (here.contoso,), Form.LOCATION: (here.contoso_site,)}.get(
            form, here.contoso_computers
        ):
            field_values.set_value(session, form, place, EXCLUDE, "0", actor="ann")
    assert outcomes(any_installation, (Form.CLIENT, here.contoso)) == {Outcome.GOES: 2}
    assert outcomes(any_installation, (Form.CLIENT, here.fabrikam)) == {Outcome.EXCLUDED: 2}


@pytest.mark.parametrize(
    ("window", "clock", "quiet"),
    [("08:00-17:00", 12, False), ("08:00-17:00", 20, True), ("22:00-06:00", 23, False), ("22:00-06:00", 5, False),
     ("22:00-06:00", 12, True), ("08:00-08:00", 3, False), ("20:00-00:00", 23, False), ("20:00-00:00", 1, True)],
)  # fmt: skip
def test_hours_of_a_computer_count(
    installation: Installation, two_clients: Places, window: str, clock: int, quiet: bool
) -> None:
    computer, now = two_clients.contoso_computers[0], utcnow().replace(hour=clock, minute=30)
    with installation.database.session() as session:
        first, _, last = window.partition("-")
        groups.set_alerting(session, computer, actor="ann", window=(first, last))
        session.execute(text("UPDATE computers SET lastcontact = :t"), {"t": f"{now:%Y-%m-%d %H:%M:%S}"})
    expected = Outcome.QUIET if quiet else Outcome.GOES
    assert outcomes(installation, (Form.COMPUTER, computer), now) == {expected: 1}


@pytest.mark.parametrize("window", ["02:00-03:00", "02:30-03:30", "22:00-06:00", "00:00-00:00", "08:00-17:00"])
@pytest.mark.parametrize(
    ("zone", "day"), [("Europe/Berlin", "2026-03-29"), ("Europe/Berlin", "2026-10-25"), ("Australia/Lord_Howe", "2026-04-05")]
)  # fmt: skip
def test_the_database_and_the_monitor_agree_on_hours_when_the_clocks_are_changed(
    installation: Installation, two_clients: Places, window: str, zone: str, day: str
) -> None:
    computer, there = two_clients.contoso_computers[0], ZoneInfo(zone)
    first, _, last = window.partition("-")
    with installation.database.session() as session:
        groups.set_alerting(session, computer, actor="ann", window=(first, last))
    begin = datetime.fromisoformat(day).replace(tzinfo=there).astimezone(UTC)
    for quarter in range(-8, 4 * 26):
        now = begin + timedelta(minutes=15 * quarter)
        ((found, _),) = outcomes(installation, (Form.COMPUTER, computer), now, there).items()
        clock = f"{now.astimezone(there):%H:%M}"
        named = first == last or (first <= clock < last if first < last else clock >= first or clock < last)
        assert (found is Outcome.QUIET) == (not named) == bool(hours_reason(False, first, last, now, there)), now


def test_flagged_computers_are_those_that_the_flags_reach(
    any_installation: Installation, any_two_clients: Places
) -> None:
    here = any_two_clients
    with any_installation.database.session() as session:
        everyone = list(session.exec(select(col(Computer.computer_id))))

        def agreed() -> set[int]:
            fields = FieldSets(session)
            found = {row[0] for row in session.execute(fields.flagged_ids())}
            asked = set(session.exec(select(col(Computer.computer_id)).where(fields.flagged())))
            assert found == asked == set(flags(session, everyone))
            return found

        assert agreed() == set()
        field_values.set_value(
            session, Form.COMPUTER, here.fabrikam_computers[1], "Offboard Computer", "1", actor="ann"
        )
        assert agreed() == {here.fabrikam_computers[1]}
        field_values.set_value(session, Form.LOCATION, here.contoso_site, "Offboard Location", "1", actor="ann")
        assert agreed() == {here.fabrikam_computers[1], *here.contoso_computers}
        field_values.set_value(session, Form.LOCATION, here.contoso_site, "Offboard Location", "0", actor="ann")
        field_values.set_default(
            session, Form.LOCATION, "Offboard Location", "1", actor="ann", allow_destructive_default=True
        )
        assert agreed() == set(here.fabrikam_computers)
        limited = select(col(Computer.computer_id)).where(FieldSets(session).flagged(), of_clients({here.contoso}))
        assert list(session.exec(limited)) == []


def test_many_are_ticked_at_once_and_each_change_is_sealed(
    any_installation: Installation, any_two_clients: Places
) -> None:
    from agent import audit

    ids = [*any_two_clients.contoso_computers, *any_two_clients.fabrikam_computers]
    with any_installation.database.session() as session:

        def tick(*given: Any) -> int:
            return field_values.tick(session, Form.COMPUTER, *given, actor="ann")

        assert tick(ids[:3], "Offboard Computer", True) == 3
        assert tick(ids, "Offboard Computer", True) == 1
        assert tick(ids[:2], "Offboard Computer", False) == 2
        assert tick(ids[:2], EXCLUDE, False) == 0
        assert set(flags(session, ids)) == set(ids[2:])
        made = audit.entries(session, action="edf.change")
        assert len(made) == 6 and {e.actor for e in made} == {"ann"} and audit.verify(session) == []
        with pytest.raises(UsageError, match="no checkbox"):
            field_values.tick(session, Form.CLIENT, [1], "Failed Uninstall Process", True, actor="ann")
