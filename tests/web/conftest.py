"""Fixtures of the console: a running server with two clients, and one Chromium for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from peers import require
from playwright.sync_api import Browser, Playwright, sync_playwright
from web_help import CHROMIUM, Console, console_at, serving

from agent.installation import Installation

if TYPE_CHECKING:
    from conftest import Places


@pytest.fixture
def console(installation: Installation, two_clients: Places) -> Iterator[Console]:
    """A running console with two clients."""
    with serving(installation) as address, console_at(installation, two_clients, address) as found:
        yield found


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """Playwright's driver."""
    with sync_playwright() as found:
        yield found


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """Debian's Chromium, without a screen."""
    program = require("chromium", "chromium")
    browser = playwright.chromium.launch(executable_path=program, args=list(CHROMIUM), timeout=180_000)
    yield browser
    browser.close()
