"""Which fields of the exit report the functions on other systems fill: rows of `exit_table.TABLE`.

An application's account stands in `business_applications`. Functions that may do anything (`http.*`) say by their parameter
`report` what they are about; the rows of those begin with `report `.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from agent.functions.base import FinishedStep
from agent.functions.exit_facts import (
    REPORT,
    Field,
    Row,
    at,
    came_off,
    came_off_at,
    count,
    done,
    items,
    step_word,
    value,
    when_done,
)

#: What a step may say that it is about.
Report = Literal[
    "", "application", "vpn_access", "vpn_sessions", "badge", "parking_pass", "credit_card", "licenses"
]  # fmt: skip
#: What the PSA says of the person; it takes the place of `contact_record`.
CONTACT_THERE = "contact_elsewhere"
_TRANSFERS = "data_preservation.application_transfers"
Application = Callable[[FinishedStep], tuple[str, str]]


def _named(key: str, name: str) -> Application:
    return lambda step: (key, name)


def _of_scim(step: FinishedStep) -> tuple[str, str]:
    """By the ending of its credential's kind."""
    key = str(step.planned.get("application") or "")
    return (key, _title(key)) if key else ("scim", "SCIM application")


def _of_service(step: FinishedStep) -> tuple[str, str]:
    """By the service of the step, else by the script."""
    key = str(step.planned.get("service") or "")
    return (key, _title(key)) if key else (step_word(step.script), step.script)


def _title(key: str) -> str:
    words = key.replace("_", " ")
    return words[:1].upper() + words[1:]


ZOOM, GOOGLE, JIRA = _named("zoom", "Zoom"), _named("google", "Google Workspace"), _named("jira", "Jira")
SLACK, OKTA = _named("slack", "Slack"), _named("okta", "Okta")


def _transfer(what: str, ok: Any, to: Any, when: Any, application: str) -> dict[str, Any]:
    return {
        "application": application, "what": what, "transferred": ok, "transferred_to": to, "transferred_timestamp": when,
    }  # fmt: skip


def _handed_over(step: FinishedStep) -> list[dict[str, Any]] | None:
    """Zoom: what was asked for with the deletion; of a failed one only the meetings are known, which were looked for."""
    heir = step.result.get("transferred_to")
    what = step.result.get("handed_over") or (["meetings"] if step.result.get("meetings") else [])
    if heir is None or not what:
        return None
    return [_transfer(", ".join(map(str, what)), done(step), heir, at(step), "Zoom")]


def _given(step: FinishedStep) -> list[dict[str, Any]] | None:
    """Jira: how many issues, filters and projects."""
    found: dict[str, list[bool | None]] = {}
    for thing in step.result.get("things") or ():
        found.setdefault(str(thing.get("kind")), []).append(came_off(thing))
    return [
        _transfer(
            f"{len(states)} {kind}{'' if len(states) == 1 else 's'}",
            False if False in states else None if None in states else True, step.result.get("to"), at(step), "Jira",
        )
        for kind, states in found.items()
    ] or None  # fmt: skip


def _inactive(step: FinishedStep) -> str | None:
    """`Inactive`, or `Inactive - Former Employee` with the contact's types."""
    after = step.result.get("after")
    if not isinstance(after, Mapping) or after.get("inactive") is not True:
        return None
    return " - ".join(["Inactive", *([", ".join(map(str, after["types"]))] if after.get("types") else [])])


def _sessions(step: FinishedStep) -> int | None:
    """How many were ended; none when there was none before."""
    counted = count("entries")(step)
    return counted if counted is not None else 0 if step.result.get("outcome") == "already" else None


def _closes(function: str, step: str, application: Application, **more: Any) -> Row:
    return Row(function, step, closes_account=True, application=application, **more)


def _leaves(function: str, step: str, key: str = "groups") -> Row:
    return Row(function, step, revoked=count(key), groups=count(key) if key == "groups" else None)


def _contact(function: str, step: str) -> Row:
    there = f"psa_updates.{CONTACT_THERE}"
    return Row(
        function, step,
        (
            Field(f"{there}.contact_id", when_done(value("user.id"))),
            Field(f"{there}.status_updated", when_done(_inactive)), Field(f"{there}.last_updated", at),
        ),
    )  # fmt: skip


