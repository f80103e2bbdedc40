"""Pages of one place: facts, fields by one form, flagging after a preview, adding and changing, for whom it is allowed."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from playwright.sync_api import Browser
from sqlalchemy import text
from sqlmodel import col, select
from web_help import Console, Person, axe_finds_nothing, browsing, fits, picture

from agent import audit
from agent.inventory import contacts, extra_fields, field_values, flags, places
from agent.inventory.field_values import secret_value, values_of
from agent.inventory.flags import EXCLUDE
from agent.model.fields import FieldType, Form
from agent.model.places import Computer, Contact, Location
from agent.secrets import create_key

NASTY = '<script>alert(1)</script> "O\'Neill" & Söhne'
VIEWED = ("", "/fields", "/history")


def addresses(console: Console) -> dict[str, str]:
    """A place of each kind of Contoso, with a name that would run as a script."""
    here = console.places
    with console.installation.database.session() as session:
        site = places.add_location(session, client_id=here.contoso, name=NASTY, actor="ann")
        computer = places.add_computer(
            session, location_id=site.location_id or 0, name=NASTY, actor="ann", is_server=True
        )
        person = places.add_contact(session, client_id=here.contoso, name=NASTY, actor="ann", email="n@contoso.example")
        places.change(session, session.get_one(Location, here.contoso_site), name="HQ", actor="ann")
    return {
        "client": f"/clients/{here.contoso}", "location": f"/locations/{site.location_id}",
        "computer": f"/computers/{computer.computer_id}", "contact": f"/contacts/{person.contact_id}",
    }  # fmt: skip


def define(console: Console, name: str, type: FieldType, form: Form = Form.COMPUTER, **more: Any) -> str:
    """A field of our own; the name of its input."""
    with console.installation.database.session() as session:
        return f"field-{extra_fields.define(session, form=form, name=name, type=type, actor='ann', **more).id}"


def form_of(person: Person, address: str) -> dict[str, str]:
    """What a browser would send of a page's main form, unchanged."""
    text = person.get(address).text.partition("<main")[2].partition("<form method")[2].partition("</form>")[0]
    found: dict[str, str] = {}
    for tag in re.findall(r"<input[^>]+>", text):
        values = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
        if values.get("type") != "checkbox" or re.search(r"\schecked", tag):
            found[values["name"]] = values.get("value", "")
    for name, body in re.findall(r'<select[^>]+name="([^"]+)".*?>(.*?)</select>', text, re.S):
        chosen = re.search(r'<option(?: value="([^"]*)")? selected>([^<]*)', body)
        found[name] = (chosen[1] if chosen[1] is not None else chosen[2]) if chosen else ""
    for name, value in re.findall(r'<textarea[^>]+name="([^"]+)".*?>(.*?)</textarea>', text, re.S):
        found[name] = value
    return {
        n: v.replace("&#34;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'").replace("&amp;", "&")
        for n, v in found.items()
        if n != "csrf"
    }


def values(console: Console, form: Form, place: int) -> dict[str, str | None]:
    with console.installation.database.reading() as session:
        return {n: v.value for n, v in values_of(session, form, place).items() if v.origin == "own"}


def test_each_may_see_and_change_what_is_its_own(console: Console) -> None:
    for kind, address in addresses(console).items():
        for more in VIEWED:
            for person in (console.owner, console.colleague, console.approver, console.viewer):
                answer = person.get(address + more)
                assert answer.status_code == 200, (kind, more)
                assert "<script>alert" not in answer.text
            answer = console.stranger.get(address + more)
            assert answer.status_code == 404 and "contoso" not in answer.text.lower()
            assert console.nobody.get(address + more).headers["location"].startswith("/sign-in")
        assert "/flag" not in console.viewer.get(address).text and "/edit" not in console.viewer.get(address).text
        for more in ("/flag", "/edit"):
            assert console.colleague.get(address + more).status_code == 200
            assert [p.get(address + more).status_code for p in (console.viewer, console.stranger, console.nobody)] == [
                403,
                404,
                303,
            ]
        posts: list[tuple[str, dict[str, str]]] = [
            ("/flag", {"flag": "1"}),
            ("/fields", {"version": "0"}),
            ("/edit", {"name": "x"}),
        ]
        if kind == "computer":
            posts += [
                ("/retire", {"retired": "true"}),
                ("/maintenance", {"minutes": "5"}),
                ("/alerting", {"no_alerts": "1"}),
            ]
        for more, body in posts:
            found = [
                p.post(address + more, data=body).status_code
                for p in (console.viewer, console.stranger, console.nobody)
            ]
            assert found == [403, 404, 303], (kind, more)
    with console.installation.database.reading() as session:
        assert flags.standing_flags(session) == []
        assert not session.exec(select(Computer).where(col(Computer.retired_at).is_not(None))).all()


