"""Each function of Active Directory against a real domain controller: done, read back, done again; nobody else touched."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from agent.errors import StepError
from agent.functions.active_directory import attributes
from agent.functions.active_directory.attributes import expiry_value
from agent.model.runs import StepState

if TYPE_CHECKING:
    from conftest import DirectoryContext, Domain

    Make = Callable[..., DirectoryContext]

pytestmark = pytest.mark.parametrize("way", ["ldap", "psrp"])

LEAVERS = "OU=Leavers,OU=Contoso,DC=corp,DC=example,DC=test"
NAME = "Zoë Ånd, Jr. (ラ) *"


def test_an_account_is_disabled_once_and_says_when(context: Make, domain: Domain) -> None:
    leaver, other = domain.user(NAME), domain.user("Other", "Fabrikam")
    before, made = other.state(), context()
    assert made.verify("ad.disable_account", account=leaver.mail) is False
    outcome = made.call("ad.disable_account", account=leaver.mail)
    assert (outcome.state, leaver.disabled) == (StepState.SUCCEEDED, True)
    assert outcome.result["object_guid"] == leaver.guid and outcome.result["account"] == leaver.dn
    written = datetime.strptime(outcome.result["disabled_timestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - written).total_seconds()) < 120
    assert made.verify("ad.disable_account", account=leaver.mail) is True
    changed = leaver["uSNChanged"]
    again = made.again().call("ad.disable_account", account=leaver.mail)
    assert (again.state, again.result["already"]) == (StepState.SUCCEEDED, True)
    assert again.result["disabled_timestamp"] is None and leaver["uSNChanged"] == changed
    assert other.state() == before


def test_the_password_is_reset_to_one_that_nobody_knows(
    context: Make, domain: Domain, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.functions.active_directory import password

    made, leaver, sent = context(), domain.user(NAME), []
    real = password._random
    monkeypatch.setattr(password, "_random", lambda: sent.append(real()) or sent[-1])
    assert made.verify("ad.reset_password", account=leaver.sam) is None
    outcome = made.call("ad.reset_password", account=leaver.sam)
    assert outcome.state == StepState.SUCCEEDED and outcome.result["password_reset"] is True
    assert made.verify("ad.reset_password", account=leaver.sam) is True
    assert len(sent) == 1 and len(sent[0]) >= 100
    everything = f"{outcome}{made.states}{caplog.text}"
    assert sent[0] not in everything
    signed_in = context(username=leaver.mail)
    signed_in.given = (signed_in.given[0], {"password": sent[0]})  # type: ignore[index]
    colleague = domain.user("Colleague")
    assert signed_in.call("ad.snapshot", account=colleague.sam).state == StepState.SUCCEEDED, "it is the real password"
    first = leaver["pwdLastSet"]
    assert made.again().call("ad.reset_password", account=leaver.sam).state == StepState.SUCCEEDED
    assert leaver["pwdLastSet"] != first and sent[0] != sent[1]


def test_the_account_expires_on_a_day(context: Make, domain: Domain) -> None:
    made, leaver = context(), domain.user(NAME)
    for already in (False, True):
        outcome = made.call("ad.set_expiry", account=leaver.mail, expires_on="2031-01-15", after_days=90)
        assert outcome.result["account_expiration_set"] == "2031-04-15" and outcome.result["already"] is already
    ticks = int(leaver["accountExpires"] or 0)
    assert ticks == expiry_value(date(2031, 4, 15)) == 135_784_512_000_000_000
    assert made.verify("ad.set_expiry", account=leaver.mail, expires_on="2031-04-15") is True
    assert made.verify("ad.set_expiry", account=leaver.mail, expires_on="2031-04-16") is False


def test_groups_are_left_in_order_and_what_stays_is_said(context: Make, domain: Domain) -> None:
    leaver, colleague = domain.user(NAME), domain.user("Colleague")
    both = (leaver.dn, colleague.dn)
    groups = {n: domain.group(n, *both) for n in ("Sales, Ünits", "VPN Users", "Kept", "Admins Like", "A first")}
    outer = domain.group("Outer", groups["VPN Users"])
    domain.modify(groups["Admins Like"], adminCount="1")
    theirs = domain.group("Theirs", leaver.dn, client="Fabrikam")
    domain.modify(f"<GUID={leaver.guid}>", primaryGroupID="513")
    made = context()
    asked = {"account": leaver.mail, "keep": "Kept", "order": "VPN Users; Sales, Ünits"}
    outcome = made.call("ad.remove_from_groups", **asked)
    rows = {r["group_name"]: r for r in outcome.result["active_directory_groups"]}
    assert outcome.state == StepState.FAILED and outcome.error is not None
    assert outcome.error.type == "PERMISSION_DENIED" and "Theirs" in str(outcome.error)
    assert list(rows)[:2] == ["VPN Users", "Sales, Ünits"]
    assert {n for n, r in rows.items() if r["removed"]} == {"VPN Users", "Sales, Ünits", "A first"}
    assert rows["VPN Users"]["group_dn"] == groups["VPN Users"] and "reason" not in rows["VPN Users"]
    assert all(rows[n]["reason"] for n in ("Kept", "Admins Like", "Theirs", "Domain Users"))
    assert "primary group" in rows["Domain Users"]["reason"]
    assert outcome.result["nested_groups"] == [{"group_name": "Outer", "group_dn": outer}]
    assert leaver.dn in domain.members(theirs), "a group of the other client is not touched"
    assert domain.members(groups["VPN Users"]) == {colleague.dn}, "nobody else left"
    assert made.verify("ad.remove_from_groups", **asked) is False
    keep = {**asked, "keep": "Kept; Theirs", "protected_groups": True}
    assert made.call("ad.remove_from_groups", **keep).state == StepState.SUCCEEDED
    assert domain.members(groups["Admins Like"]) == {colleague.dn}
    last = made.call("ad.remove_from_groups", **keep)
    assert last.state == StepState.SUCCEEDED
    assert not [r for r in last.result["active_directory_groups"] if r["removed"]]
    assert made.verify("ad.remove_from_groups", **keep) is True


def test_the_reporting_line_is_cut_above_and_moved_below(context: Make, domain: Domain) -> None:
    boss, leaver = domain.user("Boss"), domain.user(NAME)
    domain.modify(leaver.dn, manager=boss.dn)
    reports = [domain.user(f"Report {n}", manager=leaver.dn) for n in (1, 2)]
    theirs = domain.user("Their report", "Fabrikam", manager=leaver.dn)
    made = context()
    asked = {"account": leaver.mail, "reports": "move", "new_manager": boss.mail}
    outcome = made.call("ad.clear_manager", **asked)
    assert outcome.state == StepState.SUCCEEDED
    assert outcome.result["manager_cleared"] and outcome.result["previous_manager"] == boss.dn
    assert [r["changed"] for r in outcome.result["direct_reports"]] == [True, True]
    assert leaver["manager"] is None and {r["manager"] for r in reports} == {boss.dn.encode()}
    assert theirs["manager"] == leaver.dn.encode(), "an account of the other client keeps what it has"
    assert made.verify("ad.clear_manager", **asked) is True
    assert made.call("ad.clear_manager", **asked).result["already"] is True
    with pytest.raises(StepError) as none:
        made.call("ad.clear_manager", account=leaver.mail, reports="move", new_manager="nobody@x.test")
    assert none.value.type == "MANAGER_NOT_FOUND"
    with pytest.raises(StepError) as himself:
        made.call("ad.clear_manager", account=leaver.mail, reports="move", new_manager=leaver.sam)
    assert himself.value.type == "MANAGER_NOT_FOUND"


def test_direct_reports_are_cleared_where_nobody_takes_them(context: Make, domain: Domain) -> None:
    leaver = domain.user(NAME)
    report = domain.user("Report", manager=leaver.dn)
    assert context().call("ad.clear_manager", account=leaver.mail).result["direct_reports"] == []
    assert report["manager"] == leaver.dn.encode(), "kept unless asked for"
    context().call("ad.clear_manager", account=leaver.mail, reports="clear")
    assert report["manager"] is None


def test_the_description_is_stamped_once_in_front_of_the_old_one(
    context: Make, domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)
    monkeypatch.setattr(attributes, "utcnow", lambda: now)
    made, leaver = context(), domain.user(NAME, description="Büro 7 ☃")
    first = made.call("ad.set_description", account=leaver.mail, text="Offboarded (Ä)").result["description"]
    assert first == "Offboarded (Ä) 2026-02-28 | Büro 7 ☃"
    now += timedelta(seconds=2)
    assert made.call("ad.set_description", account=leaver.mail, text="Offboarded (Ä)").result["already"] is True
    assert (leaver["description"] or b"").decode() == first
    plain = made.call("ad.set_description", account=leaver.mail, text="x", dated=False, keep=False)
    assert plain.result["description"] == "x"


def test_an_account_is_moved_to_the_ou_for_leavers(context: Make, domain: Domain) -> None:
    made, leaver = context(), domain.user(NAME)
    was = leaver.dn
    outcome = made.call("ad.move_to_ou", account=leaver.mail, ou=LEAVERS)
    assert outcome.state == StepState.SUCCEEDED and outcome.result["account_moved_to_ou"] == LEAVERS
    assert leaver.dn.endswith(f",{LEAVERS}") and leaver.dn.split(",OU=")[0] == was.split(",OU=")[0]
    assert made.again().call("ad.move_to_ou", account=leaver.mail, ou=LEAVERS.upper()).result["already"] is True
    for wrong in (
        "OU=Nowhere,DC=corp,DC=example,DC=test",
        "OU=Staff,OU=Fabrikam,DC=corp,DC=example,DC=test",
        "Leavers",
    ):
        with pytest.raises(StepError, match="there is no OU"):
            made.call("ad.move_to_ou", account=leaver.mail, ou=wrong)
    twin = domain.user("Twin")
    domain.add(f"{twin.dn.split(',')[0]},{LEAVERS}", ["contact"])
    with pytest.raises(StepError) as there:
        made.call("ad.move_to_ou", account=twin.mail, ou=LEAVERS)
    assert there.value.code is not None and there.value.code.startswith("ldap 68")


def test_hiding_is_skipped_without_exchange(context: Make, domain: Domain) -> None:
    made, leaver = context(), domain.user(NAME)
    skipped = made.call("ad.hide_from_address_lists", account=leaver.mail)
    assert skipped.state == StepState.SKIPPED and "msExchHideFromAddressLists" in skipped.result["reason"]
    assert made.verify("ad.hide_from_address_lists", account=leaver.mail) is True


def test_hiding_hides_where_there_is_exchange(context: Make, domain: Domain) -> None:
    made, leaver = context(), domain.user(NAME)
    _add_exchange(domain)
    outcome = made.call("ad.hide_from_address_lists", account=leaver.mail)
    assert outcome.state == StepState.SUCCEEDED and leaver["msExchHideFromAddressLists"] == b"TRUE"
    assert outcome.result["synchronised"] is False, "without mailNickname"
    assert made.call("ad.hide_from_address_lists", account=leaver.mail).result["already"] is True


def _add_exchange(domain: Domain) -> None:
    """Give the schema the one attribute of Exchange."""
    schema = "CN=Schema,CN=Configuration,DC=corp,DC=example,DC=test"
    if domain.read(f"CN=ms-Exch-Hide-From-Address-Lists,{schema}"):
        return
    domain.add(
        f"CN=ms-Exch-Hide-From-Address-Lists,{schema}", ["attributeSchema"],
        attributeID="1.2.840.113556.1.4.7000.102.73", lDAPDisplayName="msExchHideFromAddressLists",
        attributeSyntax="2.5.5.8", oMSyntax="1", isSingleValued="TRUE",
    )  # fmt: skip
    domain.modify("", schemaUpdateNow="1")
    import ldap3

    change = {"mayContain": [(ldap3.MODIFY_ADD, ["msExchHideFromAddressLists"])]}
    assert domain.connection.modify(f"CN=User,{schema}", change), domain.connection.result
    domain.modify("", schemaUpdateNow="1")


def test_only_a_disabled_account_without_a_hold_is_deleted(as_administrator: DirectoryContext, domain: Domain) -> None:
    made, leaver = as_administrator, domain.user(NAME, description="LEGAL HOLD of 2031")
    asked = {"account": leaver.mail}
    with pytest.raises(StepError, match="legal hold"):
        made.call("ad.delete_account", **asked)
    domain.modify(leaver.dn, description=None)
    with pytest.raises(StepError, match="is enabled"):
        made.call("ad.delete_account", **asked)
    made.call("ad.disable_account", **asked)
    made.places = {"contact": {"legal_hold": True}}
    with pytest.raises(StepError, match="legal hold"):
        made.call("ad.delete_account", **asked)
    made.places = {}
    with pytest.raises(StepError, match="legal hold"):
        made.call("ad.delete_account", **asked, hold=True)
    assert leaver.disabled and made.verify("ad.delete_account", **asked) is False
    domain.add(f"CN=below,{leaver.dn}", ["classStore"])
    with pytest.raises(StepError) as below:
        made.call("ad.delete_account", **asked)
    assert below.value.code == "ldap 66 / 00002015" and "subtree" in (below.value.remediation or "")
    outcome = made.call("ad.delete_account", **asked, subtree=True)
    assert outcome.result["account_deleted"] is True and domain.read(f"<GUID={leaver.guid}>") == {}
    assert made.verify("ad.delete_account", **asked) is True
    second = made.again().call("ad.delete_account", account=leaver.sam)
    assert second.state == StepState.SKIPPED and leaver.guid in second.result["reason"]
    with pytest.raises(StepError) as never:
        made.again().call("ad.delete_account", account="never.was@contoso.example.test")
    assert never.value.type == "ACCOUNT_NOT_FOUND"


def test_a_deletion_means_the_object_that_was_offboarded(as_administrator: DirectoryContext, domain: Domain) -> None:
    made, leaver, other = as_administrator, domain.user(NAME), domain.user(NAME)
    for user in (leaver, other):
        made.call("ad.disable_account", account=user.sam)
    address = leaver.mail
    domain.modify(leaver.dn, mail="left@contoso.example.test")
    domain.modify(other.dn, mail=address)
    made.finished.clear()
    made.plan = {"accounts": []}
    with pytest.raises(StepError) as unknown:
        made.call("ad.delete_account", account=address)
    assert unknown.value.code == "no_stored_account"
    made.plan = {"accounts": [{"system": "ad", "place": "", "asked": address, "id": leaver.guid}]}
    with pytest.raises(StepError) as mismatch:
        made.call("ad.delete_account", account=other.guid)
    assert mismatch.value.code == "account_mismatch"
    assert made.call("ad.delete_account", account=address).result["account_deleted"] is True
    assert domain.read(f"<GUID={leaver.guid}>") == {} and domain.read(f"<GUID={other.guid}>") != {}
    again = made.again().call("ad.delete_account", account=address)
    assert again.state == StepState.SKIPPED and leaver.guid in again.result["reason"]


def test_a_deleted_account_comes_back_and_says_what_is_lost(as_administrator: DirectoryContext, domain: Domain) -> None:
    made, leaver = as_administrator, domain.user(NAME)
    rdn = leaver.dn.split(",OU=")[0]
    made.call("ad.disable_account", account=leaver.sam)
    made.call("ad.delete_account", account=leaver.sam)
    with pytest.raises(StepError) as lossy:
        made.call("ad.restore", account=leaver.sam)
    assert lossy.value.code == "no_recycle_bin"
    outcome = made.call("ad.restore", account=leaver.sam, lossy=True, ou=LEAVERS)
    assert outcome.result["restored"] and outcome.result["lossy"] and outcome.result["account_disabled"]
    assert leaver.dn == f"{rdn},{LEAVERS}"
    assert made.call("ad.restore", account=leaver.sam, lossy=True).result["already"] is True
    assert made.verify("ad.restore", account=leaver.sam) is True
    with pytest.raises(StepError, match="no deleted account"):
        made.call("ad.restore", account="never.was")


def test_a_snapshot_puts_everything_back_but_the_password(context: Make, domain: Domain) -> None:
    boss, leaver = domain.user("Boss"), domain.user(NAME, description="Before")
    domain.modify(leaver.dn, manager=boss.dn)
    report = domain.user("Report", manager=leaver.dn)
    group = domain.group("Snapshot group", leaver.dn)
    made, asked = context(), {"account": leaver.mail}
    stood = leaver.dn
    made.call("ad.snapshot", **asked)
    assert made.verify("ad.restore_from_snapshot", **asked) is True
    for name, more in {
        "ad.disable_account": {}, "ad.set_expiry": {"expires_on": "2031-01-01"}, "ad.remove_from_groups": {},
        "ad.clear_manager": {"reports": "clear"}, "ad.set_description": {}, "ad.move_to_ou": {"ou": LEAVERS},
    }.items():  # fmt: skip
        assert made.call(name, **asked, **more).state == StepState.SUCCEEDED, name
    assert made.verify("ad.restore_from_snapshot", **asked) is False
    outcome = made.call("ad.restore_from_snapshot", **asked)
    assert outcome.state == StepState.SUCCEEDED, outcome
    assert "password" in outcome.result["cannot_be_restored"][0]
    assert (leaver.dn, leaver.disabled, leaver["description"]) == (stood, False, b"Before")
    assert leaver["manager"] == boss.dn.encode() and report["manager"] == leaver.dn.encode()
    assert leaver.dn in domain.members(group)
    assert int(leaver["accountExpires"] or 0) in (0, 2**63 - 1)
    assert made.verify("ad.restore_from_snapshot", **asked) is True
    snapshot = made.finished[0].result["snapshot"]
    with pytest.raises(StepError, match="the snapshot is of"):
        context().call("ad.restore_from_snapshot", account=boss.mail, snapshot=snapshot)


def test_a_restoration_says_which_group_is_gone(context: Make, domain: Domain) -> None:
    leaver = domain.user(NAME)
    group = domain.group("Short-lived", leaver.dn)
    theirs = domain.group("Theirs of old", leaver.dn, client="Fabrikam")
    made = context()
    made.call("ad.snapshot", account=leaver.mail)
    domain.connection.delete(group)
    domain.modify(theirs, member=None)
    outcome = made.call("ad.restore_from_snapshot", account=leaver.mail)
    left = {r["part"] for r in outcome.result["restored"] if not r["restored"]}
    assert outcome.state == StepState.FAILED and left == {f"group {group}", f"group {theirs}"}
    assert domain.members(theirs) == set(), "nobody joins a group of the other client"
