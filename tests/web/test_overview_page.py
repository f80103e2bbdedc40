"""The first page: what stands out, for whoever looks, on a wide and on a narrow screen."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, expect
from web_help import Console, axe_finds_nothing, browsing, fits, picture, plain_client, serving, sign_in_as

from agent.access.principal import Grant, Role
from agent.installation import Installation
from agent.inventory import field_values, places
from agent.inventory.reach import flagged_count
from agent.model.contacts import ContactOffboarding
from agent.model.fields import Form
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


def figures(text: str) -> dict[str, tuple[str, str]]:
    """Label -> number and address of each card."""
    found = re.findall(
        r'<a class="card" href="([^"]+)"><span class="figure">([^<]+)</span><br><span class="label">([^<]+)<', text
    )
    return {label: (number, address.replace("&amp;", "&")) for address, number, label in found}


def test_flagged_computers_are_counted_and_lead_to_their_list(console: Console) -> None:
    here = console.places
    with console.installation.database.session() as session:
        places.add_computer(session, location_id=here.contoso_site, name="NEVER", actor="ann")
        places.add_computer(
            session, location_id=here.contoso_site, name="AWAY", actor="ann", last_contact="2026-01-01T00:00:00Z"
        )
        gone = places.add_computer(session, location_id=here.contoso_site, name="GONE", actor="ann")
        places.retire(session, gone, actor="ann")
        field_values.set_value(session, Form.CLIENT, here.contoso, "Offboard Client", "1", actor="ann")
        field_values.set_value(
            session, Form.COMPUTER, here.fabrikam_computers[0], "Offboard Computer", "1", actor="ann"
        )
    expected = {console.owner: ("5", "2"), console.viewer: ("4", "2"), console.stranger: ("1", "0")}
    for person, numbers in expected.items():
        found = figures(person.get("/").text)
        for label, number in zip(("computers flagged", "flagged and offline"), numbers, strict=True):
            assert found[label][0] == number
            listed = person.get(found[label][1])
            assert listed.text.count('<td class="wide">') == int(number)
        for _, address in found.values():
            assert person.get(address).status_code == 200, address
    assert "Contoso" in console.viewer.get("/").text.partition("Standing flags")[2]
    assert "Standing flags" not in console.stranger.get("/").text


def test_a_count_stops_at_its_limit(console: Console) -> None:
    with console.installation.database.session() as session:
        field_values.set_value(session, Form.CLIENT, console.places.contoso, "Offboard Client", "1", actor="ann")
        field_values.set_default(
            session, Form.COMPUTER, "Offboard Computer", "1", actor="ann", allow_destructive_default=True
        )
        assert [flagged_count(session, limit=n) for n in (1, 3, 4, 5)] == [1, 3, 4, 4]
    assert "every computer" in console.owner.get("/").text and "every computer" not in console.viewer.get("/").text


def test_who_leaves_next_and_what_waits_is_told(console: Console) -> None:
    add_run(console.installation, console.places, "contoso")
    with console.installation.database.session() as session:
        person = places.add_contact(
            session, client_id=console.places.contoso, name="<b>Ada</b>", actor="ann", termination_date="2026-12-31"
        )
        session.add(
            ContactOffboarding(contact_id=person.contact_id or 0, client_id=person.client_id, requested_by="ann")
        )
    text = console.viewer.get("/").text
    assert "&lt;b&gt;Ada" in text and "2026-12-31" in text and "Waiting for somebody" in text
    assert "Ada" not in console.stranger.get("/").text and "Waiting for somebody" not in console.stranger.get("/").text


def test_a_refusal_leads_back_to_its_page_and_nowhere_else(console: Console) -> None:
    def links(referer: str) -> str:
        answer = console.viewer.client.get("/clients/999999", headers={"referer": referer})
        assert answer.status_code == 404
        return answer.text.partition("</h1>")[2]

    assert 'href="/plans?state=held&amp;x=%3Cb%3E"' in links(f"{console.address}/plans?state=held&x=%3Cb%3E")
    for other in ("https://evil.example/x", f"{console.address}//evil.example/x", "javascript:alert(1)", "", "//x"):
        text = links(other)
        assert "Back" not in text and "evil" not in text


def test_an_empty_inventory_says_where_to_begin(installation: Installation) -> None:
    token = sign_in_as(installation, "first", (Grant(Role.ADMINISTRATOR),))
    with serving(installation) as address, plain_client(address, token) as client:
        assert "First steps" in client.get("/").text
        with installation.database.session() as session:
            places.add_client(session, name="Contoso", actor="first")
        assert "First steps" not in client.get("/").text


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1440])
def test_it_reads_well(console: Console, chromium: Browser, width: int, dark: bool) -> None:
    add_run(console.installation, console.places, "contoso")
    with browsing(chromium, console, console.owner, width=width, dark=dark) as page:
        page.goto("/")
        expect(page.locator("h1")).to_have_text("Overview")
        fits(page)
        axe_finds_nothing(page)
        picture(page, f"overview-{width}-{'dark' if dark else 'light'}")
