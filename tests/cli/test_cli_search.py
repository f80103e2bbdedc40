"""Finding places by words, and asking whom a flag would reach, at the command line."""

from __future__ import annotations

from command_line import Cli


def test_places_are_found_by_the_beginnings_of_words(fleet: Cli) -> None:
    found = fleet.json("inventory", "search", "con", "pc", "--level", "computer")
    assert [(r["kind"], r["path"]) for r in found] == [("computer", f"Contoso/HQ/con-PC{n}") for n in range(1, 5)]
    assert {r["kind"] for r in fleet.json("inventory", "search", "contoso")} == {"client"}
    assert len(fleet.json("inventory", "search", "pc", "--limit", "3")) == 3
    assert "nothing fits" in fleet("inventory", "search", "zzz").stdout


def test_whom_a_flag_would_reach_is_told_and_nothing_is_changed(fleet: Cli) -> None:
    fleet("edf", "set", "Exclude From Offboarding", "1", "--computer", "Contoso/HQ/con-PC2")
    told = fleet.json("inventory", "reach", "--client", "contoso")
    assert (told["total"], told["reached"]) == (4, 3)
    assert {r["outcome"]: r["such_as"] for r in told["outcomes"]} == {
        "goes": ["con-PC1", "con-PC3", "con-PC4"], "excluded": ["con-PC2"],
    }  # fmt: skip
    assert "3 of 4 computers would be offboarded" in fleet("inventory", "reach", "--client", "contoso").stdout
    assert fleet.json("edf", "flags") == {"standing": [], "computers": []}
    fleet("edf", "set", "Offboard Location", "1", "--location", "Fabrikam/HQ")
    assert [c["computer"] for c in fleet.json("edf", "flags")["computers"]] == [
        f"Fabrikam/HQ/fab-PC{n}" for n in range(1, 5)
    ]
    fleet("inventory", "reach", expect=2)
