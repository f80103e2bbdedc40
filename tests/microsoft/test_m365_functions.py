"""What single functions do beyond the common: rules, refusals, results."""

from __future__ import annotations

from typing import Any

import pytest
from m365_cases import DANA, MIA, box
from m365_context import UserContext
from pydantic import ValidationError
from tenant_server import Server
from tenant_state import E3, VISIO, TestTenant, made_id

from agent.functions import registry
from agent.functions.base import FinishedStep, Outcome
from agent.functions.microsoft365 import authentication
from agent.functions.microsoft365.mailboxes import size_of
from agent.model.contacts import ContactOffboarding
from agent.model.runs import RunStep, StepState


def error_of(outcome: Outcome) -> tuple[str, str | None]:
    assert outcome.state == "failed" and outcome.error is not None, outcome
    return outcome.error.type, outcome.error.code


@pytest.mark.parametrize(
    "user", ["Alex Baker", "alex", "", "a b@contoso.test", "../users/mia@contoso.test", "x" * 330 + "@a"]
)
def test_a_display_name_is_no_account(user: str) -> None:
    with pytest.raises(ValidationError):
        registry.get("m365.disable_sign_in").Parameters.model_validate({"user": user})


@pytest.mark.parametrize("user", ["o'neil@contoso.test", "a%2Fb#?x=1&y@contoso.test", "ü☃@contoso.test"])
def test_a_strange_name_is_nobody_and_nothing_else(context: UserContext, contoso: TestTenant, user: str) -> None:
    before = contoso.snapshot()
    assert error_of(context.run("m365.disable_sign_in", user=user)) == ("ACCOUNT_NOT_FOUND", "account_not_found")
    assert contoso.snapshot() == before


def test_an_address_that_differs_from_the_sign_in_name_finds_the_account(
    context: UserContext, contoso: TestTenant
) -> None:
    contoso.named("alex").mail = "a.o'baker@contoso.test"
    outcome = context.run("m365.disable_sign_in", user="a.o'baker@contoso.test")
    assert outcome.result["user"]["upn"] == "alex@contoso.test"
    assert not contoso.named("alex").enabled


def test_every_preview_names_the_call_and_the_account() -> None:
    values = {"user": "alex@contoso.test", "group": made_id("g"), "forward_to": MIA, "delegates": DANA, "message": "Bye",
              "new_organizer": MIA, "new_manager": MIA, "new_owner": MIA, "policy": "Leavers"}  # fmt: skip
    for name in (n for n in registry.names() if n.startswith("m365.")):
        function = registry.get(name)
        wanted = {k: v for k, v in values.items() if k in function.Parameters.model_fields}
        said = function.preview(function.Parameters.model_validate(wanted))  # type: ignore[arg-type]
        assert "alex@contoso.test" in said, name
        assert any(
            word in said
            for word in ("GET", "PATCH", "POST", "DELETE", "PUT", "-", "siteusers", "ensureuser", "Sharing")
        ), name


def test_no_credential_of_the_client(context: UserContext) -> None:
    context.credentials.clear()
    assert error_of(context.run("m365.disable_sign_in")) == ("PERMISSION_DENIED", "missing_credential")


def test_the_account_that_the_run_began_with_stays_the_one(
    context: UserContext, contoso: TestTenant, server: Server
) -> None:
    """A finished step under the same name and tenant counts; one of another tenant does not."""
    first = context.run("m365.disable_sign_in")
    step = FinishedStep("x", "x", "m365.disable_sign_in", StepState.SUCCEEDED, "x", first.result, None, True)
    context.finished.append(step)
    server.reset()
    context.run("m365.revoke_sessions")
    assert not any(call == "GET /users/alex@contoso.test" for _, call in server.calls)
    other = {**first.result["user"], "tenant": "another", "id": made_id("contoso", "rob")}
    context.finished[:] = [FinishedStep("x", "x", "f", StepState.SUCCEEDED, "x", {"user": other}, None, True)]
    context.run("m365.revoke_sessions")
    assert contoso.named("rob").sessions_from.year == 2025


# --- the account


def test_the_password_is_never_told(context: UserContext, contoso: TestTenant) -> None:
    outcome = context.run("m365.reset_password")
    password = contoso.named("alex").password
    assert len(password) > 60
    assert password not in repr(outcome) + repr(context.states)


