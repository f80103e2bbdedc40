"""People of a hybrid client who are in Microsoft 365 alone: skipped with proof, and with any doubt a failure as before."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import graph_contract
import pytest
from certificates import self_signed
from cryptography.hazmat.primitives.asymmetric import ec
from tenant_server import Server, running
from tenant_state import TestTenant, make_tenant
from tenant_state import User as CloudUser
from test_ad_scripts import run, store_credentials

from agent.content.duplication import use
from agent.errors import StepError
from agent.functions import registry
from agent.functions.base import Outcome
from agent.installation import Installation
from agent.model.places import Contact
from agent.model.runs import RunState, StepState
from agent.reporting.exit_report import exit_document
from agent.reporting.exit_view import view_of
from agent.reporting.html import exit_html
from agent.running.context import TargetContext
from agent.running.preflight import LookingAhead
from agent.running.user_offboardings import SECURITY_PHASE, WRAPPER
from agent.services import credentials
from agent.services.microsoft import tokens
from agent.services.rest import waiting

if TYPE_CHECKING:
    from conftest import Credential, DirectoryContext, Domain, Places, User

pytestmark = [pytest.mark.parametrize("way", ["ldap", "psrp"]), pytest.mark.usefixtures("on_way")]

LEAVERS = "OU=Leavers,OU=Contoso,DC=corp,DC=example,DC=test"
NAME = "dana@contoso.test"
#: Every function on an account but the one that puts it back.
FUNCTIONS: dict[str, dict[str, Any]] = {
    "ad.snapshot": {}, "ad.disable_account": {}, "ad.reset_password": {}, "ad.set_expiry": {"expires_on": "2031-01-15"},
    "ad.remove_from_groups": {}, "ad.clear_manager": {}, "ad.set_description": {}, "ad.hide_from_address_lists": {},
    "ad.move_to_ou": {"ou": LEAVERS}, "ad.delete_account": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    graph_contract.require()
    file: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_text(self_signed(ec.generate_private_key(ec.SECP256R1())), encoding="ascii")
    with running(Server(), file) as state:
        yield state


@dataclass
class Hybrid:
    """Contoso's tenant is synced from the domain, where Rob stands; Dana is in the cloud alone. Fabrikam has its own."""

    domain: Domain
    server: Server
    rob: User
    fabrikam: Mapping[str, Any] = field(default_factory=dict)

    @property
    def contoso(self) -> TestTenant:
        return self.server.tenants[0]

    @property
    def dana(self) -> CloudUser:
        return self.contoso.named("dana")

    @property
    def credential(self) -> Credential:
        return self.server.settings(self.contoso), {"client_secret": self.contoso.secret}


def sid_of(user: User) -> str:
    raw = user["objectSid"]
    assert raw is not None
    parts = [int.from_bytes(raw[i : i + 4], "little") for i in range(8, len(raw), 4)]
    return "-".join(["S-1", str(int.from_bytes(raw[2:8], "big")), *map(str, parts)])


@pytest.fixture
def hybrid(domain: Domain, services: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hybrid]:
    services.reset()
    services.violations.clear()
    services.tenants[:] = [make_tenant("contoso"), make_tenant("fabrikam")]
    monkeypatch.setattr(tokens, "_providers", {})
    monkeypatch.setattr(waiting, "pause", lambda seconds: None)
    found = Hybrid(domain, services, domain.user("Rob Synced"))
    rob = found.contoso.named("rob")
    rob.synced, rob.sid, rob.sam = True, sid_of(found.rob), found.rob.sam
    found.fabrikam = services.tenants[1].snapshot()
    yield found
    services.faults.clear()
    assert services.violations == []
    assert services.tenants[1].snapshot() == found.fabrikam and not [
        c for d, c in services.calls if d == "fabrikam.test"
    ]


