"""Removing a place at the command line: it asks, says what keeps a place, and never touches another one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from command_line import Cli


def test_a_place_added_by_mistake_is_removed(fleet: Cli) -> None:
    fleet("inventory", "add-client", "Contosso")
    fleet("inventory", "add-location", "HQ", "--client", "contosso")
    fleet("inventory", "add-contact", "Jo", "--client", "contosso", "--email", "jo@contosso.example")
    fleet("edf", "set", "Exclude From Offboarding", "1", "--client", "contosso")
    before = fleet.json("inventory", "list", "computers")
    told = fleet("inventory", "remove", "--client", "contosso", "--yes", expect=2).stderr
    assert told.startswith("error: ") and "1 location, 1 contact" in told and "edf set" in told
    gone = fleet.json("inventory", "remove", "--contact", "jo@contosso.example", "--yes")
    assert (gone["kind"], gone["path"], gone["values"]) == ("contact", "Contosso/Jo", 0)
    assert fleet("inventory", "remove", "--location", "Contosso/HQ", "--yes").stdout.endswith(
        "is removed: Contosso/HQ\n"
    )
    assert fleet.json("inventory", "remove", "--client", "contosso", "--yes")["values"] == 1
    assert [c["name"] for c in fleet.json("inventory", "list", "clients")] == ["Contoso", "Fabrikam"]
    assert fleet.json("inventory", "list", "computers") == before
    assert fleet.json("inventory", "search", "contosso") == []
    assert fleet.json("audit", "list", "--limit", "1")[0]["action"] == "client.remove"
    fleet("inventory", "remove", "--client", "contosso", "--yes", expect=2)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--computer", "Contoso/HQ/con-PC1"), "--yes"),
        (("--computer", "Contoso/HQ/con-PC1", "--json"), "--yes"),
        (("--yes",), "name one place"),
        (("--computer", "con-PC1", "--client", "contoso", "--yes"), "name one place"),
        (("--computer", "con-PC9", "--yes"), "no computer"),
        (("--location", "HQ", "--yes"), "more than one location"),
    ],
)
def test_nothing_is_removed_unless_it_is_clear_what(fleet: Cli, arguments: tuple[str, ...], reason: str) -> None:
    before = fleet.json("inventory", "list", "computers"), fleet.json("inventory", "list", "locations")
    assert reason in fleet("inventory", "remove", *arguments, expect=2).stderr
    assert (fleet.json("inventory", "list", "computers"), fleet.json("inventory", "list", "locations")) == before


def test_what_was_offboarded_is_kept(fleet: Cli, child: Callable[..., None]) -> None:
    child("exit 0")
    fleet("edf", "set", "Offboard Computer", "1", "--computer", "con-PC1")
    fleet("monitor", "run", "Offboarding", "--yes")
    told = fleet("inventory", "remove", "--computer", "con-PC1", "--yes", expect=2).stderr
    # The wrapper and its child.
    assert "2 runs, 1 alert" in told and "exeunt inventory retire --computer id:" in told
    fleet("inventory", "retire", "--computer", "con-PC1")
    assert (
        fleet("inventory", "remove", "--computer", "con-PC2", "--yes").stdout
        == "computer 2 is removed: Contoso/HQ/con-PC2\n"
    )