def test_a_password_that_was_reset_is_not_reset_again_after_an_interruption(
    context: UserContext, contoso: TestTenant
) -> None:
    """The engine asks `verify` before it repeats: it tells by the time of the last change that was noted before."""
    assert context.verify("m365.reset_password") is False
    context.run("m365.reset_password")
    assert context.verify("m365.reset_password") is True
    context.step_id = "another step"
    assert context.verify("m365.reset_password") is False


def test_a_synchronised_account(context: UserContext, contoso: TestTenant) -> None:
    contoso.named("alex").synced = True
    assert error_of(context.run("m365.reset_password")) == ("INTEGRATION_ERROR", "OnPremisesMastered")
    assert error_of(context.run("m365.hide_from_address_lists")) == ("INTEGRATION_ERROR", "OnPremisesMastered")
    assert error_of(context.run("m365.clear_immutable_id")) == ("INTEGRATION_ERROR", "still_synchronised")
    assert error_of(context.run("m365.set_display_name_prefix")) == ("INTEGRATION_ERROR", "OnPremisesMastered")
    assert "local Active Directory" in context.run("m365.disable_sign_in").result["warning"]


def test_the_immutable_id_of_an_account_that_went_with_its_synchronisation(
    context: UserContext, contoso: TestTenant
) -> None:
    alex = contoso.named("alex")
    contoso.deleted[alex.id] = contoso.users.pop(alex.id)
    assert context.run("m365.clear_immutable_id", user=alex.id).state == "succeeded"
    assert contoso.named("alex").immutable_id is None


def test_a_deletion_means_the_account_that_was_offboarded(context: UserContext, contoso: TestTenant) -> None:
    alex, mia = contoso.named("alex"), contoso.named("mia")
    kept = {"system": "m365", "place": "", "asked": "alex@contoso.test", "id": alex.id}
    tenant = context.run("m365.disable_sign_in").result["user"]["tenant"]
    alex.upn = alex.mail = "alex.old@contoso.test"
    mia.upn = mia.mail = "alex@contoso.test"
    context.plan = {"accounts": [{**kept, "place": "another tenant"}]}
    assert error_of(context.run("m365.delete_user")) == ("ACCOUNT_NOT_FOUND", "no_stored_account")
    context.plan = {"accounts": [{**kept, "place": tenant}]}
    assert error_of(context.run("m365.delete_user", user=mia.id)) == ("PERMISSION_DENIED", "account_mismatch")
    assert not contoso.deleted
    assert context.run("m365.delete_user").state == "succeeded"
    assert set(contoso.deleted) == {alex.id} and mia.id in contoso.users
    assert context.run("m365.delete_user").result["outcome"] == "already"
    assert context.verify("m365.delete_user") is True


def test_delete_and_restore_by_the_same_name(context: UserContext, contoso: TestTenant) -> None:
    assert context.run("m365.delete_user").state == "succeeded"
    assert context.run("m365.delete_user").result["outcome"] == "already"
    assert context.run("m365.restore_user").state == "succeeded"
    assert context.run("m365.restore_user").result["outcome"] == "already"
    assert contoso.named("alex").id == made_id("contoso", "alex")


def test_a_method_that_graph_cannot_delete_is_reported(
    context: UserContext, contoso: TestTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(authentication._COLLECTIONS, "fido2AuthenticationMethod")
    outcome = context.run("m365.remove_mfa_methods")
    found = {m["type"]: m for m in outcome.result["methods"]}
    assert outcome.state == "failed" and found["fido2AuthenticationMethod"]["code"] == "method_unknown"
    # The default method can only go as the last: it stays with the one that cannot go.
    assert {kind for kind, _ in contoso.named("alex").methods.values()} == {
        "password",
        "microsoftAuthenticator",
        "fido2",
    }


# --- mailbox


def test_an_account_without_a_mailbox(context: UserContext, contoso: TestTenant) -> None:
    """Nothing is to be taken from it, so that is skipped; what should come of it cannot come, so that fails."""
    contoso.named("alex").mailbox = None
    for name in ("hide_from_address_lists", "disable_forwarding", "remove_inbox_rules", "remove_mobile_devices",
                 "cancel_meetings", "remove_signature", "account_only_wipe"):  # fmt: skip
        assert context.run(f"m365.{name}").state == "skipped", name
    for name, values in (("convert_to_shared", {}), ("set_forwarding", {"forward_to": MIA}),
                         ("grant_full_access", {"delegates": MIA}), ("set_out_of_office", {"message": "x"})):  # fmt: skip
        assert error_of(context.run(f"m365.{name}", **values)) == ("ACCOUNT_NOT_FOUND", "no_mailbox"), name


def test_conversion_pending_is_a_failure_until_it_is_seen(context: UserContext, contoso: TestTenant) -> None:
    box(contoso).conversion_takes = 2
    assert error_of(context.run("m365.convert_to_shared")) == ("MAILBOX_CONVERSION_FAILED", "conversion_pending")
    outcome = context.run("m365.convert_to_shared")
    assert outcome.state == "succeeded" and outcome.result["mailbox_size_gb"] == 2.0


def test_a_mailbox_near_its_limit_is_warned_of(context: UserContext, contoso: TestTenant) -> None:
    box(contoso).size = 49 * 1024**3
    assert "49 GB" in context.run("m365.convert_to_shared").result["warning"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("12.4 GB (13,314,398,208 bytes)", 13_314_398_208), ("0 B (0 bytes)", 0), ("1 KB (1.024 bytes)", 1024), ("", None),
     ("Unlimited", None)],
)  # fmt: skip
def test_sizes(text: str, size: int | None) -> None:
    assert size_of({"TotalItemSize": text}) == size


