"""Webhooks in the console: targets and sources with their secrets shown once, the log, who may, and how it looks."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect
from sqlmodel import select
from web_help import Console, axe_finds_nothing, browsing, fits, picture

from agent import audit
from agent.installation import Installation
from agent.inventory import places
from agent.model.places import Client
from agent.model.webhooks import WebhookDelivery, WebhookSource, WebhookTarget
from agent.secrets import create_key
from agent.services import webhooks

SCRIPT = "<script>alert(1)</script>"
TARGET = {"name": "psa", "url": "https://h.example/x"}


@pytest.fixture
def installation(installation: Installation) -> Installation:
    create_key(installation.settings)
    return installation


@pytest.fixture
def ids(console: Console) -> dict[str, str]:
    """A target, a source and a message of Contoso, whose names are HTML; and one target of Fabrikam."""
    installation, contoso = console.installation, console.places.contoso
    with installation.database.session() as session:
        places.change(session, session.get_one(Client, contoso), actor="t", name=f"Contoso {SCRIPT}")
    target, _ = webhooks.add_target(
        installation, name=f"psa {SCRIPT}", url="https://h.example/", client_id=contoso, events=["run.held"], actor="t"
    )
    source, _ = webhooks.add_source(installation, name=f"hr {SCRIPT}", kind="hr", client_id=contoso, actor="t")
    webhooks.add_target(
        installation, name="theirs", url="https://f.example/", client_id=console.places.fabrikam, actor="t"
    )
    with installation.database.session() as session:
        made = WebhookDelivery(
            target_id=target.id, event_id="run.held:1", event="run.held", state="failed", attempts=8, status_code=503,
            client_id=contoso, body={"event": "run.held", "text": SCRIPT}, error=f"it answered {SCRIPT}",
        )  # fmt: skip
        session.add(made)
        return {"target": target.id, "source": source.id, "delivery": made.id}


def acts(ids: dict[str, str], client_id: int) -> dict[str, dict[str, str]]:
    """Everything that can be pressed, for Contoso."""
    return {
        "/webhooks/targets": {**TARGET, "client": str(client_id)},
        "/webhooks/sources": {"name": "new", "kind": "hr", "client": str(client_id)},
        f"/webhooks/log/{ids['delivery']}/retry": {}, f"/webhooks/targets/{ids['target']}/remove": {},
        f"/webhooks/sources/{ids['source']}/remove": {},
    }  # fmt: skip


def test_who_may_see_and_change_webhooks(console: Console, ids: dict[str, str]) -> None:
    contoso = acts(ids, console.places.contoso)
    for person in (console.viewer, console.colleague, console.approver):
        for path in ("/webhooks", "/webhooks/log"):
            answer = person.get(path)
            assert answer.status_code == 403 and "h.example" not in answer.text, person.name
        assert {person.post(path, data=form).status_code for path, form in contoso.items()} == {403}, person.name
        assert 'href="/webhooks"' not in person.get("/").text
    for path in ("/webhooks", "/webhooks/log"):
        text = console.stranger.get(path).text
        assert "theirs" in text and "ontoso" not in text and "h.example" not in text, path
    assert {console.stranger.post(path, data=form).status_code for path, form in contoso.items()} == {404}
    assert console.stranger.post("/webhooks/targets", data=TARGET).status_code == 403, "of all clients"
    for path, form in contoso.items():
        assert console.nobody.post(path, data=form).headers["location"].startswith("/sign-in")
    with console.installation.database.reading() as session:
        assert (
            len(session.exec(select(WebhookTarget)).all()) == 2 and len(session.exec(select(WebhookSource)).all()) == 1
        )
    mine = {**TARGET, "client": str(console.places.fabrikam)}
    assert console.stranger.post("/webhooks/targets", data=mine).status_code == 200
    assert [console.owner.post(path, data=form).status_code for path, form in contoso.items()][2:] == [303, 303, 303]


def test_every_text_is_escaped(console: Console, ids: dict[str, str]) -> None:
    for path in ("/webhooks", "/webhooks/log", f"/webhooks/log?target={ids['target']}&state=failed"):
        text = console.owner.get(path).text
        assert SCRIPT not in text and "&lt;script&gt;" in text, path
    made = console.owner.post("/webhooks/targets", data={**TARGET, "name": SCRIPT})
    assert made.status_code == 200 and SCRIPT not in made.text


def test_a_secret_is_shown_once_and_works(console: Console) -> None:
    for kind, form in (
        ("targets", {**TARGET, "events": ["run.held", "ticket.created"]}),
        ("sources", {"name": "hr", "kind": "hr", "client": str(console.places.contoso)}),
    ):
        found = re.search(r"whsec_[\w-]{43}", console.owner.post(f"/webhooks/{kind}", data=form).text)
        assert found, kind
        assert found[0] not in console.owner.get("/webhooks").text
        with console.installation.database.reading() as session:
            (row,) = webhooks.targets(session) if kind == "targets" else webhooks.sources(session)
            assert webhooks.secret_of(console.installation, row) == found[0]
            assert found[0] not in str([e.details for e in audit.entries(session, action="webhook*")])
            if isinstance(row, WebhookTarget):
                assert row.events == ["run.held", "ticket.created"] and row.client_id is None


def test_what_cannot_be_added_is_told_in_the_form(console: Console, ids: dict[str, str]) -> None:
    for wrong in ("http://h.example/", "https://127.0.0.1/", "nonsense://x"):
        answer = console.owner.post("/webhooks/targets", data={"name": "kept", "url": wrong})
        assert answer.status_code == 400 and 'class="fault"' in answer.text and 'value="kept"' in answer.text
    taken = console.owner.post("/webhooks/targets", data={**TARGET, "name": "theirs"})
    assert taken.status_code == 400 and "theirs" in taken.text
    for form in (
        {"url": "https://h.example/"}, {**TARGET, "events": "nope"}, {**TARGET, "client": "x"}, {**TARGET, "more": "1"},
        {**TARGET, "name": "a\0b"},
    ):  # fmt: skip
        assert console.owner.post("/webhooks/targets", data=form).status_code == 400, form
    for path in ("/webhooks/log?state=nope", "/webhooks/log?target=x", "/webhooks/log?after=x"):
        assert console.owner.get(path).status_code == 400, path
    again = f"/webhooks/log/{ids['delivery']}/retry"
    assert console.owner.post(again, data={}).status_code == 303
    assert console.owner.post(again, data={}).status_code == 409, "it waits already"


def test_webhooks_are_used_with_a_browser(console: Console, chromium: Browser, ids: dict[str, str]) -> None:
    with browsing(chromium, console, console.owner) as page:
        page.goto("/webhooks")
        axe_finds_nothing(page)
        page.get_by_text("Add a target", exact=True).click()
        page.get_by_label("Name of the target").fill("tickets")
        page.get_by_label("Address", exact=True).fill("https://hooks.example.com/exeunt")
        page.get_by_label("Told of").select_option("Fabrikam")
        page.get_by_label("ticket.created").check()
        axe_finds_nothing(page)
        picture(page, "webhooks")
        page.keyboard.press("Tab")
        page.get_by_role("button", name="Add the target").press("Enter")
        expect(page.locator("#secret")).to_contain_text("whsec_")
        axe_finds_nothing(page)
        page.get_by_role("link", name="Done").click()
        expect(page.get_by_role("region", name="Targets")).to_contain_text("https://hooks.example.com/exeunt")
        page.get_by_role("link", name="Log of messages").click()
        axe_finds_nothing(page)
        picture(page, "webhooks-log")
        page.get_by_role("button", name="Send run.held").click()
        expect(page.locator(".said")).to_contain_text("a worker sends it again")
        for path in ("/webhooks", "/webhooks/log"):
            page.set_viewport_size({"width": 360, "height": 800})
            page.goto(path)
            fits(page)
        page.goto("/webhooks")
        picture(page, "webhooks-narrow")
    with browsing(chromium, console, console.owner, dark=True, script=False) as page:
        page.goto("/webhooks")
        page.get_by_role("button", name="Remove the target tickets").click()
        expect(page.locator(".said")).to_contain_text("The target is removed")
        picture(page, "webhooks-dark")


def test_a_channel_s_address_is_never_shown_again(console: Console) -> None:
    form = {"name": "channel", "url": "https://hooks.slack.com/services/T0ken", "form": "slack", "client": ""}
    refused = console.owner.post("/webhooks/targets", data={**form, "url": "http://hooks.slack.com/services/T0ken"})
    assert refused.status_code == 400 and "T0ken" not in refused.text
    assert console.owner.post("/webhooks/targets", data=form).status_code == 303
    text = console.owner.get("/webhooks").text
    assert "https://hooks.slack.com/…" in text and "T0ken" not in text
