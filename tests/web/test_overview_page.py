"""The first page: what stands out, for whoever looks, on a wide and on a narrow screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser
from web_help import Console, axe_finds_nothing, browsing, fits, picture

from agent.installation import Installation
from agent.model.runs import ScriptRevision, ScriptRun

if TYPE_CHECKING:
    from conftest import Places


def add_run(installation: Installation, places: Places, client: str) -> str:
    with installation.database.session() as session:
        session.merge(ScriptRevision(digest="0" * 64, name="x", content={}))
        session.flush()
        run = ScriptRun(
            script=f"Offboarding of {client}", role="wrapper", revision="0" * 64, target_kind="computer",
            target_id=getattr(places, f"{client}_computers")[0], target_name=f"{client}-pc", state="failed",
            client_id=getattr(places, client), started_by="ann",
        )  # fmt: skip
        session.add(run)
        return run.id


def test_each_sees_its_own_clients_only(console: Console) -> None:
    for client in ("contoso", "fabrikam"):
        add_run(console.installation, console.places, client)
    everything = console.owner.get("/").text
    assert "Offboarding of contoso" in everything and "Offboarding of fabrikam" in everything
    for person in (console.colleague, console.viewer):
        text = person.get("/").text
        assert "Offboarding of contoso" in text and "fabrikam" not in text.lower()
    assert "contoso" not in console.stranger.get("/").text.lower()
    answer = console.nobody.get("/")
    assert answer.status_code == 303 and answer.headers["location"] == "/sign-in"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1440])
def test_it_reads_well(console: Console, chromium: Browser, width: int, dark: bool) -> None:
    add_run(console.installation, console.places, "contoso")
    with browsing(chromium, console, console.owner, width=width, dark=dark) as page:
        page.goto("/")
        assert page.locator("h1").inner_text() == "Overview"
        fits(page)
        axe_finds_nothing(page)
        picture(page, f"overview-{width}-{'dark' if dark else 'light'}")
