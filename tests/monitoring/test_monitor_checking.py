"""`exeunt content check` finds what is wrong with a monitor before its first scan, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.installation import Installation
from agent.inventory import groups
from agent.monitoring.checking import check_monitors

Write = Callable[..., None]
GOOD = "SELECT 1 AS TestValue, name AS IdentityField, computerid AS ComputerID FROM computers"


def reasons(installation: Installation) -> list[str]:
    return [str(fault) for fault in check_monitors(installation) if "/test." in fault.file]


def test_shipped_monitors_have_no_fault(any_installation: Installation) -> None:
    assert list(check_monitors(any_installation)) == []


@pytest.mark.parametrize(
    ("sql", "more", "reason"),
    [
        (GOOD + " -- a comment", {}, None),
        (f"{GOOD} ORDER BY name; ", {}, None),
        (GOOD, {"target_groups": ["Pilot"]}, None),
        # It would read for ever if a row were read.
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) "
            "SELECT n AS TestValue, 'x' AS IdentityField, n AS ComputerID FROM r", {}, None,
        ),
        ("SELECT 1 AS TestValue, name AS IdentityField FROM computers", {}, "no column ComputerID"),
        (GOOD.replace("FROM computers", "FROM computerz"), {}, "computerz"),
        (GOOD.replace("name AS", "nome AS"), {}, "nome"),
        ("DELETE FROM computers", {}, "a monitor only reads"),
        (f"{GOOD}; DELETE FROM computers", {}, "more than one statement"),
        (GOOD + ") AS x; --", {}, "more than one statement|syntax|near|open"),
        (GOOD + " WHERE :nothing", {}, ":nothing does not exist"),
        ("SELECT secret AS TestValue, '' AS IdentityField, id AS ComputerID FROM credential", {}, "credential"),
        (GOOD, {"target_groups": ["Pilto"]}, "no target group 'Pilto'"),
        (GOOD, {"alert_message": "{{ nothing }}!!!x"}, "there is no 'nothing'"),
    ],
)  # fmt: skip
def test_what_a_scan_would_stumble_over_is_found(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write, sql: str, more: dict[str, Any],
    reason: str | None,
) -> None:  # fmt: skip
    with any_installation.database.session() as session:
        groups.add_group(session, "Pilot", actor="ann")
    write_monitor(any_installation, sql, **more)
    found = reasons(any_installation)
    assert len(found) == (reason is not None), found
    assert reason is None or any(part in found[0] for part in reason.split("|")), found
    with any_installation.database.reading() as session:
        assert session.connection().exec_driver_sql("SELECT COUNT(*) FROM computers").scalar() == 4
