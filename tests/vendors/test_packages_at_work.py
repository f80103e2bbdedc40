"""Shipped packages in a whole offboarding: their scripts, credentials and fields, through the engine, against the test systems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from jira_peer import JiraPeer
from leavers_help import Leavers, add_leavers
from made_packages import list_children
from office_peer import OfficePeer
from people_help import PlayedEngine
from sqlmodel import select
from zoom_peer import ZoomPeer

from agent.content.packages import PHASES
from agent.errors import StepError
from agent.installation import Installation
from agent.inventory import extra_fields, field_values, places
from agent.inventory.lookup import get
from agent.model.contacts import ContactOffboarding
from agent.model.fields import FieldType, Form
from agent.model.places import Contact
from agent.model.runs import RunStep, ScriptRun
from agent.reporting.exit_report import exit_document
from agent.running import user_offboardings as offboardings
from agent.running import verbs
from agent.running.context import TargetContext
from agent.secrets import create_key
from agent.services import credentials, properties
from agent.services.rest import signing

if TYPE_CHECKING:
    from conftest import Places

TASKS = {"vpn": 1, "badge": 1, "card": 1, "phone": 4, "parking": 5, "hr": 6, "licenses": 4}
SCRIPTS = {
    1: ["VPN - Offboarding", "Badge - Offboarding", "Company Card - Offboarding"],
    4: ["Phone - Offboarding", "Software Licence - Offboarding"], 5: ["Parking - Offboarding"], 6: ["HR - Offboarding"],
}  # fmt: skip


@pytest.fixture
def leavers(installation: Installation, two_clients: Places, monkeypatch: pytest.MonkeyPatch) -> Leavers:
    monkeypatch.setattr(signing, "_kept", {})
    create_key(installation.settings)
    return add_leavers(installation, two_clients)


@pytest.fixture
def hand(installation: Installation) -> Iterator[PlayedEngine]:
    yield PlayedEngine(installation)


def offboard(
    installation: Installation, hand: PlayedEngine, given: dict[str, Any] | None = None
) -> tuple[ScriptRun, dict[str, RunStep]]:
    with installation.database.session() as session:
        row = offboardings.plan(session, offboardings.Request("john@contoso.example", given=given), actor="ann").row.id
    stored = offboardings.run_now(installation, hand, [row], actor="ann")  # type: ignore[arg-type]
    if stored.state == "held":
        verbs.approve(installation, hand, stored.id, actor="ann", reason="test")  # type: ignore[arg-type]
    hand.work()
    with installation.database.reading() as session:
        run = session.get(ScriptRun, stored.run_ids[0])
        assert run is not None
        return run, {s.name: s for s in session.exec(select(RunStep).where(RunStep.root_id == run.id))}


def reported(installation: Installation, run: ScriptRun) -> dict[str, Any]:
    """The exit report, which is checked against its schema as it is made."""
    with installation.database.reading() as session:
        return exit_document(installation, session, run.id)


def listed(installation: Installation, scripts: dict[int, list[str]]) -> None:
    for client in ("contoso", "fabrikam"):
        list_children(installation, client, {PHASES[n]: names for n, names in scripts.items()})


def keep(installation: Installation, client_id: int, kind: str, settings: Any, secret: dict[str, str]) -> None:
    credentials.add(
        installation,
        kind=kind,
        name=f"{kind}-{client_id}",
        client_id=client_id,
        settings=settings,
        secret=secret,
        actor="ann",
    )


def only(peer: Any, *kinds: str) -> dict[str, Any]:
    return {kind: peer.state[kind] for kind in kinds}


def test_the_companys_own_services(
    installation: Installation, two_clients: Places, leavers: Leavers, hand: PlayedEngine, start_two: Any
) -> None:
    ours, theirs = start_two(OfficePeer)
    before, boss = theirs.snapshot(), ours.snapshot()
    for client_id, peer in ((two_clients.contoso, ours), (two_clients.fabrikam, theirs)):
        for service in TASKS:
            settings = {"url": peer.url + "/api", "ca_file": peer.ca_file, "answer_seconds": 60}
            keep(installation, client_id, f"http_{service}", settings, {"secret": peer.secret})
    listed(installation, SCRIPTS)
    run, steps = offboard(installation, hand)
    failed = {name: s.error for name, s in steps.items() if s.state not in ("succeeded", "skipped")}
    assert failed == {}
    state = ours.state
    assert state["users"]["u1"]["enabled"] is False and state["sessions"] == {"u1": [], "u2": [{"id": "s3"}]}
    assert [b["status"] for b in state["badges"].values()] == ["blocked", "active", "blocked"]
    assert [c["status"] for c in state["cards"].values()] == ["frozen", "active"]
    assert steps["Request Cancellation"].result["number"] == "R-1"  # type: ignore[index]
    assert state["extensions"]["e1"] == {
        "owner": "John@contoso.example",
        "active": False,
        "forward_to": "boss@contoso.example",
    }
    assert set(state["permits"]) == {"p2"} and set(state["assignments"]) == {"a2"}
    assert state["employees"]["h1"]["status"] == "left" and state["employees"]["h1"]["last_day"] == "2026-01-31"
    assert state["subscriptions"]["x1"]["status"] == "cancelled" and state["subscriptions"]["x2"]["status"] == "running"
    for kind in ("users", "cards", "extensions", "employees", "subscriptions"):
        second = sorted(state[kind])[1]
        assert state[kind][second] == boss[kind][second]
    assert theirs.requests == [] and theirs.snapshot() == before
    assert run.client_id == two_clients.contoso
    what_the_report_says_of_the_companys_services(reported(installation, run))
    again = ours.snapshot()
    ours.calls.clear()
    offboard(installation, hand)
    assert ours.written() == [] and ours.snapshot() == again


def test_what_is_switched_off_is_left_alone(
    installation: Installation, two_clients: Places, leavers: Leavers, hand: PlayedEngine, start_two: Any
) -> None:
    ours, _ = start_two(OfficePeer)
    for service in TASKS:
        settings = {"url": ours.url + "/api", "ca_file": ours.ca_file, "answer_seconds": 60}
        keep(installation, two_clients.contoso, f"http_{service}", settings, {"secret": ours.secret})
    listed(
        installation,
        {1: ["VPN - Offboarding"], 2: ["Zoom - Offboarding", "Slack - Offboarding", "Jira Account - Access"]},
    )
    before = ours.snapshot()
    given = {"revoke_vpn_access": False, "disable_business_applications": False}
    _, steps = offboard(installation, hand, given)
    assert ours.written() == [] and ours.snapshot() == before
    names = ("Disable VPN Account", "End VPN Sessions", "Deactivate User", "Sign Out", "End Sessions", "Leave Channels")
    assert {steps[name].state for name in names} == {"skipped"}


def what_the_report_says_of_the_companys_services(report: dict[str, Any]) -> None:
    """Nothing of it is in the inventory, so that a badge's number comes from its system, and no day of return is known."""
    actions, assets = report["account_actions"], report["assets_tracking"]
    # The gateway ends sessions without saying how many there were, and says nothing of what became of the password.
    assert actions["vpn_access"] == {"revoked": True, "credentials_deleted": None, "active_sessions_terminated": None}
    assert actions["business_applications"] == {"phone": {"name": "Phone", "disabled": True}}
    badge, permit, keys = assets["access_credentials"].values()
    assert badge == {"badge_id": "1, 3", "deactivated": True, "return_required": None, "status": None}
    assert permit == {"pass_id": "AB 1, AB 3", "deactivated": True, "return_required": None, "status": None}
    assert keys is None
    assert assets["company_credit_card"] == {
        "card_last_four": "0001", "deactivated": True, "final_statement_pending": None,
    }  # fmt: skip
    assert [(e["license_type"], e["removed"]) for e in report["licenses_reclaimed"]] == [("CAD", True), ("News", True)]
    assert all(e["removed_timestamp"] for e in report["licenses_reclaimed"])
    assert {c["check"]: c["verified"] for c in report["verification"]} == {
        "vpn_access_revoked": True, "confirm_hr_record": True,
    }  # fmt: skip
    summary = report["summary"]
    assert (summary["total_accounts_disabled"], summary["total_licenses_reclaimed"]) == (2, 2)
    assert summary["estimated_cost_savings_annual"] is None and summary["total_groups_removed"] is None
    assert report["account_actions"]["microsoft365"]["account_blocked"] is None