@pytest.mark.parametrize(
    "address",
    ["/computers/999", "/clients/0", "/contacts/99999999999", "/printers/1", "/computers/x", "/computers/1/secrets"],
)
def test_what_is_not_there_is_not_found(console: Console, address: str) -> None:
    assert console.owner.get(address).status_code in (400, 404)


def test_one_form_saves_each_kind_of_field(console: Console) -> None:
    create_key(console.installation.settings)
    text, check = define(console, "Room", FieldType.TEXT), define(console, "Leased", FieldType.CHECKBOX)
    choice = define(console, "Backup", FieldType.DROPDOWN, options=["Yes", NASTY])
    date, number = define(console, "Contract End", FieldType.DATE), define(console, "Seats", FieldType.NUMBER)
    secret = define(console, "Passphrase", FieldType.SECRET)
    computer = console.places.contoso_computers[0]
    address = f"/computers/{computer}/fields"
    filled = {text: NASTY, check: "1", choice: NASTY, date: "2026-12-31", number: "-3.5", secret: "hunter2"}
    answer = console.colleague.post(address, data=form_of(console.colleague, address) | filled)
    assert answer.status_code == 303, answer.text
    expected = {
        "Room": NASTY,
        "Leased": "1",
        "Backup": NASTY,
        "Contract End": "2026-12-31",
        "Seats": "-3.5",
        "Passphrase": "***",
    }
    assert values(console, Form.COMPUTER, computer) == expected
    page = console.colleague.get(address).text
    assert "hunter2" not in page and "enc:" not in page and "<script>alert" not in page
    with console.installation.database.session() as session:
        assert secret_value(session, Form.COMPUTER, computer, "Passphrase", console.installation.secrets) == "hunter2"
        made = audit.entries(session, action="edf.change")
        assert len(made) == 6 and {e.actor for e in made} == {"colleague"}
    # The same form again changes nothing; an empty text, an unticked box and a forgotten secret do.
    assert console.colleague.post(address, data=form_of(console.colleague, address)).status_code == 303
    assert values(console, Form.COMPUTER, computer) == expected
    unticked = form_of(console.colleague, address) | {text: "", secret.replace("field", "clear"): "1"}
    del unticked[check]
    assert console.colleague.post(address, data=unticked).status_code == 303
    assert values(console, Form.COMPUTER, computer) == {
        "Leased": "0",
        "Backup": NASTY,
        "Contract End": "2026-12-31",
        "Seats": "-3.5",
    }
    assert values(console, Form.COMPUTER, console.places.fabrikam_computers[0]) == {}


def test_a_value_that_cannot_be_is_told_at_its_field_and_nothing_is_stored(console: Console) -> None:
    text, date, number = (
        define(console, n, t)
        for n, t in (("Room", FieldType.TEXT), ("End", FieldType.DATE), ("Seats", FieldType.NUMBER))
    )
    computer = console.places.contoso_computers[0]
    address = f"/computers/{computer}/fields"
    answer = console.colleague.post(
        address, data=form_of(console.colleague, address) | {text: "7", date: "31.12.2026", number: "many"}
    )
    assert answer.status_code == 400 and "2 values cannot be" in answer.text
    assert "YYYY-MM-DD" in answer.text and 'value="7"' in answer.text and 'value="31.12.2026"' in answer.text
    assert values(console, Form.COMPUTER, computer) == {}


