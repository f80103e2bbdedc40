"""What is asked for each target and every two seconds must not read all runs that there ever were."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from agent.model.base import utcnow
from agent.running import recovery, statements


@pytest.mark.parametrize(
    ("query", "values", "index"),
    [
        (statements._ACTIVE, {"of_kind": "computer", "of_ids": [1, 2, 3]}, "runs_of_a_target"),
        (
            statements._DUE,
            {"of_client": 1, "now": utcnow(), "known": ["0"], "most": 8},
            "ix_script_run_state",
        ),
        (recovery._OPEN, {}, "ix_script_run_state"),
    ],
    ids=["active runs of targets", "due runs of a client", "open runs"],
)
def test_the_query_goes_by_an_index_that_leaves_the_history_out(
    installation, query: Any, values: dict[str, Any], index: str
) -> None:
    sent: list[tuple[str, Any]] = []
    with installation.database.engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", lambda c, cursor, text, given, *_: sent.append((text, given)))
        connection.execute(query, values)
        text, given = sent[-1]
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", given).all()
    tables = [row[3] for row in plan if "script_run" in row[3]]
    assert [index in read for read in tables] == [True], plan
