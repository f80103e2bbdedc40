"""The inventory's tree, search and lists: found quickly, shown to whom it belongs, used with mouse, keyboard or neither."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import text
from sqlmodel import Session
from web_help import Console, axe_finds_nothing, browsing, fits, picture

from agent.inventory import field_values, places
from agent.model.fields import Form

NASTY = '<script>alert(1)</script> "O\'Neill" & Söhne'
PAGES = ("/inventory", "/inventory/computers", "/inventory/people")


def add_all_sorts(console: Console) -> dict[str, int]:
    """Computers and people of both clients in many states; ids by name."""
    here, made = console.places, {}
    with console.installation.database.session() as session:

        def add(name: str, site: int = here.contoso_site, **given: Any) -> None:
            made[name] = (
                places.add_computer(session, location_id=site, name=name, actor="ann", **given).computer_id or 0
            )

        add("NYC-SRV1", is_server=True, os="Windows Server 2022", last_contact="2026-01-02T03:04:05Z")
        add("NYC-LT00423", user_name="CONTOSO\\ada", os="Windows 11 Pro")
        add("OLD-PC", platform="linux")
        add(NASTY, platform="macos")
        add("FAB-SECRET", here.fabrikam_site)
        session.execute(
            text("UPDATE computers SET retiredat = :now WHERE name = 'OLD-PC'"), {"now": "2026-02-01 00:00:00"}
        )
        for client, name in ((here.contoso, "Ada Byron"), (here.contoso, NASTY), (here.fabrikam, "Fabian Secret")):
            mail = name.split()[0].strip("<>()/").lower()[:4] + "@mail.example"
            person = places.add_contact(session, client_id=client, name=name, email=mail, actor="ann")
            made[f"person {name}"] = person.contact_id or 0
        flag(session, Form.COMPUTER, made["NYC-LT00423"], "Offboard Computer")
        flag(session, Form.COMPUTER, made["NYC-SRV1"], "Exclude From Offboarding")
        flag(session, Form.CLIENT, here.fabrikam, "Offboard Client")
    return made


def flag(session: Session, form: Form, place: int, name: str, value: str = "1") -> None:
    field_values.set_value(session, form, place, name, value, actor="ann")


def test_each_sees_its_own_clients_only(console: Console) -> None:
    add_all_sorts(console)
    for path in (
        *PAGES,
        "/inventory?q=f",
        "/inventory?q=pc",
        "/inventory/computers?q=secret",
        "/inventory/computers?flagged=yes",
    ):
        for person in (console.colleague, console.approver, console.viewer):
            answer = person.get(path)
            assert answer.status_code == 200 and "fab" not in answer.text.lower().replace("fabian secret”", ""), path
        assert "contoso" not in console.stranger.get(path).text.lower().replace(quote("contoso"), "")
        answer = console.nobody.get(path)
        assert answer.status_code == 303 and answer.headers["location"].startswith("/sign-in?next=")
    here = console.places
    for path in (
        f"/inventory?client={here.contoso}", f"/inventory?location={here.contoso_site}",
        f"/inventory/computers?client={here.contoso}", f"/inventory/people?location={here.contoso_site}",
    ):  # fmt: skip
        assert console.viewer.get(path).status_code == 200
        answer = console.stranger.get(path)
        assert answer.status_code == 404 and "contoso" not in answer.text.lower()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"CONTOSO-PC1", "CONTOSO-PC2", "FAB-SECRET", "FABRIKAM-PC1", "FABRIKAM-PC2", "NYC-LT00423", "NYC-SRV1"}),
        ("state=online", {"CONTOSO-PC1", "CONTOSO-PC2", "FABRIKAM-PC1", "FABRIKAM-PC2"}), ("state=offline", {"NYC-SRV1"}),
        ("state=never", {"NYC-LT00423", "FAB-SECRET"}), ("state=retired", {"OLD-PC"}), ("kind=server", {"NYC-SRV1"}),
        ("flagged=yes", {"NYC-LT00423", "FAB-SECRET", "FABRIKAM-PC1", "FABRIKAM-PC2"}), ("platform=macos", set()),
        ("q=nyc", {"NYC-LT00423", "NYC-SRV1"}), ("q=nyc&kind=server", {"NYC-SRV1"}), ("q=ada", {"NYC-LT00423"}),
        ("q=pc1&flagged=yes&client=&location=&after=", {"FABRIKAM-PC1"}), ("q=%22%27%3B--", set()),
    ],
)  # fmt: skip
def test_filters_leave_what_they_say(console: Console, query: str, expected: set[str]) -> None:
    made = add_all_sorts(console)
    answer = console.owner.get(f"/inventory/computers?{query}")
    assert answer.status_code == 200
    known = {*made, "CONTOSO-PC1", "CONTOSO-PC2", "FABRIKAM-PC1", "FABRIKAM-PC2"} - {NASTY}
    assert {name for name in known if f">{name}</a>" in answer.text} == expected
    assert ("alert(1)" in answer.text) == (
        query in ("", "platform=macos", "state=never")
    ) and "<script>alert" not in answer.text


def test_a_list_goes_on_where_it_ended(console: Console) -> None:
    with console.installation.database.session() as session:
        for n in range(120):
            places.add_computer(session, location_id=console.places.contoso_site, name=f"N{n % 7}", actor="ann")
            places.add_contact(session, client_id=console.places.contoso, name=f"P{n % 7}", actor="ann")
    for path, kind in (
        ("/inventory/computers?q=n", "computers"),
        ("/inventory/computers?client=1", "computers"),
        ("/inventory/people", "contacts"),
    ):
        seen: list[str] = []
        following: str | None = path
        while following:
            answer = console.viewer.get(following)
            seen += [part.split('"')[0] for part in answer.text.split(f'<a href="/{kind}/')[1:]]
            rest = answer.text.partition('hx-get="')[2] if 'class="following"' in answer.text else ""
            following = rest.partition('"')[0].replace("&amp;", "&") or None
        assert len(seen) == len(set(seen)) == (122 if path.endswith("client=1") else 120), path


@pytest.mark.parametrize(
    "query",
    [
        "client=0",
        "client=x",
        "client=99999999999",
        "after=!!",
        "after=WzFd",
        "state=gone",
        "q=" + "x" * 201,
        "location=-1",
    ],
)
def test_what_no_filter_means_is_refused(console: Console, query: str) -> None:
    answer = console.viewer.get(f"/inventory/computers?{query}")
    assert answer.status_code == 400 and 'role="alert"' in answer.text


def test_the_tree_works_as_plain_links(console: Console, chromium: Browser) -> None:
    made = add_all_sorts(console)
    with browsing(chromium, console, console.owner, script=False) as page:
        page.goto("/inventory")
        page.get_by_role("link", name="Open Contoso").click()
        page.get_by_role("link", name="Open Headquarters").click()
        page.get_by_role("link", name="Close Headquarters").click()
        page.get_by_role("link", name="Open Headquarters").click()
        expect(page.get_by_role("link", name=NASTY)).to_have_count(1)
        assert page.get_by_role("link", name="NYC-LT00423").get_attribute("href") == f"/computers/{made['NYC-LT00423']}"
        page.get_by_role("link", name="All clients").click()
        page.get_by_label("Search").fill("byron")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("link", name="Ada Byron")).to_have_count(1)


def test_the_tree_opens_in_place_by_keyboard_and_search_answers_as_one_types(
    console: Console, chromium: Browser
) -> None:
    add_all_sorts(console)
    with browsing(chromium, console, console.owner) as page:
        page.goto("/inventory")
        twist = page.get_by_role("link", name="Open Contoso")
        twist.focus()
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Close Contoso").wait_for()
        expect(page.get_by_role("link", name="Close Contoso")).to_be_focused()
        page.get_by_role("link", name="Open Headquarters").press("Enter")
        page.get_by_role("link", name="NYC-SRV1").wait_for()
        expect(page).to_have_url(re.compile("/inventory$"))
        axe_finds_nothing(page)
        picture(page, "inventory-tree-1440-light")
        page.get_by_role("link", name="Close Contoso").press("Enter")
        page.get_by_role("link", name="Open Contoso").wait_for()
        page.get_by_label("Search").press_sequentially("nyc-lt")
        page.get_by_role("link", name="NYC-LT00423").wait_for()
        expect(page).to_have_url(re.compile("q=nyc-lt$"))
        axe_finds_nothing(page)
        page.get_by_label("Search").fill("")
        page.get_by_role("link", name="Open Contoso").wait_for()


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1440, False)])
def test_the_lists_read_well(console: Console, chromium: Browser, width: int, dark: bool) -> None:
    add_all_sorts(console)
    with browsing(chromium, console, console.owner, width=width, dark=dark) as page:
        for path, name in (
            ("/inventory/computers", "computers"), ("/inventory/people", "people"), ("/inventory?q=n", "search"),
            ("/inventory?client=1", "tree"),
        ):  # fmt: skip
            page.goto(path)
            fits(page)
            axe_finds_nothing(page)
            picture(page, f"inventory-{name}-{width}-{'dark' if dark else 'light'}")
