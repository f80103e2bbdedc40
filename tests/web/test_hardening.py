"""What somebody tries who may do something, but not this: each test was a hole once."""

from __future__ import annotations

import account_functions
import pytest
from people_help import People, add_people, write_children
from sqlmodel import select
from web_help import Console

from agent.functions import registry
from agent.model.contacts import ContactOffboarding
from agent.model.runs import Plan, ScriptRevision, ScriptRun
from agent.running import offboarding_templates


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
