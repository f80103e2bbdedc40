"""What somebody tries who may do something, but not this: each test was a hole once."""

from __future__ import annotations

import base64
import time
from collections import Counter
from datetime import timedelta

import account_functions
import pytest
from people_help import People, add_people, write_children
from sqlmodel import select
from structlog.testing import capture_logs
from web_help import Console, Person, plain_client, sign_in_as

from agent.access import names, sessions, users
from agent.access.digests import digest
from agent.errors import StoreError
from agent.functions import registry
from agent.inventory import places as inventory
from agent.model.access import WebSession
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding
from agent.model.monitors import Alert
from agent.model.places import Computer
from agent.model.runs import Plan, ScriptRevision, ScriptRun
from agent.running import offboarding_templates
from agent.secrets import create_key
from agent.services import mail
from agent.web.pages import runs as pages_of_runs


@pytest.fixture(autouse=True)
def _test_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, attribute in (("account", "Account"), ("backup", "Backup"), ("delete", "Delete")):
        monkeypatch.setitem(registry.BUILT_IN, f"test.{name}", f"account_functions:{attribute}")
    account_functions.DONE.clear()
    account_functions.BROKEN.clear()


@pytest.fixture
def people(console: Console) -> People:
    write_children(console.installation)
    return add_people(console.installation, console.places)


def test_a_template_of_another_client_cannot_be_read_in_any_way(console: Console, people: People) -> None:
    with console.installation.database.session() as session:
        options = {"send_as": "secret@fabrikam.example"}
        offboarding_templates.save(session, "Of Fabrikam", options, actor="t")
        offboarding_templates.assign(session, "Of Fabrikam", actor="t", client_ids=[console.places.fabrikam])
    client, who = console.places.contoso, console.colleague
    person = {"email": "john@contoso.example"}
    asked = {"client_id": client, "people": [person]}
    answers = [
        who.get(f"/offboardings/new?client={client}"),
        who.get("/api/v1/offboarding-templates"),
        who.get(f"/offboardings/new?client={client}&template=Of+Fabrikam"),
        who.post("/offboardings/check", data={"client": str(client), "template": "Of Fabrikam"}),
        who.post("/offboardings/preview", data={"client": str(client), "template": "Of Fabrikam", "person": "1"}),
        who.post("/api/v1/offboardings/preview", json={**asked, "template": "Of Fabrikam"}),
        who.post("/api/v1/offboardings/preview", json={**asked, "people": [{**person, "template": "Of Fabrikam"}]}),
        who.post("/api/v1/offboardings", json={**asked, "template": "Of Fabrikam"}),
        who.post("/api/v1/offboardings/preflight", json={"client_id": client, **person, "template": "Of Fabrikam"}),
        who.post(f"/api/v1/offboardings/import?client_id={client}&template=Of+Fabrikam", content="email\njohn@contoso.example\n"),
        who.post(f"/api/v1/offboardings/import?client_id={client}", content="email,template\njohn@contoso.example,Of Fabrikam\n"),
        who.post("/api/v1/offboarding-templates/Of%20Fabrikam/assign", json={"users": [who.name]}),
    ]  # fmt: skip
    assert [a.status_code for a in answers] == [200, 200, *[404] * 10]
    assert not any("secret@fabrikam" in a.text for a in answers)
    assert "Of Fabrikam" not in answers[0].text + answers[1].text
    assert "secret@fabrikam.example" in console.stranger.get("/api/v1/offboarding-templates").text


def test_a_viewer_takes_no_template(console: Console) -> None:
    with console.installation.database.session() as session:
        offboarding_templates.save(session, "Usual", {"keep_copy": "0"}, actor="t")
        offboarding_templates.assign(session, "Usual", actor="t", everyone=True)
    answer = console.viewer.post("/offboardings/templates/assign", data={"name": "Usual", "me": "1"})
    assert answer.status_code == 403


@pytest.fixture
def shared(console: Console) -> Plan:
    """A held plan of a monitor with a run at each client, and one computer of each that it left out."""
    with console.installation.database.session() as session:
        left = [{"computer": f"LEFT-{c}", "id": 1, "client": c, "reason": "away"} for c in ("Contoso", "Fabrikam")]
        holds = [{"guardrail": "share_of_fleet", "reason": "2 of 777 computers, the limit is 10%"}]
        plan = Plan(created_by="t", state="held", holds=holds, skipped=left, monitor="Offboarding")
        session.add_all([plan, ScriptRevision(digest="a" * 64, name="x", content={})])
        session.flush()
        for client, computer in (
            (console.places.contoso, console.places.contoso_computers[0]),
            (console.places.fabrikam, console.places.fabrikam_computers[0]),
        ):
            session.add(
                ScriptRun(
                    plan_id=plan.id, script="x", role="child", revision="a" * 64, target_kind="computer", target_name="x",
                    target_id=computer, client_id=client, state="held", started_by="t",
                )
            )  # fmt: skip
    return plan


