"""The page of the extra fields: who defines them, what becomes of defaults, and what is refused."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser
from web_help import Console, axe_finds_nothing, browsing, fits, picture

from agent.inventory import extra_fields, field_values
from agent.inventory.effective import destructive_defaults
from agent.model.fields import FieldType, Form

NASTY = "<script>alert(1)</script> O'Neill"


def number(console: Console, form: Form, name: str) -> int:
    with console.installation.database.reading() as session:
        return extra_fields.get_field(session, form, name).id or 0


def names(console: Console) -> set[str]:
    with console.installation.database.reading() as session:
        return {f.name for f in extra_fields.fields(session)}


def test_all_may_look_and_only_an_administrator_of_all_may_change(console: Console) -> None:
    path = f"/inventory/fields/{number(console, Form.CLIENT, 'Failed Uninstall Process')}"
    for person in console.people[:5]:
        text = person.get("/inventory/fields").text
        assert "Failed Uninstall Process" in text and ("Define the field" in text) == (person is console.owner)
    assert console.nobody.get("/inventory/fields").status_code == 303
    before = names(console)
    posts = (
        ("/inventory/fields", {"level": "client", "name": "x", "type": "text"}),
        (f"{path}/default", {"act": "clear"}),
        (f"{path}/remove", {}),
    )
    for address, body in posts:
        found = [p.post(address, data=body).status_code for p in console.people[1:]]
        assert found == [403, 403, 403, 403, 303], address
    assert names(console) == before


def test_a_field_is_defined_given_a_default_and_removed(console: Console) -> None:
    body = {
        "level": "computer",
        "name": NASTY,
        "type": "dropdown",
        "options": "Yes\r\n\r\nNo\r\n",
        "section": "Own",
        "tooltip": "<b>",
    }
    assert console.owner.post("/inventory/fields", data=body).status_code == 303
    path = f"/inventory/fields/{number(console, Form.COMPUTER, NASTY)}"
    assert "<script>alert" not in console.viewer.get("/inventory/fields").text
    assert console.owner.post(f"{path}/default", data={"act": "set", "value": "No"}).status_code == 303
    computer = console.places.contoso_computers[0]
    with console.installation.database.reading() as session:
        assert field_values.effective_value(session, Form.COMPUTER, computer, NASTY).value == "No"
    assert console.owner.post(f"{path}/default", data={"act": "set", "value": "Maybe"}).status_code == 400
    assert console.owner.post(f"{path}/remove", data={}).status_code == 409
    assert console.owner.post(f"{path}/default", data={"act": "clear"}).status_code == 303
    assert console.owner.post(f"{path}/remove", data={}).status_code == 303 and NASTY not in names(console)
    assert console.owner.post(f"{path}/remove", data={}).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("", {"level": "client", "name": "", "type": "text"}, 400), ("", {"level": "planet", "name": "x", "type": "text"}, 400),
        ("", {"level": "client", "name": "Offboard Client", "type": "checkbox"}, 409),
        ("", {"level": "client", "name": "x", "type": "dropdown"}, 400),
        ("", {"level": "client", "name": "x", "type": "text", "destructive": "1"}, 400),
        ("/{flag}/default", {"act": "set", "value": "1"}, 409), ("/{flag}/default", {"act": "set", "value": ""}, 400),
        ("/{flag}/remove", {"with_values": "1"}, 409), ("/99999/remove", {}, 404), ("/0/default", {"act": "clear"}, 400),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(console: Console, path: str, body: dict[str, str], status: int) -> None:
    flag = number(console, Form.COMPUTER, "Offboard Computer")
    before = names(console)
    assert console.owner.post("/inventory/fields" + path.format(flag=flag), data=body).status_code == status
    with console.installation.database.reading() as session:
        assert destructive_defaults(session) == []
    assert names(console) == before


def test_it_reads_well(console: Console, chromium: Browser) -> None:
    with console.installation.database.session() as session:
        extra_fields.define(
            session, form=Form.COMPUTER, name=NASTY, actor="ann", type=FieldType.DROPDOWN, options=["Yes", "No"]
        )
    for width, dark in ((360, False), (1440, True)):
        with browsing(chromium, console, console.owner, width=width, dark=dark) as page:
            page.goto("/inventory/fields")
            page.locator("summary", has_text=f"Change {NASTY}").click()
            fits(page)
            axe_finds_nothing(page)
            picture(page, f"fields-{width}-{'dark' if dark else 'light'}")
