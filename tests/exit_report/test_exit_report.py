"""The exit report of a person: the seed's sections and names, real times, counted counts, null where nobody measured."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from sqlmodel import select

from agent.errors import Conflict, NotFound, UsageError
from agent.functions import registry as functions
from agent.functions.exit_table import TABLE
from agent.functions.failures import CATALOGUE, described
from agent.functions.failures import failure as failure_of
from agent.model.contacts import ContactOffboarding, ManualTask
from agent.model.places import Equipment
from agent.model.runs import StepState
from agent.model.tickets import Notification
from agent.reporting import exit_report
from agent.reporting.exit_report import ReportFault, check, exit_document
from agent.reporting.exit_view import view_of
from agent.reporting.html import exit_html
from agent.services import properties

SEED = json.loads((Path(__file__).parent / "seed_shapes.json").read_text(encoding="utf-8"))
SCHEMA = json.loads((Path(exit_report.__file__).parent / "exit_report.schema.json").read_text(encoding="utf-8"))
#: What stands in a report beyond the seed's result, all of it.
BEYOND = {
    "verification", "notifications_sent.payroll_notification", "compliance_documentation.legal_hold",
    "compliance_documentation.exit_interview_completed", "data_preservation.application_transfers",
    "data_preservation.onedrive_transfer.onedrive_url", "not_reached_steps", "skipped_steps",
}  # fmt: skip
GOOD: list[Any] = [
    ("ad.disable_account", "succeeded", {"disabled_timestamp": "2026-01-13T16:01:00Z", "account_disabled": True}, None),
    ("ad.reset_password", "succeeded", {"password_reset": True}, None),
    ("ad.set_expiry", "succeeded", {"account_expiration_set": "2026-04-15"}, None),
    ("ad.move_to_ou", "succeeded", {"account_moved_to_ou": "OU=Disabled Users,DC=company,DC=local"}, None),
    (
        "ad.remove_from_groups", "succeeded",
        {"active_directory_groups": [
            {"group_name": "Sales", "group_dn": "CN=Sales,DC=x", "removed": True},
            {"group_name": "Domain Users", "group_dn": "CN=Domain Users,DC=x", "removed": False, "reason": "primary group"},
        ]}, None,
    ),
    ("m365.disable_sign_in", "succeeded", {"outcome": "changed"}, None),
    ("m365.revoke_sessions", "succeeded", {"outcome": "changed"}, None),
    ("m365.remove_mfa_methods", "succeeded", {"methods": [], "removed": 0}, None),
    ("m365.wipe_devices", "succeeded", {"devices": [
        {"outcome": "accepted", "serial": "SN-1", "imei": "350077523237513"}, {"outcome": "already", "serial": "", "imei": None},
    ]}, None),
    (
        "m365.convert_to_shared", "succeeded",
        {"shared_mailbox_name": "Former - J", "shared_mailbox_email": "j@x.test", "mailbox_size_gb": 12.4}, None,
    ),
    (
        "m365.grant_full_access", "succeeded",
        {"delegates": [{"delegate": "jane@x.test", "permission_level": "Full Access", "granted": True, "outcome": "granted"}]},
        None,
    ),
    # She is also among those who were named one by one.
    (
        "m365.grant_full_access", "succeeded",
        {"delegates": [{"delegate": "jane@x.test", "permission_level": "Full Access", "granted": True, "outcome": "already"}]},
        None,
    ),
    ("m365.set_display_name_prefix", "succeeded", {"after": {"displayName": "Former - Jo"}}, None),
    ("m365.set_forwarding", "succeeded", {"forward_to": "jane@x.test", "expires": "2026-04-13", "keep_copy": True}, None),
    ("m365.set_out_of_office", "succeeded", {"message": "gone", "start": "2026-01-15", "end": None}, None),
]  # fmt: skip
STORAGE = {
    "type": "BACKUP_STORAGE_UNAVAILABLE", "code": None, "message": "Cannot connect to backup storage location",
    "impact": None, "remediation": None, "critical": False,
}  # fmt: skip


def document_of(people: Any, run: str, **keywords: Any) -> dict[str, Any]:
    with people.installation.database.reading() as session:
        document = exit_document(people.installation, session, run, **keywords)
    Draft202012Validator(SCHEMA).validate(document)
    return document


def paths(found: Any, schema: Any, before: str = "") -> set[str]:
    """All names of objects, with those of the entries of lists, as paths."""
    names: set[str] = set()
    for name, inner in found.items():
        path = f"{before}.{name}".lstrip(".")
        names.add(path)
        if isinstance(inner, dict):
            names |= paths(inner, None, path)
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
            names |= {p for entry in inner for p in paths(entry, None, path + "[]")}
    return names


def schema_paths(schema: Any, before: str = "") -> set[str]:
    names: set[str] = set()
    for name, inner in schema.get("properties", {}).items():
        path = f"{before}.{name}".lstrip(".")
        names |= {path} | schema_paths(inner, path) | schema_paths(inner.get("items", {}), path + "[]")
    return names


def test_the_schema_has_every_name_of_the_seed_and_few_more() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    of_seed = paths(SEED["success"], None) | paths(SEED["error"], None)
    applications = {p for p in of_seed if p.startswith("account_actions.business_applications.")}
    ours = schema_paths(SCHEMA)
    assert of_seed - applications - ours == set()
    more = {p for p in ours - of_seed if not any(p.startswith((b + ".", b + "[")) for b in BEYOND)}
    # Each notification says why it was not sent; a parking pass has the status that badge and keys have.
    more -= {p for p in more if p.startswith("notifications_sent.") and p.endswith((".reason", ".sent_timestamp"))}
    # So does each group.
    more -= {p for p in more if p.startswith("group_memberships_removed.") and p.endswith("[].reason")}
    assert more == BEYOND | {"assets_tracking.access_credentials.parking_pass.status"}


@pytest.mark.parametrize("shape", ["success", "error"])
def test_the_seeds_own_values_fit_where_it_says_more_than_one_shape_does(shape: str) -> None:
    """Each value of the seed's examples fits the schema at its place."""
    validator = Draft202012Validator(SCHEMA)
    faults = [e for e in validator.iter_errors(SEED[shape]) if e.validator not in ("required", "pattern")]
    assert [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in faults] == []


