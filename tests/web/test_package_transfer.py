"""Packages by the API as a file: out, in after a look, and the last import taken back."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from api_help import api_of
from web_help import Console

from agent import audit
from agent.inventory import extra_fields
from agent.model.fields import Form
from agent.packages import store
from agent.secrets import create_key


@pytest.fixture
def owner(console: Console) -> Iterator[httpx.Client]:
    create_key(console.installation.settings)
    with console.installation.database.session() as session:
        # What the packages read and do not define themselves.
        extra_fields.define(session, form=Form.CLIENT, name="IT Notification Recipients", actor="t")
    with api_of(console, "owner") as client:
        yield client


def exported(owner: httpx.Client, *names: str, client: str | None = None) -> bytes:
    answer = owner.post("/packages/export", json={"packages": names, "client": client})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/zip", answer.text
    return answer.content


def taken(owner: httpx.Client, archive: bytes, **query: object) -> httpx.Response:
    return owner.post("/packages/import", params=query, files={"file": ("x.zip", archive)})  # type: ignore[arg-type]


def applied(console: Console, slug: str) -> list[str]:
    return [a.name for a in store.applied(console.installation, slug)]


def test_an_archive_is_looked_at_taken_over_and_taken_back(console: Console, owner: httpx.Client) -> None:
    archive = exported(owner, "zoom", "slack")
    looked = taken(owner, archive).json()
    assert looked["packages"] == ["Slack", "Zoom"] and looked["imported"]["change"] is None
    assert "not signed" in looked["imported"]["refusals"][0]
    assert taken(owner, archive, dry_run=False).status_code == 409, "it is refused unless that is allowed"
    done = taken(owner, archive, dry_run=False, allow_unsigned=True)
    assert done.status_code == 200, done.text
    assert done.json()["imported"]["change"] and done.json()["applied"] == []
    assert "zoom" in done.json()["waiting"]
    before = owner.post("/packages/undo", json={"dry_run": True}).json()
    assert before["lines"] and before["change"] is None
    back = owner.post("/packages/undo", json={})
    assert back.status_code == 200 and back.json()["change"]
    assert owner.post("/packages/undo", json={}).status_code == 404, "there is no other import"
    with console.installation.database.reading() as session:
        assert {e.actor for e in audit.entries(session, action="package.*")} == {"owner"}


def test_a_client_gets_the_packages_in_their_order(console: Console, owner: httpx.Client) -> None:
    for position, name in enumerate(("zoom", "slack"), 1):
        assert owner.post(f"/applied-packages/contoso/{name}", json={"position": position}).status_code == 200
    archive = exported(owner, client="contoso")
    done = taken(owner, archive, client="fabrikam", dry_run=False, allow_unsigned=True)
    assert done.status_code == 200, done.text
    assert {line.partition(":")[0] for line in done.json()["applied"]} >= {"Slack", "Zoom"}
    assert applied(console, "fabrikam") == applied(console, "contoso") == ["Zoom", "Slack"]
    assert taken(owner, archive, client="nobody", allow_unsigned=True).status_code == 404


def test_what_is_no_archive_is_refused(owner: httpx.Client) -> None:
    archive = exported(owner, "zoom")
    for wrong in (b"", b"PK nonsense", archive[:-40]):
        assert taken(owner, wrong, dry_run=False, allow_unsigned=True).status_code == 400
    assert taken(owner, archive, only="field:Nope").status_code == 400
    assert owner.post("/packages/import").status_code == 400
    assert owner.post("/packages/export", json={"packages": []}).status_code == 400
    assert owner.post("/packages/export", json={"packages": ["no such"]}).status_code == 404


def test_a_large_archive_is_taken_and_a_larger_one_is_not(owner: httpx.Client) -> None:
    assert taken(owner, b"x" * 2_000_000).status_code == 400, "it is read, and is no archive"
    assert taken(owner, b"x" * 20_000_001).status_code == 413


def test_only_an_administrator_of_the_whole_server_carries_packages(console: Console, owner: httpx.Client) -> None:
    archive = exported(owner, "zoom")
    for name in ("colleague", "approver", "viewer", "stranger"):
        with api_of(console, name) as person:
            assert person.post("/packages/export", json={"packages": ["zoom"]}).status_code == 403
            assert taken(person, archive, dry_run=False, allow_unsigned=True).status_code == 403
            assert person.post("/packages/undo", json={}).status_code == 403
    with api_of(console, "owner", scopes=["see"]) as reader:
        assert taken(reader, archive).status_code == 403, "a token's scope counts"


def test_a_repeated_request_is_carried_out_once(owner: httpx.Client) -> None:
    for _ in range(2):
        answer = owner.post("/packages/export", json={"packages": ["zoom"]}, headers={"Idempotency-Key": "out"})
        assert answer.status_code == 200 and answer.content[:2] == b"PK"
    archive, query = answer.content, {"dry_run": "false", "allow_unsigned": "true"}
    body = httpx.Request("POST", "http://x/", files={"file": ("x.zip", archive)})
    headers = {"Idempotency-Key": "in", "content-type": body.headers["content-type"]}
    first, second = (
        owner.post("/packages/import", params=query, content=body.read(), headers=headers) for _ in range(2)
    )
    assert first.status_code == 200, first.text
    assert second.json() == first.json() and second.headers["idempotency-replayed"] == "true"
