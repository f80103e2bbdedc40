"""agent.services.credentials: nearest scope, nothing of another client, no secret anywhere in clear."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from agent import audit
from agent.errors import ClientMismatch, Conflict, NotFound, SettingsError, StoreError, UsageError
from agent.installation import Installation
from agent.model.administration import Credential
from agent.model.places import Computer
from agent.secrets import add_key
from agent.services import credentials, key_rotation, properties

SECRET = "p4ss-$(id)-wörd\n'\""


def add(installation: Installation, name: str, **values: Any) -> Credential:
    given: dict[str, Any] = {"kind": "ssh", "settings": {"user": "root"}, "secret": {"password": SECRET}, **values}
    return credentials.add(installation, name=name, actor="jane", **given)


def database_bytes(installation: Installation) -> bytes:
    return b"".join(p.read_bytes() for p in installation.settings.workspace.glob("inventory.db*"))


def test_the_nearest_scope_counts(keyed: Installation, two_clients: Any) -> None:
    contoso = {"client_id": two_clients.contoso}
    server = add(keyed, "server")
    client = add(keyed, "client", **contoso)
    site = add(keyed, "site", location_id=two_clients.contoso_site, **contoso)
    with keyed.database.reading() as session:

        def nearest(client_id: int, location_id: int | None) -> int | None:
            found = credentials.nearest(session, "ssh", client_id=client_id, location_id=location_id)
            return found.id if found else None

        assert nearest(two_clients.contoso, two_clients.contoso_site) == site.id
        assert nearest(two_clients.contoso, None) == client.id
        assert nearest(two_clients.fabrikam, two_clients.fabrikam_site) == server.id
        assert credentials.nearest(session, "winrm", client_id=two_clients.contoso, location_id=None) is None


def test_two_in_one_scope_are_not_guessed_between(keyed: Installation, two_clients: Any) -> None:
    add(keyed, "a", client_id=two_clients.contoso)
    add(keyed, "b", client_id=two_clients.contoso)
    with keyed.database.reading() as session, pytest.raises(Conflict, match="'a', 'b'"):
        credentials.nearest(session, "ssh", client_id=two_clients.contoso, location_id=None)


def test_one_of_another_client_is_refused(keyed: Installation, two_clients: Any) -> None:
    mine = add(keyed, "sentinelone", kind="secret", client_id=two_clients.contoso)
    with keyed.database.reading() as session:
        found = credentials.by_name(session, "sentinelone", client_id=two_clients.contoso)
        assert found.id == mine.id and credentials.open_secret(keyed, found) == {"password": SECRET}
        with pytest.raises(ClientMismatch):
            credentials.by_name(session, "sentinelone", client_id=two_clients.fabrikam)
        with pytest.raises(ClientMismatch):
            credentials.by_id(session, mine.id or 0, client_id=two_clients.fabrikam)
        with pytest.raises(NotFound):
            credentials.by_name(session, "sentineltwo", client_id=two_clients.contoso)


def test_each_client_may_have_its_own_of_the_same_name(keyed: Installation, two_clients: Any) -> None:
    for client, word in ((two_clients.contoso, "one"), (two_clients.fabrikam, "two")):
        add(keyed, "sentinelone", kind="secret", client_id=client, secret={"value": word})
    with keyed.database.reading() as session:
        for client, word in ((two_clients.contoso, "one"), (two_clients.fabrikam, "two")):
            found = credentials.by_name(session, "sentinelone", client_id=client)
            assert credentials.open_secret(keyed, found) == {"value": word}
    with pytest.raises(Conflict, match=r"there is a credential .* already, with the id \d+: change or remove"):
        add(keyed, "sentinelone", client_id=two_clients.contoso)
    add(keyed, "sentinelone")
    with pytest.raises(Conflict, match="already, with the id"):
        add(keyed, "sentinelone")


def test_a_location_of_another_client_is_refused(keyed: Installation, two_clients: Any) -> None:
    with pytest.raises(ClientMismatch):
        add(keyed, "x", client_id=two_clients.contoso, location_id=two_clients.fabrikam_site)
    with pytest.raises(ClientMismatch):
        add(keyed, "x", location_id=two_clients.fabrikam_site)
    with pytest.raises(NotFound):
        add(keyed, "x", client_id=999)


def test_a_token_copied_to_another_credential_or_client_is_refused(keyed: Installation, two_clients: Any) -> None:
    stolen, own = add(keyed, "a", client_id=two_clients.contoso), add(keyed, "b", client_id=two_clients.fabrikam)
    with keyed.database.session() as session:
        row = session.get(Credential, own.id)
        assert row is not None
        row.secret = stolen.secret
    with pytest.raises(StoreError, match="another place"):
        credentials.open_secret(keyed, row)
    with keyed.database.session() as session:
        moved = session.get(Credential, stolen.id)
        assert moved is not None
        moved.client_id = two_clients.fabrikam
    with pytest.raises(StoreError, match="another place"):
        credentials.open_secret(keyed, moved)


def test_a_credential_without_a_secret_waits_for_it(keyed: Installation, two_clients: Any) -> None:
    waiting = add(keyed, "imported", secret=None)
    with pytest.raises(SettingsError, match="waits for its secret"):
        credentials.open_secret(keyed, waiting)
    with keyed.database.reading() as session:
        assert [v.state for v in credentials.list_credentials(session)] == ["waiting for its secret"]
    updated = credentials.update(keyed, waiting.id or 0, secret={"password": SECRET}, actor="jane")
    assert credentials.open_secret(keyed, updated) == {"password": SECRET}
    assert credentials.open_secret(keyed, add(keyed, "agent", kind="psrp", secret={})) == {}


def test_the_secret_is_nowhere_in_clear(
    keyed: Installation, two_clients: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = add(keyed, "a", client_id=two_clients.contoso)
    credentials.update(keyed, made.id or 0, secret={"password": SECRET + "2"}, settings={"user": "x"}, actor="jane")
    properties.set_value(keyed, "RMMPlus_AccessKey", SECRET, actor="jane")
    with keyed.database.session() as session:
        shown = repr(credentials.list_credentials(session)) + repr(audit.entries(session)) + caplog.text
        shown += repr(properties.list_properties(session)) + json.dumps([e.details for e in audit.entries(session)])
    assert "p4ss" not in shown and "enc:v1" not in shown
    assert b"p4ss" not in database_bytes(keyed) and b"enc:v1:" in database_bytes(keyed)


def test_what_is_done_is_audited(keyed: Installation, two_clients: Any) -> None:
    made = add(keyed, "a", client_id=two_clients.contoso)
    credentials.update(keyed, made.id or 0, settings={"user": "admin"}, actor="joe")
    credentials.remove(keyed, made.id or 0, actor="jane")
    with keyed.database.session() as session:
        trail = audit.entries(session, object_kind="credential", client_id=two_clients.contoso)
        assert [(e.action, e.actor) for e in reversed(trail)] == [
            ("credential.add", "jane"), ("credential.update", "joe"), ("credential.remove", "jane"),
        ]  # fmt: skip
        assert (trail[1].details["old"], trail[1].details["new"]) == ({"user": "root"}, {"user": "admin"})
        assert audit.verify(session) == []


def test_one_in_use_is_not_removed(keyed: Installation, two_clients: Any) -> None:
    made = add(keyed, "a")
    with keyed.database.session() as session:
        computer = session.get(Computer, two_clients.contoso_computers[0])
        assert computer is not None
        computer.credential_id = made.id
    with pytest.raises(Conflict, match="CONTOSO-PC1"):
        credentials.remove(keyed, made.id or 0, actor="jane")


@pytest.mark.parametrize("key", ["password", "Passphrase", "api_key", "bearerToken", "client_secret"])
def test_a_secret_among_the_settings_is_refused(keyed: Installation, key: str) -> None:
    with pytest.raises(UsageError, match="enter it as a secret") as caught:
        add(keyed, "a", settings={key: SECRET})
    assert "p4ss" not in str(caught.value)


@pytest.mark.parametrize("name", ["", " ", "two\nlines", "x\x00"])
def test_a_name_is_one_line(keyed: Installation, name: str) -> None:
    with pytest.raises(UsageError, match="one line"):
        add(keyed, name)


def test_an_empty_secret_is_refused_and_nothing_is_stored(keyed: Installation) -> None:
    with pytest.raises(UsageError, match="empty"):
        add(keyed, "a", secret={"password": ""})
    with keyed.database.reading() as session:
        assert session.exec(select(Credential)).all() == []


def test_a_secret_comes_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", SECRET)
    (tmp_path / "s").write_text(SECRET + "\n")
    assert credentials.secret_from("env:A_SECRET") == SECRET
    assert credentials.secret_from(f"file:{tmp_path / 's'}") == SECRET
    for wrong in ("env:NOT_THERE", f"file:{tmp_path}", SECRET, "env:", f"file:{tmp_path / 'none'}"):
        with pytest.raises(UsageError) as caught:
            credentials.secret_from(wrong)
        assert "p4ss" not in str(caught.value)


@pytest.fixture
def filled(keyed: Installation, two_clients: Any) -> Iterator[Installation]:
    """One credential that has a secret, one that waits, a secret property and an open one."""
    add(keyed, "a", client_id=two_clients.contoso)
    add(keyed, "waiting", secret=None)
    properties.set_value(keyed, "RMMPlus_AccessKey", SECRET, actor="jane")
    properties.set_value(keyed, "RMMPlus_Timeout", "5", actor="jane")
    yield keyed


def opened(installation: Installation) -> list[Any]:
    with installation.database.reading() as session:
        credential = session.exec(select(Credential).where(Credential.name == "a")).one()
        return [
            credentials.open_secret(installation, credential),
            properties.value_of(installation, session, "RMMPlus_AccessKey"),
            properties.value_of(installation, session, "RMMPlus_Timeout"),
        ]


def test_a_rotation_encrypts_everything_anew(filled: Installation) -> None:
    before = opened(filled)
    add_key(filled.settings)
    with pytest.raises(Conflict, match="2 secrets still need an old key"):
        key_rotation.drop_old_keys(filled, actor="jane")
    assert key_rotation.rotate(filled, actor="jane") == {
        "credentials": 1, "fields": 0, "properties": 1, "authenticator apps": 0, "links": 0, "mail": 0, "webhooks": 0,
        "backups": 0,
    }  # fmt: skip
    assert key_rotation.drop_old_keys(filled, actor="jane") == 1
    assert opened(filled) == before
    assert opened(Installation(filled.settings)) == before
    with filled.database.session() as session:
        assert [e.action for e in audit.entries(session, limit=2)] == ["secrets.drop_old_keys", "secrets.rotate"]


def test_a_rotation_that_fails_changes_nothing(filled: Installation) -> None:
    add_key(filled.settings)
    with filled.database.session() as session:
        row = session.exec(select(Credential).where(Credential.name == "waiting")).one()
        row.secret = "enc:v1:" + "A" * 120
    before = database_rows(filled)
    with pytest.raises(SettingsError):
        key_rotation.rotate(filled, actor="jane")
    assert database_rows(filled) == before


def database_rows(installation: Installation) -> list[tuple[str, str | None]]:
    with installation.database.reading() as session:
        return [(c.name, c.secret) for c in session.exec(select(Credential))]


def test_a_kind_that_a_package_describes_is_held_to_that(keyed: Installation) -> None:
    kind = {"kind": "microsoft365", "secret": {"client_secret": SECRET}}
    with pytest.raises(UsageError) as refused:
        add(keyed, "m", settings={"tenant": "contoso.example", "cloud": "moon"}, **kind)
    for said in ("there is no setting tenant; did you mean tenant_id?", "tenant_id is missing", "cloud must match"):
        assert said in str(refused.value)
    settings = {"tenant_id": "contoso.example", "client_id": "1"}
    with pytest.raises(UsageError, match="one of the secrets client_secret, certificate is needed"):
        add(keyed, "m", settings=settings, kind="microsoft365", secret={})
    with pytest.raises(UsageError, match="there is no secret password"):
        add(keyed, "m", settings=settings, kind="microsoft365", secret={"password": SECRET})
    # As an import leaves it: it waits, and is complete when its secret comes.
    waiting = add(keyed, "m", settings={}, kind="microsoft365", secret=None)
    assert waiting.id is not None
    with pytest.raises(UsageError, match="tenant_id is missing"):
        credentials.update(keyed, waiting.id, secret={"client_secret": SECRET}, actor="jane")
    credentials.update(keyed, waiting.id, settings=settings, secret={"client_secret": SECRET}, actor="jane")
    with pytest.raises(UsageError, match="client_id is missing"):
        credentials.update(keyed, waiting.id, settings={"tenant_id": "x"}, actor="jane")
