"""The offboarding wizard and the table: a person's last day by browser and by plain forms."""

from __future__ import annotations

from typing import Any

import account_functions
import pytest
from people_help import People, add_people, write_children
from playwright.sync_api import Browser, expect
from sqlmodel import select
from web_help import Console, axe_finds_nothing, browsing, fits, picture

from agent.functions import registry
from agent.model.contacts import ContactOffboarding

FORM: dict[str, Any] = {
    "shown": "1",
    "termination_type": "voluntary",
    "when": "date",
    "date": "2031-05-31",
    "time": "17:00",
}


@pytest.fixture(autouse=True)
def _test_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, attribute in (("account", "Account"), ("backup", "Backup"), ("delete", "Delete")):
        monkeypatch.setitem(registry.BUILT_IN, f"test.{name}", f"account_functions:{attribute}")
    account_functions.DONE.clear()
    account_functions.BROKEN.clear()


@pytest.fixture
def people(console: Console) -> People:
    write_children(console.installation)
    return add_people(console.installation, console.places)


def rows(console: Console) -> list[ContactOffboarding]:
    with console.installation.database.reading() as session:
        return list(session.exec(select(ContactOffboarding)))


def boxes(console: Console, text: str) -> dict[str, str]:
    """The checkboxes of the form that are on, as a browser would send them."""
    import re

    found = re.findall(r'<input type="checkbox" name="(input\.[a-z_]+)" value="1"( checked)?>', text)
    return {name: "1" for name, checked in found if checked}


def test_a_last_day_is_planned_in_a_browser(console: Console, chromium: Browser, people: People) -> None:
    with browsing(chromium, console, console.colleague) as page:
        page.goto("/offboardings")
        page.get_by_role("link", name="Offboard people").click()
        page.get_by_label("Client").select_option("Contoso")
        with page.expect_navigation():
            page.get_by_role("button", name="Go on").click()
        page.get_by_label("Search").press_sequentially("joh")
        expect(page.locator("#found label")).to_have_count(1)
        page.get_by_label("John").check()
        page.get_by_label("Search").fill("jan")
        expect(page.locator("#chosen")).to_contain_text("John")
        page.get_by_label("Why they leave").select_option("voluntary")
        page.get_by_label("Disable-forwarding", exact=False)
        page.get_by_label("Take any forwarding away").check()
        expect(page.locator("#check")).to_contain_text("off because of disable_forwarding")
        page.get_by_role("textbox", name="Out of Office Message").fill("I have <left>")
        page.get_by_label("At a date").check()
        page.get_by_label("Date", exact=True).fill("2031-05-31")
        page.get_by_label("Time", exact=True).fill("17:00")
        axe_finds_nothing(page)
        picture(page, "wizard")
        page.get_by_role("button", name="Show what will happen").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("What will happen to John")
        expect(page.locator(".answer .said")).to_have_text("Nothing hinders it.")
        axe_finds_nothing(page)
        picture(page, "wizard-preview")
        assert rows(console) == []
        page.get_by_role("button", name="Plan the offboarding of John").click()
        expect(page.locator(".said")).to_contain_text("1 planned")
        picture(page, "offboardings")
        page.get_by_role("link", name="John").click()
        axe_finds_nothing(page)
        picture(page, "offboarding")
        page.set_viewport_size({"width": 360, "height": 800})
        fits(page)
    stored = rows(console)[0]
    assert stored.contact_id == people.john and stored.requested_by == "colleague"
    assert stored.inputs["disable_forwarding"] == "1" and "I have &lt;left&gt;" in stored.inputs["out_of_office"]
    assert "keep_copy" not in stored.inputs, "what nobody changed is not given"


def test_it_fits_a_narrow_window_and_works_without_scripts(console: Console, chromium: Browser, people: People) -> None:
    client = console.places.contoso
    with browsing(chromium, console, console.colleague, width=360, dark=True, script=False) as page:
        page.goto(f"/offboardings/new?client={client}")
        fits(page)
        picture(page, "wizard-narrow-dark")
        page.get_by_label("John").check()
        page.get_by_label("Why they leave").select_option("retirement")
        page.get_by_label("At a date").check()
        page.get_by_label("Date", exact=True).fill("2031-05-31")
        page.get_by_role("button", name="Show what will happen").click()
        page.get_by_role("button", name="Plan the offboarding of John").click()
        expect(page.locator(".said")).to_contain_text("1 planned")
    assert [r.inputs["termination_type"] for r in rows(console)] == ["retirement"]


