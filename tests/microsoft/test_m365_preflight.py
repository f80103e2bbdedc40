"""The look before an offboarding, at the test tenants: what is found, that it only asks, and that it asks once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from m365_cases import box
from tenant_server import Server
from tenant_state import TestTenant

from agent.content.duplication import use
from agent.installation import Installation
from agent.model.places import Contact
from agent.running.preflight import Preflight, preflight
from agent.running.user_offboardings import SECURITY_PHASE, Request
from agent.secrets import create_key
from agent.services import credentials
from agent.services.microsoft import tokens

GIGABYTE = 1024**3
LISTS = {
    SECURITY_PHASE: "Security Actions", "User Offboarding - 2 Access Revocation": "Access Revocation",
    "User Offboarding - 3 Data Preservation and Transfer": "Data Transfer",
    "User Offboarding - 4 License and Resource Reclamation": "License Reclamation",
    "User Offboarding - 6 Administrative Cleanup": "Cleanup",
}  # fmt: skip
Look = Callable[..., Preflight]


@pytest.fixture
def look(installation: Installation, two_clients: Any, server: Server, app_certificate: str) -> Look:
    """Look at Alex of a client. Both clients have a tenant of their own, and the same scripts."""
    create_key(installation.settings)
    places = {"contoso": two_clients.contoso, "fabrikam": two_clients.fabrikam}
    for tenant in server.tenants:
        slug = tenant.domain.removesuffix(".test")
        credentials.add(
            installation, kind="microsoft365", name=f"{slug}-tenant", client_id=places[slug],
            settings=server.settings(tenant), secret={"certificate": app_certificate}, actor="tester",
        )  # fmt: skip
        for wrapper, script in LISTS.items():
            use(installation.content, slug, wrapper, f"Microsoft 365 - {script}")
        with installation.database.session() as session:
            for name in ("alex", "mia"):
                session.add(
                    Contact(
                        client_id=places[slug], external_id=f"{slug}-{name}", name=name.capitalize(),
                        email=f"{name}@{slug}.test", manager_email=f"mia@{slug}.test" if name == "alex" else "",
                    )
                )  # fmt: skip

    def asked(slug: str = "contoso", **given: Any) -> Preflight:
        request = Request(f"alex@{slug}.test", slug, {"termination_type": "voluntary", **given})
        return preflight(installation, request, actor="ann")

    return asked


def said(found: Preflight, severity: str) -> str:
    return "\n".join(f.message for f in found.findings if f.severity == severity and f.subject == "Microsoft 365")


def test_an_account_as_it_is_asked_once_for_all_steps(
    look: Look, server: Server, contoso: TestTenant, fabrikam: TestTenant
) -> None:
    before, other = contoso.snapshot(), fabrikam.snapshot()
    found = look(reclaim_licenses_immediately=True)
    assert found.errors == 0
    alex = contoso.named("alex")
    assert f"the account is {alex.upn} ({alex.id}) in the tenant {contoso.id}" in said(found, "info")
    assert "licences: ENTERPRISEPACK, VISIOCLIENT" in said(found, "info")
    assert "the mailbox is a user one of 2.0 GB" in said(found, "info")
    assert said(found, "warning") == "the account has administrator roles: User Administrator"
    assert sorted(server.calls) == sorted(
        (contoso.domain, call)
        for call in (
            f"GET /users/{alex.upn}", f"GET /users/{alex.id}", "GET /subscribedSkus",
            "GET /roleManagement/directory/roleAssignments", "Get-Mailbox", "Get-MailboxStatistics",
        )
    )  # fmt: skip
    assert (contoso.snapshot(), fabrikam.snapshot()) == (before, other)


def test_what_keeps_a_mailbox_from_being_shared(look: Look, contoso: TestTenant) -> None:
    mailbox = box(contoso)
    mailbox.size, mailbox.hold, mailbox.archive = 49 * GIGABYTE, True, True
    contoso.named("alex").synced, contoso.named("alex").enabled = True, False
    warnings = said(look(), "warning")
    for words in ("49 GB or more", "under a hold", "has an archive", "synchronised from the local Active Directory"):
        assert words in warnings
    assert "the account's sign-in is disabled already" in said(look(), "info")
    elsewhere = said(look("fabrikam"), "warning")
    assert elsewhere == "the account has administrator roles: User Administrator"
    mailbox.size = 49 * GIGABYTE - 1
    assert "49 GB" not in said(look(), "warning")


def test_the_mailbox_is_not_asked_about_when_no_step_needs_it(look: Look, server: Server) -> None:
    found = look(convert_mailbox_to_shared=False)
    assert found.errors == 0 and "the mailbox is" not in said(found, "info")
    assert not any("Mailbox" in call for _, call in server.calls)


def test_an_account_that_is_not_there_is_one_error(look: Look, contoso: TestTenant, server: Server) -> None:
    del contoso.users[contoso.named("alex").id]
    found = look()
    assert said(found, "error") == f"there is no account 'alex@contoso.test' in the tenant {contoso.id}"
    assert found.errors == 1 and len([c for c in server.calls if c[1] == "GET /users/alex@contoso.test"]) == 1
    assert look("fabrikam").errors == 0


def test_no_mailbox(look: Look, contoso: TestTenant) -> None:
    contoso.named("alex").mailbox = None
    assert "the account has no mailbox" in said(look(), "warning")


def test_a_right_that_is_missing_is_told_and_the_rest_is_asked(look: Look, server: Server) -> None:
    server.fault("GET /roleManagement", 403)
    found = look()
    assert "the account's administrator roles cannot be read" in said(found, "warning")
    assert "licences: ENTERPRISEPACK" in said(found, "info") and found.errors == 0


def test_a_sign_in_that_is_refused_is_one_error(look: Look, server: Server) -> None:
    server.sign_in_error = {"error": "invalid_client", "error_description": "AADSTS7000222: expired"}
    found = look()
    assert found.errors == 1 and "the client secret has expired" in said(found, "error")
    assert found.findings[0].remediation == "Make a new one and enter it: exeunt credential update"


def test_rights_that_the_app_lacks_are_named_per_function(look: Look, contoso: TestTenant) -> None:
    assert "m365.disable_sign_in has the rights that it needs" in said(look(), "info")
    contoso.app_roles -= {"User.RevokeSessions.All", "User.ReadWrite.All", "Exchange.ManageAsApp"}
    tokens._providers.clear()
    found = look()
    errors = said(found, "error")
    assert "m365.revoke_sessions lacks the right: User.RevokeSessions.All" in errors
    assert "m365.convert_to_shared lacks the right: Exchange.ManageAsApp of Office 365 Exchange Online" in errors
    assert "m365.disable_sign_in" not in errors and "m365.remove_mfa_methods" not in errors
    assert not said(look("fabrikam"), "error")


def test_the_last_unit_of_a_licence_is_told(look: Look, contoso: TestTenant) -> None:
    assert "last unit" not in said(look(), "warning")
    assert "ENTERPRISEPACK is the only licence of the account that carries Exchange" in said(look(), "info")
    contoso.skus = {sku: (name, 1 if name == "VISIOCLIENT" else bought) for sku, (name, bought) in contoso.skus.items()}
    warnings = said(look(), "warning")
    assert "the account holds the last unit of VISIOCLIENT: 1 of 1 are in use" in warnings
    assert "ENTERPRISEPACK" not in warnings


def test_licences_that_go_without_a_look_at_the_mailbox_are_told(look: Look) -> None:
    goes = {
        "reclaim_licenses_immediately": True, "convert_mailbox_to_shared": False, "maintain_email_forwarding": False,
    }  # fmt: skip
    assert "it is deleted 30 days after its last licence" in said(look(**goes), "warning")
    # While mail is forwarded the licence stays.
    assert "30 days" not in said(look(**{**goes, "maintain_email_forwarding": True}), "warning")


def test_a_backup_store_that_is_not_there_is_found_before_it_is_needed(
    look: Look, installation: Installation, tmp_path: Path
) -> None:
    for script in ("Backup Mailbox", "Backup OneDrive"):
        use(installation.content, "contoso", "User Offboarding - 3 Data Preservation and Transfer", f"Microsoft 365 - {script}")
    backup = {f.severity: f.message for f in look().findings if f.subject == "backup"}
    assert "there is no backup location" in backup.pop("error") and not backup
    folder = tmp_path / "share"
    [missing] = [f for f in look(backup_location=str(folder)).findings if f.subject == "backup"]
    assert missing.severity == "error" and str(folder) in missing.message and missing.remediation
    folder.mkdir()
    [there] = [f for f in look(backup_location=str(folder)).findings if f.subject == "backup"]
    assert there.severity == "info" and not list(folder.iterdir())
    assert [f for f in look(backup_user_data=False).findings if f.subject == "backup"] == []
    assert [f for f in look("fabrikam").findings if f.subject == "backup"] == [], "it lists no backup"


def test_two_credentials_in_one_scope_are_a_finding(
    look: Look, installation: Installation, two_clients: Any, server: Server, app_certificate: str
) -> None:
    credentials.add(
        installation, kind="microsoft365", name="another", client_id=two_clients.contoso,
        settings=server.settings(server.tenants[0]), secret={"certificate": app_certificate}, actor="tester",
    )  # fmt: skip
    errors = [f for f in look().findings if f.severity == "error"]
    assert errors and all("several credentials of the kind 'microsoft365'" in f.message for f in errors)
    assert all("Remove all but one" in str(f.remediation) for f in errors)
    assert look("fabrikam").errors == 0