def test_a_full_success(people: Any, two_clients: Any) -> None:
    manager = people.contact(two_clients.contoso, name="Jane Doe", email="jane@x.test")
    contact = people.contact(
        two_clients.contoso, email="j@x.test", employee_id="E1", department="Sales", job_title="AE", manager_id=manager,
        start_date="2023-10-01", termination_date="2026-01-15", termination_type="voluntary",
    )  # fmt: skip
    document = document_of(people, people.run(contact, GOOD))
    assert document["success"] is True and "failed_steps" not in document
    assert document["offboarding_id"].startswith("OFFBOARD-2026-")
    assert document["employee_info"] == {
        "employee_id": "E1", "full_name": "Łukasz Ångström", "email": "j@x.test", "department": "Sales", "job_title": "AE",
        "manager": "Jane Doe", "manager_email": "jane@x.test", "termination_date": "2026-01-15",
        "last_working_day": "2026-01-15", "termination_type": "voluntary", "employment_duration": "2 years, 3 months",
    }  # fmt: skip
    actions = document["account_actions"]
    assert actions["active_directory"] == {
        "account_disabled": True, "disabled_timestamp": "2026-01-13T16:01:00Z",
        "account_moved_to_ou": "OU=Disabled Users,DC=company,DC=local", "password_reset": True,
        "sessions_terminated": None, "account_expiration_set": "2026-04-15", "scheduled_deletion_date": None,
    }  # fmt: skip
    assert actions["microsoft365"]["blocked_timestamp"] == "2026-01-13T16:06:00Z"  # when that step ended
    assert actions["microsoft365"]["mobile_devices_wiped"] == 2
    assert actions["vpn_access"] == {"revoked": None, "credentials_deleted": None, "active_sessions_terminated": None}
    data = document["data_preservation"]
    assert data["mailbox_conversion"]["delegates_granted"] == [
        {"delegate": "jane@x.test", "permission_level": "Full Access", "granted": True}
    ]
    assert data["mailbox_conversion"]["shared_mailbox_name"] == "Former - Jo", "as it is called in the end"
    assert data["email_forwarding"]["forwarding_expires"] == "2026-04-13"
    assert data["out_of_office"]["end_date"] == "perpetual"
    assert data["email_backup"]["backed_up"] is None and document["licenses_reclaimed"] is None
    summary = document["summary"]
    assert (summary["total_accounts_disabled"], summary["total_groups_removed"]) == (2, 1)
    assert summary["total_permissions_revoked"] == 1 and summary["offboarding_completion_percentage"] == 100
    assert summary["estimated_cost_savings_annual"] is None and summary["data_backup_size_gb"] is None
    assert document["audit_trail"]["total_duration_minutes"] == 47.0
    assert {c["check"]: c["verified"] for c in document["verification"]}["sign_in_blocked"] is True


