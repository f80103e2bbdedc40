"""Packages in the console: the store, a client's order, apply and remove after a preview, export, import and undo."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from web_help import Console, axe_finds_nothing, browsing, fits, picture

from agent.packages import store
from agent.secrets import create_key

OF = "/packages/of/contoso"


@pytest.fixture
def applied(console: Console) -> list[str]:
    """Three packages of Contoso, in the order in which they were applied."""
    create_key(console.installation.settings)
    for place, name in enumerate(("zoom", "slack", "okta"), 1):
        form = {"name": name, "agreed": "1", "position": str(place)}
        answer = console.owner.post(f"{OF}/apply", data=form)
        assert answer.status_code == 303, answer.text
    return names(console)


def names(console: Console) -> list[str]:
    return [a.name for a in store.applied(console.installation, "contoso")]


def test_a_package_is_applied_after_its_preview(console: Console, chromium: Browser) -> None:
    create_key(console.installation.settings)
    with browsing(chromium, console, console.owner) as page:
        page.goto("/packages")
        axe_finds_nothing(page)
        picture(page, "packages")
        page.get_by_role("link", name="Zoom", exact=True).click()
        axe_finds_nothing(page)
        picture(page, "package")
        page.get_by_label("For", exact=True).select_option("Contoso")
        page.get_by_role("button", name="Show what applying changes").click()
        expect(page.locator("h1")).to_have_text("Apply zoom")
        assert names(console) == []
        axe_finds_nothing(page)
        picture(page, "package-preview")
        page.get_by_role("button", name="Apply").click()
        expect(page.locator(".said")).to_contain_text("zoom is applied")
        picture(page, "packages-of-client")
        page.set_viewport_size({"width": 360, "height": 800})
        fits(page)
    assert names(console) == ["Zoom"]
    assert store.applied(console.installation, "fabrikam") == []


def test_the_order_is_changed_by_numbers_and_by_dragging(
    console: Console, chromium: Browser, applied: list[str]
) -> None:
    first, second, third = applied
    with browsing(chromium, console, console.owner) as page:
        page.goto(OF)
        page.get_by_label(f"Place of {third}").fill("0")
        with page.expect_navigation():
            page.get_by_role("button", name="Save the order").click()
        expect(page.locator(".said")).to_contain_text("The order is saved")
        assert names(console) == [third, first, second]
        rows = page.locator("tbody[data-sortable] tr")
        low = (rows.nth(2).bounding_box() or {"height": 40})["height"] - 4
        rows.nth(0).drag_to(rows.nth(2), source_position={"x": 300, "y": 10}, target_position={"x": 300, "y": low})
        with page.expect_navigation():
            page.get_by_role("button", name="Save the order").click()
        expect(page.locator(".said")).to_contain_text("The order is saved")
    assert names(console) == [first, second, third]


@pytest.mark.parametrize(
    "form",
    [
        {"name": ["Zoom"], "number": ["1"]}, {"name": ["Zoom", "Zoom", "Slack", "Okta"], "number": ["1", "2", "3", "4"]},
        {"name": ["Zoom", "Slack", "Okta"], "number": ["1", "2"]}, {"name": ["Zoom", "Slack", "Nope"], "number": ["1", "2", "3"]},
        {"name": ["Zoom", "Slack", "Okta"], "number": ["1", "x", "3"]}, {},
    ],
)  # fmt: skip
def test_an_order_with_a_gap_or_a_double_cannot_be_made(
    console: Console, applied: list[str], form: dict[str, Any]
) -> None:
    assert console.owner.post(f"{OF}/order/save", data=form).status_code == 400
    assert names(console) == applied


def test_who_may_see_and_change_packages(console: Console, applied: list[str]) -> None:
    for person, seen, change in (
        (console.viewer, 200, 403), (console.colleague, 200, 403), (console.stranger, 404, 404), (console.nobody, 303, 303),
    ):  # fmt: skip
        assert person.get(OF).status_code == seen, person.name
        for act in ("apply", "remove"):
            assert person.post(f"{OF}/{act}", data={"name": "zoom", "agreed": "1"}).status_code == change, person.name
        assert person.post(f"{OF}/order/save", data={"name": applied, "number": ["3", "2", "1"]}).status_code == change
        if person is not console.nobody:
            assert person.post("/packages/export/file", data={"name": ["zoom"]}).status_code == 403
            assert person.post("/packages/upload", files={"file": b"x"}).status_code == 403
            assert person.post("/packages/import/undo", data={}).status_code == 403
    assert "contoso" not in console.stranger.get("/packages").text.lower()
    assert names(console) == applied
    assert console.owner.post(f"{OF}/remove", data={"name": applied[0]}).status_code == 200
    assert names(console) == applied, "a preview changes nothing"
    assert console.owner.post(f"{OF}/remove", data={"name": applied[0], "agreed": "1"}).status_code == 303
    assert names(console) == applied[1:]


def test_packages_are_carried_by_a_file(console: Console) -> None:
    create_key(console.installation.settings)
    archive = console.owner.post("/packages/export/file", data={"name": ["zoom", "slack"]})
    assert archive.status_code == 200 and archive.content[:2] == b"PK"
    for wrong in (b"", b"PK nonsense", archive.content[:-40]):
        assert console.owner.post("/packages/upload", files={"file": ("x.zip", wrong)}).status_code == 400
    shown = console.owner.post("/packages/upload", files={"file": ("x.zip", archive.content)})
    assert shown.status_code == 200 and "nobody signed" in shown.text
    token = shown.text.split('name="token" value="')[1][:32]
    assert console.owner.post("/packages/import/confirm", data={"token": token, "agreed": "1"}).status_code == 409
    allowed = {"token": token, "unsigned": "1", "agreed": "1"}
    assert console.stranger.post("/packages/import/confirm", data=allowed).status_code == 403
    assert (
        console.owner.post("/packages/import/confirm", data={**allowed, "token": "../../inventory"}).status_code == 404
    )
    assert console.owner.post("/packages/import/confirm", data={**allowed, "token": "0" * 32}).status_code == 404
