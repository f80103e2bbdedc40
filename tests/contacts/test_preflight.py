"""The look before an offboarding: what the records say, systems that cannot be reached, and that nothing is changed."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from click.testing import CliRunner
from people_help import PHASE_3, People, add_people, write_children
from sqlalchemy import inspect, text

from agent.cli.main import main
from agent.content.duplication import use
from agent.errors import CannotConnect, Conflict, NotFound
from agent.functions.base import Finding
from agent.installation import Installation
from agent.inventory import contacts
from agent.inventory.lookup import get
from agent.model.places import Contact
from agent.running.preflight import LookingAhead, Preflight, preflight
from agent.running.user_offboardings import SECURITY_PHASE, Request, plan
from agent.secrets import create_key
from agent.services import credentials

if TYPE_CHECKING:
    from conftest import Places

JOHN, MAX = "john@contoso.example", "max@fabrikam.example"
SYSTEMS = ("Active Directory - Lock Account", "Microsoft 365 - Security Actions")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """The command line configures logging for its process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def staff(installation: Installation, two_clients: Places) -> People:
    """People at two clients. Only Contoso lists scripts of its own; all have the partner's."""
    write_children(installation)
    return add_people(installation, two_clients)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on loopback at which nobody answers, kept so that nobody else takes it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def look(installation: Installation, person: str = JOHN, client: str | None = None, **given: Any) -> Preflight:
    return preflight(installation, Request(person, client, {"termination_type": "voluntary", **given}), actor="ann")


def said(found: Preflight, severity: str, subject: str | None = None) -> list[str]:
    return [f.message for f in found.findings if f.severity == severity and subject in (None, f.subject)]


def everything(installation: Installation) -> dict[str, list[Any]]:
    """All rows of all tables."""
    with installation.database.reading() as session:
        names = inspect(session.connection()).get_table_names()
        return {n: sorted(map(repr, session.execute(text(f'SELECT * FROM "{n}"')))) for n in names}


def test_a_person_without_obstacles(installation: Installation, staff: People) -> None:
    before = everything(installation)
    found = look(installation)
    assert (found.errors, found.client, found.email) == (0, "contoso", JOHN)
    assert said(found, "warning") == []
    assert "the manager is jane@contoso.example" in said(found, "info", "contact")
    lists = said(found, "info", "child scripts")
    assert any(m.startswith(f"{SECURITY_PHASE}: Close Account; the partner default") for m in lists)
    assert any(m.startswith("User Offboarding - 8 Scheduled Deletion: Delete Account") for m in lists)
    assert "User Offboarding - 6 Administrative Cleanup: none is listed" in lists
    assert everything(installation) == before


def test_what_the_records_say(installation: Installation, staff: People) -> None:
    with installation.database.session() as session:
        john, jane = get(session, Contact, staff.john), get(session, Contact, staff.jane)
        john.legal_hold = john.is_privileged = True
        jane.status = "Terminated"
        session.add_all([john, jane])
        contacts.assign(session, john, "Laptop 7", actor="hr")
        contacts.give_back(session, contacts.assign(session, john, "Old phone", actor="hr").equipment_id or 0, "returned",
                           actor="hr")  # fmt: skip
    found = look(installation)
    assert any("legal hold" in m for m in said(found, "warning", "contact"))
    assert any("administrator rights" in m for m in said(found, "warning", "contact"))
    assert "equipment to give back: Laptop 7" in said(found, "info", "contact")
    gone = "jane@contoso.example belongs to somebody who is Terminated"
    assert said(found, "error", "contact") == [f"the manager {gone}"]
    assert [m[:34] for m in said(found, "error", "inputs")] == ["manager_email: jane@contoso.exampl"]
    assert any(m.startswith("forward_to: jane@contoso.example") for m in said(found, "warning", "inputs"))
    with installation.database.session() as session:
        john = get(session, Contact, staff.john)
        john.manager_id = None
        session.add(john)
    assert any("no manager is known" in m for m in said(look(installation), "warning", "contact"))
    other = look(installation, MAX)
    assert other.errors == 0 and not said(other, "warning", "contact")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"delete_user": True}, "not deleted at once"),
        ({"mailbox_delegate": JOHN}, "mailbox_delegate"),
        ({"forward_to": MAX}, "is no contact of the client"),
        ({"termination_date": "2001-01-01"}, "lies in the past"),
        ({"termination_date": "soon"}, "termination_date"),
    ],
)
def test_inputs_that_cannot_be_are_findings(
    installation: Installation, staff: People, given: dict[str, Any], words: str
) -> None:
    errors = said(look(installation, **given), "error", "inputs")
    assert len(errors) == 1 and words in errors[0]