def test_a_failure_in_full(people: Any, two_clients: Any) -> None:
    contact = people.contact(two_clients.contoso)
    denied = {
        "type": "PERMISSION_DENIED", "code": "Authorization_RequestDenied", "message": "no right", "impact": "not transferred",
        "remediation": "grant it", "critical": False,
    }  # fmt: skip
    run = people.run(
        contact,
        [
            ("m365.disable_sign_in", "succeeded", {"outcome": "already"}, None),
            ("m365.backup_mailbox", "failed", None, STORAGE),
            ("m365.grant_onedrive_access", "failed", None, denied),
            ("zoom.suspend_user", "unknown", None, {"type": "answer_lost", "message": "lost"}),
        ],
    )
    document = document_of(people, run)
    assert (document["success"], document["partial_completion"]) == (False, True)
    assert document["completed_steps"] == ["microsoft365_sign_in_block"]
    backup, onedrive, zoom = document["failed_steps"]
    known = CATALOGUE["BACKUP_STORAGE_UNAVAILABLE"]
    assert backup == {
        "step": "mailbox_backup",
        "error": {"type": known.type, "message": STORAGE["message"], "code": "ERR-BACKUP-001", "timestamp": "2026-01-13T16:02:00Z"},
        "impact": known.impact, "remediation": known.remediation, "critical": True,
    }  # fmt: skip
    assert onedrive["error"]["code"] == "Authorization_RequestDenied" and onedrive["critical"] is False
    assert zoom["step"] == "zoom_suspend_user"
    assert (zoom["error"]["type"], zoom["error"]["code"]) == ("INTEGRATION_ERROR", "answer_lost")
    assert document["critical_failures"] == 1 and document["data_at_risk"] is True
    assert document["account_disabled"] is True and document["rollback_available"] is False
    assert document["escalation"]["escalation_ticket"] is None
    assert document["recommended_actions"][0] == "Do not delete the account until its data is secured"
    assert "grant it" in document["recommended_actions"]
    # It was blocked before: nobody knows since when.
    assert document["account_actions"]["microsoft365"]["blocked_timestamp"] is None
    assert document["summary"]["offboarding_completion_percentage"] == 25


@pytest.mark.parametrize("state", ["failed", "unknown"])
def test_an_account_that_may_be_open_is_critical_whatever_the_error(people: Any, two_clients: Any, state: str) -> None:
    lost = {"type": "unreachable", "code": None, "message": "no answer", "critical": False}
    steps = [("m365.disable_sign_in", state, None, lost), ("m365.clear_manager", state, None, lost)]
    document = document_of(people, people.run(people.contact(two_clients.contoso), steps))
    assert [f["critical"] for f in document["failed_steps"]] == [True, False]
    assert document["critical_failures"] == 1 and document["audit_trail"]["all_critical_steps_successful"] is False


def test_a_step_that_was_not_reached_is_not_done(people: Any, two_clients: Any) -> None:
    from agent.model.runs import RunStep

    contact = people.contact(two_clients.contoso)
    run = people.run(
        contact,
        [
            ("m365.backup_mailbox", "failed", None, STORAGE),
            ("m365.disable_sign_in", "skipped", {"reason": "stopped"}, None),
        ],
        over=False,
    )
    with people.installation.database.session() as session:
        for step in session.exec(select(RunStep).where(RunStep.root_id == run)):
            step.options = {**step.options, "on_failure": "stop"}
            session.add(step)
    people.end(run)
    document = document_of(people, run)
    assert [f["step"] for f in document["failed_steps"]] == ["mailbox_backup"]
    assert document["not_reached_steps"] == [
        {"step": "microsoft365_sign_in_block", "reason": "it was not reached: 'Step1' is failed", "critical": True}
    ]
    assert document["recommended_actions"][-1] == "Mend what stopped the run, then retry it"
    assert document["account_disabled"] is False and document["partial_completion"] is False