def test_only_technicians_of_the_client(console: Console, people: People) -> None:
    form = {**FORM, "client": str(console.places.contoso), "person": str(people.john)}
    for path in ("/offboardings/preview", "/offboardings/check", "/offboardings/preflight", "/offboardings"):
        assert console.viewer.post(path, data=form).status_code == 403
        assert console.stranger.post(path, data=form).status_code == 404
        assert console.nobody.post(path, data=form).status_code == 303
    mine = {**form, "client": str(console.places.fabrikam)}
    answer = console.stranger.post("/offboardings", data=mine)
    assert answer.status_code == 400 and "john@" not in answer.text, "a person of another client by its id"
    assert console.stranger.get(f"/offboardings/people?client={console.places.contoso}&q=j").status_code == 404
    assert rows(console) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"person": ""}, "at least one person"),
        ({"date": ""}, "the date is missing"),
        ({"date": "2001-01-01"}, "past"),
        ({"input.forward_to": "john@contoso.example"}, "the person who leaves"),
        ({"input.forward_to": "nobody@contoso.example"}, "nobody@contoso.example"),
        ({"input.forward_to": "<b>"}, "no e-mail address"),
        ({"input.no_such_input": "1"}, "there is no input"),
        ({"other": "1"}, "there is no field"),
        ({"client": "x"}, "choose a client"),
        ({"input.forward_to": "jane@contoso.example", "input.disable_forwarding": "1"}, "contradict"),
    ],
)
def test_a_wrong_form_says_what_is_wrong(console: Console, people: People, change: dict[str, str], said: str) -> None:
    text = console.colleague.get(f"/offboardings/new?client={console.places.contoso}").text
    form = {**FORM, **boxes(console, text), "client": str(console.places.contoso), "person": str(people.john), **change}
    for path in ("/offboardings/preview", "/offboardings"):
        answer = console.colleague.post(path, data=form)
        assert answer.status_code == 400 and said in answer.text
        assert "<b>" not in answer.text.replace("<body>", "")
    assert rows(console) == []


def test_the_table_acts_on_the_chosen_ones(console: Console, people: People) -> None:
    text = console.colleague.get(f"/offboardings/new?client={console.places.contoso}").text
    form = {**FORM, **boxes(console, text), "client": str(console.places.contoso)}
    addresses = "john@contoso.example, other1@contoso.example\nother2@contoso.example"
    managed = {**form, "input.manager_email": "jane@contoso.example", "people": addresses}
    answer = console.colleague.post("/offboardings", data=managed)
    assert answer.status_code == 303, answer.text
    ids = [r.id for r in rows(console)]
    assert len(ids) == 3
    assert console.stranger.get("/offboardings").text.count("contoso.example") == 0
    for person, status in ((console.viewer, 403), (console.stranger, 404), (console.nobody, 303)):
        assert person.post("/offboardings/chosen", data={"act": "delete", "id": ids}).status_code == status
    assert console.stranger.get(f"/offboardings/{ids[0]}").status_code == 404
    assert console.colleague.post("/offboardings/chosen", data={"act": "delete"}).status_code == 400
    assert console.colleague.post("/offboardings/chosen", data={"act": "approve", "id": ids}).status_code == 403
    assert console.colleague.post("/offboardings/chosen", data={"act": "delete", "id": ids[:2]}).status_code == 303
    assert console.colleague.get("/offboardings").text.count('name="id"') == 1
    assert console.colleague.post("/offboardings/chosen", data={"act": "run-now", "id": ids[2]}).status_code == 303
    started = next(r for r in rows(console) if r.id == ids[2])
    assert started.run_id is not None
    assert "Running" in console.colleague.get("/offboardings?state=Running").text


def test_somebody_can_be_chosen_beforehand(console: Console, people: People) -> None:
    path = f"/offboardings/new?client={console.places.contoso}&contact="
    chosen = '<div id="chosen"><label'
    assert f'value="{people.john}" checked' in console.colleague.get(f"{path}{people.john}").text
    assert chosen not in console.colleague.get(f"{path}{people.max}").text, "somebody of another client"
    assert chosen not in console.colleague.get(path.removesuffix("&contact=")).text


def test_templates_are_for_those_who_may_know_them(console: Console, people: People) -> None:
    form = {"name": "Leavers", "options": "send_as=jane@contoso.example\nkeep_copy=0", "description": "<i>x</i>"}
    assert console.colleague.post("/offboardings/templates/save", data=form).status_code == 403
    assert console.owner.post("/offboardings/templates/save", data={**form, "options": "nonsense=1"}).status_code == 400
    assert console.owner.post("/offboardings/templates/save", data=form).status_code == 303
    use = {"name": "Leavers", "client": str(console.places.contoso)}
    assert console.colleague.post("/offboardings/templates/assign", data=use).status_code == 403
    assert console.stranger.post("/offboardings/templates/assign", data=use).status_code == 404
    assert console.owner.post("/offboardings/templates/assign", data=use).status_code == 303
    assert "jane@contoso.example" in console.viewer.get("/offboardings/templates").text
    assert "jane@contoso.example" not in console.stranger.get("/offboardings/templates").text
    take = {"name": "Leavers", "me": "1"}
    assert console.stranger.post("/offboardings/templates/assign", data=take).status_code == 404
    text = console.colleague.get(f"/offboardings/new?client={console.places.contoso}").text
    assert "jane@contoso.example" in text and "template Leavers" in text
    assert console.owner.post("/offboardings/templates/remove", data={"name": "Leavers"}).status_code == 409