def test_a_client_without_a_list_for_the_security_phase(installation: Installation, staff: People) -> None:
    write_children(installation, {PHASE_3: ["Keep Data"]})
    errors = said(look(installation), "error")
    assert any(SECURITY_PHASE in m and "script use" in m for m in errors)
    assert any(m.startswith("it cannot be started:") for m in errors)


def test_one_that_is_planned_already(installation: Installation, staff: People) -> None:
    with installation.database.session() as session:
        row = plan(session, Request(JOHN, None, {"termination_type": "voluntary"}), actor="ann").row.id
    assert f"an offboarding is planned already ({row})" in said(look(installation), "warning", "plan")
    assert not said(look(installation, MAX), "warning", "plan")


def test_somebody_who_is_not_there(installation: Installation, staff: People) -> None:
    with pytest.raises(NotFound):
        look(installation, "nobody@contoso.example")
    with pytest.raises(NotFound):
        look(installation, MAX, "contoso")


def test_systems_that_cannot_be_reached_are_findings_and_asked_once(
    installation: Installation, staff: People, two_clients: Places, closed_port: int
) -> None:
    """Contoso's systems do not answer; Fabrikam has no credentials at all."""
    for slug in ("contoso", "fabrikam"):
        for script in SYSTEMS:
            use(installation.content, slug, SECURITY_PHASE, script, None)
    create_key(installation.settings)
    url = f"https://127.0.0.1:{closed_port}"
    credentials.add(
        installation, kind="active_directory", name="ad", client_id=two_clients.contoso, actor="ann",
        settings={"controllers": f"127.0.0.1:{closed_port}", "username": "svc@corp", "connect_seconds": 1},
        secret={"password": "not-to-be-shown"},
    )  # fmt: skip
    credentials.add(
        installation, kind="microsoft365", name="tenant", client_id=two_clients.contoso, actor="ann",
        settings={"tenant_id": "contoso.test", "client_id": "app", "authority": url, "graph_url": url, "exchange_url": url,
                  "call_seconds": 0.5}, secret={"client_secret": "not-to-be-shown"},
    )  # fmt: skip
    before = everything(installation)
    found = look(installation)
    for system in ("Active Directory", "Microsoft 365"):
        errors = said(found, "error", system)
        assert (len(errors) == 1 and f"{closed_port}" in errors[0]) or "reached" in errors[0], errors
    assert "ad.reset_password needs the right: Reset password" in said(found, "info", "Active Directory")
    assert "not-to-be-shown" not in repr(found)
    other = look(installation, MAX)
    assert [m for m in said(other, "error") if "there is no credential of the kind" not in m] == []
    assert {f.subject for f in other.findings if f.severity == "error"} == {"Active Directory", "Microsoft 365"}
    assert everything(installation) == before


def test_the_context_changes_nothing_and_asks_once(installation: Installation, staff: People) -> None:
    with installation.database.reading() as session:
        context = LookingAhead(installation, get(session, Contact, staff.john), {}, "ann")
    asked: list[str] = []

    def broken() -> str:
        asked.append("once")
        raise CannotConnect("nobody there")

    for _ in range(2):
        with pytest.raises(CannotConnect, match="nobody there"):
            context.once(("a",), broken)
        assert context.once(("b",), lambda: asked.append("b") or "answer") == "answer"  # type: ignore[func-returns-value]
    assert asked == ["once", "b"]
    with pytest.raises(Conflict):
        context.run_body("Close Account", {})
    with pytest.raises(Conflict):
        context.set_state("x", "y")
    assert context.places["contact"] is not None and context.places["contact"]["email"] == JOHN


def exeunt(installation: Installation) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(
            main, ["--workspace", str(installation.settings.workspace), "--user", "ann", *arguments]
        )
        return result.exit_code, result.stdout

    return run


def test_the_command(installation: Installation, staff: People) -> None:
    run = exeunt(installation)
    code, shown = run("offboard", "preflight", JOHN, "--client", "contoso", "--type", "voluntary")
    assert code == 0 and f"John <{JOHN}> of contoso: 0 errors" in shown
    code, shown = run("offboard", "preflight", JOHN, "--json")
    document = json.loads(shown)
    assert code == 1 and document["errors"] == 1 and document["findings"][0]["severity"] == "error"
    assert "termination_type is not known" in document["findings"][0]["message"]
    assert set(document["findings"][0]) == set(Finding.__dataclass_fields__)