def test_what_a_cancelled_run_did_not_come_to_is_no_error(people: Any, two_clients: Any) -> None:
    """None of the nine types of error is true of it; that the account is open and the data not kept is said all the same."""
    steps: list[Any] = [
        ("m365.revoke_sessions", "succeeded", {"outcome": "changed"}, None),
        ("m365.disable_sign_in", "cancelled", None, None),
        ("m365.backup_mailbox", "cancelled", None, None),
        ("m365.remove_signature", "cancelled", None, None),
    ]
    run = people.run(people.contact(two_clients.contoso), steps, cancelled_by="ann")
    document = document_of(people, run)
    reason = "it was not reached: the run was cancelled by ann"
    assert document["not_reached_steps"] == [
        {"step": "microsoft365_sign_in_block", "reason": reason, "critical": True},
        {"step": "mailbox_backup", "reason": reason, "critical": True},
        {"step": "m365_remove_signature", "reason": reason, "critical": False},
    ]
    assert document["failed_steps"] == [] and document["critical_failures"] == 0
    assert (document["success"], document["partial_completion"]) == (False, True)
    assert (document["account_disabled"], document["data_at_risk"]) == (False, True)
    assert document["recommended_actions"] == [
        "Do not delete the account until its data is secured",
        "Start the offboarding again, or do by hand what was not reached",
    ]
    assert document["audit_trail"]["all_critical_steps_successful"] is False
    assert document["audit_trail"]["manual_follow_up_required"] is True
    assert document["summary"]["offboarding_completion_percentage"] == 25
    page = exit_html(view_of(document, "Contoso"))
    assert "What was not reached" in page and "cancelled by ann" in page and "INTEGRATION_ERROR" not in page


def test_a_step_that_had_begun_when_the_run_was_cancelled_is_not_called_unreached(
    people: Any, two_clients: Any
) -> None:
    from agent.model.runs import RunStep

    run = people.run(
        people.contact(two_clients.contoso),
        [("m365.disable_sign_in", "cancelled", None, None), ("m365.delete_user", "cancelled", None, None)],
        cancelled_by="ann", over=False,
    )  # fmt: skip
    with people.installation.database.session() as session:
        begun = session.exec(select(RunStep).where(RunStep.root_id == run, RunStep.ordinal == 1)).one()
        begun.attempts = 1
        session.add(begun)
    people.end(run)
    document = document_of(people, run)
    (failed,) = document["failed_steps"]
    assert failed["step"] == "microsoft365_sign_in_block" and failed["error"]["code"] == "cancelled"
    assert "it had begun" in failed["error"]["message"] and failed["impact"] == "It may or may not have happened."
    assert [n["step"] for n in document["not_reached_steps"]] == ["m365_delete_user"]
    assert document["account_disabled"] is None, "nobody knows"


def test_tasks_equipment_and_retention(people: Any, two_clients: Any) -> None:
    contact = people.contact(two_clients.contoso, termination_date="2026-01-15")
    other = people.contact(two_clients.fabrikam, name="Other")
    run = people.run(contact, GOOD)
    installation = people.installation
    with installation.database.session() as session:
        for owner, kind, name, values in (
            (contact, "Laptop", "Dell Latitude 7450", {"asset_tag": "LAP-1", "serial": "S1", "due": "2026-01-20"}),
            (contact, "badge", "Badge", {"asset_tag": "BADGE-5", "state": "returned"}),
            (contact, "keys", "Office", {"asset_tag": "KEY-7", "quantity": 3, "due": "2026-01-16"}),
            (contact, "Credit card", "Visa", {"serial": "xxxx-4567"}),
            (other, "Laptop", "theirs", {}),
        ):
            session.add(Equipment(contact_id=owner, external_id=f"{owner}{name}", name=name, kind=kind, **values))
        for owner, client, matter, state in (
            (contact, two_clients.contoso, "badge", "done"), (contact, two_clients.contoso, "exit_interview", "open"),
            (other, two_clients.fabrikam, "keys", "open"),
        ):  # fmt: skip
            session.add(
                ManualTask(
                    client_id=client,
                    contact_id=owner,
                    matter=matter,
                    title=matter,
                    state=state,
                    created_by="x",
                    due="2026-02-01",
                )
            )
        session.add(
            ContactOffboarding(
                contact_id=contact, client_id=two_clients.contoso, requested_by="x", run_id=run, delete_after_retention=True,
                retention_until=datetime(2026, 4, 15, tzinfo=UTC), resolved={"offboarding_retention_days": {"value": 90}},
            )
        )  # fmt: skip
    document = document_of(people, run)
    assets = document["assets_tracking"]
    assert assets["equipment_to_return"] == [
        {"asset_type": "Laptop", "asset_tag": "LAP-1", "model": "Dell Latitude 7450", "serial_number": "S1", "quantity": 1,
         "status": "Return pending", "ticket_id": None, "expected_return_date": "2026-01-20"}
    ]  # fmt: skip
    assert assets["access_credentials"] == {
        "building_access_badge": {"badge_id": "BADGE-5", "deactivated": True, "return_required": False, "status": "Returned"},
        "parking_pass": None,
        "office_keys": {"quantity": 3, "key_set_id": "KEY-7", "return_required": True, "status": "Return pending"},
    }  # fmt: skip
    assert assets["company_credit_card"]["card_last_four"] == "4567"
    # laptop, keys, card; one open task; the card has no day, so no end can be told
    assert document["summary"]["total_assets_pending_return"] == 3
    assert document["summary"]["pending_manual_tasks"] == 1
    assert document["summary"]["estimated_completion_date"] is None
    compliance = document["compliance_documentation"]
    assert (compliance["retention_period_days"], compliance["scheduled_deletion_date"]) == (90, "2026-04-15")
    assert compliance["exit_interview_completed"] is False and compliance["legal_hold"] is False
    assert document["account_actions"]["active_directory"]["scheduled_deletion_date"] == "2026-04-15"
    assert document["audit_trail"]["manual_follow_up_required"] is True


