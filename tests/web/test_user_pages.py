"""The own account, and people with their roles: who may, what happens, and how it looks."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from web_help import Console, Person, axe_finds_nothing, browsing, fits, picture

from agent import audit
from agent.access import passwords, sessions, tokens, users
from agent.access.principal import Grant, Permission, Role
from agent.errors import NotSignedIn
from agent.installation import Installation
from agent.secrets import create_key

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    from argon2 import PasswordHasher

    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", lambda: cheap)


@pytest.fixture
def installation(installation: Installation) -> Iterator[Installation]:
    create_key(installation.settings)
    return installation


def id_of(console: Console, name: str) -> str:
    with console.installation.database.reading() as session:
        return next(u.id for u in users.list_users(session) if u.name == name)


def link_in(text: str) -> str:
    found = re.search(r"/welcome/[\w-]{43}", text)
    assert found, text
    return found[0]


PAGES = ("/users", "/users/{}")
#: Acts of administrators, each with a form that would be taken.
ACTS: dict[str, dict[str, str]] = {
    "/users": {"name": "new"}, "/users/{}/grants": {"role": "administrator"}, "/users/{}/grants/remove": {"role": "viewer"},
    "/users/{}/rename": {"name": "new"}, "/users/{}/disable": {}, "/users/{}/enable": {}, "/users/{}/password-link": {},
    "/users/{}/reset-app": {}, "/users/{}/end-sessions": {},
}  # fmt: skip


def test_only_administrators_of_the_whole_server_manage_people(console: Console) -> None:
    viewer = id_of(console, "viewer")
    for person in (console.colleague, console.approver, console.viewer, console.stranger):
        for path in PAGES:
            answer = person.get(path.format(viewer))
            assert answer.status_code == 403 and "viewer at" not in answer.text, (person.name, path)
        for path, form in ACTS.items():
            assert person.post(path.format(viewer), data=form).status_code == 403, (person.name, path)
    for path, form in ACTS.items():
        assert console.nobody.client.post(path.format(viewer), data=form).headers["location"] == "/sign-in"
    with console.installation.database.reading() as session:
        found = users.list_users(session)
        assert len(found) == 5
        assert audit.entries(session, action="user.*", object_id=viewer)[0].actor == "test"


def test_the_side_bar_leads_only_where_one_may_go(console: Console) -> None:
    assert 'href="/users"' in console.owner.get("/").text
    for person in (console.stranger, console.colleague, console.viewer):
        assert 'href="/users"' not in person.get("/").text
    assert 'href="/credentials"' in console.stranger.get("/").text


def test_nothing_is_done_without_the_form_token(console: Console) -> None:
    viewer = id_of(console, "viewer")
    for path in (*ACTS, "/account/password", "/account/app", "/account/tokens", "/account/sessions/end"):
        answer = console.owner.client.post(path.format(viewer), data={"role": "viewer", "name": "x"})
        assert answer.status_code == 403, path


def test_a_person_is_added_and_comes_in(console: Console) -> None:
    answer = console.owner.post(
        "/users",
        data={"name": "ben", "email": "ben@example.com", "role": "approver", "client": str(console.places.contoso)},
    )
    link = link_in(answer.text)
    assert console.nobody.client.post(link, data={"password": PASSWORD, "again": PASSWORD}).status_code == 303
    console.nobody.client.post("/sign-in", data={"name": "ben", "password": PASSWORD})
    text = console.nobody.get("/account").text
    assert "approver at Contoso" in text and "Fabrikam" not in text
    with console.installation.database.reading() as session:
        assert audit.entries(session, action="user.create")[0].actor == "owner"


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"name": "viewer"}, "another person"), ({"name": "a,b"}, "no user name"), ({"name": "x", "email": "y"}, "address"),
        ({"name": "x", "role": "owner"}, "not as they must be"), ({"name": "x", "client": "y"}, "not as they must be"),
        ({"name": "x", "role": "viewer", "client": "99999"}, "no client"), ({"name": "x", "sudo": "1"}, "not as they must be"),
        ({}, "not as they must be"),
    ],
)  # fmt: skip
def test_a_wrong_person_is_not_added(console: Console, form: dict[str, str], told: str) -> None:
    answer = console.owner.post("/users", data=form)
    assert answer.status_code in (400, 404) and told in answer.text
    with console.installation.database.reading() as session:
        assert len(users.list_users(session)) == 5


def test_markup_in_a_name_is_text(console: Console) -> None:
    name = "<script>alert(1)<b>"
    console.owner.post("/users", data={"name": name, "email": '"><img@x.example'})
    for text in (console.owner.get("/users").text, console.owner.get(f"/users/{id_of(console, name)}").text):
        assert name not in text and "&lt;script&gt;alert(1)&lt;b&gt;" in text and "<img" not in text


def test_roles_are_given_and_taken(console: Console) -> None:
    viewer = id_of(console, "viewer")
    here, there = str(console.places.contoso), str(console.places.fabrikam)
    console.owner.post(f"/users/{viewer}/grants", data={"role": "technician", "client": there})
    console.owner.post(f"/users/{viewer}/grants/remove", data={"role": "viewer", "client": here})
    assert (
        console.owner.post(f"/users/{viewer}/grants", data={"role": "technician", "client": there}).status_code == 409
    )
    assert console.owner.post(f"/users/{viewer}/grants", data={"role": "viewer", "client": "999"}).status_code == 404
    principal = sessions.principal_of_session(console.installation, console.viewer.token or "")
    assert principal.grants == (Grant(Role.TECHNICIAN, console.places.fabrikam),)
    shown = console.owner.get(f"/users/{viewer}").text
    assert "technician" in shown and "Fabrikam" in shown


def test_the_last_administrator_stays(console: Console) -> None:
    owner = id_of(console, "owner")
    link = link_in(console.owner.post(f"/users/{owner}/password-link").text)
    console.nobody.client.post(link, data={"password": PASSWORD, "again": PASSWORD})
    browser = console.nobody.client
    browser.post("/sign-in", data={"name": "owner", "password": PASSWORD})
    again = Person("owner", browser.cookies["exeunt_session"], browser)
    for path, data in ((f"/users/{owner}/disable", {}), (f"/users/{owner}/grants/remove", {"role": "administrator"})):
        answer = again.post(path, data=data)
        assert answer.status_code == 409 and "last administrator" in answer.text
    assert again.get("/users").status_code == 200


def test_a_disabled_person_is_out(console: Console) -> None:
    viewer = id_of(console, "viewer")
    assert console.owner.post(f"/users/{viewer}/disable").status_code == 303
    assert console.viewer.get("/").headers["location"] == "/sign-in"
    assert "disabled" in console.owner.get("/users").text
    assert console.owner.post(f"/users/{viewer}/password-link").status_code == 409
    assert console.owner.post(f"/users/{viewer}/enable").status_code == 303
    assert console.owner.post("/users/unknown/enable").status_code == 404


def test_a_token_is_shown_once_and_works_within_its_scopes(console: Console) -> None:
    answer = console.colleague.post("/account/tokens", data={"name": "report", "days": "9", "scopes": ["see"]})
    text = re.search(r"exeunt_[\w-]{43}", answer.text)
    assert text and answer.headers["cache-control"] == "no-store"
    principal = tokens.principal_of_token(console.installation, text[0])
    assert principal.name == "colleague" and not principal.can_somewhere(Permission.OPERATE)
    shown = console.colleague.get("/account").text
    assert text[0] not in shown and text[0][:11] in shown
    number = re.search(r"/account/tokens/(\w+)/revoke", shown)
    assert number
    # It is nobody else's to revoke.
    assert console.owner.post(f"/account/tokens/{number[1]}/revoke").status_code == 404
    assert console.colleague.post(f"/account/tokens/{number[1]}/revoke").status_code == 303
    with pytest.raises(NotSignedIn):
        tokens.principal_of_token(console.installation, text[0])


@pytest.mark.parametrize(
    "form",
    [
        {"name": "x", "days": "0"},
        {"name": "x", "days": "367"},
        {"name": "x", "days": "y"},
        {"name": "x", "days": "1", "scopes": "fly"},
        {"days": "1"},
    ],
)
def test_a_wrong_token_is_not_made(console: Console, form: dict[str, str]) -> None:
    assert console.viewer.post("/account/tokens", data=form).status_code == 400
    with console.installation.database.reading() as session:
        assert tokens.list_tokens(session) == []


def test_the_password_and_other_sessions(console: Console) -> None:
    viewer = id_of(console, "viewer")
    link = link_in(console.owner.post(f"/users/{viewer}/password-link").text)
    console.nobody.client.post(link, data={"password": PASSWORD, "again": PASSWORD})
    found = []
    for _ in range(2):
        console.nobody.client.cookies.clear()
        console.nobody.client.post("/sign-in", data={"name": "viewer", "password": PASSWORD})
        found.append(console.nobody.client.cookies["exeunt_session"])
    me = Person("viewer", found[1], console.nobody.client)
    new = "a quite new one"
    for wrong in ({"old": "wrong"}, {"again": "other"}, {"new": "short", "again": "short"}):
        answer = me.post("/account/password", data={"old": PASSWORD, "new": new, "again": new, **wrong})
        assert answer.status_code == 400 and PASSWORD not in answer.text
    assert me.post("/account/password", data={"old": PASSWORD, "new": new, "again": new}).status_code == 303
    assert me.get("/account").status_code == 200
    with pytest.raises(NotSignedIn):
        sessions.principal_of_session(console.installation, found[0])


def test_ending_all_other_sessions(console: Console) -> None:
    viewer = id_of(console, "viewer")
    assert console.viewer.post("/account/sessions/end").status_code == 303
    assert console.viewer.get("/account").status_code == 200
    console.owner.post(f"/users/{viewer}/end-sessions")
    assert console.viewer.get("/account").status_code == 303
    assert console.colleague.get("/account").status_code == 200


def test_without_a_password_there_is_no_app(console: Console) -> None:
    assert console.viewer.post("/account/app").status_code == 403
    assert console.viewer.get("/account/app").headers["location"] == "/account"


@pytest.mark.parametrize(("width", "dark"), [(360, False), (1440, False), (1440, True)])
def test_the_pages_read_well(console: Console, chromium: Browser, width: int, dark: bool) -> None:
    viewer = id_of(console, "viewer")
    console.owner.post(f"/users/{viewer}/grants", data={"role": "approver", "client": str(console.places.fabrikam)})
    console.owner.post("/account/tokens", data={"name": "report", "days": "9"})
    link = link_in(console.owner.post(f"/users/{viewer}/password-link").text)
    console.nobody.client.post(link, data={"password": PASSWORD, "again": PASSWORD})
    with browsing(chromium, console, console.owner, width=width, dark=dark) as page:
        for path, name in (("/users", "users"), (f"/users/{viewer}", "user"), ("/account", "account")):
            page.goto(path)
            fits(page)
            axe_finds_nothing(page)
            picture(page, f"{name}-{width}-{'dark' if dark else 'light'}")


@pytest.mark.parametrize("script", [True, False])
def test_adding_and_disabling_in_a_browser(console: Console, chromium: Browser, script: bool) -> None:
    with browsing(chromium, console, console.owner, script=script) as page:
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto("/users")
        page.get_by_label("Name", exact=True).fill("ben")
        page.get_by_label("Role", exact=True).select_option("technician")
        page.get_by_label("At", exact=True).select_option(label="Contoso")
        page.get_by_role("button", name="Add").click()
        expect(page.locator("#secret")).to_contain_text("/welcome/")
        page.get_by_role("link", name="Done").click()
        expect(page.locator("h1")).to_have_text("ben")
        page.get_by_role("button", name="Disable").click()
        expect(page.locator("#messages")).to_contain_text("disabled")
