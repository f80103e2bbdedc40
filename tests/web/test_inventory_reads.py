"""The lists of the inventory and the first page on both databases: every filter answers, and every part follows the last."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from agent.errors import UsageError
from agent.inventory import field_values, places
from agent.inventory.reach import of_clients, reach
from agent.model.base import utcnow
from agent.model.fields import Form
from agent.web.reads.inventory import Filters, PersonFilters, client_nodes, computers, location_nodes, people, search
from agent.web.reads.overview import overview

if TYPE_CHECKING:
    from conftest import Places

    from agent.installation import Installation

NOBODY: frozenset[int] = frozenset()


def fill(installation: Installation, here: Places) -> None:
    states = [utcnow(), "2026-01-01T00:00:00Z", None]
    with installation.database.session() as session:
        for n in range(30):
            places.add_computer(
                session, location_id=here.contoso_site, name=f"N{n % 4}", actor="ann", is_server=n % 5 == 0,
                last_contact=states[n % 3], platform=("windows", "linux")[n % 2],
            )  # fmt: skip
            places.add_contact(
                session, client_id=here.contoso, name=f"P{n % 4}", email=f"p{n}@contoso.example", actor="ann",
                status="Active" if n % 2 else "Terminated",
            )  # fmt: skip
        field_values.set_value(session, Form.LOCATION, here.contoso_site, "Offboard Location", "1", actor="ann")


def walked(ask: Any) -> list[int]:
    """Ids of a list that is read in parts of seven."""
    found: list[int] = []
    after = None
    while True:
        part = ask(after=after, limit=7)
        found += [getattr(i, "computer_id", getattr(i, "contact_id", None)) for i in part.items]
        after = part.next
        if after is None:
            return found


def test_each_filter_is_read_to_its_end(any_installation: Installation, any_two_clients: Places) -> None:
    here = any_two_clients
    fill(any_installation, here)
    sizes: dict[str, tuple[dict[str, Any], int]] = {
        "all": ({}, 34), "online": ({"state": "online"}, 14), "offline": ({"state": "offline"}, 10), "never": ({"state": "never"}, 10),
        "retired": ({"state": "retired"}, 0), "servers": ({"kind": "server"}, 6), "linux": ({"platform": "linux"}, 19),
        "flagged": ({"flagged": "yes"}, 32), "flagged away": ({"flagged": "yes", "state": "offline"}, 20),
        "words": ({"q": "n1"}, 8), "words online": ({"q": "n", "state": "online"}, 10), "client": ({"client": here.fabrikam}, 2),
        "location": ({"location": here.contoso_site}, 32), "words flagged": ({"q": "pc", "flagged": "yes"}, 2),
    }  # fmt: skip
    with any_installation.database.reading() as session:
        for name, (given, size) in sizes.items():
            filters = Filters(**given)
            found = walked(lambda f=filters, **part: computers(session, None, f, online_seconds=300, **part))
            assert len(found) == len(set(found)) == size, name
            limited = walked(
                lambda f=filters, **part: computers(session, {here.fabrikam}, f, online_seconds=300, **part)
            )
            assert set(limited) <= set(here.fabrikam_computers), name
            assert not walked(lambda f=filters, **part: computers(session, NOBODY, f, online_seconds=300, **part))
        for given, size in (
            ({}, 30),
            ({"status": "Terminated"}, 15),
            ({"q": "contoso p1"}, 16),
            ({"client": here.fabrikam}, 0),
        ):
            asked = PersonFilters(**given)
            found = walked(lambda f=asked, **part: people(session, None, f, **part))
            assert len(found) == len(set(found)) == size, given


@pytest.mark.parametrize(
    "after",
    [
        "",
        "e30",
        "WyJ4Il0",
        "WyIyMDI2LTAxLTAxIiwgMV0",
        "WzEsIDFd",
        "W251bGwsIG51bGxd",
        "WyIyMDI2LTAxLTAxVDAwOjAwOjAwKzAwOjAwIiwgdHJ1ZV0",
    ],
)
def test_a_cursor_of_somebody_else_is_refused(installation: Installation, two_clients: Places, after: str) -> None:
    with installation.database.reading() as session, pytest.raises(UsageError, match="none of the cursors"):
        computers(session, None, Filters(state="offline"), online_seconds=300, after=b64encode(after.encode()).decode())


def test_tree_search_and_first_page_answer(any_installation: Installation, any_two_clients: Places) -> None:
    here = any_two_clients
    fill(any_installation, here)
    with any_installation.database.reading() as session:
        assert [n.name for n in client_nodes(session, None).items] == ["Contoso", "Fabrikam"]
        assert [n.flagged for n in location_nodes(session, None).items] == [True, False]
        assert search(session, {here.fabrikam}, "contoso", online_seconds=300).nothing
        found = search(session, None, "contoso", online_seconds=300)
        assert len(found.computers.items) == 2 and found.people.next is not None
        shown = {f.label: f.count for f in overview(session, None, online_seconds=300).figures}
        assert (shown["computers flagged"], shown["flagged and offline"]) == (32, 20)
        assert [s.path for s in overview(session, {here.contoso}, online_seconds=300).standing_flags] == [
            "Contoso/Headquarters"
        ]
        assert not overview(session, {here.fabrikam}, online_seconds=300).standing_flags
        assert reach(session, of_clients({here.contoso}), online_seconds=300, zone=ZoneInfo("UTC")).total == 32