def test_equipment_that_was_wiped_says_so(people: Any, two_clients: Any) -> None:
    contact, other = people.contact(two_clients.contoso), people.contact(two_clients.fabrikam, name="Other")
    run = people.run(contact, GOOD)
    with people.installation.database.session() as session:
        for owner, name, values in (
            (contact, "iPhone", {"serial": "IMEI 350077523237513"}),
            (contact, "Laptop", {"serial": "sn-1", "state": "returned"}),
            (contact, "Monitor", {"serial": "SN-2"}), (contact, "Dock", {}), (other, "theirs", {"serial": "SN-1"}),
        ):  # fmt: skip
            session.add(Equipment(contact_id=owner, external_id=f"{owner}{name}", name=name, **values))
    found = document_of(people, run)["assets_tracking"]["equipment_to_return"]
    when = next(s for s in document_of(people, run)["verification"] if s["check"] == "tokens_revoked")
    assert [(e["model"], e["status"], "wipe_timestamp" in e) for e in found] == [
        ("iPhone", "Remote wipe initiated", True), ("Laptop", "Returned", True), ("Monitor", "Return pending", False),
        ("Dock", "Return pending", False),
    ]  # fmt: skip
    assert found[0]["wipe_timestamp"] > when["verified_timestamp"], "when the step that asked for it ended"


def test_the_saving_needs_a_price_of_every_licence(people: Any, two_clients: Any) -> None:
    contact = people.contact(two_clients.contoso)
    licences = [
        {"sku_id": "6fd2", "name": "ENTERPRISEPACK", "outcome": "removed"}, {"sku_id": "b05e", "name": "ATP", "outcome": "failed"},
    ]  # fmt: skip
    run = people.run(
        contact, [("m365.remove_licenses", "failed", {"licenses": licences}, {"type": "x", "message": "m"})]
    )
    first = document_of(people, run)
    assert first["summary"]["estimated_cost_savings_annual"] is None
    assert [e["removed"] for e in first["licenses_reclaimed"]] == [True, False]
    assert first["summary"]["total_licenses_reclaimed"] == 1
    properties.set_value(people.installation, properties.LICENCE_PRICES, "currency=$; EnterprisePack=2340", actor="x")
    assert document_of(people, run)["summary"]["estimated_cost_savings_annual"] == "$2,340.00"
    properties.set_value(people.installation, properties.LICENCE_PRICES, "currency=$; ATP=1.50", actor="x")
    assert document_of(people, run)["summary"]["estimated_cost_savings_annual"] is None
    with pytest.raises(UsageError, match="is no price"):
        properties.set_value(people.installation, properties.LICENCE_PRICES, "ATP=1,50", actor="x")


def test_notifications_have_the_state_of_their_mail(people: Any, two_clients: Any) -> None:
    contact = people.contact(two_clients.contoso)
    with people.installation.database.session() as session:
        mails = [
            Notification(key=f"k{n}", recipient="a@x.test, b@x.test", subject="S", body="B", **values)
            for n, values in enumerate(
                [{"state": "sent", "sent_at": datetime(2026, 1, 13, 17, tzinfo=UTC)}, {"state": "failed", "error": "refused"},
                 {"state": "sent", "run_id": "of another run"}]
            )
        ]  # fmt: skip
        session.add_all(mails)
        session.flush()
        ids = [m.id for m in mails]
    run = people.run(
        contact,
        [
            ("notify.manager", "succeeded", {"mail": ids[0], "includes": ["asset_return_status"]}, None),
            ("notify.it", "succeeded", {"mail": ids[1], "checklist_attached": True, "pending_tasks": ["x"]}, None),
            ("notify.security", "succeeded", {"mail": ids[2], "risk_level": "high"}, None),
            ("notify.employee", "skipped", {"reason": "the account is closed"}, None),
        ],
    )
    with people.installation.database.session() as session:
        for number in ids[:2]:
            mail = session.get(Notification, number)
            mail.run_id = run
            session.add(mail)
    told = document_of(people, run)["notifications_sent"]
    assert told["manager_notification"] == {
        "sent": True, "recipient": "a@x.test, b@x.test", "subject": "S", "includes": ["asset_return_status"],
        "sent_timestamp": "2026-01-13T17:00:00Z", "reason": None,
    }  # fmt: skip
    assert (told["it_team_notification"]["sent"], told["it_team_notification"]["reason"]) == (False, "refused")
    assert told["it_team_notification"]["recipients"] == ["a@x.test", "b@x.test"]
    assert (
        told["security_team_notification"]["sent"] is False and told["security_team_notification"]["recipients"] is None
    )
    assert told["employee_notification"]["reason"] == "the account is closed"
    assert told["hr_notification"]["reason"] == "no such notification was a part of this offboarding"


