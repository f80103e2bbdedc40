"""Fixtures about people; what they are made of stands in `people_help`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import account_functions
import pytest
from people_help import People, PlayedEngine, add_people, write_children

from agent.functions import registry
from agent.installation import Installation

if TYPE_CHECKING:
    from conftest import Places


@pytest.fixture(autouse=True)
def _test_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own functions beside the built-in ones."""
    for name, attribute in (("account", "Account"), ("backup", "Backup"), ("delete", "Delete")):
        monkeypatch.setitem(registry.BUILT_IN, f"test.{name}", f"account_functions:{attribute}")
    account_functions.DONE.clear()
    account_functions.BROKEN.clear()


@pytest.fixture
def people(any_installation: Installation, any_two_clients: Places) -> People:
    """People and child scripts on each database."""
    write_children(any_installation)
    return add_people(any_installation, any_two_clients)


@pytest.fixture
def engine(any_installation: Installation) -> PlayedEngine:
    """An engine that works when the test says so."""
    return PlayedEngine(any_installation)


@pytest.fixture
def done() -> Callable[[int], list[str]]:
    """What was done to the account of a contact, by its id."""

    def of(contact_id: int) -> list[str]:
        found: list[Any] = [acts for (_, contact), acts in account_functions.DONE.items() if contact == contact_id]
        return list(found[0]) if found else []

    return of