@pytest.mark.parametrize("what", ["stale", "unknown", "other level", "flag", "long", "no version"])
def test_a_form_that_was_not_shown_is_refused(console: Console, what: str) -> None:
    text = define(console, "Room", FieldType.TEXT)
    computer = console.places.contoso_computers[0]
    address = f"/computers/{computer}/fields"
    body = form_of(console.colleague, address) | {text: "7"}
    other = define(console, "Elsewhere", FieldType.TEXT, Form.CLIENT)
    body |= {
        "unknown": {"field-9999": "1"},
        "other level": {other: "1"},
        "flag": {"field-3": "1"},
        "long": {text: "x" * 20_001},
    }.get(what, {})
    if what == "stale":
        with console.installation.database.session() as session:
            field_values.set_value(session, Form.COMPUTER, computer, "Room", "somebody else", actor="bob")
    if what == "no version":
        del body["version"]
    answer = console.colleague.post(address, data=body)
    assert answer.status_code == (409 if what in ("stale", "no version") else 400)
    assert values(console, Form.COMPUTER, computer) == ({"Room": "somebody else"} if what == "stale" else {})


def test_what_counts_is_told_with_its_place(console: Console) -> None:
    here = console.places
    with console.installation.database.session() as session:
        field_values.set_value(session, Form.CLIENT, here.contoso, "Allow Server Offboarding", "1", actor="ann")
        field_values.set_value(session, Form.LOCATION, here.contoso_site, EXCLUDE, "1", actor="ann")
    page = console.viewer.get(f"/computers/{here.contoso_computers[0]}").text
    assert re.search(r"Allow Server Offboarding</dt><dd>yes <span[^>]*>from its client<", page)
    assert re.search(r"Exclude From Offboarding</dt><dd>yes <span[^>]*>from its location<", page)
    assert "excluded: location" in page


def test_a_flag_is_set_after_a_preview_that_changes_nothing(console: Console) -> None:
    here = console.places
    address = f"/clients/{here.contoso}"
    with console.installation.database.session() as session:
        places.add_computer(session, location_id=here.contoso_site, name="SRV", actor="ann", is_server=True)
    page = console.colleague.get(f"{address}/flag").text
    assert "2 of 3 computers would be offboarded" in page and "Allow Server Offboarding" in page and "SRV" in page
    assert values(console, Form.CLIENT, here.contoso) == {}
    answer = console.colleague.post(f"{address}/flag", data={"flag": "1"})
    assert answer.status_code == 303 and answer.headers["location"] == address
    assert values(console, Form.CLIENT, here.contoso)["Offboard Client"] == "1"
    assert "stays set" in console.viewer.get(address).text
    assert "flagged" not in console.stranger.get("/inventory").text
    assert console.colleague.post(f"{address}/flag", data={"flag": "0"}).status_code == 303
    assert values(console, Form.CLIENT, here.contoso)["Offboard Client"] == "0"
    for wrong in ({}, {"flag": "2"}, {"flag": "1", "more": "1"}):
        assert console.colleague.post(f"{address}/flag", data=wrong).status_code == 400


def bulk(person: Person, **data: Any) -> Any:
    return person.post("/inventory/flag", data={"act": "flag"} | data)


def confirm(person: Person, page: str, **changed: str) -> Any:
    body = dict(
        re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.partition("/inventory/flag/confirm")[2])
    )
    body.pop("csrf", None)
    return person.post("/inventory/flag/confirm", data=body | changed)


def flagged(console: Console) -> set[int]:
    here = console.places
    with console.installation.database.reading() as session:
        return set(flags.flags(session, [*here.contoso_computers, *here.fabrikam_computers]))


def test_chosen_computers_are_flagged_after_a_preview(console: Console) -> None:
    one, two = console.places.contoso_computers
    page = bulk(console.colleague, chosen=[one, two])
    assert page.status_code == 200 and "2 of them would be offboarded" in page.text and flagged(console) == set()
    answer = confirm(console.colleague, page.text)
    assert answer.status_code == 303 and flagged(console) == {one, two}
    page = bulk(console.colleague, act="unflag", chosen=[one])
    assert confirm(console.colleague, page.text).status_code == 303 and flagged(console) == {two}


def test_a_whole_filter_is_flagged_as_it_was_shown(console: Console) -> None:
    here = console.places
    page = bulk(console.colleague, everything="1", f_q="pc", f_client="")
    # A technician of one client reaches nobody else by a filter.
    assert "2 computers of 1 client" in page.text and "fabrikam" not in page.text.lower()
    with console.installation.database.session() as session:
        places.add_computer(session, location_id=here.contoso_site, name="PC3", actor="ann")
    assert confirm(console.colleague, page.text).status_code == 409 and flagged(console) == set()
    page = bulk(console.owner, everything="1", f_q="fabrikam")
    assert confirm(console.owner, page.text).status_code == 303 and flagged(console) == set(here.fabrikam_computers)