def test_microsoft_365_in_the_words_of_its_functions(people: Any, two_clients: Any) -> None:
    groups = [
        {"id": "g1", "name": "Sales", "type": "Microsoft 365 Group", "team": False, "outcome": "removed"},
        {"id": "g2", "name": "Dynamic", "type": "Security Group", "team": False, "outcome": "kept", "reason": "dynamic"},
        {"id": "t1", "name": "Q1", "type": "Team", "team": True, "outcome": "removed", "owner_transferred": True, "new_owner": "b@x.test"},
    ]  # fmt: skip
    licence = {
        "sku_id": "s",
        "name": "E3",
        "removed": True,
        "outcome": "removed",
        "available_before": 3,
        "available_after": 4,
    }
    delegates = [
        {"delegate": "b@x.test", "granted": True, "outcome": "granted"},
        {"delegate": "c@x.test", "granted": False},
    ]
    run = people.run(
        people.contact(two_clients.contoso),
        [
            ("m365.remove_from_groups", "succeeded", {"groups": groups, "removed": 2}, None),
            (
                "m365.remove_sharepoint_direct_grants",
                "succeeded",
                {"sites": [{"site": "u", "outcome": "removed"}]},
                None,
            ),
            ("m365.remove_licenses", "succeeded", {"licenses": [licence]}, None),
            ("m365.grant_onedrive_access", "succeeded", {"delegates": delegates, "onedrive_size_gb": 8.7}, None),
            ("contact.close_offboarding", "succeeded", {"status": "Former Employee"}, None),
        ],
    )
    document = document_of(people, run)
    removed = document["group_memberships_removed"]
    assert [g["group_name"] for g in removed["microsoft365_groups"]] == ["Sales", "Dynamic"]
    assert [g["removed"] for g in removed["microsoft365_groups"]] == [True, False]
    assert removed["teams_removed"] == [
        {"team_name": "Q1", "team_id": "t1", "owner_transferred": True, "new_owner": "b@x.test", "removed": True}
    ]
    assert (removed["sharepoint_sites_removed"], removed["total_permissions_revoked"]) == (1, 3)
    assert document["summary"]["total_groups_removed"] == 2
    assert document["licenses_reclaimed"][0]["license_pool_updated"] is True
    assert document["data_preservation"]["onedrive_transfer"]["transferred_to"] == "b@x.test"
    assert document["account_actions"]["microsoft365"]["onedrive_size_gb"] == 8.7
    assert document["psa_updates"]["contact_record"]["status_updated"] == "Former Employee"


def test_only_finished_runs_on_people_have_one(people: Any, two_clients: Any) -> None:
    contact = people.contact(two_clients.contoso)
    running = people.run(contact, [("m365.disable_sign_in", "running", None, None)], over=False)
    with people.installation.database.reading() as session:
        with pytest.raises(Conflict, match="is running"):
            exit_document(people.installation, session, running)
        with pytest.raises(NotFound):
            exit_document(people.installation, session, "nope")


def test_a_person_of_another_client_by_now_is_not_told_of(people: Any, two_clients: Any) -> None:
    from agent.model.places import Contact

    contact = people.contact(two_clients.contoso, department="Sales", email="j@x.test")
    run = people.run(contact, GOOD)
    with people.installation.database.session() as session:
        row = session.get(Contact, contact)
        row.client_id, row.department = two_clients.fabrikam, "Secret department"
        session.add(row)
    document = document_of(people, run)
    assert document["employee_info"]["full_name"] == "Łukasz Ångström"
    assert document["employee_info"]["department"] is None and "Secret" not in json.dumps(document)


