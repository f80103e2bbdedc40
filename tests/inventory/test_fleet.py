"""A large fleet: the flagged computers are found from what is set, by index, and imports stay bounded."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from agent.installation import Installation
from agent.inventory import transfer
from agent.inventory.transfer import ImportCounts

if TYPE_CHECKING:
    from conftest import Places

FLAGGED = {
    "computer": "SELECT c.computerid FROM extrafield f JOIN extrafielddata d ON d.extrafieldid = f.id AND d.value <> '0'"
    " JOIN computers c ON c.computerid = d.id WHERE f.form = 1 AND f.name = 'Offboard Computer'",
    "location": "SELECT c.computerid FROM extrafield f JOIN extrafielddata d ON d.extrafieldid = f.id AND d.value <> '0'"
    " JOIN computers c ON c.locationid = d.id WHERE f.form = 2 AND f.name = 'Offboard Location'",
    "client": "SELECT c.computerid FROM extrafield f JOIN extrafielddata d ON d.extrafieldid = f.id AND d.value <> '0'"
    " JOIN computers c ON c.clientid = d.id WHERE f.form = 3 AND f.name = 'Offboard Client'",
}
INDEX = {"computer": "INTEGER PRIMARY KEY", "location": "computers_of_location", "client": "computers_of_client"}


def test_flagged_computers_are_found_by_index_on_sqlite(installation: Installation, two_clients: Places) -> None:
    with installation.database.session() as session:
        _many_computers(session, two_clients)
        for level, query in FLAGGED.items():
            plan = " | ".join(row[3] for row in session.execute(text("EXPLAIN QUERY PLAN " + query)))
            assert "SCAN" not in plan, plan
            assert "extrafielddata_set" in plan, plan
            assert INDEX[level] in plan, plan


def test_flagged_computers_are_found_by_index_on_postgresql(
    any_installation: Installation, any_two_clients: Places
) -> None:
    if any_installation.settings.is_sqlite:
        return
    with any_installation.database.session() as session:
        _many_computers(session, any_two_clients)
        for table in ("computers", "extrafielddata", "extrafield"):
            session.execute(text(f"ANALYZE {table}"))
        for level, query in FLAGGED.items():
            plan = " | ".join(row[0] for row in session.execute(text("EXPLAIN " + query)))
            assert "Seq Scan on computers" not in plan, plan
            assert "extrafielddata_set" in plan or "extrafielddata_pkey" in plan, plan
            assert "computers_" in plan, (level, plan)


def _many_computers(session: object, places: Places) -> None:
    """20,000 computers, each with an unticked box of its own; one is ticked. The client flag is set on an empty client."""
    session.execute(  # type: ignore[attr-defined]
        text(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
            " INSERT INTO computers (clientid, locationid, externalid, name)"
            " SELECT :client, :site, 'many-' || i, 'PC' || i FROM n"
        ),
        {"client": places.contoso, "site": places.contoso_site},
    )
    session.execute(  # type: ignore[attr-defined]
        text(
            "INSERT INTO extrafielddata (extrafieldid, id, value)"
            " SELECT f.id, c.computerid, CASE c.externalid WHEN 'many-77' THEN '1' ELSE '0' END"
            " FROM computers c CROSS JOIN extrafield f WHERE f.form = 1 AND f.name = 'Offboard Computer'"
        )
    )


def test_a_long_file_is_not_held_in_memory(installation: Installation, two_clients: Places, tmp_path: Path) -> None:
    path, lines = tmp_path / "many.csv", 4_000
    with path.open("w", encoding="utf-8") as stream:
        stream.write("external_id,location,name,os,domain\n")
        for n in range(lines):
            stream.write(f"pc-{n},contoso-hq,PC{n},{'x' * 200},{'y' * 200}\n")
    tracemalloc.start()
    try:
        with installation.database.session() as session:
            counts = transfer.import_file(session, "computers", path, actor="ann")
            transfer.export_file(session, "computers", tmp_path / "out.csv")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert counts == ImportCounts(lines, 0, 0)
    assert peak < 16 * 2**20, f"{peak / 2**20:.0f} MiB"
