"""The page that hands a secret over: looking takes nothing, the button takes it once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from playwright.sync_api import Browser, expect
from sqlmodel import select
from web_help import Console, axe_finds_nothing, browsing, fits, picture

from agent import audit
from agent.model.access import OneTimeLink
from agent.secrets import create_key
from agent.services import handover

SECRET = 'Zw9!<b>&"é \n second line'


@pytest.fixture
def address(console: Console) -> str:
    """Where a secret of Contoso waits."""
    create_key(console.installation.settings)
    with console.installation.database.session() as session:
        token = handover.create(
            session, console.installation.secrets, SECRET, client_id=console.places.contoso, subject_id=None,
            life=timedelta(hours=1), actor="test",
        )  # fmt: skip
    return handover.path(token)


def test_looking_takes_nothing(console: Console, address: str) -> None:
    for method in ("GET", "GET", "HEAD", "OPTIONS"):
        answer = console.nobody.client.request(method, address)
        assert "Zw9" not in answer.text
    assert "Contoso" not in console.nobody.get(address).text
    assert "Zw9!&lt;b&gt;" in console.nobody.client.post(address).text


def test_it_is_shown_once_by_twenty_at_once(console: Console, address: str) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: console.nobody.client.post(address), range(20)))
    assert sorted(a.status_code for a in answers) == [200] + [404] * 19
    assert sum("Zw9" in a.text for a in answers) == 1
    assert all(a.headers["cache-control"] == "no-store" for a in answers)
    assert console.nobody.get(address).status_code == 404
    with console.installation.database.reading() as session:
        taken = audit.entries(session, action="handover.take")
        assert [(e.actor, e.client_id) for e in taken] == [("link:127.0.0.1", console.places.contoso)]
        assert "Zw9" not in str([link.model_dump() for link in session.exec(select(OneTimeLink))])


@pytest.mark.parametrize("token", ["x", "x" * 43, "%00", "..%2F..%2Fetc%2Fpasswd", "é" * 300])
def test_what_is_no_link_is_not_found(console: Console, token: str) -> None:
    assert console.nobody.get(f"/handover/{token}").status_code == 404
    assert console.nobody.client.post(f"/handover/{token}").status_code == 404


def test_another_site_cannot_press_the_button(console: Console, address: str) -> None:
    answer = console.nobody.client.post(address, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert console.nobody.get(address).status_code == 200


@pytest.mark.parametrize("script", [True, False])
def test_it_works_in_a_browser(console: Console, address: str, chromium: Browser, script: bool) -> None:
    with browsing(chromium, console, console.nobody, width=360, script=script) as page:
        page.goto(address)
        page.get_by_role("button", name="Show it once").click()
        expect(page.locator("#secret")).to_have_text(SECRET)
        fits(page)
        if script:
            axe_finds_nothing(page)
            picture(page, "handover-360")