def test_several_are_approved_only_with_all_that_their_plans_hold(
    console: Console, people: People, shared: Plan
) -> None:
    with console.installation.database.session() as session:
        row = ContactOffboarding(
            contact_id=people.john, client_id=console.places.contoso, requested_by="t", plan_id=shared.id
        )
        session.add(row)
    form = {"act": "approve", "id": row.id, "reason": "fine"}
    assert console.approver.post("/offboardings/chosen", data=form).status_code == 403
    with console.installation.database.reading() as session:
        assert session.get_one(Plan, shared.id).state == "held"


def test_a_plan_tells_nothing_of_clients_that_one_may_not_see(console: Console, shared: Plan) -> None:
    found = console.viewer.get(f"/api/v1/plans/{shared.id}").json()
    assert (found["client_ids"], found["partly"], found["holds"]) == ([console.places.contoso], True, [])
    assert [s["computer"] for s in found["skipped"]] == ["LEFT-Contoso"]
    with console.installation.database.session() as session:
        run = session.exec(select(ScriptRun).where(ScriptRun.client_id == console.places.fabrikam)).one()
        session.delete(run)
    for answer in (console.viewer.get(f"/api/v1/plans/{shared.id}"), console.viewer.get(f"/plans/{shared.id}")):
        assert "LEFT-Contoso" in answer.text
        assert "Fabrikam" not in answer.text and "777" not in answer.text
    assert "777" in console.owner.get(f"/plans/{shared.id}").text


def test_what_got_to_another_client_is_out_of_reach(console: Console) -> None:
    """A computer was Contoso's, and a run on it is Contoso's still; the computer is Fabrikam's now."""
    places, computer = console.places, console.places.contoso_computers[0]
    with console.installation.database.session() as session:
        session.add(ScriptRevision(digest="a" * 64, name="x", content={}))
        run = ScriptRun(
            script="x", role="child", revision="a" * 64, target_kind="computer", target_name="x", target_id=computer,
            client_id=places.contoso, state="failed", finished_at=utcnow(), started_by="t",
        )  # fmt: skip
        alert = Alert(
            monitor="Offboarding", target_kind="computer", target_id=computer, identity="i", client_id=places.contoso
        )
        row = session.get_one(Computer, computer)
        inventory.change(session, row, actor="t", os="old secret")
        inventory.move(session, row, places.fabrikam_site, actor="t", allow_move=True)
        inventory.change(session, row, actor="t", name="THEIRS")
        session.add_all([run, alert])
    for path in (f"/runs/{run.id}/retry", f"/api/v1/runs/{run.id}/retry"):
        given = {"json": {}} if path.startswith("/api/") else {"data": {}}
        answer = console.colleague.post(path, **given)
        assert answer.status_code == 404, answer.text
    for path in ("/alerts", "/api/v1/alerts", f"/api/v1/alerts/{alert.id}"):
        answer = console.viewer.get(path)
        assert answer.status_code == 200 and "another client" in answer.text
        assert "THEIRS" not in answer.text and "Fabrikam" not in answer.text
    history = console.stranger.get(f"/computers/{computer}/history").text
    assert "THEIRS" in history and "old secret" not in history


def test_a_package_of_one_client_changes_nothing_of_all(console: Console) -> None:
    create_key(console.installation.settings)
    at = "/api/v1/applied-packages/fabrikam/zoom"
    seen = console.stranger.post(at, json={"dry_run": True}).json()
    assert any("whole server" in r for r in seen["refusals"])
    assert console.stranger.post(at, json={}).status_code == 403
    assert console.owner.post("/api/v1/applied-packages/contoso/zoom", json={}).status_code == 200
    # What it needs of all is there: now it is about the one client only.
    assert console.stranger.post(at, json={}).status_code == 200
    assert console.stranger.post(f"{at}/remove", json={}).status_code == 200


def test_a_letter_with_a_secret_goes_to_nobody_else(console: Console) -> None:
    create_key(console.installation.settings)
    box = console.installation.secrets
    with console.installation.database.session() as session:
        letters = [
            mail.queue_mail(
                session, key=key, client_id=console.places.contoso, recipient="boss@contoso.example", subject="s", body="b",
                box=sealed,
            )
            for key, sealed in (("a", box), ("b", None))
        ]  # fmt: skip
        for letter in letters:
            letter.state = "failed"
    secret, plain = (f"/api/v1/notifications/{letter.id}/resend" for letter in letters)
    evil = {"recipient": "me@evil.example"}
    assert console.colleague.post(secret, json=evil).status_code == 403
    assert console.colleague.post(secret, json={}).status_code == 200
    assert console.colleague.post(plain, json=evil).status_code == 200
    trail = console.viewer.get("/api/v1/audit?action=mail.resend").json()["items"]
    assert [e["details"]["recipient"] for e in trail] == ["me@evil.example", None]


