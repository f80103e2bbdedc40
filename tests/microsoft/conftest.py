"""Two clients with a tenant each, and a context of a run on the leaver of the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import graph_contract
import pytest
from certificates import self_signed
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from m365_context import UserContext
from m365_runs import execute
from tenant_server import Server, running
from tenant_state import TestTenant, make_tenant

from agent.installation import Installation
from agent.model.places import Contact
from agent.model.runs import ScriptRevision, ScriptRun
from agent.running.planning import draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.tree import RunTree
from agent.secrets import create_key
from agent.services import credentials
from agent.services.backup_stores import DirectoryStore
from agent.services.microsoft import tokens
from agent.services.rest import waiting
from agent.settings import Settings


@pytest.fixture(scope="session")
def app_certificate() -> str:
    """PEM with the private key and the certificate of the app registration."""
    return self_signed(rsa.generate_private_key(65537, 2048))


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory, keys_read_once: None) -> Iterator[Server]:
    """The services of the test tenants, for the whole session."""
    graph_contract.require()
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_text(self_signed(ec.generate_private_key(ec.SECP256R1())), encoding="ascii")
    with running(Server(), file) as state:
        yield state


@pytest.fixture
def server(services: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Two fresh tenants. At the end: no request and no answer broke the contract."""
    services.reset()
    services.violations.clear()
    services.agents.clear()
    services.sign_ins.clear()
    services.tokens.clear()
    services.sign_in_error, services.token_seconds = None, 3600
    services.tenants[:] = [make_tenant("contoso"), make_tenant("fabrikam")]
    for tenant in services.tenants:
        tenant.sharepoint, tenant.graph = services.urls["sharepoint"], services.urls["graph"]
    monkeypatch.setattr(tokens, "_providers", {})
    yield services
    services.faults.clear()
    assert services.violations == []


@pytest.fixture
def contoso(server: Server) -> TestTenant:
    return server.tenants[0]


@pytest.fixture
def fabrikam(server: Server) -> TestTenant:
    return server.tenants[1]


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited for between attempts; nothing is waited for in truth."""
    found: list[float] = []
    monkeypatch.setattr(waiting, "pause", found.append)
    return found


@pytest.fixture(scope="session")
def any_workspace(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """An installation that these functions are handed and never ask."""
    return Installation(Settings(workspace=tmp_path_factory.mktemp("workspace")))


@pytest.fixture
def context(any_workspace: Installation, server: Server, contoso: TestTenant, app_certificate: str) -> UserContext:
    """A run at Contoso, signed in by certificate."""
    return UserContext(
        any_workspace, {"microsoft365": (server.settings(contoso), {"certificate": app_certificate})}
    )  # fmt: skip


@pytest.fixture
def run(installation: Installation, two_clients: Any, server: Server, app_certificate: str) -> Callable[..., RunTree]:
    """Run a script of the package on Alex of Contoso. Fabrikam has a credential of its own."""
    create_key(installation.settings)
    places = {"contoso": two_clients.contoso, "fabrikam": two_clients.fabrikam}
    for tenant in server.tenants:
        name = tenant.domain.removesuffix(".test")
        credentials.add(
            installation, kind="microsoft365", name=f"{name}-tenant", client_id=places[name],
            settings=server.settings(tenant), secret={"certificate": app_certificate}, actor="tester",
        )  # fmt: skip
    with installation.database.session() as session:
        contact = Contact(
            client_id=two_clients.contoso, external_id="alex", name="Alex Baker", email="alex@contoso.test",
            manager_email="mia@contoso.test", status="Terminated", termination_date="2020-01-01",
        )  # fmt: skip
        session.add(contact)
        session.flush()
        contact_id = contact.contact_id
    assert contact_id is not None

    def started(script: str, **parameters: str) -> RunTree:
        request = RunRequest("Microsoft 365 - " + script, "contact", contact_id, parameters)
        draft = draft_plan(installation, [request], PlanOrigin("tester"))
        assert draft.targets, draft.skipped
        run_id = store_plan(installation, draft).run_ids[0]
        return execute(installation, run_id)

    return started


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    (tmp_path / "store").mkdir()
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def leaver(
    installation: Any,
    two_clients: Any,
    server: Server,
    contoso: TestTenant,
    app_certificate: str,
    store: DirectoryStore,
) -> UserContext:
    """A stored run on Alex whose backups go into the store."""
    create_key(installation.settings)
    with installation.database.session() as session:
        contact = Contact(client_id=two_clients.contoso, external_id="alex", name="Alex")
        session.add_all([ScriptRevision(digest="b" * 64, name="any", content={}), contact])
        session.flush()
        found = ScriptRun(
            script="User Offboarding", role="wrapper", revision="b" * 64, target_kind="contact",
            target_id=contact.contact_id, target_name="Alex", client_id=two_clients.contoso, exclusive=True,
            started_by="hr", state="running", parameters={"backup_location": {"value": str(store.root)}},
        )  # fmt: skip
        session.add(found)
        session.flush()
        run_id, contact_id = found.id, contact.contact_id
    return UserContext(
        installation, {"microsoft365": (server.settings(contoso), {"certificate": app_certificate})},
        places={"client": {"slug": "contoso", "client_id": two_clients.contoso}}, run_id=run_id, root_id=run_id,
        target_id=contact_id, client_id=two_clients.contoso,
    )  # fmt: skip