_TEXT = st.text(max_size=12)
_ITEM = st.fixed_dictionaries(
    {"name": _TEXT, "outcome": st.sampled_from(["removed", "already", "kept", "failed", "unknown", "accepted"])}
)
_GROUP = st.fixed_dictionaries(
    {"group_name": _TEXT, "group_dn": _TEXT, "removed": st.sampled_from([True, False, None])}
)
_RESULT = st.fixed_dictionaries(
    {},
    optional={
        "outcome": st.sampled_from(["changed", "already"]), "active_directory_groups": st.lists(_GROUP, max_size=3),
        "devices": st.lists(_ITEM, max_size=3), "groups": st.lists(_ITEM, max_size=3),
        "licenses": st.lists(_ITEM.map(lambda i: {**i, "sku_id": "s"}), max_size=3), "message": _TEXT, "forward_to": _TEXT,
        "mailbox_size_gb": st.floats(0, 100), "reason": _TEXT, "verified_before_repeating": st.just(True),
    },
)  # fmt: skip
_ERROR = st.none() | st.fixed_dictionaries(
    {"type": st.sampled_from([*CATALOGUE, "unreachable", "error", ""]), "message": _TEXT},
    optional={"code": st.none() | _TEXT, "impact": st.none() | _TEXT, "critical": st.booleans()},
)
_STATES = [str(s) for s in StepState if s not in (StepState.WAITING, StepState.RUNNING)]
_STEP = st.tuples(
    st.sampled_from([*TABLE, "zoom.suspend_user", "Own Script"]), st.sampled_from(_STATES), _RESULT, _ERROR
)