def test_zoom_after_jiras_ticket(
    installation: Installation, two_clients: Places, leavers: Leavers, hand: PlayedEngine, start_two: Any
) -> None:
    zoom, other_zoom = start_two(ZoomPeer)
    jira, other_jira = start_two(JiraPeer)
    for client_id, z, j in ((two_clients.contoso, zoom, jira), (two_clients.fabrikam, other_zoom, other_jira)):
        keep(installation, client_id, "zoom", z.settings(), {"client_secret": z.secret})
        keep(installation, client_id, "jira", j.settings(), {"token": j.token})
    with installation.database.session() as session:
        for name in ("Zoom Id", "Jira Id"):
            extra_fields.define(session, form=Form.CONTACT, name=name, actor="ann")
        extra_fields.define(
            session, form=Form.CONTACT, name="Employee Type", type=FieldType.DROPDOWN, options=("Employee", "Contractor"),
            actor="ann",
        )  # fmt: skip
        field_values.set_default(session, Form.CONTACT, "Employee Type", "Employee", actor="ann")
        field_values.set_value(session, Form.CONTACT, leavers.john, "Zoom Id", "u-alex", actor="ann")
        field_values.set_value(session, Form.CONTACT, leavers.john, "Jira Id", "alex@contoso.test", actor="ann")
    properties.set_value(installation, "_sysJiraProject", "IT", actor="ann")
    listed(
        installation,
        {
            1: ["Jira - Create Ticket"],
            2: ["Zoom - Offboarding", "Jira Account - Access"],
            3: ["Jira Account - Hand Over"],
        },
    )
    run, steps = offboard(installation, hand)
    assert steps["Create Ticket"].state == "succeeded", steps["Create Ticket"].error
    assert zoom.state["users"]["u-alex"]["status"] == "inactive" and zoom.state["users"]["u-mia"]["status"] == "active"
    with installation.database.reading() as session:
        assert field_values.effective_value(session, Form.CONTACT, leavers.john, "Offboarding Ticket").value == "IT-6"
        assert session.exec(select(ContactOffboarding)).one().run_id == run.id
    assert jira.state["issues"]["IT-6"]["fields"]["summary"] == "Offboarding of John (Contoso)"
    assert [g[1] for g in jira.state["groups"].values()] == [["5b:mia"], [], ["5b:mia"]]
    said = "\n".join(jira.texts("IT-6"))
    assert "Zoom - Offboarding (2 of 4): succeeded\n- Deactivate User: succeeded" in said
    # The manager of the inventory is nobody in this Jira: told, and nothing handed over.
    assert steps["Hand Over"].error["type"] == "MANAGER_NOT_FOUND"  # type: ignore[index]
    assert "Jira Account - Hand Over (4 of 4): failed" in said
    assert other_zoom.requests == [] and other_jira.requests == []
    report = reported(installation, run)
    # Out of its groups, the user in Jira is still one; nobody measured what it can still do.
    assert report["account_actions"]["business_applications"] == {
        "zoom": {"name": "Zoom", "disabled": True}, "jira": {"name": "Jira", "disabled": None},
    }  # fmt: skip
    assert report["psa_updates"]["offboarding_ticket"]["ticket_id"] == "IT-6"
    assert report["data_at_risk"] is True and report["data_preservation"]["application_transfers"] is None
    assert (report["account_disabled"], report["summary"]["total_accounts_disabled"]) == (True, 1)
    assert [f["step"] for f in report["failed_steps"]] == ["jira_hand_over"]


def test_a_leaver_without_a_manager_is_told_so_by_type(installation: Installation, leavers: Leavers) -> None:
    with installation.database.session() as session:
        john = get(session, Contact, leavers.john)
        places.change(session, john, actor="hr", manager_id=None)
        client_id = john.client_id
    context = TargetContext(installation, "contact", leavers.john, client_id)
    for name, kind in (("manager", "MANAGER_NOT_FOUND"), ("zoom_id", "missing_value")):
        with pytest.raises(StepError) as missing:
            context.person_value(name)
        assert missing.value.type == kind and missing.value.remediation
