"""Two clients with a leaver each, and an engine that the test plays itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import system_functions
from leavers_help import Hand, Leavers, add_leavers

from agent.functions import registry
from agent.installation import Installation

if TYPE_CHECKING:
    from conftest import Places


@pytest.fixture(autouse=True)
def _demo_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own system beside the built-in functions."""
    for name, attribute in (("close", "Close"), ("open_issue", "OpenIssue"), ("comment", "Comment")):
        monkeypatch.setitem(registry.BUILT_IN, f"demo.{name}", f"system_functions:{attribute}")
    system_functions.Comment.said.clear()


@pytest.fixture
def leavers(installation: Installation, two_clients: Places) -> Leavers:
    """John at Contoso and Max at Fabrikam."""
    return add_leavers(installation, two_clients)


@pytest.fixture
def hand(installation: Installation) -> Hand:
    """An engine that works when the test says so."""
    return Hand(installation)
