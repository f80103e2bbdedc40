"""Monitors, alert templates and scripts: shown with their text, run after a preview, duplicated, listed and edited."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from sqlmodel import select
from web_help import Console, axe_finds_nothing, browsing, fits, picture

from agent.access.principal import Grant, Role
from agent.access.users import set_grants
from agent.audit import entries
from agent.inventory import field_values
from agent.model.access import User
from agent.model.fields import Form
from agent.model.runs import Plan

MONITOR = "/monitors/Offboarding"
TEMPLATE = "offboarding_scripts_partner_template"


def flag(console: Console) -> None:
    with console.installation.database.session() as session:
        field_values.set_value(
            session, Form.COMPUTER, console.places.contoso_computers[0], "Offboard Computer", "1", actor="ann"
        )


def administers_contoso(console: Console) -> None:
    with console.installation.database.reading() as session:
        user = session.exec(select(User).where(User.name == "approver")).one()
    set_grants(console.installation, user.id, [Grant(Role.ADMINISTRATOR, console.places.contoso)], actor="test")


def duplicate(console: Console) -> str:
    form = {"client": "contoso", "name": "Contoso's own"}
    answer = console.owner.post(f"/scripts/{TEMPLATE}/duplicate", data=form)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def test_a_flag_is_previewed_and_run_from_the_browser(console: Console, chromium: Browser) -> None:
    flag(console)
    assert console.owner.post(f"/scripts/{TEMPLATE}/duplicate", data={"client": "contoso"}).status_code == 303
    listing = {"client": "contoso", "wrapper": "Offboarding Wrapper"}
    assert console.owner.post("/scripts/offboarding_scripts_contoso/use", data=listing).status_code == 303
    with browsing(chromium, console, console.owner) as page:
        page.goto("/monitors")
        axe_finds_nothing(page)
        picture(page, "monitors")
        page.get_by_role("link", name="Offboarding", exact=True).click()
        picture(page, "monitor")
        axe_finds_nothing(page)
        page.get_by_role("link", name="Run now …").click()
        expect(page.locator("details.card")).to_contain_text("CONTOSO-PC1")
        axe_finds_nothing(page)
        picture(page, "monitor-preview")
        with console.installation.database.reading() as session:
            assert session.exec(select(Plan)).all() == []
        page.get_by_role("button", name="Start 1 run").click()
        expect(page.locator("h1")).to_contain_text("Plan of Offboarding")
        page.set_viewport_size({"width": 360, "height": 800})
        fits(page)


def test_who_may_run_and_change_monitors(console: Console) -> None:
    flag(console)
    for person, status in (
        (console.colleague, 403),
        (console.viewer, 403),
        (console.stranger, 403),
        (console.nobody, 303),
    ):
        assert person.get(f"{MONITOR}/run").status_code == status, person.name
        assert person.post(f"{MONITOR}/run", data={}).status_code == status
        assert person.post(f"{MONITOR}/enabled", data={"enabled": "0"}).status_code == status
        assert person.post(f"{MONITOR}/alert-template", data={}).status_code == status
    assert "contoso" not in console.stranger.get(MONITOR).text.lower()
    assert console.owner.post(f"{MONITOR}/enabled", data={"enabled": "0"}).status_code == 303
    assert "Enable" in console.owner.get(MONITOR).text
    assert console.owner.post(f"{MONITOR}/alert-template", data={"alert_template": "none such"}).status_code == 404
    assert console.owner.get("/monitors/none such").status_code == 404
    assert console.owner.get("/alert-templates/none such").status_code == 404
    assert console.owner.get("/alerts?closed=1").status_code == 200


def test_passing_over_a_guardrail_takes_an_approver(console: Console) -> None:
    flag(console)
    with console.installation.database.reading() as session:
        user = session.exec(select(User).where(User.name == "colleague")).one()
    set_grants(console.installation, user.id, [Grant(Role.TECHNICIAN)], actor="test")
    over = {"override": ["caps"], "reason": "agreed"}
    assert console.colleague.get(f"{MONITOR}/run").status_code == 200
    assert console.colleague.post(f"{MONITOR}/run", data=over).status_code == 403
    set_grants(console.installation, user.id, [Grant(Role.APPROVER)], actor="test")
    assert console.colleague.post(f"{MONITOR}/run", data=over).status_code != 403


def test_a_clients_scripts_are_the_clients(console: Console) -> None:
    where = duplicate(console)
    assert console.viewer.get(where).status_code == 200
    assert console.stranger.get(where).status_code == 404
    for page in ("/scripts", f"/scripts/{TEMPLATE}"):
        text = console.stranger.get(page).text.lower()
        # The shipped template names a client of that name in an example.
        assert "contoso's own" not in text and "contoso&#39;s own" not in text and ">contoso<" not in text
    edit = where.replace("?", "/edit?")
    for person, status in (
        (console.colleague, 403),
        (console.stranger, 404),
        (console.nobody, 303),
        (console.owner, 200),
    ):
        assert person.get(edit).status_code == status, person.name
    administers_contoso(console)
    assert console.approver.get(edit).status_code == 200
    copy = {"client": "fabrikam"}
    assert console.approver.post(f"/scripts/{TEMPLATE}/duplicate", data=copy).status_code == 404
    assert console.approver.post(f"/scripts/{TEMPLATE}/duplicate", data={"client": "partner"}).status_code == 403
    assert console.owner.get("/scripts/offboarding_wrapper/edit").status_code == 409, "shipped scripts are duplicated"


def test_an_edit_is_checked_compared_and_saved(console: Console, chromium: Browser) -> None:
    where = duplicate(console)
    with browsing(chromium, console, console.owner) as page:
        page.goto(where)
        axe_finds_nothing(page)
        picture(page, "script")
        with page.expect_navigation():
            page.get_by_role("link", name="Edit").click()
        editor = page.locator("textarea").first
        expect(editor).not_to_have_value("")
        text = editor.input_value()
        editor.fill(text + "nonsense: 1\n")
        expect(page.locator("#looked .fault")).to_contain_text("nonsense")
        picture(page, "script-edit")
        with page.expect_navigation():
            page.get_by_role("button", name="Save").click()
        expect(page.locator(".fault").first).to_contain_text("nonsense")
        editor.fill(text + "# a comment that <b>stays</b>\n")
        expect(page.locator("#looked ins")).to_contain_text("stays")
        axe_finds_nothing(page)
        page.get_by_role("button", name="Save").click()
        expect(page.locator(".said")).to_have_text("Saved.")
    assert "# a comment that &lt;b&gt;stays&lt;/b&gt;" in console.owner.get(where).text
    with console.installation.database.reading() as session:
        found: list[Any] = [e for e in entries(session) if e.action == "script.edit"]
    assert len(found) == 1 and found[0].actor == "owner" and found[0].details["files"] == ["script.yaml"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"file.../../x": "x"}, 400), ({"file.other.sh": "x"}, 400), ({"unknown": "x"}, 400),
        ({"file.script.yaml": "name: Another\nsteps: []\n"}, 400), ({"expected": "0" * 64}, 409),
        ({"file.script.yaml": "name: [" * 50}, 400), ({"file.script.yaml": "\0"}, 400),
    ],
)  # fmt: skip
def test_a_wrong_edit_changes_nothing(console: Console, change: dict[str, str], status: int) -> None:
    where = duplicate(console)
    script = console.installation.content.script("Contoso's own", "contoso")
    before = script.file.read_text()
    form = {"expected": script.digest, "file.script.yaml": before + "# x\n", **change}
    answer = console.owner.post(where.replace("?", "/edit?"), data=form)
    assert answer.status_code == status, answer.text
    assert script.file.read_text() == before
    assert sorted(p.name for p in script.file.parent.iterdir()) == sorted(["script.yaml", *script.bodies])