def test_nobody_takes_over_from_himself(context: UserContext, contoso: TestTenant) -> None:
    before = contoso.snapshot()
    alex = "alex@contoso.test"
    assert error_of(context.run("m365.set_forwarding", forward_to=alex))[1] == "is_the_leaver"
    assert error_of(context.run("m365.grant_full_access", delegates=alex))[1] == "is_the_leaver"
    assert contoso.snapshot() == before


def test_no_manager(context: UserContext, contoso: TestTenant) -> None:
    contoso.named("alex").manager = None
    assert error_of(context.run("m365.set_forwarding", forward_to="manager"))[0] == "MANAGER_NOT_FOUND"
    assert error_of(context.run("m365.grant_send_as", delegates="manager"))[0] == "MANAGER_NOT_FOUND"
    assert error_of(context.run("m365.set_out_of_office", message="Ask %manager%"))[0] == "MANAGER_NOT_FOUND"


def test_one_wrong_delegate_does_not_keep_the_others_from_it(context: UserContext, contoso: TestTenant) -> None:
    outcome = context.run("m365.grant_full_access", delegates=["nobody@contoso.test", DANA])
    assert error_of(outcome)[0] == "ACCOUNT_NOT_FOUND"
    assert [(d["delegate"], d["granted"]) for d in outcome.result["delegates"]] == [
        ("nobody@contoso.test", False),
        (DANA, True),
    ]
    assert set(box(contoso).full_access) == {made_id("contoso", "dana")}


def test_forwarding_keeps_what_it_was_and_when_it_ends(context: UserContext, contoso: TestTenant) -> None:
    result = context.run("m365.set_forwarding", forward_to=DANA, keep_copy=False, expires_after_days=10).result
    assert (result["forward_to"], result["keep_copy"]) == (DANA, False)
    assert len(result["expires"]) == 10
    assert result["before"] == {
        "ForwardingAddress": None,
        "ForwardingSmtpAddress": None,
        "DeliverToMailboxAndForward": False,
    }
    assert context.run("m365.set_forwarding", forward_to=DANA, expires_after_days=0).result["expires"] is None


# --- out of office


def test_what_strangers_get_is_clean_and_names_are_text(context: UserContext, contoso: TestTenant) -> None:
    contoso.named("alex").name = '<script>alert("x")</script>%manager%'
    message = '<p onclick="x()">%leaver% of %tenantname%</p><script>steal()</script><img src="http://x" onerror="y()">'
    assert context.run("m365.set_out_of_office", message=message, contact=DANA).state == "succeeded"
    said = box(contoso).replies["externalReplyMessage"]
    assert "<script" not in said and "onclick" not in said and "onerror" not in said and "steal" not in said
    assert "&lt;script&gt;" in said and "%manager%" in said and "Contoso &amp; Sons" in said


def test_an_out_of_office_message_with_an_end(context: UserContext, contoso: TestTenant) -> None:
    values = {"message": "Away", "start": "2026-01-10", "end": "2026-02-09", "audience": "contactsOnly"}
    result = context.run("m365.set_out_of_office", **values).result
    replies = box(contoso).replies
    assert (result["start"], result["end"], replies["status"]) == ("2026-01-10", "2026-02-09", "scheduled")
    assert replies["scheduledEndDateTime"] == {"dateTime": "2026-02-10T00:00:00", "timeZone": "UTC"}