def _deactivates(report: str, thing: str) -> Row:
    return Row(f"{REPORT} {report}", "", deactivates=thing)


ROWS = (
    # --- identity and collaboration
    _closes("okta.suspend_user", "okta_account_suspension", OKTA),
    _closes("okta.deactivate_user", "okta_account_deactivation", OKTA, check="okta_account_deactivated"),
    _closes("okta.delete_user", "okta_account_deletion", OKTA),
    _leaves("okta.remove_from_groups", "okta_group_removal"),
    _leaves("okta.remove_admin_roles", "okta_admin_role_removal", "roles"),
    _closes("google.suspend_user", "google_account_suspension", GOOGLE, check="google_account_suspended"),
    _closes("google.delete_user", "google_account_deletion", GOOGLE),
    _leaves("google.remove_from_groups", "google_group_removal"),
    _leaves("google.remove_admin_roles", "google_admin_role_removal", "roles"),
    Row(
        "google.transfer_data", "google_data_transfer",
        (
            Field(
                _TRANSFERS,
                items(
                    "transfers", application=lambda thing, step: "Google Workspace", what="name", transferred=came_off,
                    transferred_to=lambda thing, step: thing.get("to"), transferred_timestamp=came_off_at,
                ), "extend",
            ),
        ),
        keeps_data=True,
    ),
    _closes("slack.remove_from_workspace", "slack_workspace_removal", SLACK),
    _leaves("slack.remove_from_channels", "slack_channel_removal", "channels"),
    _closes("zoom.deactivate_user", "zoom_user_deactivation", ZOOM, check="zoom_user_deactivated"),
    *(
        _closes(function, step, ZOOM, fields=(Field(_TRANSFERS, _handed_over, "extend"),), keeps_data=True)
        for function, step in (("zoom.delete_user", "zoom_user_deletion"), ("zoom.disassociate_user", "zoom_user_release"))
    ),
    _leaves("zoom.remove_from_groups", "zoom_group_removal"),
    # --- business applications
    _closes("scim.deactivate_user", "application_account_deactivation", _of_scim),
    _closes("scim.delete_user", "application_account_deletion", _of_scim),
    _leaves("scim.remove_from_groups", "application_group_removal"),
    # Leaving the groups takes the products away and closes no account: whether it is disabled is not known.
    Row(
        "jira.remove_from_groups", "jira_group_removal", application=JIRA, revoked=count("groups"), groups=count("groups"),
    ),
    _closes("jira.delete_user", "jira_user_deletion", JIRA),
    Row("jira.hand_over", "jira_hand_over", (Field(_TRANSFERS, _given, "extend"),), keeps_data=True),
    # --- the PSA
    _contact("connectwise_psa.deactivate_contact", "connectwise_psa_contact_deactivation"),
    _contact("halopsa.deactivate_user", "halopsa_user_deactivation"),
    # --- REST services, by what the step says of itself
    *(Row(f"http.{act}", "") for act in ("request", "ensure", "each")),
    Row("http.confirm", "", check=""),
    _closes(f"{REPORT} application", "", _of_service),
    Row(
        f"{REPORT} vpn_access", "", (Field("account_actions.vpn_access.revoked", done),), closes_account=True,
        check="vpn_access_revoked",
    ),
    Row(f"{REPORT} vpn_sessions", "", (Field("account_actions.vpn_access.active_sessions_terminated", _sessions, "sum"),)),
    _deactivates("badge", "building_access_badge"), _deactivates("parking_pass", "parking_pass"),
    _deactivates("credit_card", "credit_card"),
    Row(
        f"{REPORT} licenses", "",
        (
            Field(
                "licenses_reclaimed",
                items(
                    "entries", license_type=lambda thing, step: thing.get("name") or thing.get("id"), removed=came_off,
                    removed_timestamp=came_off_at,
                ), "extend",
            ),
        ),
    ),
)  # fmt: skip
assert {f"{REPORT} {r}" for r in get_args(Report) if r} == {r.function for r in ROWS if r.function.startswith(REPORT)}