def test_bulk_flagging_reaches_nobody_whom_one_may_not_change(console: Console) -> None:
    here = console.places
    mixed = [here.contoso_computers[0], here.fabrikam_computers[0]]
    assert [bulk(p, chosen=mixed).status_code for p in (console.colleague, console.stranger, console.nobody)] == [
        404,
        404,
        303,
    ]
    assert bulk(console.viewer, chosen=mixed[:1]).status_code == 403
    assert bulk(console.viewer, everything="1").status_code == 400
    page = bulk(console.colleague, chosen=mixed[:1]).text
    assert confirm(console.colleague, page, ids=",".join(map(str, mixed))).status_code == 404
    assert confirm(console.colleague, page, ids=str(here.contoso_computers[1])).status_code == 409
    assert confirm(console.viewer, page).status_code == 403
    for wrong in (
        {},
        {"chosen": ["x"]},
        {"chosen": [1], "act": "burn"},
        {"everything": "1", "f_state": "gone"},
        {"everything": "1", "f_q": "zzz"},
    ):
        assert bulk(console.colleague, **wrong).status_code == 400, wrong
    assert flagged(console) == set()


def test_places_are_added_and_changed(console: Console) -> None:
    here = console.places
    assert console.colleague.get("/clients/add").status_code == 403
    assert console.colleague.post("/clients/add", data={"name": "x"}).status_code == 403
    answer = console.owner.post("/clients/add", data={"name": NASTY, "slug": "", "external_id": ""})
    client = int(answer.headers["location"].rpartition("/")[2])
    assert console.colleague.get(f"/locations/add?client={client}").status_code == 404
    for path, data in (
        (f"/locations/add?client={here.contoso}", {"name": "Branch"}),
        (f"/computers/add?location={here.contoso_site}", {"name": "PC9", "platform": "linux", "is_server": "1"}),
        (f"/contacts/add?client={here.contoso}", {"name": "Ada", "email": "ada@contoso.example", "status": "Active"}),
    ):
        assert [p.post(path, data=data).status_code for p in (console.viewer, console.stranger, console.nobody)] == [
            403,
            404,
            303,
        ]
        answer = console.colleague.post(path, data=data)
        assert answer.status_code == 303, answer.text
        assert data["name"] in console.viewer.get(answer.headers["location"]).text
    assert (
        console.colleague.post(
            f"/contacts/add?client={here.contoso}", data={"name": "", "email": "no address"}
        ).status_code
        == 400
    )
    assert (
        console.colleague.post(
            f"/computers/add?location={here.contoso_site}", data={"name": "x", "shoe": "1"}
        ).status_code
        == 400
    )
    address = f"/computers/{here.contoso_computers[0]}"
    body = form_of(console.colleague, f"{address}/edit") | {"name": "RENAMED", "user_name": NASTY}
    assert console.colleague.post(f"{address}/edit", data=body).status_code == 303
    wrong = console.colleague.post(f"{address}/edit", data=body | {"platform": "amiga", "external_id": ""})
    assert wrong.status_code == 400 and wrong.text.count('class="wrong"') == 2
    with console.installation.database.session() as session:
        entry = audit.entries(session, action="computer.change")[0]
        assert (entry.actor, entry.details["new"]) == ("colleague", {"name": "RENAMED", "user_name": NASTY})


def test_how_a_computer_is_reached_takes_an_administrator(console: Console) -> None:
    address = f"/computers/{console.places.contoso_computers[0]}/edit"
    assert "transport" not in form_of(console.colleague, address)
    body = form_of(console.colleague, address)
    assert console.colleague.post(address, data=body | {"address": "evil.example"}).status_code == 400
    body = form_of(console.owner, address)
    assert body["transport"] == "local"
    assert (
        console.owner.post(address, data=body | {"transport": "ssh", "address": "192.0.2.7", "port": "22"}).status_code
        == 303
    )


