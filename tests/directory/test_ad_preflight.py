"""The look before an offboarding, at a real domain controller: what is found, and that nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import samba_peer as samba
from sqlmodel import select

from agent.content.duplication import use
from agent.installation import Installation
from agent.model.administration import Credential
from agent.model.places import Contact
from agent.running.preflight import Preflight, preflight
from agent.running.user_offboardings import SECURITY_PHASE, Request
from agent.secrets import create_key
from agent.services import credentials
from agent.services.directory import ldap, powershell

if TYPE_CHECKING:
    from conftest import Domain, Places, User

pytestmark = pytest.mark.parametrize("way", ["ldap", "psrp"])

Look = Callable[..., Preflight]


@pytest.fixture
def look(installation: Installation, two_clients: Places, domain: Domain, on_way: None) -> Look:
    """Look at an account; each client has its own service account and the same scripts."""
    create_key(installation.settings)
    places = {"Contoso": two_clients.contoso, "Fabrikam": two_clients.fabrikam}
    for client, place in places.items():
        settings, secret = domain.credential(client)
        credentials.add(
            installation, kind="active_directory", name=f"ad-{client}", client_id=place, settings=settings,
            secret=secret, actor="tester",
        )  # fmt: skip
        use(installation.content, client.lower(), SECURITY_PHASE, "Active Directory - Offboard Contact")

    def asked(user: User, client: str = "Contoso", **given: Any) -> Preflight:
        with installation.database.session() as session:
            name = f"{client}-{user.sam}"
            if session.exec(select(Contact).where(Contact.external_id == name)).first() is None:
                session.add(Contact(client_id=places[client], external_id=name, name=user.sam, email=user.mail))
        given = {"termination_type": "voluntary", "clear_manager": False, **given}
        return preflight(installation, Request(user.mail, client.lower(), given), actor="ann")

    return asked


def said(found: Preflight, severity: str) -> list[str]:
    return [f.message for f in found.findings if f.severity == severity and f.subject == "Active Directory"]


def test_an_account_is_asked_about_once_and_stays_as_it_is(
    look: Look, domain: Domain, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaver = domain.user("Pia Flight")
    domain.group("Preflight one", leaver.dn)
    domain.group("Preflight two", leaver.dn)
    before = domain.read(leaver.dn)
    opened: list[str] = []
    used: Any = {"ldap": ldap.LdapDirectory, "psrp": powershell.PowershellDirectory}[way]
    original = used.__init__

    def counted(self: Any, settings: Any, password: str, **more: Any) -> None:
        opened.append(settings.username)
        original(self, settings, password, **more)

    monkeypatch.setattr(used, "__init__", counted)
    found = look(leaver)
    assert said(found, "error") == []
    assert any(m.startswith(f"the account is {leaver.dn} ({leaver.guid})") for m in said(found, "info"))
    assert "the account is enabled, and a member of 2 groups itself" in said(found, "info")
    for right in ("ad.disable_account needs the right: Write userAccountControl",
                  "ad.remove_from_groups needs the right: Write member (of the groups)"):  # fmt: skip
        assert right in said(found, "info")
    assert opened == [f"{samba.DOMAIN}\\svc-contoso"]
    assert domain.read(leaver.dn) == before


def test_the_rights_of_steps_that_are_left_out_are_not_listed(look: Look, domain: Domain) -> None:
    found = look(domain.user("Few Steps"), reset_password=False)
    assert not any(m.startswith("ad.reset_password") for m in said(found, "info"))
    assert any(m.startswith("ad.disable_account") for m in said(found, "info"))


def test_a_disabled_and_a_protected_account(look: Look, domain: Domain) -> None:
    disabled = domain.user("Dora Disabled", userAccountControl="514")
    assert any("disabled already" in m for m in said(look(disabled), "info"))
    admin = domain.user("Ada Min", adminCount="1")
    errors = said(look(admin), "error")
    assert len(errors) == 1 and "is protected: it is or was an administrator (adminCount is 1)" in errors[0]


def test_an_account_of_another_client_and_one_that_is_there_twice(look: Look, domain: Domain) -> None:
    """Fabrikam's directory begins at its own OU: what stands in Contoso's is not there."""
    leaver = domain.user("Only Here")
    assert said(look(leaver), "error") == []
    errors = said(look(leaver, "Fabrikam"), "error")
    assert len(errors) == 1 and f"has no account '{leaver.mail}'" in errors[0]
    domain.user("Twice", mail=leaver.mail)
    errors = said(look(leaver), "error")
    assert len(errors) == 1 and "names several accounts" in errors[0]


def test_a_wrong_password_is_one_error(look: Look, installation: Installation, domain: Domain, way: str) -> None:
    with installation.database.reading() as session:
        stored = session.exec(select(Credential).where(Credential.name == "ad-Contoso")).one().id
    assert stored is not None
    credentials.update(installation, stored, secret={"password": "Wrong.Password.1"}, actor="tester")
    errors = said(look(domain.user("Nobody Asks")), "error")
    # By HTTP one is not told more.
    why = {"ldap": "the user name or the password is wrong", "psrp": "the credential was refused"}[way]
    assert len(errors) == 1 and f"refused {samba.DOMAIN}\\svc-contoso" in errors[0] and why in errors[0]
    assert "Wrong.Password.1" not in errors[0]
