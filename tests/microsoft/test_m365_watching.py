"""A deletion in the tenant is noticed once: by the delta query, after a crash, after the link has run out, with two workers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select
from tenant_server import Server
from tenant_state import TestTenant

from agent.cli import working
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.directory import DirectoryAccount, DirectoryWatch
from agent.model.places import Contact
from agent.monitoring.evaluation import evaluate
from agent.secrets import create_key
from agent.services import credentials
from agent.services.microsoft import watching

Look = Callable[[], list[watching.Looked]]


@pytest.fixture
def look(installation: Installation, two_clients: Any, server: Server, app_certificate: str) -> Look:
    """Look at both clients' tenants, each with a contact Alex."""
    create_key(installation.settings)
    places = {"contoso": two_clients.contoso, "fabrikam": two_clients.fabrikam}
    for tenant in server.tenants:
        slug = tenant.domain.removesuffix(".test")
        credentials.add(
            installation, kind="microsoft365", name=f"{slug}-tenant", client_id=places[slug],
            settings=server.settings(tenant), secret={"certificate": app_certificate}, actor="tester",
        )  # fmt: skip
        with installation.database.session() as session:
            session.add(
                Contact(client_id=places[slug], external_id=f"{slug}-alex", name="Alex", email=f"Alex@{slug}.test")
            )
    return lambda: watching.look_at_all(installation)


def delete(tenant: TestTenant, name: str = "alex") -> str:
    user = tenant.named(name)
    tenant.deleted[user.id] = tenant.users.pop(user.id)
    tenant.changed(user.id)
    return user.id


def restore(tenant: TestTenant, object_id: str) -> None:
    tenant.users[object_id] = tenant.deleted.pop(object_id)
    tenant.changed(object_id)


def deleted(found: list[watching.Looked]) -> list[int]:
    assert [f.error for f in found] == [None, None], found
    return [f.deleted for f in found]


def gone(installation: Installation) -> list[str]:
    with installation.database.reading() as session:
        return sorted(session.exec(select(DirectoryAccount.upn).where(col(DirectoryAccount.deleted_at).is_not(None))))


def noticed(installation: Installation) -> list[str]:
    """Identities that the shipped monitor opens an alert for now."""
    return [m.row.identity for m in evaluate(installation, "Deleted in Directory", actor="t", dry_run=True).matched]


def test_a_deletion_is_told_once_and_of_one_client(
    installation: Installation, look: Look, contoso: TestTenant, server: Server
) -> None:
    contoso.page_size = 2
    assert deleted(look()) == [0, 0] and noticed(installation) == []
    assert deleted(look()) == [0, 0]
    alex = delete(contoso)
    assert deleted(look()) == [1, 0]
    assert gone(installation) == ["alex@contoso.test"]
    assert noticed(installation) == [f"alex@contoso.test {alex} 1"]
    assert deleted(look()) == [0, 0], "each deletion fires once"
    contoso.changed(alex)
    assert deleted(look()) == [0, 0], "also when the tenant tells it again, as it does when the account is purged"
    restore(contoso, alex)
    assert deleted(look()) == [0, 0] and noticed(installation) == []
    delete(contoso)
    assert deleted(look()) == [1, 0]
    assert noticed(installation) == [f"alex@contoso.test {alex} 2"], "and a second deletion is another one"


def test_who_was_deleted_before_the_first_look_is_not_told(look: Look, contoso: TestTenant) -> None:
    delete(contoso)
    assert deleted(look()) == [0, 0]
    assert deleted(look()) == [0, 0]


def test_a_link_that_has_run_out_tells_only_who_is_gone(
    installation: Installation, look: Look, contoso: TestTenant, server: Server
) -> None:
    look()
    delete(contoso)
    contoso.delta_lost = True
    assert deleted(look()) == [1, 0], "not all, and the one that was deleted in the meantime"
    assert gone(installation) == ["alex@contoso.test"]
    assert deleted(look()) == [0, 0]


def test_a_reading_that_is_not_whole_makes_nobody_disappear(
    installation: Installation, look: Look, contoso: TestTenant
) -> None:
    """After a resynchronisation the list lacks people who are there when they are asked for."""
    look()
    contoso.delta_lost, contoso.delta_hides = True, {contoso.named("mia").id, contoso.named("dana").id}
    assert deleted(look()) == [0, 0] and gone(installation) == []


def test_too_many_missing_at_once_is_a_fault(
    installation: Installation, look: Look, contoso: TestTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    look()
    monkeypatch.setattr(watching, "MISSING_AT_MOST", 1)
    delete(contoso)
    delete(contoso, "rob")
    contoso.delta_lost = True
    assert "taken for a fault" in str(look()[0].error) and gone(installation) == []


def test_a_crash_between_any_two_writes_tells_it_once(
    installation: Installation, look: Look, contoso: TestTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    contoso.page_size = 1
    look()
    delete(contoso)
    delete(contoso, "rob")
    store, told = watching._store, []

    class Killed(Exception):
        pass

    def dies(*arguments: Any, **named: Any) -> int:
        if len(told) % 2 == 0:
            told.append(0)
            raise Killed
        told.append(store(*arguments, **named))
        raise Killed

    monkeypatch.setattr(watching, "_store", dies)
    for _ in range(12):
        try:
            look()
        except Killed:
            continue
    monkeypatch.setattr(watching, "_store", store)
    look()
    assert sum(told) == 2 and gone(installation) == ["alex@contoso.test", "rob@contoso.test"]
    with installation.database.reading() as session:
        assert set(session.exec(select(DirectoryAccount.deletions))) == {0, 1}


def test_another_worker_has_gone_on_from_the_same_link(
    installation: Installation, look: Look, contoso: TestTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    look()
    delete(contoso)
    store = watching._store
    monkeypatch.setattr(watching, "_store", lambda *a, **n: store(*a, **n) + store(*a, **n))
    assert deleted(look()) == [1, 0]


@pytest.mark.parametrize("fault", [403, 500, "drop"])
def test_a_failed_look_is_kept_with_its_reason_and_the_other_client_is_looked_at(
    installation: Installation, look: Look, contoso: TestTenant, fabrikam: TestTenant, server: Server, fault: Any
) -> None:
    look()
    delete(contoso)
    delete(fabrikam)
    # A refusal is not repeated; all else is, six times.
    server.fault(r"GET /users/delta", fault, times=1 if fault == 403 else 6)
    first, second = look()
    assert first.error and (first.deleted, second.deleted, second.error) == (0, 1, None)
    with installation.database.reading() as session:
        assert session.exec(select(DirectoryWatch.error).where(DirectoryWatch.client_id == first.client_id)).one()
    server.faults.clear()
    assert deleted(look()) == [1, 0]


def test_old_deletions_end(installation: Installation, look: Look, contoso: TestTenant) -> None:
    look()
    delete(contoso)
    look()
    with installation.database.session() as session:
        row = session.exec(select(DirectoryAccount).where(col(DirectoryAccount.deleted_at).is_not(None))).one()
        row.deleted_at = utcnow() - timedelta(days=366)
        session.add(row)
    assert noticed(installation) == []


def test_the_worker_looks_when_it_is_told_to(installation: Installation, look: Look, contoso: TestTenant) -> None:
    look()
    delete(contoso)
    working.watch_directories(installation)
    assert gone(installation) == ["alex@contoso.test"]
