"""The API as programs use it: lists in parts, one shape of errors, calls that are repeated, tokens, flags that tell."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from api_help import api_of, token_of
from sqlmodel import Session, func, select
from web_help import Console

from agent.access import idempotency, tokens
from agent.installation import Installation
from agent.inventory import places
from agent.model.access import ApiToken, IdempotencyKey
from agent.model.administration import AuditEntry
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding
from agent.model.fields import ExtraFieldData
from agent.model.places import Client, Contact
from agent.secrets import create_key

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def owner(console: Console) -> Iterator[httpx.Client]:
    """A program that acts for the owner."""
    with api_of(console, "owner") as client:
        yield client


def count(installation: Installation, model: type[Any]) -> int:
    with installation.database.reading() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def add_people(console: Console, number: int) -> list[int]:
    with console.installation.database.session() as session:
        return [
            places.add_contact(
                session, client_id=console.places.contoso, name=f"Person {n} {SCRIPT}", actor="t",
                email=f"p{n}@contoso.example",
            ).contact_id or 0
            for n in range(number)
        ]  # fmt: skip


# --- lists


def test_a_list_is_read_part_by_part(console: Console, owner: httpx.Client) -> None:
    ids = add_people(console, 7)
    found: list[int] = []
    after: str | None = None
    while True:
        answer = owner.get("/contacts", params={"limit": 3, **({"after": after} if after else {})}).json()
        found += [c["contact_id"] for c in answer["items"]]
        after = answer["next"]
        if after is None:
            break
    assert found == ids
    assert [c["contact_id"] for c in owner.get("/contacts?search=p3").json()["items"]] == [ids[3]]
    assert [c["contact_id"] for c in owner.get("/contacts?email=P4@contoso.example").json()["items"]] == [ids[4]]
    assert owner.get(f"/contacts?client_id={console.places.fabrikam}").json()["items"] == []


@pytest.mark.parametrize(
    "cursor", ["x", "W10", "bnVsbA", "WyJ4Il0", "=", "é", "A" * 1999, "W1tdXQ", "WzFlOTk5XQ", "W3RydWVd"]
)
def test_a_cursor_that_is_none_is_refused(owner: httpx.Client, cursor: str) -> None:
    for path in ("/contacts", "/runs", "/clients", "/audit"):
        answer = owner.get(path, params={"after": cursor})
        assert answer.status_code == 400 and "cursor" in answer.json()["detail"]


# --- errors


def test_every_wrong_value_is_told_at_once(console: Console, owner: httpx.Client) -> None:
    """CIPP-54."""
    body = {"client_id": 0, "people": [{}, {"email": "x"}], "inputs": {"keep_copy": "maybe", "nonsense": 1}, "more": 1}
    answer = owner.post("/offboardings", json=body)
    assert answer.status_code == 400 and answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["instance"], problem["title"]) == (400, "/api/v1/offboardings", "Bad Request")
    assert {e["where"] for e in problem["errors"]} == {
        "body.client_id", "body.people.0", "body.people.1.email", "body.inputs.keep_copy", "body.inputs.nonsense", "body.more",
    }  # fmt: skip
    ids = add_people(console, 2)
    with console.installation.database.session() as session:
        other = places.add_contact(session, client_id=console.places.fabrikam, name="Z", actor="t", email="z@z.example")
    everyone = [{"contact_id": ids[0]}, {"email": "nobody@contoso.example"}, {"email": other.email}]
    problem = owner.post("/offboardings", json={"client_id": console.places.contoso, "people": everyone}).json()
    assert [e["where"] for e in problem["errors"]] == ["body.people.0", "body.people.1", "body.people.2"]
    assert "Fabrikam" not in json.dumps(problem)
    assert count(console.installation, ContactOffboarding) == 0


def test_an_import_tells_every_bad_line_and_stores_nothing(console: Console, owner: httpx.Client) -> None:
    text = "external_id,client,name,status\na,contoso,Ada,Gone\nb,nowhere,Bob,Active\nc,contoso,Cyd,Active\n"
    answer = owner.post("/inventory/import?kind=contacts", content=text)
    assert answer.status_code == 400
    assert [(e["line"], e["where"]) for e in answer.json()["errors"]] == [(2, "status"), (3, "client")]
    assert count(console.installation, Contact) == 0
    good = text.replace("Gone", "Active").replace("nowhere", "fabrikam")
    assert owner.post("/inventory/import?kind=contacts&dry_run=true", content=good).json()["created"] == 3
    assert count(console.installation, Contact) == 0
    assert owner.post("/inventory/import?kind=contacts", content=good).json()["created"] == 3
    exported = owner.get(f"/inventory/export?kind=contacts&client_id={console.places.fabrikam}")
    assert (
        exported.headers["content-type"].startswith("text/csv")
        and "Bob" in exported.text
        and "Ada" not in exported.text
    )


WRONG: tuple[tuple[str, str, dict[str, Any], int], ...] = (
    ("POST", "/clients", {"content": b"{"}, 400),
    ("POST", "/clients", {"content": b""}, 400),
    ("POST", "/clients", {"content": b"[]"}, 400),
    ("POST", "/clients", {"content": b'"x"'}, 400),
    ("POST", "/clients", {"json": {"name": ["x"]}}, 400),
    ("POST", "/clients", {"json": {"name": "x", "client_id": 7}}, 400),
    ("POST", "/clients", {"json": {"name": ""}}, 400),
    ("POST", "/clients", {"json": {"name": "a\0b"}}, 400),
    ("POST", "/clients", {"content": b'{"name": "\\ud800"}'}, 400),
    ("POST", "/clients", {"content": b'{"name": ' + b"[" * 50_000}, 400),
    ("POST", "/clients", {"json": {"name": "x" * 1_100_000}}, 413),
    ("POST", "/clients", {"content": iter([b'{"name": "', b"x" * 600_000, b"x" * 600_000])}, 413),
    ("POST", "/clients", {"json": {"name": "x", "slug": "../../etc"}}, 400),
    ("GET", "/clients/0", {}, 400),
    ("GET", "/clients/99999999999999999999", {}, 400),
    ("GET", "/clients/1%00", {}, 400),
    ("GET", "/clients/..%2f..%2fetc", {}, 404),
    ("GET", "/runs/..%2f..%2f", {}, 404),
    ("GET", "/runs/%2e%2e%2fsecrets.key", {}, 404),
    ("GET", "/scripts/..%5c..%5csecrets", {}, 404),
    ("GET", "/revisions/" + "z" * 64, {}, 400),
    ("GET", "/contacts?limit=0", {}, 400),
    ("GET", "/contacts?limit=1000000", {}, 400),
    ("GET", "/audit?since=yesterday", {}, 400),
    ("DELETE", "/clients", {}, 405),
    ("DELETE", "/clients/1", {}, 409),
    ("GET", "/nothing", {}, 404),
    ("PUT", "/clients/1/fields/Nothing", {"json": {"value": "1"}}, 404),
    ("POST", "/backups/verify", {"json": {"backup": 7}}, 400),
)


def test_bad_input_gets_the_right_status_and_changes_nothing(console: Console) -> None:
    installation = console.installation
    clients = count(installation, Client)
    with api_of(console, "owner") as api:
        entries = count(installation, AuditEntry)
        for method, path, sent, status in WRONG:
            answer = api.request(method, path, **sent)
            assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:300]}"
            assert answer.headers["content-type"] == "application/problem+json", path
            assert answer.json()["status"] == status and "Traceback" not in answer.text
            if status == 405:
                assert "GET" in answer.headers["allow"]
    assert (count(installation, Client), count(installation, AuditEntry)) == (clients, entries)


def test_html_in_every_text_stays_text(console: Console, owner: httpx.Client) -> None:
    made = owner.post("/clients", json={"name": SCRIPT, "external_id": SCRIPT})
    assert made.status_code == 201 and made.json()["name"] == SCRIPT
    assert made.headers["content-type"] == "application/json" and made.headers["x-content-type-options"] == "nosniff"
    assert SCRIPT not in owner.get(f"/clients/{made.json()['client_id']}/evidence?format=html").text


# --- repeated calls


def test_a_repeated_call_is_carried_out_once(console: Console, owner: httpx.Client) -> None:
    before = count(console.installation, Client)
    key = {"idempotency-key": "one"}
    first = owner.post("/clients", json={"name": "Once"}, headers=key)
    again = owner.post("/clients", json={"name": "Once"}, headers=key)
    assert first.status_code == again.status_code == 201 and first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in first.headers
    other = owner.post("/clients", json={"name": "Twice"}, headers=key)
    assert other.status_code == 409 and "another request" in other.json()["detail"]
    assert owner.post("/clients?x=1", json={"name": "Once"}, headers=key).status_code == 409
    assert count(console.installation, Client) == before + 1
    refused = [
        owner.post("/clients", json={"name": "N", "slug": "contoso"}, headers={"idempotency-key": "two"}) for _ in "12"
    ]
    assert [r.status_code for r in refused] == [409, 409] and refused[0].json() == refused[1].json()
    assert refused[1].headers["content-type"] == "application/problem+json"


def test_a_request_that_was_not_understood_keeps_its_key(console: Console, owner: httpx.Client) -> None:
    key = {"idempotency-key": "mine"}
    assert owner.post("/clients", json={"nam": "x"}, headers=key).status_code == 400
    assert owner.post("/clients", json={"name": "Right"}, headers=key).status_code == 201
    assert owner.post("/clients", json={"name": "x"}, headers={"idempotency-key": "x" * 201}).status_code == 400
    with api_of(console, "stranger") as other:
        assert other.post("/clients", json={"name": "Right"}, headers=key).status_code == 403, "keys are one's own"


def test_a_call_that_was_broken_off_is_not_repeated(console: Console, owner: httpx.Client) -> None:
    """The process died between the claim and the answer: nobody knows, and nothing is done a second time."""
    key = "broken"
    me = owner.get("/me").json()["user_id"]
    owner.post("/clients", json={"name": "Broken"}, headers={"idempotency-key": key})
    with console.installation.database.session() as session:
        row = session.get_one(IdempotencyKey, (me, key))
        row.status = row.body = None
        session.add(row)
    before = count(console.installation, Client)
    answer = owner.post("/clients", json={"name": "Broken"}, headers={"idempotency-key": key})
    assert answer.status_code == 409 and "look whether it was done" in answer.json()["detail"]
    assert count(console.installation, Client) == before


def test_two_calls_at_once_with_one_key_are_one(console: Console, owner: httpx.Client) -> None:
    before, codes = count(console.installation, Client), []

    def call() -> None:
        answer = owner.post("/clients", json={"name": "Race"}, headers={"idempotency-key": "race"})
        codes.append(answer.status_code)

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert count(console.installation, Client) == before + 1
    assert set(codes) <= {201, 409} and 201 in codes


def test_keys_are_forgotten_after_a_day_and_secrets_are_never_kept(console: Console, owner: httpx.Client) -> None:
    key = {"idempotency-key": "token"}
    made = owner.post("/tokens", json={"name": "x"}, headers=key)
    again = owner.post("/tokens", json={"name": "x"}, headers=key)
    assert made.status_code == 201 and again.status_code == 409 and "secret" in again.json()["detail"]
    with console.installation.database.session() as session:
        row = session.exec(select(IdempotencyKey)).one()
        assert row.body is None and row.status == 201
        row.created_at = utcnow() - timedelta(hours=25)
        session.add(row)
        other = IdempotencyKey(user_id="u", key="k", request_digest="d")
        session.add(other)
    assert owner.post("/tokens", json={"name": "x"}, headers=key).status_code == 201, "a day later it is a new call"
    with console.installation.database.session() as session:
        row = session.get_one(IdempotencyKey, ("u", "k"))
        row.created_at = utcnow() - timedelta(hours=25)
        session.add(row)
    with console.installation.database.session() as session:
        assert idempotency.forget_old(session) == 1
    assert count(console.installation, IdempotencyKey) == 1


# --- tokens


def test_a_token_does_what_its_scopes_say(console: Console) -> None:
    contoso = console.places.contoso
    with api_of(console, "owner", scopes=("see",)) as api:
        assert api.get("/clients").status_code == 200
        assert api.patch(f"/clients/{contoso}", json={"name": "x"}).status_code == 403
        assert api.get("/properties").status_code == 403
        assert api.post("/tokens", json={"name": "more", "scopes": ["administer"]}).status_code == 403
        made = api.post("/tokens", json={"name": "same"}).json()["token"]
        mine = api.get("/me", headers={"authorization": f"Bearer {made}"}).json()
        assert mine["scopes"] == ["see"] and mine["name"] == "owner"
    with api_of(console, "owner", scopes=("operate",)) as api:
        assert api.get("/clients").json()["items"] == [] and api.get(f"/clients/{contoso}").status_code == 404


def test_a_token_that_is_over_is_refused_everywhere(console: Console) -> None:
    text = token_of(console.installation, "owner")
    call = console.nobody.client.get

    def status(header: str) -> int:
        return call("/api/v1/clients", headers={"authorization": header}).status_code

    assert status(f"Bearer {text}") == 200 and status(f"bearer {text}") == 200
    for wrong in ("", "Bearer", f"Basic {text}", f"Bearer {text}x", f"Bearer {text[:-1]}", text):
        assert status(wrong) == 401, wrong
    refused = call("/api/v1/clients")
    assert refused.headers["www-authenticate"] == "Bearer" and refused.json()["status"] == 401
    assert call("/runs", headers={"authorization": f"Bearer {text}"}).status_code in (303, 401), (
        "tokens are for the API"
    )
    with console.installation.database.session() as session:
        row = _token(session, text)
        row.expires_at = utcnow() - timedelta(seconds=1)
        session.add(row)
    assert status(f"Bearer {text}") == 401
    second = token_of(console.installation, "owner")
    with console.installation.database.reading() as session:
        identity = _token(session, second).id
    tokens.revoke(console.installation, identity, actor="t")
    assert status(f"Bearer {second}") == 401


def _token(session: Session, text: str) -> ApiToken:
    from agent.access.digests import digest

    return session.exec(select(ApiToken).where(ApiToken.token_digest == digest(text))).one()


def test_a_session_needs_its_form_token_to_change_something(console: Console) -> None:
    path = f"/api/v1/clients/{console.places.contoso}"
    assert console.owner.client.patch(path, json={"name": "x"}).status_code == 403
    assert console.owner.send("PATCH", path, json={"name": "Contoso 2"}).status_code == 200
    other_site = {"sec-fetch-site": "cross-site", "authorization": f"Bearer {token_of(console.installation, 'owner')}"}
    assert console.nobody.client.patch(path, json={"name": "x"}, headers=other_site).status_code == 403


# --- acting


def test_a_place_added_by_mistake_is_removed_from_the_inside_to_the_outside(
    console: Console, owner: httpx.Client
) -> None:
    client = owner.post("/clients", json={"name": "Contosso"}).json()["client_id"]
    location = owner.post("/locations", json={"client_id": client, "name": "HQ"}).json()["location_id"]
    computer = owner.post("/computers", json={"location_id": location, "name": "PC1"}).json()["computer_id"]
    contact = owner.post("/contacts", json={"client_id": client, "name": "Jo"}).json()["contact_id"]
    refused = owner.delete(f"/clients/{client}")
    assert refused.status_code == 409 and "1 location, 1 computer, 1 contact" in refused.json()["detail"]
    for path, name in (
        (f"/computers/{computer}", "Contosso/HQ/PC1"), (f"/contacts/{contact}", "Contosso/Jo"),
        (f"/locations/{location}", "Contosso/HQ"), (f"/clients/{client}", "Contosso"),
    ):  # fmt: skip
        assert owner.delete(path).json()["done"].endswith(f"is removed: {name}")
        assert owner.delete(path).status_code == 404
    assert [c["name"] for c in owner.get("/clients").json()["items"]] == ["Contoso", "Fabrikam"]


def test_a_flag_tells_whom_it_reaches(console: Console, owner: httpx.Client) -> None:
    contoso = console.places.contoso
    reach = owner.get(f"/clients/{contoso}/reach").json()
    flagged = owner.put(f"/clients/{contoso}/fields/Offboard Client", json={"value": "1"}).json()
    assert flagged["reaches"] == reach and reach["count"] == 2
    assert {c["computer_id"] for c in reach["computers"]} == set(console.places.contoso_computers)
    assert all(c["online"] and not c["excluded_by"] for c in reach["computers"])
    rows = owner.get("/computers").json()["items"]
    assert {c["client_id"] for c in rows if c["flagged_by"]} == {contoso}
    cleared = owner.delete(f"/clients/{contoso}/fields/Offboard Client").json()
    assert cleared["origin"] != "own"
    assert count(console.installation, ExtraFieldData) >= 0


def test_a_json_body_plans_offboardings(console: Console, owner: httpx.Client) -> None:
    """REWST-97: planned for later, previewed first, seen in the list, taken off it."""
    ids = add_people(console, 1)
    with console.installation.database.session() as session:
        places.add_contact(session, client_id=console.places.contoso, name="B", actor="t", email="boss@contoso.example")
    body = {
        "client_id": console.places.contoso, "people": [{"contact_id": ids[0], "inputs": {"keep_copy": False}}],
        "inputs": {"termination_type": "voluntary", "manager_email": "boss@contoso.example", "reference": SCRIPT},
        "at": "2031-01-31T17:00",
    }  # fmt: skip
    preview = owner.post("/offboardings/preview", json=body)
    assert preview.status_code == 200, preview.text
    shown = preview.json()[0]
    assert shown["inputs"]["keep_copy"] == {"value": "0", "source": "given"} and shown["draft"]["fingerprint"]
    assert count(console.installation, ContactOffboarding) == 0
    made = owner.post("/offboardings", json=body, headers={"idempotency-key": "plan"})
    assert made.status_code == 201, made.text
    assert owner.post("/offboardings", json=body, headers={"idempotency-key": "plan"}).json() == made.json()
    assert owner.post("/offboardings", json=body).status_code == 409
    row = made.json()["planned"][0]
    assert row["scheduled_for"].startswith("2031-01-31T17:00") and made.json()["started"] == []
    listed = owner.get("/offboardings?state=Planned").json()["items"]
    assert [r["id"] for r in listed] == [row["id"]] and listed[0]["reference"] == SCRIPT
    with api_of(console, "stranger") as stranger:
        assert stranger.get("/offboardings").json()["items"] == []
        assert stranger.post("/offboardings/delete", json={"ids": [row["id"]]}).status_code == 404
    assert owner.post("/offboardings/delete", json={"ids": [row["id"]]}).status_code == 200
    assert owner.get("/offboardings").json()["items"] == []


def test_a_plan_is_previewed_started_and_cancelled(console: Console, owner: httpx.Client) -> None:
    body = {
        "script": "Remove Application", "target_id": console.places.contoso_computers[0], "parameters": {"Name": "7-Zip"},
    }  # fmt: skip
    preview = owner.post("/plans/preview", json=body).json()
    assert preview["targets"][0]["steps"]
    changed = owner.post("/plans", json={**body, "agreed": "0" * 64})
    assert changed.status_code == 409
    started = owner.post("/plans", json={**body, "agreed": preview["fingerprint"], "reason": "test"})
    assert started.status_code == 201 and started.json()["state"] == "released"
    run_id = started.json()["run_ids"][0]
    assert owner.get(f"/runs/{run_id}").json()["state"] == "queued"
    assert owner.post(f"/runs/{run_id}/cancel", json={"reason": "enough"}).json() == {"done": "cancelled"}
    assert owner.post(f"/runs/{run_id}/cancel", json={}).status_code == 409
    assert owner.get("/runs?state=cancelled").json()["items"][0]["id"] == run_id
    for form, kind in (("json", "application/json"), ("html", "text/html; charset=utf-8"), ("pdf", "application/pdf")):
        answer = owner.get(f"/runs/{run_id}/report", params={"format": form})
        assert answer.status_code == 200 and answer.headers["content-type"] == kind


def test_a_credential_is_taken_and_never_given(console: Console, owner: httpx.Client) -> None:
    create_key(console.installation.settings)
    body = {
        "kind": "ssh", "name": "root", "client_id": console.places.contoso, "settings": {"username": "root"},
        "secret": {"password": "hunter2-hunter2"},
    }  # fmt: skip
    made = owner.post("/credentials", json=body)
    assert made.status_code == 201
    identity = made.json()["id"]
    texts = [
        made.text,
        owner.get("/credentials").text,
        owner.get(f"/credentials/{identity}").text,
        owner.get("/audit").text,
    ]
    texts += [owner.post("/credentials", json=body).text, owner.post("/credentials", json={**body, "more": 1}).text]
    assert not any("hunter2" in text for text in texts)
    way = owner.patch(f"/computers/{console.places.contoso_computers[0]}", json={"credential_id": identity})
    assert way.status_code == 200
    theirs = owner.patch(f"/computers/{console.places.fabrikam_computers[0]}", json={"credential_id": identity})
    assert theirs.status_code == 409, "a credential stays with its client"
    with api_of(console, "colleague") as technician:
        for change in ({"address": "evil.example"}, {"transport": "local"}, {"credential_id": identity}):
            answer = technician.patch(f"/computers/{console.places.contoso_computers[0]}", json=change)
            assert answer.status_code == 403, "who says where a computer is gets what is sent there"
