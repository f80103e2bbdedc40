"""Tickets, tasks, mail, audit, credentials and properties: for whom they are, and that secrets never come back."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from peers import kept_port
from playwright.sync_api import Browser, expect
from sqlmodel import select
from web_help import Console, axe_finds_nothing, browsing, fits, picture

from agent.model.administration import Credential
from agent.model.contacts import ManualTask
from agent.model.tickets import Notification, Ticket
from agent.secrets import create_key
from agent.services import credentials, manual_tasks

SECRET = "Sw0rdfish-81-never-shown"


@pytest.fixture
def desk(console: Console) -> tuple[int, int, int]:
    """A ticket, a task and a failed mail of Contoso."""
    with console.installation.database.session() as session:
        ticket = Ticket(
            client_id=console.places.contoso, subject="Removal failed: <script>alert(1)</script>", body="Why & how",
            status="open", created_by="system", key="k",
        )  # fmt: skip
        session.add(ticket)
        task = manual_tasks.create(session, client_id=console.places.contoso, title="Collect the keys", author="system")
        mail = Notification(
            client_id=console.places.contoso, recipient="it@contoso.example", subject="Result", body="It failed",
            state="failed", error="no server", key="k",
        )  # fmt: skip
        session.add(mail)
        session.flush()
        return ticket.id or 0, task.id or 0, mail.id or 0


def test_the_desk_is_the_clients(console: Console, desk: tuple[int, int, int]) -> None:
    ticket, task, mail = desk
    pages = (f"/tickets/{ticket}", f"/mail/{mail}")
    for path in (*pages, "/tickets", "/tasks", "/mail"):
        text = console.viewer.get(path).text
        assert "<script>alert" not in text and '<form method="post" action="/tickets' not in text
        assert console.nobody.get(path).status_code == 303
    assert all(console.stranger.get(path).status_code == 404 for path in pages)
    for path in ("/tickets", "/tasks", "/mail"):
        text = console.stranger.get(path).text
        assert not any(t in text for t in ("Removal failed", "Collect the keys", "it@contoso.example"))
    acts = (f"/tickets/{ticket}/comments", f"/tickets/{ticket}/close", f"/tasks/{task}/done", f"/mail/{mail}/resend")
    for path in acts:
        assert console.viewer.post(path, data={}).status_code == 403
        assert console.stranger.post(path, data={}).status_code == 404
    for path in acts:
        assert console.colleague.post(path, data={}).status_code == 303, path
    with console.installation.database.reading() as session:
        assert session.get_one(Ticket, ticket).status == "closed"
        assert session.get_one(ManualTask, task).closed_by == "colleague"
        assert session.get_one(Notification, mail).state != "failed"


def test_the_desk_reads_well(console: Console, chromium: Browser, desk: tuple[int, int, int]) -> None:
    with browsing(chromium, console, console.colleague) as page:
        for path, name in ((f"/tickets/{desk[0]}", "ticket"), ("/tasks?state=open", "tasks"), ("/mail", "mail")):
            page.goto(path)
            axe_finds_nothing(page)
            picture(page, name)
        page.set_viewport_size({"width": 360, "height": 800})
        for path in ("/tickets", "/tasks", "/mail"):
            page.goto(path)
            fits(page)


def test_the_audit_trail_is_shown_and_verified(console: Console, chromium: Browser) -> None:
    with browsing(chromium, console, console.owner) as page:
        page.goto("/audit")
        axe_finds_nothing(page)
        picture(page, "audit")
        page.get_by_role("button", name="Verify the whole trail").click()
        expect(page.locator("h1")).to_have_text("The audit trail is whole")
        noted = page.locator("#head").inner_text()
        axe_finds_nothing(page)
    assert console.owner.post("/audit/verify", data={"noted": noted}).status_code == 200
    assert console.owner.post("/audit/verify", data={"noted": "nonsense"}).status_code == 400
    gone = console.owner.post("/audit/verify", data={"noted": "9999:" + "0" * 64})
    assert "was changed" in gone.text
    assert console.viewer.post("/audit/verify", data={}).status_code == 403
    assert "stranger" not in console.colleague.get("/audit").text


def test_a_credential_is_stored_changed_and_its_secret_never_shown(console: Console, chromium: Browser) -> None:
    create_key(console.installation.settings)
    with browsing(chromium, console, console.owner) as page:
        page.goto("/credentials")
        page.get_by_role("link", name="Add").click()
        page.get_by_label("Kind").select_option("ssh")
        page.get_by_role("button", name="Go on").click()
        page.get_by_label("Name", exact=True).fill("contoso-admin")
        page.get_by_label("For").select_option("Contoso")
        page.get_by_label("username").fill("admin")
        page.get_by_label("password").fill(SECRET)
        axe_finds_nothing(page)
        picture(page, "credential-new")
        page.get_by_role("button", name="Store").click()
        expect(page.locator(".said")).to_have_text("The credential is stored.")
        assert SECRET not in page.content()
        picture(page, "credential")
    with console.installation.database.reading() as session:
        stored = session.exec(select(Credential)).one()
    assert stored.secret is not None and SECRET not in stored.secret
    path = f"/credentials/{stored.id}"
    for person, status in (
        (console.colleague, 403),
        (console.viewer, 403),
        (console.stranger, 404),
        (console.nobody, 303),
    ):
        assert person.get(path).status_code == status, person.name
        for act in ("", "/remove", "/test"):
            assert person.post(path + act, data={"computer_id": "1"} if act == "/test" else {}).status_code == status
    assert "contoso-admin" not in console.stranger.get("/credentials").text
    assert console.owner.post(path, data={"setting.username": "root"}).status_code == 303
    with console.installation.database.reading() as session:
        changed = session.exec(select(Credential)).one()
    assert changed.settings == {"username": "root"} and changed.secret == stored.secret, "an empty secret stays"
    for wrong in ({"setting.password": SECRET}, {"other": "1"}):
        answer = console.owner.post(path, data=wrong)
        assert answer.status_code == 400 and SECRET not in answer.text
    mine = {"kind": "ssh", "name": "x", "client": str(console.places.contoso), "secret.password": SECRET}
    assert console.stranger.post("/credentials", data=mine).status_code == 404
    assert console.stranger.post("/credentials", data={**mine, "client": ""}).status_code == 403
    assert console.owner.post(f"{path}/remove", data={}).status_code == 303


@pytest.fixture
def nobody_listens() -> Iterator[int]:
    """A port that refuses connections."""
    with kept_port() as port:
        yield port


def test_a_credential_of_a_service_is_tried_without_a_computer(
    console: Console, chromium: Browser, nobody_listens: int
) -> None:
    create_key(console.installation.settings)
    settings = {"url": f"https://127.0.0.1:{nobody_listens}", "answer_seconds": 1, "call_seconds": 1}
    made = {
        kind: credentials.add(
            console.installation, kind=kind, name=f"our {kind}", client_id=console.places.contoso, settings=given,
            secret={secret: SECRET} if secret else None, actor="ann",
        ).id
        for kind, given, secret in (("okta", settings, "token"), ("secret", {}, "secret"), ("slack", {}, ""))
    }  # fmt: skip
    path = f"/credentials/{made['okta']}"
    with browsing(chromium, console, console.owner) as page:
        page.goto(path)
        axe_finds_nothing(page)
        page.get_by_role("button", name="Test").click()
        said = page.locator(".said")
        expect(said).to_contain_text("It does not work")
        expect(said).to_contain_text("cannot be reached")
        assert SECRET not in page.content()
        page.goto(f"/credentials/{made['secret']}")
        expect(page.get_by_role("button", name="Remove")).to_be_visible()
        expect(page.get_by_role("button", name="Test")).to_have_count(0)
    for person, status in (
        (console.colleague, 403),
        (console.viewer, 403),
        (console.stranger, 404),
        (console.nobody, 303),
    ):
        answer = person.post(f"{path}/test", data={})
        assert answer.status_code == status and "cannot be reached" not in answer.text
    waiting = console.owner.post(f"/credentials/{made['slack']}/test", data={})
    assert waiting.status_code == 303 and "waits for its secret" in unquote(waiting.headers["set-cookie"])
    # One that no service takes needs a computer.
    assert console.owner.post(f"/credentials/{made['secret']}/test", data={}).status_code == 400


def test_properties_are_the_administrators(console: Console, chromium: Browser) -> None:
    name = "_sysOffboardingAlertType"
    for person, status in ((console.colleague, 403), (console.stranger, 403), (console.nobody, 303)):
        assert person.get("/properties").status_code == status
        assert person.post("/properties", data={"name": name, "value": "Ticket"}).status_code == status
        assert person.post("/properties/unset", data={"name": name}).status_code == status
    assert console.owner.post("/properties", data={"name": name, "value": "nonsense"}).status_code == 400
    assert console.owner.post("/properties", data={"name": name, "value": "Ticket"}).status_code == 303
    assert "set by owner" in console.owner.get("/properties").text
    assert console.owner.post("/properties/unset", data={"name": name, "value": "x"}).status_code == 303
    with browsing(chromium, console, console.owner) as page:
        page.goto("/properties")
        axe_finds_nothing(page)
        picture(page, "properties")