def test_a_computer_is_moved_retired_and_left_alone(console: Console) -> None:
    here = console.places
    computer = here.contoso_computers[0]
    address = f"/computers/{computer}"
    with console.installation.database.session() as session:
        branch = places.add_location(session, client_id=here.contoso, name="Branch", actor="ann").location_id
    assert console.colleague.post(f"{address}/move", data={"location_id": here.fabrikam_site}).status_code == 404
    assert console.owner.post(f"{address}/move", data={"location_id": here.fabrikam_site}).status_code == 409
    for more, data in (
        ("/move", {"location_id": branch}), ("/maintenance", {"minutes": 5}), ("/alerting", {"start": "22:00", "end": "06:00", "no_alerts": "1"}),
        ("/retire", {"retired": "true"}),
    ):  # fmt: skip
        assert console.colleague.post(address + more, data=data).status_code == 303, more
    page = console.viewer.get(address).text
    for words in ("Branch", "nothing is dispatched", "none are allowed", "retired"):
        assert words in page, words
    assert "Only from (UTC)" in console.colleague.get(f"{address}/edit").text
    assert console.colleague.post(f"{address}/alerting", data={"start": "25:00", "end": "06:00"}).status_code == 400
    assert console.colleague.post(f"{address}/retire", data={"retired": "false"}).status_code == 303


def test_a_preview_names_who_was_added_by_hand(console: Console) -> None:
    with console.installation.database.session() as session:
        places.add_contact(session, client_id=console.places.contoso, name=NASTY, email="ann@x.example", actor="ann")
    text = b"external_id,client,name,email\nhr1,contoso,Ann,Ann@x.example\n"
    page = console.owner.post("/inventory/import", data={"kind": "contacts"}, files={"file": ("people.csv", text)})
    assert page.status_code == 200 and "<dt>joined</dt><dd>1</dd>" in page.text and "Import 1 row<" in page.text
    assert f"{NASTY}, by email" in html.unescape(page.text) and NASTY not in page.text


def test_a_file_is_imported_after_a_preview(console: Console) -> None:
    def upload(person: Person, text: bytes, kind: str = "contacts", name: str = "people.csv") -> Any:
        return person.post("/inventory/import", data={"kind": kind}, files={"file": (name, text)})

    good = f'external_id,client,name,email\nc1,contoso,"{NASTY.replace(chr(34), chr(34) * 2)}",a@x.example\n'.encode()
    assert [
        upload(p, good).status_code for p in (console.colleague, console.stranger, console.viewer, console.nobody)
    ] == [403, 403, 403, 303]
    wrong = upload(console.owner, b"external_id,client,name,status\nc1,nowhere,A,Active\nc2,contoso,B,Elsewhere\n")
    assert wrong.status_code == 400 and "2 faults" in wrong.text
    assert re.search(r">2</td><td[^>]*>client<", wrong.text) and re.search(r">3</td><td[^>]*>status<", wrong.text)
    assert (
        upload(console.owner, b"\xff\xfe", name="x.csv").status_code
        == upload(console.owner, good, name="x.exe").status_code
        == 400
    )
    page = upload(console.owner, good)
    assert page.status_code == 200 and "Nothing is stored yet" in page.text
    with console.installation.database.reading() as session:
        assert not session.exec(select(Contact)).all()
    body = dict(re.findall(r'<input type="hidden" name="(kind|format|token)" value="([^"]*)"', page.text))
    assert console.approver.post("/inventory/import/confirm", data=body).status_code in (403, 404)
    assert console.owner.post("/inventory/import/confirm", data=body | {"token": "0" * 32}).status_code == 404
    assert console.owner.post("/inventory/import/confirm", data=body | {"token": "../" * 10}).status_code == 400
    assert console.owner.post("/inventory/import/confirm", data=body).status_code == 303
    assert console.owner.post("/inventory/import/confirm", data=body).status_code == 404
    answer = console.viewer.get(f"/inventory/export/file?kind=contacts&client={console.places.contoso}")
    assert answer.status_code == 200 and "a@x.example" in answer.text
    assert console.viewer.get("/inventory/export/file?kind=contacts&client=").status_code == 403
    assert (
        console.stranger.get(f"/inventory/export/file?kind=contacts&client={console.places.contoso}").status_code == 404
    )