@pytest.mark.parametrize(
    "values", [{"message": "%password%"}, {"message": "x", "start": "2026-02-01", "end": "2026-01-01"}]
)
def test_a_message_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        registry.get("m365.set_out_of_office").Parameters.model_validate({"user": MIA, **values})


# --- groups, roles, licences


def test_each_group_has_its_reason(context: UserContext, contoso: TestTenant) -> None:
    outcome = context.run("m365.remove_from_groups")
    found = {g["name"]: g for g in outcome.result["groups"]}
    assert error_of(outcome)[1] == "last_owner"
    assert found["Sales team"]["team"] is True and "new_owner" in found["Sales team"]["reason"]
    assert {n: g["outcome"] for n, g in found.items()} == {
        "Sales team": "failed", "Project": "removed", "Security": "removed", "List": "removed", "Mail security": "removed",
        "Everybody": "kept", "From AD": "kept", "Visio users": "kept",
    }  # fmt: skip
    assert [found[n]["reason"].split(":")[0] for n in ("Everybody", "From AD", "Visio users")] == [
        "dynamic", "synchronised", "it assigns licences"
    ]  # fmt: skip
    assert {found[n]["type"] for n in ("Project", "Security", "List", "Mail security")} == {
        "Microsoft 365 Group", "Security Group", "Distribution List", "Mail-enabled Security Group"
    }  # fmt: skip
    assert contoso.group("Project").owners == {made_id("contoso", "dana")}
    again = context.run("m365.remove_from_groups", new_owner=DANA)
    team = next(g for g in again.result["groups"] if g["name"] == "Sales team")
    assert (team["outcome"], team["owner_transferred"], team["new_owner"]) == ("removed", True, DANA)


def test_more_groups_than_fit_into_a_batch_and_a_page(
    context: UserContext, contoso: TestTenant, server: Server
) -> None:
    alex = made_id("contoso", "alex")
    for group in contoso.groups.values():
        group.members.discard(alex)
        group.owners.discard(alex)
    template = contoso.group("Security")
    for number in range(45):
        new = type(template)(made_id("many", str(number)), "Many", members={alex})
        contoso.groups[new.id] = new
    contoso.page_size = 7
    outcome = context.run("m365.remove_from_groups")
    assert outcome.state == "succeeded" and outcome.result["removed"] == 45
    assert not any(alex in g.members for g in contoso.groups.values())


def test_groups_are_left_in_the_clients_order(context: UserContext, contoso: TestTenant, server: Server) -> None:
    ids = {g.name: g.id for g in contoso.groups.values()}
    order = f"mail security; nobody's; {ids['Security']}"
    outcome = context.run("m365.remove_from_groups", new_owner=MIA, order=order)
    assert outcome.state == "succeeded"
    left = [
        c
        for _, c in server.calls
        if c == "Remove-DistributionGroupMember" or (c.startswith("DELETE /groups/") and "/members/" in c)
    ]
    security = next(n for n, c in enumerate(left) if ids["Security"] in c)
    assert left[0] == "Remove-DistributionGroupMember" and security == 1
    assert not any(ids["Project"] in c for c in left[:2])


def test_licences_are_named_and_counted(context: UserContext, contoso: TestTenant) -> None:
    box(contoso).kind = "SharedMailbox"
    licences = {e["sku_id"]: e for e in context.run("m365.remove_licenses").result["licenses"]}
    assert (licences[E3]["name"], licences[VISIO]["name"]) == ("ENTERPRISEPACK", "VISIOCLIENT")
    assert licences[VISIO]["groups"] == [made_id("contoso.test", "Visio users")]
    assert licences[E3]["available_after"] - licences[E3]["available_before"] == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [({}, "mailbox_not_shared"), ({"kind": "SharedMailbox", "hold": True}, "mailbox_on_hold"),
     ({"kind": "SharedMailbox", "archive": True}, "mailbox_has_archive"),
     ({"kind": "SharedMailbox", "size": 51 * 1024**3}, "mailbox_too_large")],
)  # fmt: skip
def test_a_licence_stays_while_the_mailbox_needs_it(
    context: UserContext, contoso: TestTenant, change: dict[str, Any], code: str
) -> None:
    for name, value in change.items():
        setattr(box(contoso), name, value)
    assert error_of(context.run("m365.remove_licenses")) == ("LICENSE_REMOVAL_FAILED", code)
    assert set(contoso.named("alex").licences) == {E3, VISIO}
    assert contoso.group("Visio users").members


