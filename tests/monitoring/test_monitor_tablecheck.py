"""The table/field/condition form of a monitor, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agent.errors import MonitorQueryError
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.places import Computer, Software
from agent.monitoring.evaluation import evaluate

Write = Callable[..., None]


def found(
    installation: Installation, write_monitor: Write, check: dict[str, Any], **keys: Any
) -> list[tuple[str, str, str | None]]:
    """(place, identity, test value) of the rows that a check finds."""
    write_monitor(installation, None, check=check, **keys)
    done = evaluate(installation, "Test", actor="ann", dry_run=True)
    return sorted((m.place.name, m.row.identity, m.row.test_value) for m in done.matched)


@pytest.fixture
def stocked(any_installation: Installation, any_two_clients: Any) -> Any:
    """Different operating systems, contacts and software."""
    names = {}
    with any_installation.database.session() as session:
        for number, computer_id in enumerate((*any_two_clients.contoso_computers, *any_two_clients.fabrikam_computers)):
            computer = session.get(Computer, computer_id)
            assert computer is not None
            computer.os = ["Windows 11", "Windows Server 2022", "Debian 12", "50%_off\\"][number]
            computer.is_server = number == 1
            computer.last_contact = utcnow() - timedelta(minutes=10 * number) if number < 3 else None
            computer.port = 5985 + number
            session.add(Software(computer_id=computer_id, name="Zoom", version=f"{number}.0"))
            names[number] = computer.name
    return names


def test_the_example_of_the_manuals(any_installation: Installation, stocked: Any, write_monitor: Write) -> None:
    check = {
        "table": "Computers",
        "field": "LastContact",
        "condition": "less than",
        "result": "now - 5 minutes",
        "identity": "Computers.Name",
    }
    assert [r[:2] for r in found(any_installation, write_monitor, check)] == sorted(
        (stocked[n], stocked[n]) for n in (1, 2)
    )


@pytest.mark.parametrize(
    ("field", "condition", "result", "expected"),
    [
        ("os", "equals", "Windows 11", {0}),
        ("OS", "not equals", "Windows 11", {1, 2, 3}),
        ("OS", "contains", "windows", {0, 1}),
        ("OS", "contains", "%", {3}),
        ("OS", "contains", "0%_o", {3}),
        ("OS", "contains", "\\", {3}),
        ("isserver", "equals", "true", {1}),
        ("IsServer", "equals", "0", {0, 2, 3}),
        ("Port", "greater than", "5986", {2, 3}),
        ("Port", "equals", "5985", {0}),
        ("LastContact", "is null", None, {3}),
        ("LastContact", "is not null", None, {0, 1, 2}),
        ("lastcontact", "greater than", "now - 15 minutes", {0, 1}),
        ("lastcontact", "greater than", "2001-01-01 00:00", {0, 1, 2}),
        ("os", "equals", "x' OR '1'='1", set()),
    ],
)  # fmt: skip
def test_conditions(
    any_installation: Installation,
    stocked: Any,
    write_monitor: Write,
    field: str,
    condition: str,
    result: str | None,
    expected: set[int],
) -> None:
    check = {"table": "computers", "field": field, "condition": condition, "result": result, "identity": "name"}
    check = {k: v for k, v in check.items() if v is not None}
    assert {r[0] for r in found(any_installation, write_monitor, check)} == {stocked[n] for n in expected}


def test_another_table_a_further_condition_and_a_retired_computer(
    any_installation: Installation, stocked: Any, write_monitor: Write
) -> None:
    check = {
        "table": "software", "field": "name", "condition": "equals", "result": "Zoom", "identity": "Software.Version",
        "also": [{"field": "Computers.OS", "condition": "contains", "result": "Windows"}],
    }  # fmt: skip
    assert found(any_installation, write_monitor, check) == [(stocked[0], "0.0", "Zoom"), (stocked[1], "1.0", "Zoom")]
    with any_installation.database.session() as session:
        session.execute(text("UPDATE computers SET retiredat = lastcontact WHERE name = :n"), {"n": stocked[0]})
    assert [r[0] for r in found(any_installation, write_monitor, check)] == [stocked[1]]


def test_a_view_of_extra_fields(
    any_installation: Installation, stocked: Any, any_two_clients: Any, write_monitor: Write
) -> None:
    with any_installation.database.session() as session:
        sql = "INSERT INTO extrafielddata (extrafieldid, id, value) SELECT id, :c, '1' FROM extrafield WHERE name = 'Offboard Computer'"
        session.execute(text(sql), {"c": any_two_clients.contoso_computers[1]})
    check = {
        "table": "v_extradatacomputers",
        "field": "Offboard Computer",
        "condition": "equals",
        "result": "1",
        "identity": "computers.name",
    }
    assert [r[0] for r in found(any_installation, write_monitor, check)] == [stocked[1]]


def test_other_targets(any_installation: Installation, stocked: Any, write_monitor: Write) -> None:
    check = {"table": "clients", "field": "slug", "condition": "equals", "result": "fabrikam", "identity": "name"}
    assert found(any_installation, write_monitor, check, target="client") == [("Fabrikam", "Fabrikam", "fabrikam")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"table": "credential"}, "may not be read"),
        ({"table": "sqlite_master"}, "may not be read"),
        ({"table": "pg_authid"}, "may not be read"),
        ({"table": "computers; DROP TABLE computers"}, "may not be read"),
        ({"table": "v_nothing"}, "no table v_nothing"),
        ({"table": "extrafield"}, "no column computerid"),
        ({"field": "password"}, "no field password; there are .*lastcontact"),
        ({"field": "os) OR (1=1"}, "no field"),
        ({"field": "clients.name"}, "no field"),
        ({"identity": "nobody"}, "no field nobody"),
        ({"field": "port", "result": "many"}, "does not fit the field port"),
        ({"field": "lastcontact", "result": "yesterday"}, "now - 5 minutes"),
        ({"field": "isserver", "result": "maybe"}, "does not fit"),
        ({"result": None}, "needs a `result`"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    any_installation: Installation, stocked: Any, write_monitor: Write, change: dict[str, Any], reason: str
) -> None:
    check = {"table": "computers", "field": "os", "condition": "equals", "result": "x", "identity": "name"}
    check = {k: v for k, v in {**check, **change}.items() if v is not None}
    with pytest.raises(MonitorQueryError, match=reason):
        found(any_installation, write_monitor, check)
