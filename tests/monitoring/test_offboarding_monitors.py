"""The shipped monitors, on both databases: who is matched, by which level, and who is left alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlmodel import select

from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.fields import ExtraField
from agent.model.monitors import RaisedAlert
from agent.model.places import Computer
from agent.model.runs import RunStep, ScriptRevision, ScriptRun
from agent.model.tickets import Ticket, TicketComment
from agent.monitoring.evaluation import Evaluation, evaluate
from agent.monitoring.query import Query, run_query

LEVELS = {"computer": 1, "location": 2, "client": 3}


def set_field(installation: Installation, name: str, level: str, place: int, value: str | None) -> None:
    """Set a field by plain SQL, as people do; None removes the value; place 0 is the default row."""
    with installation.database.session() as session:
        found = select(ExtraField.id).where(ExtraField.name == name, ExtraField.form == LEVELS[level])
        values = {"f": session.exec(found).one(), "p": place, "v": value}
        session.execute(text("DELETE FROM extrafielddata WHERE extrafieldid = :f AND id = :p"), values)
        if value is not None:
            session.execute(text("INSERT INTO extrafielddata (extrafieldid, id, value) VALUES (:f, :p, :v)"), values)


def flag(installation: Installation, level: str, place: int, value: str | None = "1") -> None:
    set_field(installation, f"Offboard {level.capitalize()}", level, place, value)


def change(installation: Installation, computer_id: int, **values: Any) -> None:
    with installation.database.session() as session:
        computer = session.get(Computer, computer_id)
        assert computer is not None
        for name, value in values.items():
            setattr(computer, name, value)


def preview(installation: Installation, monitor: str = "Offboarding") -> Evaluation:
    return evaluate(installation, monitor, actor="test", dry_run=True)


def matched(installation: Installation) -> dict[int, str]:
    return {m.place.id: ",".join(m.row.levels) for m in preview(installation).matched}


def test_each_level_matches_its_computers_and_says_so(any_installation: Installation, any_two_clients: Any) -> None:
    places = any_two_clients
    assert matched(any_installation) == {}
    flag(any_installation, "computer", places.contoso_computers[0])
    assert matched(any_installation) == {places.contoso_computers[0]: "computer"}
    flag(any_installation, "client", places.contoso)
    assert matched(any_installation) == {
        places.contoso_computers[0]: "client,computer", places.contoso_computers[1]: "client",
    }  # fmt: skip
    flag(any_installation, "location", places.contoso_site)
    assert matched(any_installation) == {
        places.contoso_computers[0]: "client,location,computer", places.contoso_computers[1]: "client,location",
    }  # fmt: skip
    flag(any_installation, "client", places.contoso, "0")
    flag(any_installation, "location", places.contoso_site, None)
    assert matched(any_installation) == {places.contoso_computers[0]: "computer"}


def test_the_wrapper_is_asked_for_by_the_alert_template(any_installation: Installation, any_two_clients: Any) -> None:
    flag(any_installation, "location", any_two_clients.fabrikam_site)
    done = evaluate(any_installation, "Offboarding", actor="test")
    assert {(r.script, r.target_kind, r.target_id, r.levels) for r in done.requests} == {
        ("Offboarding Wrapper", "computer", c, ("location",)) for c in any_two_clients.fabrikam_computers
    }
    assert all(r.alert_id is not None and not r.columns for r in done.requests)
    assert (done.fleet.matched, done.fleet.total, done.fleet.whole) == (2, 4, False)
    assert done.clients[any_two_clients.fabrikam].whole


def test_offline_waits_and_retired_is_over(any_installation: Installation, any_two_clients: Any) -> None:
    here, other = any_two_clients.contoso_computers
    flag(any_installation, "client", any_two_clients.contoso)
    seconds = any_installation.settings.online_seconds
    change(any_installation, here, last_contact=utcnow() - timedelta(seconds=seconds + 5))
    assert set(matched(any_installation)) == {other}
    change(any_installation, here, last_contact=None)
    assert set(matched(any_installation)) == {other}
    change(any_installation, here, last_contact=utcnow() - timedelta(seconds=seconds - 60))
    assert set(matched(any_installation)) == {here, other}
    change(any_installation, other, retired_at=utcnow())
    assert set(matched(any_installation)) == {here}


@pytest.mark.parametrize("level", ["client", "location", "computer"])
def test_an_exclusion_wins_and_is_reported(any_installation: Installation, any_two_clients: Any, level: str) -> None:
    places = any_two_clients
    for flagged, place in (
        ("client", places.contoso),
        ("computer", places.contoso_computers[0]),
        ("client", places.fabrikam),
    ):
        flag(any_installation, flagged, place)
    where = {"client": places.contoso, "location": places.contoso_site, "computer": places.contoso_computers[0]}
    set_field(any_installation, "Exclude From Offboarding", level, where[level], "1")
    excluded = set(places.contoso_computers) if level != "computer" else {places.contoso_computers[0]}
    found = preview(any_installation)
    assert {m.place.id for m in found.skipped} == excluded
    assert all("Exclude From Offboarding" in (m.skipped or "") for m in found.skipped)
    assert {m.place.id for m in found.matched} == {*places.contoso_computers, *places.fabrikam_computers} - excluded
    assert {r.target_id for r in found.requests}.isdisjoint(excluded)


def test_a_default_row_flags_all_that_have_no_value(any_installation: Installation, any_two_clients: Any) -> None:
    flag(any_installation, "client", 0)
    flag(any_installation, "client", any_two_clients.contoso, "0")
    assert set(matched(any_installation)) == set(any_two_clients.fabrikam_computers)
    flag(any_installation, "client", any_two_clients.contoso, None)
    assert preview(any_installation).fleet.whole


choices = st.sampled_from([None, None, "0", "1"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({level: st.lists(choices, min_size=5, max_size=5) for level in LEVELS}))
def test_the_query_is_the_definition(
    installation: Installation, two_clients: Any, values: dict[str, list[str | None]]
) -> None:
    """Own value, else the default row, else 0; any level; against the words of CWA-04 and CWA-39 in Python."""
    places = two_clients
    ids = {
        "client": (0, places.contoso, places.fabrikam), "location": (0, places.contoso_site, places.fabrikam_site),
        "computer": (0, *places.contoso_computers, *places.fabrikam_computers),
    }  # fmt: skip
    given_values = {
        (level, id_): value for level in LEVELS for id_, value in zip(ids[level], values[level], strict=False)
    }
    for (level, id_), value in given_values.items():
        flag(installation, level, id_, value)
    expected = {}
    for slug, computers in (("contoso", places.contoso_computers), ("fabrikam", places.fabrikam_computers)):
        for computer in computers:
            own = {"client": getattr(places, slug), "location": getattr(places, f"{slug}_site"), "computer": computer}
            levels = [
                level for level in ("client", "location", "computer")
                if (given_values[level, own[level]] or given_values[level, 0] or "0") != "0"
            ]  # fmt: skip
            if levels:
                expected[computer] = ",".join(levels)
    assert matched(installation) == expected


@pytest.mark.parametrize("any_installation", ["sqlite", "postgresql"], indirect=True)
def test_the_query_starts_from_the_flags(any_installation: Installation, any_two_clients: Any) -> None:
    """No part of the plan reads all computers, unless the default row of a flag is set."""
    flag(any_installation, "computer", any_two_clients.contoso_computers[0])
    sql = any_installation.content.monitor("Offboarding").sql
    assert sql is not None
    if any_installation.settings.is_sqlite:
        with any_installation.database.reading() as session:
            steps = [r[3] for r in session.execute(text("EXPLAIN QUERY PLAN " + sql), {"online_since": "2026-01-01"})]
        assert any("extrafielddata_set" in step for step in steps)
        scans = [step for step in steps if step.startswith("SCAN p")]
        # Only the three branches for the default rows, each inside a loop over the default row itself.
        assert len(scans) == 3 and not any("lastcontact" in step for step in steps)
        return
    with any_installation.database.session() as session:
        # So many computers that a plan that reads them all would be seen, and its rows counted.
        session.execute(
            text(
                "INSERT INTO computers (clientid, locationid, externalid, name, lastcontact) "
                "SELECT clientid, locationid, 'x' || locationid || '-' || i, 'X' || i, now() FROM locations, generate_series(1, 50000) AS i"
            )
        )
    with any_installation.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
        plan = connection.execute(
            text("EXPLAIN (ANALYZE, FORMAT JSON) " + sql), {"online_since": "2026-01-01+00"}
        ).scalar_one()

    def rows(node: dict[str, Any]) -> float:
        return max([node["Actual Rows"] * node["Actual Loops"], *(rows(child) for child in node.get("Plans", []))])

    assert rows(plan[0]["Plan"]) < 100


def tickets(installation: Installation) -> list[Ticket]:
    with installation.database.reading() as session:
        return list(session.exec(select(Ticket)))


def test_offline_too_long_is_reported_once_and_closed(any_installation: Installation, any_two_clients: Any) -> None:
    here, other = any_two_clients.contoso_computers
    name = "Offboarding - Offline Too Long"
    flag(any_installation, "client", any_two_clients.contoso)
    for computer in any_two_clients.fabrikam_computers:
        change(any_installation, computer, last_contact=utcnow() - timedelta(days=30))
    change(any_installation, here, last_contact=utcnow() - timedelta(days=15))
    change(any_installation, other, last_contact=utcnow() - timedelta(days=13))
    first = evaluate(any_installation, name, actor="test")
    assert [m.place.id for m in first.matched] == [here] and not first.requests
    evaluate(any_installation, name, actor="test")
    (ticket,) = tickets(any_installation)
    assert (
        ticket.subject == f"Offboarding waits for CONTOSO-PC1({here})" and ticket.client_id == any_two_clients.contoso
    )
    assert "nothing is forced" in ticket.body and "20" in ticket.body
    change(any_installation, here, last_contact=utcnow())
    evaluate(any_installation, name, actor="test")
    assert [t.status for t in tickets(any_installation)] == ["closed"]
    with any_installation.database.reading() as session:
        (comment,) = session.exec(select(TicketComment)).all()
    assert "no longer waits" in comment.text


def test_the_expiry_can_be_set(installation: Installation, two_clients: Any) -> None:
    flag(installation, "computer", two_clients.contoso_computers[0])
    change(installation, two_clients.contoso_computers[0], last_contact=utcnow() - timedelta(days=3))
    assert not preview(installation, "Offboarding - Offline Too Long").matched
    shorter = Installation(installation.settings.model_copy(update={"offline_expiry_days": 2}))
    assert len(preview(shorter, "Offboarding - Offline Too Long").matched) == 1
    shorter.database.close()


@pytest.mark.parametrize("level", ["client", "location"])
def test_a_standing_flag_is_warned_about(any_installation: Installation, any_two_clients: Any, level: str) -> None:
    name = f"Offboarding - Standing {level.capitalize()} Flags"
    place = any_two_clients.contoso if level == "client" else any_two_clients.contoso_site
    flag(any_installation, level, place)
    assert not preview(any_installation, name).matched
    for computer in any_two_clients.contoso_computers:
        change(any_installation, computer, retired_at=utcnow())
    done = evaluate(any_installation, name, actor="test")
    assert [(m.place.kind, m.place.id, m.row.test_value) for m in done.matched] == [(level, place, "0")]
    (ticket,) = tickets(any_installation)
    assert (
        ticket.subject.startswith(f"Offboard {level.capitalize()} stays set - ") and "with 0 computers" in ticket.body
    )
    flag(any_installation, level, place, "0")
    evaluate(any_installation, name, actor="test")
    assert tickets(any_installation)[0].status == "closed"


def test_a_reboot_brings_another_run(any_installation: Installation, any_two_clients: Any) -> None:
    here = any_two_clients.contoso_computers[0]
    flag(any_installation, "computer", here)
    name = "Offboarding - Reboot Needed"
    assert not any_installation.content.monitor(name).definition.enabled
    with any_installation.database.session() as session:
        session.add(ScriptRevision(digest="d", name="Offboarding Wrapper", content={}))
        session.flush()
        run = ScriptRun(
            script="Offboarding Wrapper", role="wrapper", revision="d", target_kind="computer", target_id=here,
            target_name="x", client_id=any_two_clients.contoso, exclusive=True, started_by="test", state="partial",
            finished_at=utcnow() - timedelta(hours=1),
        )  # fmt: skip
        session.add(run)
        session.flush()
        session.add(RunStep(root_id=run.id, ordinal=0, run_id=run.id, position=0, name="App1", state="reboot_needed"))
    change(any_installation, here, booted_at=utcnow() - timedelta(hours=2))
    assert not preview(any_installation, name).matched
    change(any_installation, here, booted_at=utcnow() - timedelta(minutes=1))
    assert [r.target_id for r in preview(any_installation, name).requests] == [here]
    flag(any_installation, "computer", here, "0")
    assert not preview(any_installation, name).matched


def test_nothing_was_raised_by_the_shipped_monitors(installation: Installation, two_clients: Any) -> None:
    """Every shipped monitor runs on an inventory without flags, finds nothing and does nothing."""
    for monitor in installation.content.monitors():
        done = evaluate(installation, monitor.name, actor="test")
        assert (done.status, done.given, done.actions) == ("SUCCESS", (), ())
    with installation.database.reading() as session:
        assert not session.exec(select(RaisedAlert)).all()
    assert run_query(installation.database, Query("SELECT 1")).rows
