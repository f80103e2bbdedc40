"""Okta, Google Workspace and a SCIM application in one offboarding, noted on a ticket in ConnectWise PSA; another with HaloPSA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google_peer import GooglePeer
from leavers_help import Leavers
from okta_peer import OktaPeer
from people_help import PlayedEngine
from psa_peers import ConnectWisePeer, HaloPeer
from scim_peer import ScimPeer
from sqlmodel import Session
from test_packages_at_work import hand, keep, leavers, listed, offboard, reported

from agent.installation import Installation
from agent.inventory import extra_fields, field_values
from agent.model.fields import FieldType, Form

if TYPE_CHECKING:
    from conftest import Places

__all__ = ["hand", "leavers"]
PSA_FIELDS = {
    "ConnectWise PSA Company": "contoso",
    "ConnectWise PSA Board": "Help Desk",
    "ConnectWise PSA Closed Status": "Completed",
}


def _filled(session: Session, form: Form, place: int, values: dict[str, str], type: FieldType = FieldType.TEXT) -> None:
    for name, value in values.items():
        extra_fields.define(session, form=form, name=name, type=type, actor="ann")
        field_values.set_value(session, form, place, name, value, actor="ann")


def test_identity_providers_after_the_ticket(
    installation: Installation, two_clients: Places, leavers: Leavers, hand: PlayedEngine, start_two: Any
) -> None:
    okta, other_okta = start_two(OktaPeer)
    google, other_google = start_two(GooglePeer)
    scim, other_scim = start_two(ScimPeer)
    psa, other_psa = start_two(ConnectWisePeer)
    psa.state["contacts"][10]["mail"] = "john@contoso.example"
    google.state["users"]["200"]["mail"] = "boss@contoso.example"
    for client_id, o, g, s, p in (
        (two_clients.contoso, okta, google, scim, psa), (two_clients.fabrikam, other_okta, other_google, other_scim, other_psa)
    ):  # fmt: skip
        keep(installation, client_id, "okta", o.settings(), {"token": o.token})
        keep(installation, client_id, "google", g.settings(), {"service_account": g.key_file()})
        keep(installation, client_id, "scim", s.settings(), {"token": s.token})
        keep(installation, client_id, "connectwise_psa", p.settings(), {"private_key": p.private_key})
    with installation.database.session() as session:
        ids = dict.fromkeys(("Okta Id", "Google Id", "SCIM Id"), "alex@contoso.test")
        _filled(session, Form.CONTACT, leavers.john, ids)
        _filled(session, Form.CLIENT, two_clients.contoso, {**PSA_FIELDS, "Google Leavers Unit": "/Leavers & Co"})
    listed(installation, {
        1: ["ConnectWise PSA - Create Ticket", "Okta - Security Actions", "Google Workspace - Security Actions"],
        2: ["Okta - Access Revocation", "Google Workspace - Access Revocation", "SCIM Application - Access Revocation"],
        3: ["Google Workspace - Data Transfer"], 6: ["Google Workspace - Cleanup", "ConnectWise PSA - Contact"],
        7: ["ConnectWise PSA - Close Ticket"],
    })  # fmt: skip
    run, steps = offboard(installation, hand)
    wrong = {name: s.error for name, s in steps.items() if s.state not in ("succeeded", "skipped")}
    assert wrong == {}, wrong
    alex = okta.state["users"]["00ualex"]
    assert (alex["target"] or alex["status"], alex["roles"], alex["factors"], alex["sessions"]) == (
        "DEPROVISIONED",
        {},
        {},
        0,
    )
    user = google.state["users"]["100"]
    assert (user["suspended"], user["signed_in"], user["tokens"], user["unit"]) == (True, False, [], "/Leavers & Co")
    assert [t["newOwnerUserId"] for t in google.state["transfers"].values()] == ["200"]
    assert scim.user(scim.alex)["active"] is False and scim.memberships(scim.alex) == []
    ticket = psa.state["tickets"][8]
    assert (ticket["summary"], ticket["status"], ticket["contact"]) == ("Offboarding of John", "Completed", {"id": 10})
    assert {k: c["inactiveFlag"] for k, c in psa.state["contacts"].items()} == {10: True, 11: False, 20: False}
    said = "\n".join(note["text"] for note in ticket["notes"])
    assert "Okta - Access Revocation" in said and "- Deactivate Account: succeeded" in said
    assert [t["actualHours"] for t in psa.state["times"].values()] == [0.25]
    assert run.client_id == two_clients.contoso
    assert all(peer.requests == [] for peer in (other_okta, other_google, other_scim, other_psa))
    report = reported(installation, run)
    assert report["account_actions"]["business_applications"] == {
        "okta": {"name": "Okta", "disabled": True}, "google": {"name": "Google Workspace", "disabled": True},
        "scim": {"name": "SCIM application", "disabled": True},
    }  # fmt: skip
    # Two groups in Okta (others are not Okta's to leave), five in Google, two in the application; with the roles 4 more.
    summary = report["summary"]
    assert (summary["total_accounts_disabled"], summary["total_groups_removed"]) == (3, 9)
    assert summary["total_permissions_revoked"] == 13
    transfers = report["data_preservation"]["application_transfers"]
    assert [(t["what"], t["transferred"], t["transferred_to"]) for t in transfers] == [
        ("Drive and Docs", True, "boss@contoso.example"), ("Calendar", True, "boss@contoso.example"),
    ]  # fmt: skip
    contact = report["psa_updates"]["contact_record"]
    assert (contact["contact_id"], contact["status_updated"]) == ("10", "Inactive - Approver")
    assert contact["last_updated"] is not None
    assert report["psa_updates"]["offboarding_ticket"] == {
        "created": True, "ticket_id": "8", "status": "Completed", "assigned_to": None,
    }  # fmt: skip
    assert report["success"] is True and report["data_preservation"]["onedrive_transfer"]["transferred_to"] is None


def test_a_client_without_a_company_in_the_psa(
    installation: Installation, two_clients: Places, leavers: Leavers, hand: PlayedEngine, start_two: Any
) -> None:
    """The criterion is named, nothing is sent, and what comes after goes on."""
    psa, _ = start_two(ConnectWisePeer)
    okta, _ = start_two(OktaPeer)
    keep(installation, two_clients.contoso, "connectwise_psa", psa.settings(), {"private_key": psa.private_key})
    keep(installation, two_clients.contoso, "okta", okta.settings(), {"token": okta.token})
    with installation.database.session() as session:
        for name in PSA_FIELDS:
            extra_fields.define(session, form=Form.CLIENT, name=name, actor="ann")
        _filled(session, Form.CONTACT, leavers.john, {"Okta Id": "00ualex"})
    listed(
        installation,
        {1: ["ConnectWise PSA - Create Ticket", "Okta - Security Actions"], 6: ["ConnectWise PSA - Contact"]},
    )
    _, steps = offboard(installation, hand)
    assert psa.requests == []
    assert steps["Suspend Account"].state == "succeeded"


def test_halopsa_keeps_the_ticket(
    installation: Installation, two_clients: Places, leavers: Leavers, hand: PlayedEngine, start_two: Any
) -> None:
    halo, other = start_two(HaloPeer)
    halo.state["users"][10]["emailaddress"] = "john@contoso.example"
    for client_id, peer in ((two_clients.contoso, halo), (two_clients.fabrikam, other)):
        keep(installation, client_id, "halopsa", peer.settings(), {"client_secret": peer.secret})
    with installation.database.session() as session:
        _filled(session, Form.CLIENT, two_clients.contoso, {"HaloPSA Client": "1"}, FieldType.NUMBER)
        _filled(session, Form.CLIENT, two_clients.contoso, {"HaloPSA Closed Status": "Closed"})
    listed(installation, {1: ["HaloPSA - Create Ticket"], 6: ["HaloPSA - User"], 7: ["HaloPSA - Close Ticket"]})
    run, steps = offboard(installation, hand)
    wrong = {name: s.error for name, s in steps.items() if s.state not in ("succeeded", "skipped")}
    assert wrong == {}, wrong
    assert {k: u["inactive"] for k, u in halo.state["users"].items()} == {10: True, 11: False, 20: False}
    ticket = halo.state["tickets"][8]
    assert (ticket["status_id"], ticket["user_id"], ticket["client_id"]) == (9, 10, 1)
    assert [a["timetaken"] for a in halo.state["actions"].values() if "timetaken" in a] == [0.25]
    assert other.requests == []
    contact, ticket = reported(installation, run)["psa_updates"].values()
    assert (contact["contact_id"], contact["status_updated"]) == ("10", "Inactive")
    assert (ticket["ticket_id"], ticket["status"]) == ("8", "Closed")
