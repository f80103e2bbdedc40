"""A run on a person is rolled back from its snapshot, at a real domain controller."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
import structlog
from click.testing import CliRunner
from sqlmodel import select
from test_ad_scripts import LEAVERS, Port, _release, contact, run, store_credentials

from agent.cli.main import main
from agent.errors import Conflict, UsageError
from agent.installation import Installation
from agent.model.administration import AuditEntry
from agent.model.runs import Plan, RunState, ScriptRun
from agent.running.executor import Executor
from agent.running.rollback import draft_rollback, store_rollback
from agent.running.tree import RunTree, load_tree

if TYPE_CHECKING:
    from conftest import Domain, Places, User

Offboarded = Callable[..., tuple["User", RunTree]]
pytestmark = [pytest.mark.parametrize("way", ["ldap", "psrp"]), pytest.mark.usefixtures("on_way")]


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
def offboarded(installation: Installation, two_clients: Places, domain: Domain) -> Offboarded:
    """Somebody of Contoso whose account was disabled, taken out of groups and moved."""
    store_credentials(installation, domain, two_clients)

    def make(script: str = "Active Directory - Offboard Contact") -> tuple[User, RunTree]:
        leaver = domain.user("Zoë Båck, Jr.", description="Before")
        domain.group(f"Back {leaver.sam}", leaver.dn)
        tree = run(
            installation, script, contact(installation, two_clients.contoso, leaver), termination_date="2031-01-15",
            employee_email=leaver.mail, ad_disabled_users_ou=LEAVERS,
        )  # fmt: skip
        return leaver, tree

    return make


def execute(installation: Installation, run_id: str) -> RunTree:
    port = Port()
    with installation.database.session() as session:
        _release(session, run_id, port)
    executor = Executor(installation, port)  # type: ignore[arg-type]
    while port.queued:
        executor.execute(*port.queued.pop(0))
    with installation.database.reading() as session:
        return load_tree(session, run_id)


def test_an_offboarding_is_taken_back_all_but_what_cannot_be(
    installation: Installation, domain: Domain, offboarded: Offboarded
) -> None:
    theirs = domain.user("Theirs", "Fabrikam")
    before = theirs.state()
    leaver, tree = offboarded()
    assert tree.root.state == RunState.SUCCEEDED and leaver.disabled and leaver.dn.endswith(LEAVERS)
    snapshot = next(s for s in tree.steps if s.function == "ad.snapshot")
    assert (snapshot.result or {})["rollback_available"] is True
    found = draft_rollback(installation, tree.root.id, actor="ann", reason="she stays")
    assert found.account == (snapshot.result or {})["snapshot"]["account"]
    assert "password" in found.cannot_be_restored[0] and "record" in found.cannot_be_restored[-1]
    assert len(found.cannot_be_restored) == 2, "all else of this script is in the snapshot"
    stored = store_rollback(installation, found, actor="ann", reason="she stays")
    with pytest.raises(Conflict, match="another run on"):
        draft_rollback(installation, tree.root.id, actor="ann", reason="twice")
    done = execute(installation, stored.run_ids[0])
    assert done.root.state == RunState.SUCCEEDED, [(s.result, s.error) for s in done.steps]
    assert not leaver.disabled and leaver.dn == found.account and leaver["description"] == b"Before"
    assert leaver.dn in domain.members(f"CN=Back {leaver.sam},OU=Groups,OU=Contoso,DC=corp,DC=example,DC=test")
    assert theirs.state() == before
    with installation.database.reading() as session:
        entry = session.exec(select(AuditEntry).where(AuditEntry.action == "run.rollback")).one()
        assert (entry.actor, entry.object_id) == ("ann", tree.root.id)


def test_runs_that_cannot_be_rolled_back(installation: Installation, offboarded: Offboarded) -> None:
    _, tree = offboarded("Active Directory - Revoke Groups")
    with pytest.raises(Conflict, match="kept no snapshot"):
        draft_rollback(installation, tree.root.id, actor="ann", reason="why")
    with pytest.raises(UsageError, match="needs a reason"):
        draft_rollback(installation, tree.root.id, actor="ann", reason=" ")
    _, other = offboarded("Active Directory - Lock Account")
    with installation.database.session() as session:
        root = session.get(ScriptRun, other.root.id)
        assert root is not None
        root.finished_at, root.state = None, RunState.RUNNING
        session.add(root)
    with pytest.raises(Conflict, match="not over yet"):
        draft_rollback(installation, other.root.id, actor="ann", reason="why")


def test_the_command_shows_and_changes_nothing(
    installation: Installation, domain: Domain, offboarded: Offboarded
) -> None:
    leaver, tree = offboarded("Active Directory - Lock Account")
    before = leaver.state()
    arguments = ["run", "rollback", tree.root.id, "--reason", "wrong person", "--dry-run"]
    result = CliRunner().invoke(
        main, ["--workspace", str(installation.settings.workspace), "--user", "ann", *arguments]
    )
    assert result.exit_code == 0, result.output
    assert "Restore Account: put the Active Directory account" in result.stdout
    assert "cannot be restored: the password" in result.stderr
    with installation.database.reading() as session:
        assert len(session.exec(select(Plan)).all()) == 1
    assert leaver.state() == before