@dataclass
class Both:
    """A run's context with the credentials of both systems."""

    inner: DirectoryContext
    microsoft: Credential | None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def credential(self, kind: str) -> Credential | None:
        return self.microsoft if kind == "microsoft365" else self.inner.credential(kind)

    def call(self, name: str, **parameters: Any) -> Outcome:
        function = registry.get(name)
        return function.do(self, function.Parameters.model_validate({"account": NAME, **parameters}))  # type: ignore[arg-type]


@pytest.fixture
def both(context: Callable[..., DirectoryContext], hybrid: Hybrid) -> Both:
    return Both(context(), hybrid.credential)


REASON = f"cloud-only: {NAME} is not synced from a directory, and Active Directory holds nobody by that mail, UPN or sAMAccountName"


def test_a_person_of_the_cloud_alone_leaves_nothing_to_do(both: Both, hybrid: Hybrid) -> None:
    before, cloud = hybrid.rob.state(), hybrid.contoso.snapshot()
    for name, parameters in FUNCTIONS.items():
        outcome = both.call(name, **parameters)
        assert (outcome.state, outcome.result["reason"]) == (StepState.SKIPPED, REASON), name
        function = registry.get(name)
        made = function.Parameters.model_validate({"account": NAME, **parameters})
        if name != "ad.delete_account":
            assert function.verify(both, made) is False, name  # type: ignore[arg-type]
    assert hybrid.rob.state() == before and hybrid.contoso.snapshot() == cloud
    assert {c.split()[0] for _, c in hybrid.server.calls} == {"GET"}


def elsewhere(hybrid: Hybrid) -> None:
    hybrid.dana.synced = True


def not_hybrid(hybrid: Hybrid) -> None:
    hybrid.contoso.named("rob").synced = False


def another_directory(hybrid: Hybrid) -> None:
    hybrid.contoso.named("rob").sid = "S-1-5-21-1-2-3-1105"


def unreachable(hybrid: Hybrid) -> None:
    hybrid.server.fault(f"GET /users/{hybrid.dana.id}", 503)


def forbidden(hybrid: Hybrid) -> None:
    hybrid.server.fault("GET /users$", 403)


def nobody_there(hybrid: Hybrid) -> None:
    del hybrid.contoso.users[hybrid.dana.id]


def other_suffix(hybrid: Hybrid) -> None:
    hybrid.domain.user("Somebody", sAMAccountName="dana1", userPrincipalName="dana@corp.example.test", mail=None)


def short_name(hybrid: Hybrid) -> None:
    hybrid.domain.user("Somebody", sAMAccountName="dana", userPrincipalName=None, mail=None)


def same_name(hybrid: Hybrid) -> None:
    hybrid.domain.user(hybrid.dana.name)


def alias(hybrid: Hybrid) -> None:
    hybrid.dana.aliases = ["d.oneil@contoso.test"]
    hybrid.domain.user("Somebody", mail="d.oneil@contoso.test")


def outside_of_the_base(hybrid: Hybrid) -> None:
    hybrid.domain.user("Outsider", "Fabrikam", mail=NAME)


def synced_once(hybrid: Hybrid) -> None:
    there = hybrid.domain.user("Somebody")
    hybrid.dana.immutable_id = base64.b64encode(uuid.UUID(there.guid).bytes_le).decode()


def synced_once_by_sid(hybrid: Hybrid) -> None:
    hybrid.dana.sid = sid_of(hybrid.domain.user("Somebody"))


def unreadable_id(hybrid: Hybrid) -> None:
    hybrid.dana.immutable_id = "aW1tdXRhYmxl"


def by_number(hybrid: Hybrid) -> None:
    hybrid.domain.user("Somebody", employeeID="EMP-7")


DOUBTS = [
    (elsewhere, "is synced from a directory"), (not_hybrid, "has no account from a directory"),
    (another_directory, "stands below OU=Contoso"), (unreachable, "cannot say"), (forbidden, "cannot say"),
    (nobody_there, "cannot say"), (other_suffix, "Somebody dana1"), (short_name, "Somebody dana"),
    (same_name, "is like it"), (alias, "another of its names or ids"), (outside_of_the_base, "another of its names or ids"),
    (synced_once, "another of its names or ids"), (synced_once_by_sid, "another of its names or ids"),
    (unreadable_id, "earlier synchronisation"), (by_number, "is like it"),
]  # fmt: skip