@given(steps=st.lists(_STEP, max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_steps_came_to_fits_the_schema(people: Any, two_clients: Any, steps: list[Any]) -> None:
    contact = people.contact(two_clients.contoso, name=f"P{datetime.now(UTC).timestamp()}")
    document = document_of(people, people.run(contact, steps))
    failed = [s for s in steps if s[1] in ("failed", "unknown", "reboot_needed")]
    missed = [s for s in steps if s[1] == "cancelled"]
    undone = failed + missed
    assert len(document.get("failed_steps", [])) == len(failed)
    assert len(document.get("not_reached_steps", [])) == len(missed)
    if undone:
        assert document["success"] is False
        closers = {name for name, row in TABLE.items() if row.closes_account}
        assert document["critical_failures"] == sum(described(s[3]).critical or s[0] in closers for s in failed)
    assert sum(s[1] == "succeeded" for s in steps) == len(document.get("completed_steps", [])) or not undone
    exit_html(view_of(document, "Contoso"))


def test_a_report_that_does_not_fit_is_refused(people: Any, two_clients: Any) -> None:
    document = document_of(people, people.run(people.contact(two_clients.contoso), GOOD))
    with pytest.raises(ReportFault, match="summary/pending_manual_tasks"):
        check({**document, "summary": {**document["summary"], "pending_manual_tasks": "three"}})
    with pytest.raises(ReportFault, match="is a required property"):
        check({**document, "success": False})


EVIL = "<script>alert(1)</script>\"'&"


def test_html_shows_every_text_and_runs_none(people: Any, two_clients: Any) -> None:
    contact = people.contact(two_clients.contoso, name=EVIL, department=EVIL, job_title=EVIL, external_id=EVIL)
    with people.installation.database.session() as session:
        session.add(Equipment(contact_id=contact, external_id="1", name=EVIL, kind=EVIL, asset_tag=EVIL))
    run = people.run(
        contact,
        [
            (EVIL, "failed", None, {"type": EVIL, "message": EVIL, "impact": EVIL, "remediation": EVIL, "code": EVIL}),
            ("ad.remove_from_groups", "succeeded",
             {"active_directory_groups": [{"group_name": EVIL, "group_dn": EVIL, "removed": True}]}, None),
            ("m365.set_out_of_office", "succeeded", {"message": EVIL}, None),
        ],
        started_by=EVIL,
    )  # fmt: skip
    page = exit_html(view_of(document_of(people, run), EVIL))
    assert "<script>" not in page and page.count("&lt;script&gt;alert(1)") > 12


def test_unknown_types_keep_their_own_code() -> None:
    assert described({"type": "unreachable", "message": "m"}).code == "unreachable"
    assert described({"type": "access_denied", "message": "m"}).type == "PERMISSION_DENIED"
    assert described({"type": "x", "code": "42", "message": "m"}).code == "42"
    assert described(None).type == "INTEGRATION_ERROR"
    error = failure_of("DEVICE_WIPE_FAILED", "m", critical=True)
    assert (error.code, error.critical) == ("ERR-DEVICE-001", True)
    with pytest.raises(KeyError):
        failure_of("NO_SUCH_TYPE", "m")


#: Functions on accounts that fill no field of their own; they stand in `completed_steps` like every other.
NO_FIELD = {
    "m365.clear_immutable_id", "m365.add_to_block_group", "m365.remove_mobile_devices",
    "m365.hide_from_address_lists", "m365.set_retention_policy", "m365.remove_inbox_rules", "m365.remove_signature", "m365.disable_onedrive_sharing",
    "m365.delete_user", "m365.restore_user", "m365.cancel_meetings", "m365.transfer_meetings",
    "m365.reassign_direct_reports", "m365.clear_manager", "m365.unassign_teams_number",
    "ad.clear_manager", "ad.hide_from_address_lists", "ad.set_description", "ad.delete_account", "ad.restore", "ad.snapshot",
    "ad.restore_from_snapshot", "m365.snapshot", "m365.restore_from_snapshot", "m365.transfer_sites",
    "m365.transfer_teams",
}  # fmt: skip


def test_a_group_that_was_left_with_its_licence_counts_as_left(people: Any, two_clients: Any) -> None:
    """The earlier step keeps it for the licences' sake; another one of the same name stays."""
    group = {"name": "Visio users", "type": "Security Group"}
    kept = [{"id": n, **group, "team": False, "outcome": "kept", "reason": "r"} for n in ("1", "2")]
    steps: list[Any] = [
        ("m365.remove_from_groups", "succeeded", {"groups": kept}, None),
        (
            "m365.remove_licenses",
            "succeeded",
            {"licenses": [], "groups": [{"id": "1", **group, "removed": True}]},
            None,
        ),
    ]
    document = document_of(people, people.run(people.contact(two_clients.contoso), steps))
    groups = document["group_memberships_removed"]
    assert [(g["removed"], g.get("reason")) for g in groups["microsoft365_groups"]] == [(True, None), (False, "r")]
    assert (groups["total_permissions_revoked"], document["summary"]["total_groups_removed"]) == (1, 1)


def test_a_manager_who_was_named_by_address_has_a_name(people: Any, two_clients: Any) -> None:
    """That of the client's own contact, never another client's, and never the name of an earlier manager."""
    people.contact(two_clients.fabrikam, name="Wrong", email="new@x.test")
    old = people.contact(two_clients.contoso, name="Old", email="old@x.test")
    people.contact(two_clients.contoso, name="New", email="new@x.test")
    leaver = people.contact(two_clients.contoso, name="Leaver", manager_id=old)
    given = {"manager_email": {"value": "new@x.test"}}
    info = document_of(people, people.run(leaver, GOOD, parameters=given))["employee_info"]
    assert (info["manager"], info["manager_email"]) == ("New", "new@x.test")
    given = {"manager_email": {"value": "nobody@x.test"}}
    info = document_of(people, people.run(leaver, GOOD, parameters=given))["employee_info"]
    assert (info["manager"], info["manager_email"]) == (None, "nobody@x.test")


def test_what_was_done_at_once_has_the_time_when_it_was(people: Any, two_clients: Any) -> None:
    result = {"outcome": "changed", "done_by": "r", "done_at": "2026-01-12T09:30:00+00:00"}
    steps: list[Any] = [("m365.disable_sign_in", "succeeded", result, None)]
    document = document_of(people, people.run(people.contact(two_clients.contoso), steps))
    assert document["account_actions"]["microsoft365"]["blocked_timestamp"] == "2026-01-12T09:30:00Z"
    assert document["verification"][0]["verified_timestamp"] == "2026-01-12T09:30:00Z"


def test_why_security_was_not_told_is_the_reason_of_the_message_itself(people: Any, two_clients: Any) -> None:
    steps: list[Any] = [
        ("offboarding.tell_security", "skipped", {"reason": "its condition does not hold"}, None),
        ("notify.security", "skipped", {"reason": "no recipient"}, None),
        ("task.create", "succeeded", {}, None),
    ]
    document = document_of(people, people.run(people.contact(two_clients.contoso), steps))
    assert document["notifications_sent"]["security_team_notification"]["reason"] == "no recipient"


def test_every_function_on_accounts_has_its_row() -> None:
    of_accounts = {n for n in functions.names() if n.startswith(("m365.", "ad."))}
    assert of_accounts - set(TABLE) - NO_FIELD == set()


def test_every_row_says_a_new_word() -> None:
    """A name of `completed_steps` says which step it was."""
    # Rows without a word take the name of the step.
    words = [row.step for row in TABLE.values() if row.step]
    assert len(words) == len(set(words))
