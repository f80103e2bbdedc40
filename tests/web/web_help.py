"""The console as it is used: a real server on loopback, its people, and Chromium."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, expect

from agent.access.principal import Grant, Role
from agent.access.sessions import open_session
from agent.access.users import create
from agent.installation import Installation
from agent.model.access import User
from agent.running.engine import EnginePort
from agent.web.app import create_app
from agent.web.asking import COOKIE, CSRF_HEADER, csrf_of

if TYPE_CHECKING:
    from conftest import Places

#: Where pictures of pages are kept: as artefacts of the tests, and for the README.
PICTURES = Path(os.environ.get("EXEUNT_PICTURES", Path(__file__).parent.parent.parent / ".pictures"))
#: What Chromium needs in a closed network, as root.
CHROMIUM = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip

#: How long a page may take on a machine that has much else to do, in milliseconds. `expect` waits 5 seconds by itself.
PATIENCE = 60_000
expect.set_options(timeout=PATIENCE)

NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(eq=False)
class Person:
    """Somebody with a browser: `get` and `post` as a page's form would."""

    name: str
    token: str | None
    client: httpx.Client = field(repr=False)

    def get(self, path: str, **keywords: object) -> httpx.Response:
        return self.client.get(path, **keywords)  # type: ignore[arg-type]

    def post(self, path: str, **keywords: object) -> httpx.Response:
        """With the form token of the session."""
        return self.send("POST", path, **keywords)

    def send(self, method: str, path: str, **keywords: object) -> httpx.Response:
        headers = {CSRF_HEADER: csrf_of(self.token)} if self.token else {}
        return self.client.request(method, path, headers=headers, **keywords)  # type: ignore[arg-type]


@dataclass(eq=False)
class Console:
    """The server with its people. `owner` administers all; `colleague` is a technician and `approver` an approver of
    Contoso only; `viewer` sees Contoso; `stranger` administers Fabrikam; `nobody` is not signed in."""

    installation: Installation
    places: Places
    address: str
    owner: Person
    colleague: Person
    approver: Person
    viewer: Person
    stranger: Person
    nobody: Person

    @property
    def people(self) -> tuple[Person, ...]:
        return (self.owner, self.colleague, self.approver, self.viewer, self.stranger, self.nobody)


class _Server(uvicorn.Server):
    """Looks every 10 ms whether it shall end, not every 100: each test starts one and ends it."""

    async def main_loop(self) -> None:
        for tick in count():
            if await self.on_tick(tick):
                return
            await asyncio.sleep(0.01)


@contextmanager
def serving(installation: Installation, port: EnginePort | None = None) -> Iterator[str]:
    """The application on a free port of loopback; its address."""
    config = uvicorn.Config(create_app(installation, port), host="127.0.0.1", port=0, log_config=None, access_log=False)
    server = _Server(config)
    listener = config.bind_socket()
    # uvicorn only binds it: whoever asks before the application is ready waits, and is not refused.
    listener.listen(2048)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(120)
        listener.close()
        assert not thread.is_alive(), "the application does not end"


def sign_in_as(installation: Installation, name: str, grants: tuple[Grant, ...]) -> str:
    """A person with these grants, signed in; the session's token."""
    user = create(installation, name, wanted=grants, actor="test")
    with installation.database.session() as session:
        stored = session.get(User, user.id)
        assert stored is not None
        return open_session(session, installation.settings, stored)


def plain_client(address: str, token: str | None = None) -> httpx.Client:
    """A client of a console without TLS, with the session of that token. It loads no certificates: that takes 20 ms each time."""
    cookies = {} if token is None else {COOKIE: token}
    return httpx.Client(base_url=address, cookies=cookies, timeout=120, verify=NO_CERTIFICATES)


@contextmanager
def console_at(installation: Installation, places: Places, address: str) -> Iterator[Console]:
    """The people of `Console` at a console that is served."""
    grants = {
        "owner": Grant(Role.ADMINISTRATOR), "colleague": Grant(Role.TECHNICIAN, places.contoso),
        "approver": Grant(Role.APPROVER, places.contoso), "viewer": Grant(Role.VIEWER, places.contoso),
        "stranger": Grant(Role.ADMINISTRATOR, places.fabrikam),
    }  # fmt: skip
    people = {}
    for name, grant in grants.items():
        token = sign_in_as(installation, name, (grant,))
        people[name] = Person(name, token, plain_client(address, token))
    people["nobody"] = Person("nobody", None, plain_client(address))
    try:
        yield Console(installation, places, address, **people)
    finally:
        for person in people.values():
            person.client.close()


@contextmanager
def browsing(
    chromium: Browser, console: Console, person: Person, *, width: int = 1440, dark: bool = False, script: bool = True
) -> Iterator[Page]:
    """A page of a browser that the person has signed in with. Errors of scripts and refused contents fail the test."""
    context: BrowserContext = chromium.new_context(
        base_url=console.address, viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light", java_script_enabled=script, reduced_motion="reduce",
    )  # fmt: skip
    if person.token:
        context.add_cookies([{"name": COOKIE, "value": person.token, "url": console.address}])
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    try:
        yield page
    finally:
        context.close()
    wanted = [f for f in faults if "the server responded with a status of" not in f]
    assert not wanted, wanted


def picture(page: Page, name: str) -> Path:
    """Keep a picture of the whole page."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    file = PICTURES / f"{name}.png"
    page.screenshot(path=file, full_page=True)
    return file


def axe_finds_nothing(page: Page) -> None:
    """No fault against WCAG 2.2 AA that axe can see."""
    from axe_playwright_python.sync_playwright import Axe

    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    # What passed is not described in full: half of the time went into that.
    options = {"runOnly": {"type": "tag", "values": tags}, "resultTypes": ["violations"]}
    found = Axe().run(page, options=options)
    assert found.violations_count == 0, found.generate_report()


def fits(page: Page) -> None:
    """Nothing is wider than the window: people scroll down only."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"the page is {wide} pixels wider than the window"