def test_licences_that_are_to_be_kept_stay(context: UserContext, contoso: TestTenant) -> None:
    """By part number or id; the group that gives one is not left."""
    box(contoso).kind = "SharedMailbox"
    outcome = context.run("m365.remove_licenses", keep="visioclient; no such")
    assert outcome.state == "succeeded" and outcome.result["removed"] == 1
    assert {e["name"]: e["outcome"] for e in outcome.result["licenses"]} == {
        "ENTERPRISEPACK": "removed",
        "VISIOCLIENT": "kept",
    }
    assert set(contoso.named("alex").licences) == {VISIO} and contoso.group("Visio users").members
    assert context.verify("m365.remove_licenses", keep=VISIO) is True
    assert context.verify("m365.remove_licenses") is False


@pytest.mark.parametrize(
    ("hold", "litigation", "backup", "code"),
    [(True, False, "succeeded", "legal_hold"), (False, True, "succeeded", "mailbox_on_hold"),
     (False, False, "failed", "backup_failed"), (False, False, "unknown", "backup_failed"),
     (False, False, "succeeded", None), (False, False, "skipped", None)],
)  # fmt: skip
def test_a_mailbox_that_goes_with_its_licence_waits_for_holds_and_backups(
    leaver: UserContext, contoso: TestTenant, hold: bool, litigation: bool, backup: str, code: str | None
) -> None:
    leaver.places["contact"] = {"legal_hold": hold}
    box(contoso).hold = litigation
    mine = {"client_id": leaver.client_id, "run_id": leaver.run_id}
    with leaver.installation.database.session() as session:
        session.add(ContactOffboarding(contact_id=leaver.target_id, requested_by="hr", **mine))
        session.add(
            RunStep(
                run_id=leaver.run_id, root_id=leaver.run_id, ordinal=1, position=1, name="Backup Mailbox", function="m365.backup_mailbox",
                options={"backs_up": True}, state=backup,
            )
        )  # fmt: skip
    outcome = leaver.run("m365.remove_licenses", after_conversion=False)
    if code is None:
        assert outcome.state == "succeeded" and not contoso.named("alex").licences
    else:
        assert error_of(outcome) == ("LICENSE_REMOVAL_FAILED", code)
        assert set(contoso.named("alex").licences) == {E3, VISIO} and contoso.group("Visio users").members


def test_a_retention_policy_that_there_is_not_is_told(context: UserContext, contoso: TestTenant) -> None:
    outcome = context.run("m365.set_retention_policy", policy="Nobody's")
    assert outcome.state == "failed" and box(contoso).policy == "Default MRM Policy"


def test_a_licence_of_a_dynamic_group_is_reported(context: UserContext, contoso: TestTenant) -> None:
    box(contoso).kind = "SharedMailbox"
    contoso.group("Visio users").rule = "user.department -eq 'Design'"
    outcome = context.run("m365.remove_licenses")
    assert error_of(outcome) == ("LICENSE_REMOVAL_FAILED", "licence_group_kept")
    assert set(contoso.named("alex").licences) == {VISIO}


# --- the rest


def test_a_pending_wipe_keeps_its_partnership(context: UserContext, contoso: TestTenant) -> None:
    context.run("m365.account_only_wipe")
    outcome = context.run("m365.remove_mobile_devices")
    assert {d["outcome"] for d in outcome.result["devices"]} == {"kept"}
    assert len(box(contoso).phones) == 2


def test_sharepoint_wants_a_certificate(context: UserContext, contoso: TestTenant, server: Server) -> None:
    context.credentials["microsoft365"] = (server.settings(contoso), {"client_secret": contoso.secret})
    assert error_of(context.run("m365.grant_onedrive_access", delegates=DANA)) == (
        "PERMISSION_DENIED",
        "certificate_needed",
    )
    assert context.run("m365.grant_onedrive_access", delegates=DANA, access="write").state == "succeeded"


def test_the_onedrive_is_named(context: UserContext) -> None:
    result = context.run("m365.grant_onedrive_access", delegates=DANA).result
    assert result["onedrive_url"].endswith("/Documents") and result["onedrive_size_gb"] == 3.0


def test_a_report_who_is_synchronised_is_left_with_a_reason(context: UserContext, contoso: TestTenant) -> None:
    contoso.named("rob").synced = True
    report = context.run("m365.reassign_direct_reports", new_manager=MIA).result["reports"][0]
    assert report["outcome"] == "kept" and "local Active Directory" in report["reason"]