@pytest.mark.parametrize(("doubt", "said"), DOUBTS, ids=[d.__name__ for d, _ in DOUBTS])
def test_with_any_doubt_it_stays_the_failure_that_it_was(
    both: Both, hybrid: Hybrid, doubt: Callable[[Hybrid], None], said: str
) -> None:
    both.inner.places = {"contact": {"name": "Dana", "email": NAME, "upn": "", "employee_id": "EMP-7"}}
    assert both.call("ad.disable_account").state == StepState.SKIPPED
    doubt(hybrid)
    with pytest.raises(StepError) as failed:
        both.call("ad.disable_account")
    error = failed.value
    assert (error.type, error.code, error.critical) == ("ACCOUNT_NOT_FOUND", "not_found", True)
    assert (
        f"has no account {NAME!r}" in str(error) and "does not count as cloud-only" in str(error) and said in str(error)
    )
    assert "Fabrikam" not in str(error), "what another client has there is not named"


def test_without_microsoft_365_or_an_address_nothing_is_proven(both: Both, hybrid: Hybrid) -> None:
    with pytest.raises(StepError, match="has no account 'dana'") as failed:
        both.call("ad.disable_account", account="dana")
    assert "cloud-only" not in str(failed.value)
    with pytest.raises(StepError, match="has no account") as failed:
        replace(both, microsoft=None).call("ad.disable_account")
    assert "cloud-only" not in str(failed.value)
    # An account that was synced once and is in no directory any more is the cloud's alone.
    hybrid.dana.immutable_id = base64.b64encode(uuid.uuid4().bytes).decode()
    assert both.call("ad.disable_account").state == StepState.SKIPPED


def test_an_account_that_was_there_in_this_run_is_not_skipped_when_it_is_gone(both: Both, hybrid: Hybrid) -> None:
    there = hybrid.domain.user("Dana", mail=NAME)
    both.inner.call("ad.snapshot", account=NAME)
    snapshot = both.inner.finished[-1].result["snapshot"]
    hybrid.domain.connection.delete(f"<GUID={there.guid}>")
    with pytest.raises(StepError, match="has no account"):
        both.call("ad.disable_account")
    both.inner.finished.clear()
    assert both.call("ad.disable_account").state == StepState.SKIPPED
    with pytest.raises(StepError, match="has no account"):
        both.call("ad.restore_from_snapshot", snapshot=snapshot)
    with pytest.raises(StepError) as manager:
        both.call("ad.clear_manager", account=hybrid.rob.mail, reports="move", new_manager=NAME)
    assert manager.value.type == "MANAGER_NOT_FOUND"


def test_a_deletion_follows_what_the_offboarding_found(both: Both, hybrid: Hybrid) -> None:
    """Microsoft 365 may have deleted its account before: then it can prove nothing any more, and need not."""
    del hybrid.contoso.users[hybrid.dana.id]
    both.inner.plan["accounts"] = [{"system": "ad", "place": "", "asked": NAME, "id": ""}]
    outcome = both.call("ad.delete_account")
    assert outcome.state == StepState.SKIPPED and outcome.result["reason"].startswith("cloud-only: ")
    there = hybrid.domain.user("Dana", mail=NAME, userAccountControl="514")
    with pytest.raises(StepError) as refused:
        both.call("ad.delete_account")
    assert refused.value.code == "no_stored_account" and there.dn, "an account that came later is nobody's to delete"
    both.inner.plan["accounts"] = []
    hybrid.domain.connection.delete(f"<GUID={there.guid}>")
    with pytest.raises(StepError) as refused:
        both.call("ad.delete_account")
    assert refused.value.code == "no_stored_account"


