"""Getting in and out: sign-in, the welcome links, OpenID Connect, and what a form from elsewhere may not do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pyotp
import pytest
from argon2 import PasswordHasher
from playwright.sync_api import Browser, Page, expect
from web_help import Console, Person, axe_finds_nothing, browsing, console_at, fits, picture, serving

from agent.access import links, openid_discovery, passwords, sessions, users
from agent.errors import NotSignedIn
from agent.installation import Installation
from agent.model.base import utcnow
from agent.secrets import create_key
from agent.services import properties
from agent.web.asking import COOKIE, SECURE_COOKIE
from agent.web.pages.signing import own_address

if TYPE_CHECKING:
    from conftest import Places
    from openid_peer import Provider

PASSWORD = "correct horse battery"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_hasher", lambda: CHEAP)


@pytest.fixture
def installation(installation: Installation) -> Installation:
    create_key(installation.settings)
    return installation


@pytest.fixture
def empty(installation: Installation) -> Iterator[httpx.Client]:
    """A server at its first start, and a browser at it."""
    with serving(installation) as address, httpx.Client(base_url=address, timeout=120) as client:
        yield client


def set_password(console: Console, name: str) -> None:
    with console.installation.database.reading() as session:
        user = next(u for u in users.list_users(session) if u.name == name)
    link = links.password_link(console.installation, user.id, actor="test")
    links.use_link(console.installation, link.rpartition("/")[2], password=PASSWORD)


def test_the_first_administrator_comes_by_the_link(installation: Installation, empty: httpx.Client) -> None:
    assert "terminal" in empty.get("/sign-in").text
    path = links.first_link(installation) or ""
    form = {"name": "<b>root</b>", "password": PASSWORD, "again": PASSWORD}
    for _ in range(2):
        shown = empty.get(path)  # looking uses nothing up
        assert shown.status_code == 200 and "The first administrator" in shown.text
    for wrong in ({"again": "x"}, {"password": "short", "again": "short"}, {"name": ""}, {"name": "a,b"}):
        refused = empty.post(path, data={**form, **wrong})
        assert refused.status_code == 400 and PASSWORD not in refused.text
    done = empty.post(path, data={**form, "name": "root"})
    assert (done.status_code, done.headers["location"]) == (303, "/sign-in")
    assert empty.get(path).status_code == 404 and empty.post(path, data=form).status_code == 404
    inside = empty.post("/sign-in", data={"name": "root", "password": PASSWORD})
    assert (inside.status_code, inside.headers["location"]) == (303, "/")
    assert empty.get("/").status_code == 200
    assert "terminal" not in empty.get("/sign-in").text


def test_blanks_belong_to_a_password(installation: Installation, empty: httpx.Client) -> None:
    spaced = f"  {PASSWORD}  "
    empty.post(links.first_link(installation) or "", data={"name": "root", "password": spaced, "again": spaced})
    assert empty.post("/sign-in", data={"name": "root", "password": PASSWORD}).status_code == 401
    assert empty.post("/sign-in", data={"name": " root ", "password": spaced}).status_code == 303


def test_the_cookie_is_out_of_reach_of_scripts(console: Console) -> None:
    set_password(console, "viewer")
    answer = console.nobody.client.post("/sign-in", data={"name": "viewer", "password": PASSWORD})
    cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith(COOKIE))
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Path=/" in cookie


def test_over_https_the_cookie_is_bound_to_the_host(console: Console) -> None:
    set_password(console, "viewer")
    form, https = {"name": "viewer", "password": PASSWORD}, {"x-forwarded-proto": "https"}
    answer = console.nobody.client.post("/sign-in", data=form, headers=https)
    cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith(SECURE_COOKIE))
    assert "Secure" in cookie and "HttpOnly" in cookie and "Path=/" in cookie and "Domain" not in cookie
    # The other cookie, which a neighbour without TLS could set, counts for nothing there.
    token = cookie.partition("=")[2].partition(";")[0]
    for name, status in ((COOKIE, 303), (SECURE_COOKIE, 200)):
        headers = {**https, "cookie": f"{name}={token}"}
        assert httpx.get(f"{console.address}/account", headers=headers, timeout=120).status_code == status


def test_all_refusals_look_the_same(console: Console) -> None:
    set_password(console, "viewer")
    told = set()
    for data in (
        {"name": "viewer", "password": "wrong"}, {"name": "nobody", "password": PASSWORD}, {"name": "owner", "password": ""},
        {"name": "viewer", "password": "x", "code": "000000"},
    ):  # fmt: skip
        answer = console.nobody.client.post("/sign-in", data=data)
        assert answer.status_code == 401 and COOKIE not in answer.headers.get("set-cookie", "")
        told.add(re.search(r'role="alert">([^<]*)', answer.text)[1])  # type: ignore[index]
    assert len(told) == 1


def test_a_sign_in_leads_back_to_a_page_of_ours_only(console: Console) -> None:
    set_password(console, "viewer")
    sent = console.nobody.client.get("/runs?state=failed")
    assert sent.headers["location"] == "/sign-in?next=/runs%3Fstate%3Dfailed"
    for given, then in (
        ("/runs?state=failed", "/runs?state=failed"),
        ("https://evil.example/", "/"),
        ("//evil.example", "/"),
    ):
        assert f'value="{then}"' in console.nobody.client.get("/sign-in", params={"next": given}).text
        answer = console.nobody.client.post("/sign-in", data={"name": "viewer", "password": PASSWORD, "next": given})
        assert answer.headers["location"] == then
        console.nobody.client.cookies.clear()


@pytest.mark.parametrize(
    "given",
    ["https://x", "//x", "/\\x", "\\\\x", "x", "", "/\n/x", "javascript:alert(1)", "http:/x", "///x", "//[", "\t//x"],
)
def test_what_leads_elsewhere_leads_home(given: str) -> None:
    assert own_address(given) == "/"


def test_whoever_is_signed_in_is_sent_on(console: Console) -> None:
    assert console.viewer.get("/sign-in?next=/account").headers["location"] == "/account"


def test_signing_out_ends_the_session(console: Console) -> None:
    assert console.viewer.client.post("/sign-out").status_code == 403  # without the form token
    assert console.viewer.get("/account").status_code == 200
    answer = console.viewer.post("/sign-out")
    assert answer.headers["location"] == "/sign-in"
    with pytest.raises(NotSignedIn):
        sessions.principal_of_session(console.installation, console.viewer.token or "")


def test_another_site_cannot_sign_anybody_in(console: Console) -> None:
    set_password(console, "viewer")
    for where in ("cross-site", "same-site"):
        answer = console.nobody.client.post(
            "/sign-in", data={"name": "viewer", "password": PASSWORD}, headers={"sec-fetch-site": where}
        )
        assert answer.status_code == 403 and COOKIE not in answer.headers.get("set-cookie", "")


@pytest.mark.parametrize("script", [True, False])
def test_signing_in_with_a_code_in_a_browser(console: Console, chromium: Browser, script: bool) -> None:
    """From the link to the second factor and back in, also without JavaScript."""
    with console.installation.database.reading() as session:
        user = next(u for u in users.list_users(session) if u.name == "viewer")
    path = links.password_link(console.installation, user.id, actor="test")
    with browsing(chromium, console, console.nobody, script=script) as page:
        page.goto(path)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("The same again").fill(PASSWORD)
        page.get_by_role("button", name="Set the password").click()
        page.get_by_label("Name").fill("viewer")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name="viewer").click()
        page.get_by_role("button", name="Set up an app").click()
        expect(page.locator("svg")).to_have_count(1)
        secret = page.locator("#secret").inner_text().strip()
        axe_finds_nothing(page) if script else None
        fits(page)
        page.get_by_label("Code", exact=True).fill("000000")
        page.get_by_role("button", name="Confirm").click()
        expect(page.get_by_role("alert")).to_contain_text("not the right one")
        page.get_by_label("Code", exact=True).fill(pyotp.TOTP(secret).at(utcnow()))
        page.get_by_role("button", name="Confirm").click()
        expect(page.locator("#messages")).to_contain_text("each sign-in asks for its code")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Name").fill("viewer")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_count(1)
        # The code of the confirmation is used up; the next one comes within the tolerance of the clock.
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("Code of the authenticator app").fill(pyotp.TOTP(secret).at(int(utcnow().timestamp()) + 30))
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("h1")).to_have_text("Overview")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1440])
def test_the_forms_read_well(
    installation: Installation, two_clients: Places, chromium: Browser, width: int, dark: bool
) -> None:
    path = links.first_link(installation) or ""
    with serving(installation) as address, console_at(installation, two_clients, address) as console:
        del path
        with browsing(chromium, console, console.nobody, width=width, dark=dark) as page:
            page.goto("/sign-in")
            fits(page)
            axe_finds_nothing(page)
            picture(page, f"sign-in-{width}-{'dark' if dark else 'light'}")


def test_the_welcome_reads_well(
    installation: Installation, empty: httpx.Client, chromium: Browser, two_clients: Places
) -> None:
    path = links.first_link(installation) or ""
    nobody = Person("nobody", None, empty)
    console = Console(installation, two_clients, str(empty.base_url), *[nobody] * 6)
    for width in (360, 1440):
        with browsing(chromium, console, nobody, width=width) as page:
            page.goto(path)
            fits(page)
            axe_finds_nothing(page)
            picture(page, f"welcome-{width}")


def keep_inside(page: Page) -> None:
    """The provider's page wants a style sheet from the internet."""
    page.route(lambda url: "127.0.0.1" not in url, lambda route: route.fulfill(status=200, body=""))


