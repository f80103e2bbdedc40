"""The shipped child scripts, run by the engine's own executor with stored credentials, for one of two clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import samba_peer as samba
from sqlmodel import Session

from agent.installation import Installation
from agent.model.places import Contact
from agent.model.runs import RunState, ScriptRun, StepState
from agent.running.executor import Executor
from agent.running.planning import draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.tree import RunTree, load_tree
from agent.secrets import create_key
from agent.services import credentials

if TYPE_CHECKING:
    from conftest import Domain, Places, User

pytestmark = [pytest.mark.parametrize("way", ["ldap", "psrp"]), pytest.mark.usefixtures("on_way")]
LEAVERS = "OU=Leavers,OU=Contoso,DC=corp,DC=example,DC=test"


class Port:
    """Stands where the engine stands; keeps what would be queued."""

    def __init__(self) -> None:
        self.queued: list[tuple[str, int]] = []

    def enqueue(self, run_id: str, segment: int, client_id: int, *, delay_seconds: float = 0.0) -> None:
        self.queued.append((run_id, segment))


def store_credentials(installation: Installation, domain: Domain, places: Places) -> None:
    create_key(installation.settings)
    for client, place in (("Contoso", places.contoso), ("Fabrikam", places.fabrikam)):
        settings, secret = domain.credential(client)
        credentials.add(
            installation, kind="active_directory", name=f"ad-{client}", client_id=place, settings=settings,
            secret=secret, actor="tester",
        )  # fmt: skip


def contact(installation: Installation, client_id: int, user: User, **columns: Any) -> int:
    with installation.database.session() as session:
        made = Contact(client_id=client_id, external_id=user.sam, name=user.sam, email=user.mail, **columns)
        session.add(made)
        session.flush()
        assert made.contact_id is not None
        return made.contact_id


def run(installation: Installation, script: str, contact_id: int, **parameters: str) -> RunTree:
    draft = draft_plan(installation, [RunRequest(script, "contact", contact_id, parameters)], PlanOrigin("tester"))
    assert draft.targets, draft.skipped
    run_id = store_plan(installation, draft).run_ids[0]
    port = Port()
    with installation.database.session() as session:
        _release(session, run_id, port)
    executor = Executor(installation, port)  # type: ignore[arg-type]
    while port.queued:
        executor.execute(*port.queued.pop(0))
    with installation.database.reading() as session:
        return load_tree(session, run_id)


def _release(session: Session, run_id: str, port: Port) -> None:
    root = session.get(ScriptRun, run_id)
    assert root is not None
    root.state = RunState.QUEUED
    session.add(root)
    port.enqueue(run_id, root.segment, root.client_id)


def test_a_contact_is_offboarded_in_order_and_the_other_client_is_not_touched(
    installation: Installation, two_clients: Places, domain: Domain
) -> None:
    store_credentials(installation, domain, two_clients)
    boss, leaver = domain.user("Boss"), domain.user("Zoë Ånd, Jr.")
    report = domain.user("Report", manager=leaver.dn)
    group = domain.group("Scripted", leaver.dn)
    theirs = domain.user("Theirs", "Fabrikam", displayName="Zoë Ånd, Jr.")
    before = theirs.state()
    tree = run(
        installation, "Active Directory - Offboard Contact", contact(installation, two_clients.contoso, leaver),
        termination_date="2031-01-15", manager_email=boss.mail, ad_disabled_users_ou=LEAVERS,
        termination_type="voluntary", employee_email=leaver.mail,
    )  # fmt: skip
    steps = {s.name: s for s in tree.steps}
    states = {n: str(s.state) for n, s in steps.items()}
    expected = dict.fromkeys(states, "succeeded") | {"Clear Manager": "skipped", "Hide From Address Lists": "skipped"}
    assert states == expected, {n: (s.result, s.error) for n, s in steps.items()}
    assert list(states)[:4] == ["Snapshot", "Disable Account", "Reset Password", "Set Expiry"]
    assert leaver.disabled and leaver.dn.endswith(LEAVERS) and domain.members(group) == set()
    assert report["manager"] == boss.dn.encode()
    assert (steps["Set Expiry"].result or {})["account_expiration_set"] == "2031-04-15"
    assert samba.PASSWORD not in str([(s.result, s.error, s.parameters) for s in tree.steps])
    assert theirs.state() == before
    snapshot = (steps["Snapshot"].result or {})["snapshot"]
    assert snapshot["enabled"] is True and snapshot["groups"][0]["dn"] == group


def test_a_person_of_the_other_client_is_not_found_with_this_clients_credential(
    installation: Installation, two_clients: Places, domain: Domain
) -> None:
    store_credentials(installation, domain, two_clients)
    theirs = domain.user("Theirs", "Fabrikam")
    before = theirs.state()
    tree = run(
        installation, "Active Directory - Lock Account", contact(installation, two_clients.contoso, theirs)
    )  # fmt: skip
    failed = [s for s in tree.steps if s.state == StepState.FAILED]
    assert {s.name for s in failed} == {"Snapshot", "Disable Account", "Reset Password"}
    assert {(s.error or {})["type"] for s in failed} == {"ACCOUNT_NOT_FOUND"} and tree.root.state == RunState.FAILED
    assert theirs.state() == before


def test_a_deletion_is_refused_for_a_contact_under_a_legal_hold(
    installation: Installation, two_clients: Places, domain: Domain
) -> None:
    store_credentials(installation, domain, two_clients)
    leaver = domain.user("Held", userAccountControl="514")
    held = contact(installation, two_clients.contoso, leaver, legal_hold=True)
    draft = draft_plan(
        installation, [RunRequest("Active Directory - Delete Contact", "contact", held, {})], PlanOrigin("tester")
    )
    if draft.targets:
        tree = run(installation, "Active Directory - Delete Contact", held)
        assert tree.root.state == RunState.FAILED
    assert leaver.disabled and leaver.dn, "it still exists"
