"""`exeunt offboard phases`: what runs in which phase for a client, from where, and in the order of danger (REWST-165 to 170)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner
from made_packages import list_children, write_package

from agent.cli.main import main
from agent.content.packages import PHASES
from agent.installation import Installation
from agent.packages.phases import phases_of

ORDER = ("remote_access", "administrators", "financial", "customer_data", "business", "collaboration")


@pytest.fixture
def ready(installation: Installation, two_clients: object) -> Installation:
    """One package for each kind of system, and one that revokes nothing."""
    for revocation in (*ORDER, "none"):
        write_package(installation, revocation.replace("_", ""), phase=1, revocation=revocation)
    return installation


def names(kinds: Any) -> list[str]:
    return [f"{kind.replace('_', '').capitalize()} - Offboarding" for kind in kinds]


def call(installation: Installation, *arguments: str) -> str:
    given = ["--workspace", str(installation.settings.workspace), "offboard", "phases", *arguments]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_each_phase_says_what_runs_and_where_it_comes_from(ready: Installation) -> None:
    list_children(ready, "partner", {PHASES[1]: names(["none", *ORDER])})
    list_children(ready, "contoso", {PHASES[1]: names(["business"]), PHASES[3]: names(["collaboration"])})
    theirs = phases_of(ready.content, "fabrikam")
    first = theirs.phases[0].scripts
    assert [(s.position, s.danger, s.revokes) for s in first] == [
        (1, None, None), (2, 1, "remote access"), (3, 2, "administrators"), (4, 3, "financial"), (5, 4, "customer data"),
        (6, 5, "business"), (7, 6, "collaboration"),
    ]  # fmt: skip
    assert {s.listed_by for s in first} == {"partner"} and theirs.violations == ()
    assert first[1].package == "Remoteaccess" and first[1].version == "1.0.0"
    ours = phases_of(ready.content, "contoso")
    assert [(p.number, [s.script for s in p.scripts]) for p in ours.phases if p.scripts] == [
        (1, names(["business"])), (3, names(["collaboration"])),
    ]  # fmt: skip
    assert ours.phases[0].scripts[0].listed_by == "client"
    assert ours.phases[2].scripts[0].danger is None, "nothing is revoked in phase 3"
    assert "neither the client" in (ours.phases[7].missing or "")


def test_the_command_shows_it_and_names_what_is_against_the_order(ready: Installation) -> None:
    list_children(ready, "contoso", {PHASES[1]: names(["collaboration", "remote_access"])})
    shown = call(ready, "--client", "contoso")
    assert "1 Initial Security Actions (its own list" in shown and "1 remote access" in shown
    assert "against the order of danger: Collaboration (collaboration) comes before Remoteaccess" in shown
    found = json.loads(call(ready, "--client", "Contoso", "--json"))
    assert found["client"] == "contoso" and len(found["phases"]) == 8 and len(found["violations"]) == 1
    assert [s["script"] for s in found["phases"][0]["scripts"]] == names(["collaboration", "remote_access"])
    assert all(not p["scripts"] for p in json.loads(call(ready, "--client", "fabrikam", "--json"))["phases"])