@pytest.fixture
def number(installation: Installation, two_clients: Places, domain: Domain, hybrid: Hybrid) -> int:
    """Dana's contact. Each client has its directory, Contoso its tenant."""
    store_credentials(installation, domain, two_clients)
    settings, secret = hybrid.credential
    credentials.add(
        installation, kind="microsoft365", name="tenant", client_id=two_clients.contoso, settings=settings, secret=secret,
        actor="tester",
    )  # fmt: skip
    with installation.database.session() as session:
        person = Contact(
            client_id=two_clients.contoso, external_id="hr7", name="Dana", email=NAME, termination_date="2020-01-01",
            manager_email="mia@contoso.test",
        )  # fmt: skip
        session.add(person)
        session.flush()
        assert person.contact_id is not None
        return person.contact_id


@pytest.mark.parametrize("doubt", [None, short_name])
def test_the_whole_offboarding_succeeds_and_nothing_is_escalated(
    installation: Installation, hybrid: Hybrid, number: int, doubt: Callable[[Hybrid], None] | None
) -> None:
    for script in ("Active Directory - Lock Account", "Microsoft 365 - Security Actions"):
        use(installation.content, "contoso", SECURITY_PHASE, script)
    if doubt is not None:
        doubt(hybrid)
    tree = run(
        installation, WRAPPER, number, termination_date="2020-01-01", employee_email=NAME, termination_type="voluntary",
        backup_user_data="0", mobile_device_action="none",
    )  # fmt: skip
    of_directory = {s.state for s in tree.steps if (s.function or "").startswith("ad.")}
    with installation.database.reading() as session:
        document = exit_document(installation, session, tree.root.id)
    assert not hybrid.dana.enabled
    if doubt is None:
        assert of_directory == {StepState.SKIPPED}
        assert tree.root.state == RunState.SUCCEEDED, [(s.name, s.error) for s in tree.steps if s.error]
        assert document["success"] is True and "escalation" not in document
        assert {s["reason"] for s in document["skipped_steps"]} == {REASON}
    else:
        assert StepState.FAILED in of_directory and tree.root.state == RunState.PARTIAL
        assert document["escalation"]["escalation_ticket"] and document["account_disabled"] is False


def test_the_look_before_the_run_and_its_exit_report_say_so(installation: Installation, number: int) -> None:
    with installation.database.reading() as session:
        person = session.get(Contact, number)
        assert person is not None
        session.expunge(person)
    ahead = LookingAhead(installation, person, {}, "ann")
    found = [f for n, p in FUNCTIONS.items() for f in _look(ahead, n, p)]
    assert {(f.severity, f.message) for f in found} == {
        ("info", f"{REASON}: the steps about the account will be skipped")
    }
    tree = run(
        installation, "Active Directory - Offboard Contact", number, termination_date="2031-01-15", manager_email="",
        ad_disabled_users_ou=LEAVERS, termination_type="voluntary", employee_email=NAME,
    )  # fmt: skip
    assert {s.state for s in tree.steps} == {StepState.SKIPPED}, [(s.name, s.error) for s in tree.steps]
    # A run that did nothing at all is no success; beside the steps of Microsoft 365 it is one.
    assert tree.root.state == RunState.FAILED
    with installation.database.reading() as session:
        document = exit_document(installation, session, tree.root.id)
    assert document["failed_steps"] == [] and {s["reason"] for s in document["skipped_steps"]} == {REASON}
    assert len(document["skipped_steps"]) == sum(bool(s.attempts) for s in tree.steps) > 5
    page = exit_html(view_of(document, "Contoso"))
    assert "Where there was nothing to do" in page and "cloud-only" in page


def _look(context: TargetContext, name: str, parameters: Mapping[str, Any]) -> Any:
    function = registry.get(name)
    return function.preflight(context, function.Parameters.model_validate({"account": NAME, **parameters}))  # type: ignore[arg-type]