def test_what_a_person_had_comes_back(console: Console) -> None:
    with console.installation.database.session() as session:
        people = [
            places.add_contact(session, client_id=console.places.contoso, name=n, actor="ann") for n in ("Ada", "Bob")
        ]
        item = contacts.assign(session, people[0], NASTY, actor="ann", kind="laptop", serial="S1").equipment_id
    address = f"/contacts/{people[0].contact_id}"
    assert "S1" in console.viewer.get(address).text and "Note it" not in console.viewer.get(address).text
    path, data = f"{address}/equipment/{item}", {"state": "returned"}
    assert [p.post(path, data=data).status_code for p in (console.viewer, console.stranger, console.nobody)] == [
        403,
        404,
        303,
    ]
    assert console.colleague.post(f"/contacts/{people[1].contact_id}/equipment/{item}", data=data).status_code == 404
    assert console.colleague.post(path, data={"state": "sold"}).status_code == 400
    assert console.colleague.post(path, data=data).status_code == 303
    with console.installation.database.reading() as session:
        assert [e.state for e in contacts.equipment_of(session, contact_id=people[0].contact_id)] == ["returned"]


def test_a_person_is_given_something_and_a_computer_is_looked_for(console: Console) -> None:
    with console.installation.database.session() as session:
        ada = places.add_contact(session, client_id=console.places.contoso, name="Ada", actor="ann").contact_id
        session.execute(text("UPDATE computers SET lastcontact = NULL"))
    path, data = f"/contacts/{ada}/equipment", {"name": "Badge", "kind": "badge", "due": "2026-12-31"}
    assert [p.post(path, data=data).status_code for p in (console.viewer, console.stranger, console.nobody)] == [
        403,
        404,
        303,
    ]
    assert console.colleague.post(path, data=data | {"due": "soon"}).status_code == 400
    assert console.colleague.post(path, data=data).status_code == 303
    assert "Badge" in console.viewer.get(f"/contacts/{ada}").text
    address = f"/computers/{console.places.contoso_computers[0]}"
    assert [p.post(f"{address}/probe").status_code for p in (console.viewer, console.stranger, console.nobody)] == [
        403,
        404,
        303,
    ]
    assert console.colleague.post(f"{address}/probe").status_code == 303
    with console.installation.database.reading() as session:
        assert session.get_one(Computer, console.places.contoso_computers[0]).last_contact is not None


@pytest.mark.parametrize(("width", "dark"), [(360, False), (1440, True)])
def test_the_pages_read_well(console: Console, chromium: Browser, width: int, dark: bool) -> None:
    define(
        console, "Contract End", FieldType.DATE, Form.CLIENT, section="Contract", tooltip="The last day that is paid"
    )
    define(console, "Passphrase", FieldType.SECRET, Form.CLIENT, section="Contract")
    found = addresses(console)
    with console.installation.database.session() as session:
        person = session.get_one(Contact, int(found["contact"].rpartition("/")[2]))
        contacts.assign(session, person, "ThinkPad X1", actor="ann", kind="laptop", serial="PF-1234", due="2026-12-31")
    with browsing(chromium, console, console.owner, width=width, dark=dark) as page:
        for kind, address in found.items():
            for more in (*VIEWED, "/flag", "/edit"):
                page.goto(address + more)
                fits(page)
                axe_finds_nothing(page)
                picture(page, f"{kind}{more.replace('/', '-')}-{width}-{'dark' if dark else 'light'}")
        for more in ("import", "export"):
            page.goto(f"/inventory/{more}")
            fits(page)
            axe_finds_nothing(page)
            picture(page, f"{more}-{width}-{'dark' if dark else 'light'}")


def test_computers_are_chosen_and_flagged_by_keyboard(console: Console, chromium: Browser) -> None:
    with browsing(chromium, console, console.colleague) as page:
        page.goto("/inventory/computers")
        page.get_by_label("Choose CONTOSO-PC2").focus()
        page.keyboard.press("Space")
        page.get_by_role("button", name="Flag the chosen…", exact=True).press("Enter")
        page.get_by_role("heading", name="1 of them would be offboarded").wait_for()
        axe_finds_nothing(page)
        picture(page, "flag-chosen-1440-light")
        page.get_by_role("button", name="Set Offboard Computer on 1 computer").press("Enter")
        page.get_by_text("1 computer flagged").wait_for()
        page.wait_for_load_state()
        assert flagged(console) == {console.places.contoso_computers[1]}
        page.get_by_label("Choose all shown").check()
        page.get_by_role("button", name="Unflag the chosen…").click()
        page.get_by_role("button", name="Unflag 2 computers").click()
        page.get_by_text("1 computer unflagged; 1 were so already").wait_for()
        assert flagged(console) == set()
