"""What functions on other systems put into the exit report. Whole runs of their packages are in tests/vendors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.functions import registry
from agent.functions.base import FinishedStep
from agent.functions.exit_facts import REPORT, Facts, gather
from agent.functions.exit_systems import ROWS
from agent.functions.exit_table import TABLE
from agent.model.runs import StepState
from agent.reporting.exit_report import exit_document
from agent.reporting.exit_view import view_of
from agent.reporting.html import exit_html

FIVE = datetime(2026, 1, 13, 17, tzinfo=UTC)
APPLICATIONS = "account_actions.business_applications"


def step(function: str, state: str = "succeeded", result: Any = None, **planned: str) -> FinishedStep:
    error = None if state == "succeeded" else {"type": "INTEGRATION_ERROR", "message": "no"}
    return FinishedStep(
        "Do It", "HTTP Task: v1.0", function, StepState(state), "Do It", result or {}, error, True, FIVE, planned
    )  # fmt: skip


def facts(*steps: FinishedStep) -> Facts:
    return gather(steps, TABLE)


@pytest.mark.parametrize(
    ("states", "closed"),
    [
        (("succeeded", "failed"), True), (("failed", "succeeded"), True), (("unknown", "failed"), None),
        (("failed", "unknown"), None), (("failed", "cancelled"), False), (("skipped", "failed"), False),
        (("skipped", "unknown"), None),
    ],
)  # fmt: skip
def test_one_account_that_two_steps_close(states: tuple[str, str], closed: bool | None) -> None:
    found = facts(step("okta.suspend_user", states[0]), step("okta.deactivate_user", states[1]))
    assert found.get(APPLICATIONS) == {"okta": {"name": "Okta", "disabled": closed}}
    assert list(found.accounts.values()) == [closed] and found.account_disabled is closed


def test_an_application_that_nothing_was_done_to_is_not_there() -> None:
    assert facts(step("okta.suspend_user", "skipped")).get(APPLICATIONS) is None


def test_applications_of_the_same_function_stay_apart() -> None:
    found = facts(
        step("scim.deactivate_user", application="github"), step("scim.deactivate_user", "failed", application="crm_eu"),
        step("http.ensure", service="phone", report="application"), step("http.request", report="application"),
        step("http.ensure", service="fridge"),
    )  # fmt: skip
    assert found.get(APPLICATIONS) == {
        "github": {"name": "Github", "disabled": True}, "crm_eu": {"name": "Crm eu", "disabled": False},
        "phone": {"name": "Phone", "disabled": True}, "http_task_v1_0": {"name": "HTTP Task: v1.0", "disabled": True},
    }  # fmt: skip
    assert found.account_disabled is False and found.completed[-1] == "do_it"


@pytest.mark.parametrize(
    ("result", "ended"),
    [
        ({"outcome": "already"}, 0), ({"outcome": "changed", "status": 204}, None),
        ({"entries": [{"outcome": "changed"}, {"outcome": "changed"}]}, 2), ({}, None),
    ],
)  # fmt: skip
def test_sessions_are_counted_or_not_known(result: Any, ended: int | None) -> None:
    found = facts(step("http.each", result=result, report="vpn_sessions"))
    assert found.get("account_actions.vpn_access.active_sessions_terminated") == ended


def test_a_vpn_that_could_not_be_closed_is_an_open_account() -> None:
    found = facts(step("http.ensure", "failed", service="vpn", report="vpn_access"))
    assert found.get("account_actions.vpn_access.revoked") is False and found.account_disabled is False


def test_what_zoom_handed_over() -> None:
    result = {"transferred_to": "boss@x.test", "meetings": 2, "handed_over": ["meetings", "recordings"]}
    lost = {"transferred_to": "boss@x.test", "meetings": 2}
    where = "data_preservation.application_transfers"
    done, failed = (
        facts(step("zoom.delete_user", s, r)).get(where)[0] for s, r in (("succeeded", result), ("failed", lost))
    )  # fmt: skip
    assert (done["what"], done["transferred"], done["transferred_timestamp"]) == (
        "meetings, recordings", True, "2026-01-13T17:00:00Z",
    )  # fmt: skip
    assert (failed["what"], failed["transferred"], failed["transferred_timestamp"]) == ("meetings", False, None)
    assert facts(step("zoom.delete_user", result={"handed_over": []})).get(where) is None
    assert facts(step("zoom.delete_user", "failed")).data_at_risk


def test_what_jira_gave_is_told_by_kind() -> None:
    things = [
        {"id": "issue A-1", "kind": "issue", "outcome": "changed"}, {"id": "issue A-2", "kind": "issue", "outcome": "failed"},
        {"id": "filter 3", "kind": "filter", "outcome": "changed"},
    ]  # fmt: skip
    found = facts(step("jira.hand_over", "failed", {"things": things, "to": "boss@x.test"}))
    given = found.get("data_preservation.application_transfers")
    assert [(t["what"], t["transferred"], t["transferred_to"]) for t in given] == [
        ("2 issues", False, "boss@x.test"), ("1 filter", True, "boss@x.test"),
    ]  # fmt: skip


@pytest.mark.parametrize(("state", "status", "number"), [("succeeded", "Inactive", "77"), ("failed", "Left", None)])
def test_the_psa_counts_before_the_inventory(
    people: Any, two_clients: Any, state: str, status: str, number: str | None
) -> None:
    contact = people.contact(two_clients.contoso)
    error = None if state == "succeeded" else {"type": "INTEGRATION_ERROR", "message": "no"}
    there = {"user": {"id": "77"}, "after": {"inactive": True}} if state == "succeeded" else None
    run = people.run(contact, [
        ("halopsa.deactivate_user", state, there, error), ("contact.set_status", "succeeded", {"status": "Left"}, None),
    ])  # fmt: skip
    with people.installation.database.reading() as session:
        document = exit_document(people.installation, session, run)
    record = document["psa_updates"]["contact_record"]
    assert record["status_updated"] == status and (number is None or record["contact_id"] == number)
    assert record["last_updated"] == f"2026-01-13T16:0{1 if number else 2}:00Z"


def test_the_page_tells_what_was_handed_over(people: Any, two_clients: Any) -> None:
    result = {"transfers": [{"name": "Drive & Docs", "to": "boss@x.test", "outcome": "changed"}]}
    run = people.run(people.contact(two_clients.contoso), [("google.transfer_data", "succeeded", result, None)])
    with people.installation.database.reading() as session:
        page = exit_html(view_of(exit_document(people.installation, session, run), "Contoso"))
    assert "Handed over in applications" in page and "Drive &amp; Docs" in page


def test_each_row_is_of_a_function_that_there_is() -> None:
    functions = {row.function for row in ROWS if not row.function.startswith(f"{REPORT} ")}
    assert functions <= set(registry.names())


#: Functions on an account that fill no field of their own: what they did is in completed_steps or failed_steps.
NO_FIELD = {
    "okta.clear_sessions", "okta.reset_password", "okta.reset_factors", "google.sign_out", "google.reset_password",
    "google.revoke_tokens", "google.remove_app_passwords", "google.invalidate_backup_codes", "google.remove_second_factor",
    "google.hide_from_directory", "google.move_to_org_unit", "google.remove_aliases", "google.wipe_devices",
    "slack.reset_sessions", "zoom.revoke_sessions", "zoom.remove_scheduling_privileges", "scim.remove_roles",
}  # fmt: skip
#: The ticket is read from the steps by `exit_notifications`.
TICKETS = ("create_ticket", "add_note", "add_time", "set_status", "add_comment", "attach_report", "transition")


def test_every_function_on_another_system_has_its_row() -> None:
    systems = ("okta.", "google.", "slack.", "zoom.", "scim.", "jira.", "connectwise_psa.", "halopsa.", "http.")
    theirs = {n for n in registry.names() if n.startswith(systems) and not n.endswith(TICKETS)}
    assert theirs - set(TABLE) == NO_FIELD
