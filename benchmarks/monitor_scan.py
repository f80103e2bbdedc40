"""The shipped monitor `Offboarding` over a fleet, beside the same SQL through the bare driver."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from measuring import (
    Sample,
    Target,
    alternating,
    folder,
    heading,
    in_fresh_process,
    line,
    print_targets,
    ratio,
    seconds,
)
from workspace import add_fleet, flag, installation_in

FLAGGED = 100
#: What one would write in ConnectWise Automate's idiom: each field resolved for each computer (facts 7 and 11.5).
IDIOM = """
SELECT '1', c.name, c.computerid FROM computers AS c
LEFT JOIN extrafielddata AS own ON own.id = c.computerid
    AND own.extrafieldid = (SELECT id FROM extrafield WHERE form = 1 AND name = 'Offboard Computer')
LEFT JOIN extrafielddata AS site ON site.id = c.locationid
    AND site.extrafieldid = (SELECT id FROM extrafield WHERE form = 2 AND name = 'Offboard Location')
LEFT JOIN extrafielddata AS client ON client.id = c.clientid
    AND client.extrafieldid = (SELECT id FROM extrafield WHERE form = 3 AND name = 'Offboard Client')
WHERE (IFNULL(own.value, '0') <> '0' OR IFNULL(site.value, '0') <> '0' OR IFNULL(client.value, '0') <> '0')
AND c.lastcontact > :online_since
"""


def run(*, quick: bool) -> list[Target]:
    """Prints the figures; returns the targets."""
    large, small = (100_000, 10_000) if quick else (1_000_000, 10_000)
    repetitions = 20 if quick else 60
    found = {n: in_fresh_process(_measure, n, repetitions) for n in (small, large)}
    heading(f"monitor Offboarding, {FLAGGED} flagged computers of a fleet (SQLite; the query stores nothing)")
    for fleet, result in found.items():
        line(f"{fleet:,} computers: made in", f"{result['made']:.1f} s, file of {result['megabytes']:.0f} MB")
        line("  the same SQL by sqlite3 alone", result["bare"])
        line("  the query as the monitor runs it (read-only, bounded)", result["query"])
        line("  a whole evaluation: rows, places, alerts, 1 commit", result["evaluation"])
        line("  a preview: the same, nothing stored", result["preview"])
        line("  by sqlite3 alone, every field resolved per computer", result["idiom"])
    line("query plan", f"{len(found[large]['plan'])} steps, full scans: {found[large]['scans'] or 'none'}")
    for step in found[large]["plan"]:
        print(f"     {step}")
    targets = [
        Target("the monitor's query to bare SQL", ratio(found[large]["query"], found[large]["bare"]), 1.2),
        Target("a whole evaluation to the idiom's SQL alone", _against_idiom(found[large]), 1.2),
        Target(f"the query, {large:,} to {small:,} computers", _growth(found, large, small, "query"), 1.2),
        Target(f"an evaluation, {large:,} to {small:,} computers", _growth(found, large, small, "evaluation"), 1.2),
        Target("full scans of computers in the plan", len(found[large]["scans"]), 0, "scans"),
    ]
    print_targets(targets)
    return targets


def _growth(found: dict[int, dict[str, Any]], large: int, small: int, what: str) -> float:
    big, little = found[large][what], found[small][what]
    assert isinstance(big, Sample) and isinstance(little, Sample)
    return big.median / little.median


def _against_idiom(result: dict[str, Any]) -> float:
    return float(result["evaluation"].median / result["idiom"].median)


def _measure(fleet: int, repetitions: int) -> dict[str, Any]:
    with folder() as place:
        installation = installation_in(place / "workspace", sqlite_synchronous="FULL")
        made = seconds(lambda: add_fleet(installation, fleet))
        flag(installation, [1 + n * (fleet // FLAGGED) for n in range(FLAGGED)])
        try:
            return {"made": made, **_compare(installation, place / "workspace" / "inventory.db", repetitions)}
        finally:
            installation.database.close()


def _compare(installation: Any, file: Path, repetitions: int) -> dict[str, Any]:
    from agent.model.base import utcnow
    from agent.monitoring.evaluation import evaluate
    from agent.monitoring.query import Query, bound_values, run_query
    from agent.monitoring.sqltext import read_query

    sql = installation.content.monitor("Offboarding").sql
    text = read_query(sql)
    values = bound_values(text, {}, installation.settings, utcnow())
    driver = sqlite3.connect(file)
    found = driver.execute(text.text, values).fetchall()
    assert len(found) == FLAGGED, len(found)
    plan = [row[3] for row in driver.execute("explain query plan " + text.text, values)]
    evaluate(installation, "Offboarding", actor="benchmark")

    def query() -> None:
        assert len(run_query(installation.database, Query(sql)).rows) == FLAGGED

    # Apart from each other: a commit in between would empty the page cache of both connections.
    bare, bounded = alternating(
        repetitions, lambda: seconds(lambda: driver.execute(text.text, values).fetchall()), lambda: seconds(query)
    )
    evaluation, preview = alternating(
        repetitions,
        lambda: seconds(lambda: evaluate(installation, "Offboarding", actor="benchmark")),
        lambda: seconds(lambda: evaluate(installation, "Offboarding", actor="benchmark", dry_run=True)),
    )
    since = {"online_since": values["online_since"]}
    idiom = Sample.of([seconds(lambda: driver.execute(IDIOM, since).fetchall()) for _ in range(5)])
    assert len(driver.execute(IDIOM, since).fetchall()) == FLAGGED
    driver.execute("pragma wal_checkpoint(truncate)")
    driver.close()
    return {
        "idiom": idiom,
        "bare": bare,
        "query": bounded,
        "evaluation": evaluation,
        "preview": preview,
        "plan": plan,
        "scans": _full_scans(plan),
        "megabytes": file.stat().st_size / 1e6,
    }


def _full_scans(plan: list[str]) -> list[str]:
    """Steps that would read every computer although no default row is set.

    The parts for default rows begin with `extrafielddata` (id 0), which is empty; only then do they look at computers.
    """
    aliases = ("SCAN c", "SCAN p", "SCAN computers")
    guarded = 0
    found = []
    for step in plan:
        if step.startswith("SEARCH d") and "id=?" in step:
            guarded += 1
        elif step.startswith(aliases):
            if guarded:
                guarded -= 1
            else:
                found.append(step)
    return found
