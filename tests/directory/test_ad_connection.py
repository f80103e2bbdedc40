"""Finding the one account, and every way in which a controller can say no."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import samba_peer as samba
from cutting_proxy import cutting_proxy

from agent.errors import AccessDenied, CannotConnect, StepError
from agent.functions import registry
from agent.services.directory.connecting import connect
from agent.services.directory.settings import directory_settings

if TYPE_CHECKING:
    from conftest import DirectoryContext, Domain

    Make = Callable[..., DirectoryContext]

both_ways = pytest.mark.parametrize("way", ["ldap", "psrp"])


@both_ways
def test_an_account_is_found_by_each_of_its_names(context: Make, domain: Domain) -> None:
    user = domain.user("Zoë", sAMAccountName="Zoë.Ånd")
    made = context()
    for asked in (user.guid, f"{{{user.guid.upper()}}}", user.mail, user.mail.upper(), "zoë.ånd"):
        assert made.again().call("ad.snapshot", account=asked).result["object_guid"] == user.guid


HOSTILE = ["*", "*)(uid=*", "a)(|(objectClass=*)", "\\2a", "x\\", "(", "&", "u*", "zoe", "\u202eevil", "a*b"]


@both_ways
@pytest.mark.parametrize("asked", HOSTILE)
def test_a_name_never_becomes_a_pattern(asked: str, context: Make, domain: Domain) -> None:
    domain.user("Bystander")
    with pytest.raises((StepError, ValueError)) as refused:
        context().call("ad.disable_account", account=asked)
    if isinstance(refused.value, StepError):
        assert (refused.value.type, refused.value.code) == ("ACCOUNT_NOT_FOUND", "not_found")
        assert refused.value.critical and refused.value.impact == "The account can still sign in."


@both_ways
def test_two_accounts_of_one_name_are_named_and_neither_is_touched(context: Make, domain: Domain) -> None:
    one = domain.user("One")
    two = domain.user("Two", mail=one.mail)
    with pytest.raises(StepError) as several:
        context().call("ad.disable_account", account=one.mail)
    assert several.value.code == "ambiguous" and one.dn in str(several.value) and two.dn in str(several.value)
    assert not one.disabled and not two.disabled
    assert context().call("ad.disable_account", account=one.sam).result["object_guid"] == one.guid


@both_ways
def test_later_steps_of_a_run_act_on_the_same_object(context: Make, domain: Domain) -> None:
    leaver = domain.user("Leaver")
    made = context()
    made.call("ad.snapshot", account=leaver.mail)
    address = leaver.mail
    domain.modify(leaver.dn, mail="married@x.test", userPrincipalName="married@x.test")
    heir = domain.user("Heir", mail=address)
    made.call("ad.disable_account", account=address)
    assert leaver.disabled and not heir.disabled
    assert made.verify("ad.disable_account", account=address) is True


@both_ways
def test_the_other_clients_accounts_are_out_of_reach(context: Make, domain: Domain) -> None:
    theirs = domain.user("Theirs", "Fabrikam")
    before = theirs.state()
    for name in (theirs.mail, theirs.sam, theirs.guid):
        with pytest.raises(StepError) as unseen:
            context().call("ad.disable_account", account=name)
        assert unseen.value.type == "ACCOUNT_NOT_FOUND"
    # Even with the wrong base, the domain itself says no to the other client's service account.
    with pytest.raises(StepError) as denied:
        context(base_dn="").call("ad.disable_account", account=theirs.mail)
    assert (denied.value.type, denied.value.code) == ("PERMISSION_DENIED", "ldap 50 / 00002098")
    assert theirs.state() == before
    assert context("Fabrikam").call("ad.disable_account", account=theirs.mail).result["account_disabled"]


@both_ways
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("ad.disable_account", {}), ("ad.reset_password", {}), ("ad.set_expiry", {"expires_on": "2031-01-01"}),
        ("ad.set_description", {}), ("ad.move_to_ou", {"ou": "OU=Leavers,OU=Contoso,DC=corp,DC=example,DC=test"}),
        ("ad.delete_account", {}), ("ad.remove_from_groups", {}), ("ad.clear_manager", {}),
    ],
)  # fmt: skip
def test_an_ordinary_user_may_do_nothing(name: str, more: dict[str, Any], context: Make, domain: Domain) -> None:
    leaver = domain.user("Leaver", userAccountControl="514" if name == "ad.delete_account" else "512")
    domain.modify(leaver.dn, manager=domain.user("Boss").dn)
    domain.group(f"Denied {leaver.sam}", leaver.dn)
    before = leaver.state()
    made = context(username="CORP\\ordinary")
    try:
        error: Any = made.call(name, account=leaver.mail, **more).error
    except StepError as raised:
        error = raised
    assert error.type == "PERMISSION_DENIED" and error.code.startswith("ldap 50"), error
    assert error.impact and error.remediation and leaver.state() == before


@both_ways
@pytest.mark.parametrize(
    ("asked", "kind"), [("Administrator", "builtin"), ("krbtgt", "builtin"), ("DC1$", "computer"), ("Guest", "builtin")]
)
def test_the_domains_own_accounts_are_refused(
    asked: str, kind: str, as_administrator: DirectoryContext, domain: Domain
) -> None:
    settings, secrets = domain.credential(username="admin2@corp.example.test", base_dn="")
    if not domain.connection.search(samba.ROOT_DN, "(sAMAccountName=admin2)") or not domain.connection.entries:
        domain.user(
            "Second", sAMAccountName="admin2", userPrincipalName="admin2@corp.example.test",
            unicodePwd=f'"{samba.PASSWORD}"'.encode("utf-16-le"),
        )  # fmt: skip
    as_administrator.given = (settings, secrets)
    with pytest.raises(StepError) as refused:
        as_administrator.call("ad.disable_account", account=asked)
    assert (refused.value.type, refused.value.code) == ("PERMISSION_DENIED", "protected_account")
    assert kind in (refused.value.remediation or "")


@both_ways
def test_an_administrator_is_touched_only_when_that_is_said(context: Make, domain: Domain) -> None:
    leaver = domain.user("Chief", adminCount="1")
    with pytest.raises(StepError, match="administrator"):
        context().call("ad.disable_account", account=leaver.mail)
    context().call("ad.disable_account", account=leaver.mail, allow="privileged")
    assert leaver.disabled
    with pytest.raises(StepError) as own:
        context(base_dn="").call("ad.disable_account", account="svc-contoso")
    assert own.value.code == "own_account"


def test_a_wrong_password_is_tried_at_one_controller_only(context: Make, domain: Domain) -> None:
    with socket.create_server(("127.0.0.1", 0)) as second:
        second.setblocking(False)
        made = context(controllers=[domain.controller.address, f"127.0.0.1:{second.getsockname()[1]}"])
        assert made.given is not None
        made.given = (made.given[0], {"password": "Wrong.Secret.Pw1"})
        with pytest.raises(AccessDenied) as refused:
            made.call("ad.disable_account", account="x")
        with pytest.raises(BlockingIOError):
            second.accept()
    typed = refused.value.typed
    assert typed is not None and (typed.type, typed.code) == ("PERMISSION_DENIED", "ldap 49 / data 52e")
    assert "Wrong.Secret" not in f"{refused.value}{typed}" and typed.critical


@pytest.mark.parametrize("encryption", ["ldaps", "starttls"])
def test_an_unknown_authority_is_refused(encryption: str, context: Make, tmp_path: Path) -> None:
    samba.authority(tmp_path)
    for ca_file in (str(tmp_path / "ca.pem"), None):
        with pytest.raises(AccessDenied) as refused:
            context(encryption=encryption, ca_file=ca_file).call("ad.disable_account", account="x")
        assert refused.value.typed is not None and refused.value.typed.code == "certificate"


def test_a_controller_under_a_name_that_its_certificate_lacks_is_refused(context: Make, domain: Domain) -> None:
    with cutting_proxy(domain.controller.address, 636) as proxy:
        with pytest.raises(AccessDenied, match="localhost"):
            context(controllers=[f"localhost:{proxy.port}"]).call("ad.disable_account", account="x")
        user = domain.user("Named")
        context(controllers=[f"127.0.0.1:{proxy.port}"]).call("ad.disable_account", account=user.mail)
    assert user.disabled


def test_starttls_works_and_nothing_is_said_before_it(context: Make, domain: Domain) -> None:
    user = domain.user("Starttls")
    assert context(encryption="starttls").call("ad.disable_account", account=user.mail).result["account_disabled"]


def test_the_next_controller_is_asked_when_one_is_down(context: Make, domain: Domain, closed_port: int) -> None:
    user, down = domain.user("Next"), f"127.0.0.1:{closed_port}"
    outcome = context(controllers=f"{down}, {domain.controller.address}").call("ad.disable_account", account=user.mail)
    assert outcome.result["controller"] == domain.controller.address
    with pytest.raises(CannotConnect) as unreachable:
        context(controllers=[down]).call("ad.disable_account", account=user.mail)
    typed = unreachable.value.typed
    assert typed is not None and (typed.type, typed.code, typed.critical) == ("INTEGRATION_ERROR", "unreachable", True)


def test_a_server_that_says_nothing_is_left_in_time(context: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(CannotConnect):
        port = silent.getsockname()[1]
        context(controllers=[f"127.0.0.1:{port}"], answer_seconds=1).call("ad.disable_account", account="x")


@both_ways
def test_long_answers_come_page_by_page(domain: Domain, on_way: None) -> None:
    group = domain.group("Paged")
    for number in range(7):
        domain.group(f"Paged {number}", group)
    settings, secrets = domain.credential(page_size=2)
    directory = connect(directory_settings(settings), secrets["password"])
    found = directory.search(directory.base, f"(&(objectClass=group)(member={group}))", ("cn",))
    assert len(found) == 7 and len(directory.search(directory.base, "(objectClass=group)", ("cn",), limit=3)) == 3
    directory.close()


def test_a_missing_or_wrong_credential_says_what_to_do(context: Make) -> None:
    made = context()
    made.given = None
    with pytest.raises(StepError, match="no credential") as missing:
        made.call("ad.disable_account", account="x")
    assert missing.value.code == "missing_credential"
    for wrong in (
        {"controllers": []}, {"encryption": "none"}, {"controllers": ["ldap://x"]}, {"typo": 1}, {"ca_file": "/none.pem"},
        {"way": "smb"}, {"way": "psrp", "encryption": "starttls"}, {"psrp_tls": False}, {"way": "psrp", "psrp_server": "a b"},
        {"way": "psrp", "psrp_auth": "basic", "psrp_tls": False},
    ):  # fmt: skip
        with pytest.raises(StepError) as refused:
            context(**wrong).call("ad.disable_account", account="x")
        assert refused.value.code == "wrong_credential"


def test_every_preview_names_the_account_and_what_changes() -> None:
    more: dict[str, dict[str, Any]] = {
        "ad.set_expiry": {"expires_on": "2031-01-01"}, "ad.move_to_ou": {"ou": "OU=x"},
        "ad.clear_manager": {"reports": "move", "new_manager": "boss@x.test"},
    }  # fmt: skip
    for name in (n for n in registry.names() if n.startswith("ad.")):
        function = registry.get(name)
        parameters = function.Parameters.model_validate({"account": "leaver@x.test", **more.get(name, {})})
        assert "'leaver@x.test'" in function.preview(parameters), name