@pytest.fixture
def provider() -> Iterator[Provider]:
    from openid_peer import running_provider

    openid_discovery.forget()
    with running_provider() as found:
        yield found


@pytest.mark.filterwarnings(
    "ignore::authlib.deprecate.AuthlibDeprecationWarning", "ignore:get_jwt_config:DeprecationWarning"
)
def test_signing_in_by_the_identity_provider(
    installation: Installation, provider: Provider, chromium: Browser, two_clients: Places
) -> None:
    """In a browser, through the provider's own page, to a page that only Contoso's viewers see."""
    given = {"oidc_issuer": provider.issuer, "oidc_client_id": "exeunt", "oidc_client_secret": "a secret"}
    made = Installation(installation.settings.model_copy(update=given))
    properties.set_value(
        made, properties.OPENID_ROLES, '{"staff": {"role": "viewer", "client": "contoso"}}', actor="test"
    )
    provider.put_user("s1", preferred_username="ana@contoso.example", groups=["staff"])
    provider.put_user("s2", groups=["strangers"])
    with serving(made) as address, console_at(made, two_clients, address) as console:
        with browsing(chromium, console, console.nobody) as page:
            keep_inside(page)
            page.goto("/account")
            page.get_by_role("link", name="Sign in with your organisation").click()
            page.locator("input[name=sub]").fill("s1")
            page.locator("button[type=submit], button:not([type])").first.click()
            page.wait_for_url(f"{address}/account")
            expect(page.locator("h1")).to_have_text("ana@contoso.example")
            expect(page.locator("main")).to_contain_text("viewer at Contoso")
            expect(page.get_by_role("button", name="Set up an app")).to_have_count(0)
        with browsing(chromium, console, console.nobody) as page:
            keep_inside(page)
            page.goto("/sign-in/openid")
            page.locator("input[name=sub]").fill("s2")
            page.locator("button[type=submit], button:not([type])").first.click()
            page.wait_for_url(f"{address}/sign-in/openid/back*")
            expect(page.get_by_role("alert")).to_contain_text("none of your groups has a role")
        assert console.nobody.get("/sign-in/openid/back?code=x&state=y").status_code == 401
    made.database.close()


def test_a_provider_that_is_away_leaves_the_form(installation: Installation, two_clients: Places) -> None:
    made = Installation(
        installation.settings.model_copy(update={"oidc_issuer": "http://127.0.0.1:1", "oidc_client_id": "exeunt"})
    )
    with serving(made) as address, console_at(made, two_clients, address) as console:
        answer = console.nobody.get("/sign-in/openid")
        assert answer.status_code == 401 and "cannot be reached" in answer.text and "Password" in answer.text
    made.database.close()