def running(console: Console) -> str:
    """A run of Contoso that goes on."""
    with console.installation.database.session() as session:
        session.add(ScriptRevision(digest="a" * 64, name="x", content={}))
        run = ScriptRun(
            script="x", role="child", revision="a" * 64, target_kind="computer", target_name="x", state="running",
            target_id=console.places.contoso_computers[0], client_id=console.places.contoso, started_by="t",
        )  # fmt: skip
        session.add(run)
    return run.id


def test_who_may_follow_no_longer_is_told_nothing_more(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_of_runs, "LOOKS_PER_CHECK", 1)
    path = f"/runs/{running(console)}/events"
    with console.viewer.client.stream("GET", path) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: run"
        with console.installation.database.session() as session:
            user = names.find(session, "viewer")
            before = session.exec(select(WebSession.last_used_at).where(WebSession.user_id == user.id)).one()
        users.set_grants(console.installation, user.id, [], actor="t")
        assert [line for line in lines if line.startswith("event")] == ["event: over"]
    with console.installation.database.reading() as session:
        after = session.exec(select(WebSession.last_used_at).where(WebSession.user_id == user.id)).one()
    assert after == before


def test_a_page_that_is_left_open_keeps_no_session_alive(console: Console) -> None:
    assert console.viewer.token is not None
    long_ago = utcnow() - timedelta(minutes=5)
    with console.installation.database.session() as session:
        session.get_one(WebSession, digest(console.viewer.token)).last_used_at = long_ago
    sessions.principal_of_session(console.installation, console.viewer.token, used=False)
    with console.installation.database.reading() as session:
        assert session.get_one(WebSession, digest(console.viewer.token)).last_used_at == long_ago


def test_nobody_follows_without_bound(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_of_runs, "MOST_STREAMS", 1)
    # What a server of an earlier test still counts is not this one's.
    monkeypatch.setattr(pages_of_runs, "_followed", Counter())
    path = f"/runs/{running(console)}/events"
    with console.viewer.client.stream("GET", path) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: run"
        with console.viewer.client.stream("GET", path) as second:
            assert second.status_code == 429
        with console.colleague.client.stream("GET", path) as other:
            assert other.status_code == 200
    deadline = time.monotonic() + 60
    while pages_of_runs._followed.total():
        assert time.monotonic() < deadline, "a stream that was left still counts"
        time.sleep(0.05)


def test_no_log_and_no_answer_tells_a_secret_or_the_inside(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise StoreError("the database /srv/inside/inventory.db does not work")

    monkeypatch.setattr("agent.services.handover.look", broken)
    with capture_logs() as logs:
        answer = console.nobody.get("/handover/very-secret-token")
    assert answer.status_code == 503 and "/srv/inside" not in answer.text
    assert [entry["reason"] for entry in logs if entry["event"] == "request_failed"], logs
    assert "very-secret-token" not in repr(logs)


def test_many_faults_make_no_long_answer(console: Console) -> None:
    body = {"name": "x", **{f"no{n}": n for n in range(50_000)}}
    answer = console.owner.post("/api/v1/clients", json=body)
    assert answer.status_code == 400 and len(answer.content) < 20_000


def test_without_a_role_there_is_only_the_own_account(console: Console) -> None:
    token = sign_in_as(console.installation, "guest", ())
    with plain_client(console.address, token) as client:
        guest = Person("guest", token, client)
        for path in ("/", "/scripts", "/monitors", "/packages", "/api/v1/scripts", "/api/v1/fields", "/api/v1/clients"):
            assert guest.get(path).status_code == 403, path
        assert guest.get("/account").status_code == 200
        assert guest.get("/api/v1/me").json()["grants"] == []
        assert guest.post("/sign-out").status_code == 303


@pytest.mark.parametrize(
    "value", ["[" * 1400, '["2030-01-01T00:00:00", "x"]', '["2030-01-01T00:00:00+00:00", "\\ud800"]']
)
def test_a_made_up_cursor_is_refused_and_breaks_nothing(console: Console, value: str) -> None:
    after = base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")
    assert console.viewer.get(f"/api/v1/runs?after={after}").status_code == 400
    big = base64.urlsafe_b64encode(b"[99999999999999999999999]").decode()
    assert console.viewer.get(f"/api/v1/audit?after={big}").status_code == 400
