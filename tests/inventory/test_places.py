"""Verbs on places: found without guessing, changed with a trace, never moved or deleted silently."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent import audit
from agent.errors import ClientMismatch, Conflict, ImportRefused, NotFound, UsageError
from agent.installation import Installation
from agent.inventory import groups, lookup, places, software
from agent.inventory.local_facts import local_facts, register, stable_id
from agent.inventory.software import SeenApplication
from agent.inventory.transfer import import_file
from agent.model.administration import Credential
from agent.model.base import utcnow
from agent.model.places import Client, Computer, Contact, Location, MaintenanceMode

if TYPE_CHECKING:
    from conftest import Places


@pytest.fixture
def db(any_installation: Installation, any_two_clients: Places) -> Any:
    return any_installation.database


def test_references_name_one_place(db: Any, any_two_clients: Places) -> None:
    with db.session() as session:
        one = any_two_clients.contoso_computers[0]
        for reference in (
            str(one), f"id:{one}", "external:contoso-pc1", "contoso-pc1", "CONTOSO-PC1", "Contoso/CONTOSO-PC1",
            "Contoso/Headquarters/CONTOSO-PC1", "Headquarters/CONTOSO-PC1",
        ):  # fmt: skip
            assert lookup.find(session, Computer, reference).computer_id == one, reference
        assert lookup.find(session, Client, "fabrikam").name == "Fabrikam"
        assert lookup.find(session, Location, "Fabrikam/Headquarters").location_id == any_two_clients.fabrikam_site
        assert lookup.path(session, lookup.get(session, Computer, one)) == "Contoso/Headquarters/CONTOSO-PC1"


def test_what_fits_several_places_is_never_guessed(db: Any, any_two_clients: Places) -> None:
    with db.session() as session:
        with pytest.raises(Conflict, match=r"more than one location: id:\d+ = Contoso/Headquarters, id:\d+ = Fabrikam"):
            lookup.find(session, Location, "Headquarters")
        # Somebody's external id is another one's number.
        number = any_two_clients.fabrikam_computers[0]
        places.add_computer(
            session, location_id=any_two_clients.contoso_site, name="X", external_id=str(number), actor="ann"
        )
        with pytest.raises(Conflict, match="name it by its id"):
            lookup.find(session, Computer, str(number))
        assert lookup.find(session, Computer, f"id:{number}").client_id == any_two_clients.fabrikam
        assert lookup.find(session, Computer, f"external:{number}").client_id == any_two_clients.contoso


@pytest.mark.parametrize("name", ["a/b", "50% off_", "x' OR '1'='1", "new\nline", "Ünï", "id:7", "//", "$(id)"])
def test_awkward_names_are_found_by_their_path(db: Any, any_two_clients: Places, name: str) -> None:
    with db.session() as session:
        client = places.add_client(session, name=name, actor="ann")
        location = places.add_location(session, client_id=client.client_id or 0, name=name, actor="ann")
        made = places.add_computer(session, location_id=location.location_id or 0, name=name, actor="ann")
        assert lookup.find(session, Computer, f"{name}/{name}/{name}").computer_id == made.computer_id
        assert lookup.find(session, Computer, f"external:{made.external_id}").computer_id == made.computer_id
        with pytest.raises(NotFound):
            lookup.find(session, Computer, f"{name}x")


def test_what_is_not_there_is_named_with_near_names(db: Any) -> None:
    with db.session() as session:
        with pytest.raises(NotFound, match=r"did you mean .*'CONTOSO-PC1'"):
            lookup.find(session, Computer, "Contoso/CONTOSO-PC")
        with pytest.raises(NotFound, match="no computer with the id 99"):
            lookup.get(session, Computer, 99)


def test_slugs_are_made_and_never_doubled(db: Any) -> None:
    with db.session() as session:
        slugs = [
            places.add_client(session, name=n, actor="ann").slug for n in ("Łódź & Co.", "Lodz Co", "東京", "東京")
        ]
        assert slugs == ["odz-co", "lodz-co", "client", "client-2"]
        with pytest.raises(Conflict, match="slug 'contoso' already"):
            places.add_client(session, name="x", slug="contoso", actor="ann")
        with pytest.raises(UsageError, match=r"no slug"):
            places.add_client(session, name="x", slug="../evil", actor="ann")


def test_no_client_gets_the_folder_of_the_partner_default(db: Any) -> None:
    """Scripts listed under `partner` run for every client without a list of its own."""
    with db.session() as session:
        assert places.add_client(session, name="Partner", actor="ann").slug == "partner-2"
        with pytest.raises(UsageError, match="default of all clients"):
            places.add_client(session, name="x", slug="partner", actor="ann")
        with pytest.raises(UsageError, match="default of all clients"):
            places.change(session, lookup.find(session, Client, "contoso"), actor="ann", slug="partner")


def test_the_slug_of_a_client_stays(db: Any, tmp_path: Path) -> None:
    """Its folder of scripts is called by it: under another slug the partner's scripts would run instead."""
    file = tmp_path / "clients.csv"
    with db.session() as session:
        client = lookup.find(session, Client, "contoso")
        with pytest.raises(Conflict, match="slug of a client stays"):
            places.change(session, client, actor="ann", slug="other", name="Other")
        file.write_text(f"external_id,name,slug\n{client.external_id},Other,other\n")
        with pytest.raises(ImportRefused, match=r"clients.csv:2: slug: the slug of a client stays"):
            import_file(session, "clients", file, actor="ann")
        assert (client.slug, client.name) == ("contoso", "Contoso")
        places.change(session, client, actor="ann", slug="contoso", name="Contoso GmbH")


def test_adding_is_audited_and_checked(db: Any, any_two_clients: Places) -> None:
    with db.session() as session:
        made = places.add_computer(
            session, location_id=any_two_clients.contoso_site, name="PC3", actor="ann", platform="linux", port="22",
            transport="ssh", is_server=True, last_contact=utcnow(), transport_options={"password": "hunter2"},
        )  # fmt: skip
        entry = audit.entries(session, action="computer.add")[0]
        assert (entry.actor, entry.object_id, entry.client_id) == (
            "ann",
            str(made.computer_id),
            any_two_clients.contoso,
        )
        assert entry.details["transport_options"] == {"password": "***"}
        assert (made.port, made.is_server) == (22, True)
        for wrong, message in (
            ({"platform": "beos"}, "none of windows, linux, macos"), ({"port": 0}, "no port"), ({"nmae": "x"}, "did you mean"),
            ({"last_contact": utcnow() + timedelta(days=1)}, "future"), ({"transport": "telnet"}, "none of"),
            ({"external_id": "contoso-pc1"}, "already"), ({"name": "a\0b"}, "NUL"),
        ):  # fmt: skip
            with pytest.raises(UsageError, match=message):
                places.add_computer(session, location_id=1, actor="ann", **{"name": "x", **wrong})  # type: ignore[arg-type]


def test_a_contact_stays_with_its_client(db: Any, any_two_clients: Places) -> None:
    with db.session() as session:
        made = places.add_contact(session, client_id=any_two_clients.contoso, name="Ann", email="a@b", actor="x")
        assert lookup.find(session, Contact, "Contoso/Ann").contact_id == made.contact_id
        with pytest.raises(ClientMismatch):
            places.add_contact(
                session,
                client_id=any_two_clients.contoso,
                location_id=any_two_clients.fabrikam_site,
                name="B",
                actor="x",
            )


def test_a_change_is_audited_with_old_and_new(db: Any, any_two_clients: Places) -> None:
    with db.session() as session:
        computer = lookup.get(session, Computer, 1)
        places.change(session, computer, actor="ann", name="Renamed", port=2222, os=computer.os)
        places.change(session, computer, actor="ann", name="Renamed")
        entries = audit.entries(session, action="computer.change")
        assert len(entries) == 1
        assert entries[0].details["old"] == {"name": "CONTOSO-PC1", "port": None}
        assert entries[0].details["new"] == {"name": "Renamed", "port": 2222}
        with pytest.raises(Conflict, match="already"):
            places.change(session, computer, actor="ann", external_id="fabrikam-pc1")


def test_a_credential_of_another_client_is_refused(db: Any, any_two_clients: Places) -> None:
    with db.session() as session:
        session.add(Credential(id=1, kind="ssh", name="fabrikam", client_id=any_two_clients.fabrikam))
        session.add(Credential(id=2, kind="ssh", name="server"))
        session.flush()
        computer = lookup.get(session, Computer, any_two_clients.contoso_computers[0])
        places.change(session, computer, actor="ann", credential_id=2)
        with pytest.raises(ClientMismatch, match="fabrikam"):
            places.change(session, computer, actor="ann", credential_id=1)
        with pytest.raises(NotFound, match="credential"):
            places.change(session, computer, actor="ann", credential_id=3)


def test_a_computer_moves_to_another_client_only_when_that_is_said(db: Any, any_two_clients: Places) -> None:
    with db.session() as session:
        computer = lookup.get(session, Computer, any_two_clients.contoso_computers[0])
        with pytest.raises(Conflict, match="another client"):
            places.move(session, computer, any_two_clients.fabrikam_site, actor="ann")
        assert computer.client_id == any_two_clients.contoso
        places.move(session, computer, any_two_clients.fabrikam_site, actor="ann", allow_move=True)
        entry = audit.entries(session, action="computer.move")[0]
        assert entry.details["old"] == {
            "client_id": any_two_clients.contoso,
            "location_id": any_two_clients.contoso_site,
        }
    with db.reading() as session:
        assert lookup.get(session, Computer, any_two_clients.contoso_computers[0]).client_id == any_two_clients.fabrikam


def test_retiring_keeps_the_computer_and_can_be_repeated(db: Any, any_two_clients: Places) -> None:
    one, two = any_two_clients.contoso_computers
    with db.session() as session:
        computer = lookup.get(session, Computer, one)
        places.retire(session, computer, actor="ann")
        first = computer.retired_at
        places.retire(session, computer, actor="bob")
        assert computer.retired_at == first
        assert len(audit.entries(session, action="computer.retire")) == 1
        assert [c.computer_id for c in lookup.computers(session, client_id=any_two_clients.contoso)] == [two]
        assert [c.computer_id for c in lookup.computers(session, retired=True)] == [one]
        assert len(lookup.computers(session, retired=None)) == 4
        places.unretire(session, computer, actor="ann")
        assert computer.retired_at is None


def test_pages_of_computers(db: Any, any_two_clients: Places) -> None:
    with db.reading() as session:
        first = lookup.computers(session, limit=3)
        rest = lookup.computers(session, limit=3, after_id=first[-1].computer_id or 0)
        assert len({c.computer_id for c in first + rest}) == 4
        assert [c.name for c in lookup.clients(session)] == ["Contoso", "Fabrikam"]
        assert [x.location_id for x in lookup.locations(session, client_id=any_two_clients.fabrikam)] == [
            any_two_clients.fabrikam_site
        ]
        assert lookup.contacts(session) == []


def test_contact_only_goes_forward(db: Any, any_two_clients: Places) -> None:
    one, two = any_two_clients.contoso_computers
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    with db.session() as session:
        session.get(Computer, one).last_contact = None
        session.flush()
        booted = now - timedelta(days=1)
        assert places.record_contact(session, one, now, booted_at=booted)
        assert not places.record_contact(session, one, now - timedelta(seconds=1))
        assert not places.record_contact(session, one, now)
        with pytest.raises(UsageError, match="future"):
            places.record_contact(session, one, utcnow() + timedelta(hours=1))
        with pytest.raises(NotFound):
            places.record_contact(session, 99, now)
    with db.reading() as session:
        stored = session.get(Computer, one)
        assert (stored.last_contact, stored.booted_at) == (now, booted)
        assert session.get(Computer, two).last_contact != now


@pytest.mark.parametrize(
    ("age", "expected"), [(0, True), (299.9, True), (300, False), (301, False), (-5, True), (None, False)]
)
def test_online_is_a_contact_younger_than_the_threshold(age: float | None, expected: bool) -> None:
    now = utcnow()
    last = None if age is None else now - timedelta(seconds=age)
    computer = Computer(client_id=1, location_id=1, external_id="x", name="x", last_contact=last)
    assert places.online(computer, 300, now=now) is expected


def test_groups(db: Any, any_two_clients: Places) -> None:
    one, two = any_two_clients.contoso_computers
    with db.session() as session:
        groups.add_group(session, "Test ring", actor="ann")
        with pytest.raises(Conflict):
            groups.add_group(session, "Test ring", actor="ann")
        with pytest.raises(UsageError):
            groups.add_group(session, " ", actor="ann")
        assert groups.add_members(session, "Test ring", [one, two, one], actor="ann") == [one, two]
        assert groups.add_members(session, "Test ring", [one], actor="ann") == []
        with pytest.raises(NotFound):
            groups.add_members(session, "Test ring", [99], actor="ann")
        with pytest.raises(NotFound, match="did you mean 'Test ring'"):
            groups.members(session, "Test rnig")
        assert groups.remove_members(session, "Test ring", [one, 77], actor="ann") == [one]
        assert groups.members(session, "Test ring") == [two]
        assert [g.full_name for g in groups.groups(session)] == ["Test ring"]
        assert [e.action for e in audit.entries(session, action="group.*")] == [
            "group.remove_members", "group.add_members", "group.add",
        ]  # fmt: skip
        groups.remove_group(session, "Test ring", actor="ann")
    with db.reading() as session:
        assert groups.groups(session) == []


def test_maintenance(db: Any, any_two_clients: Places) -> None:
    one, two = any_two_clients.contoso_computers
    everybody = [one, two, *any_two_clients.fabrikam_computers]
    with db.session() as session:
        groups.maintenance_on(session, one, minutes=60, actor="ann")
        groups.maintenance_on(session, two, minutes=60, actor="ann", start=utcnow() + timedelta(hours=2))
        assert groups.in_maintenance(session, everybody) == {one}
        assert groups.in_maintenance(session, everybody, now=utcnow() + timedelta(hours=2, minutes=5)) == {two}
        assert groups.in_maintenance(session, everybody, now=utcnow() + timedelta(minutes=60, seconds=1)) == set()
        assert groups.maintenance_off(session, one, actor="ann") == 1
        assert groups.maintenance_off(session, one, actor="ann") == 0
        assert groups.in_maintenance(session, everybody) == set()
        with pytest.raises(UsageError):
            groups.maintenance_on(session, one, minutes=0, actor="ann")
        with pytest.raises(UsageError, match="at most 525600 minutes"):
            groups.maintenance_on(session, one, minutes=525_601, actor="ann")
        assert [e.action for e in audit.entries(session, object_id=one)] == ["maintenance.off", "maintenance.on"]


def test_alert_windows(db: Any, any_two_clients: Places) -> None:
    one = any_two_clients.contoso_computers[0]
    with db.session() as session:
        groups.set_alerting(session, one, actor="ann", no_alerts=True, window=("22:00", "06:00"))
        groups.set_alerting(session, one, actor="ann", no_alerts=True)
        with pytest.raises(UsageError, match="HH:MM"):
            groups.set_alerting(session, one, actor="ann", window=("22:00", "24:00"))
        data = groups.set_alerting(session, one, actor="ann", clear_window=True)
        assert (data.no_alerts, data.up_time_start, data.up_time_end) == (True, None, None)
        changes = audit.entries(session, action="computer.alerting")
        assert len(changes) == 2
        assert changes[1].details["new"] == {"no_alerts": True, "up_time_start": "22:00", "up_time_end": "06:00"}


def test_software_is_brought_up_to_date(db: Any, any_two_clients: Places) -> None:
    one, two = any_two_clients.contoso_computers
    with db.session() as session:
        software.store_seen(session, two, [SeenApplication("Zoom", "5")])
        software.store_seen(session, one, [SeenApplication("Zoom", "5", "Z", "un.exe /S"), SeenApplication("Slack")])
        software.store_seen(session, one, [SeenApplication("Zoom", "5", "Zoom Inc.")])
        assert [(s.name, s.publisher, s.uninstall_string) for s in software.list_software(session, one)] == [
            ("Slack", "", ""), ("Zoom", "Zoom Inc.", "un.exe /S"),
        ]  # fmt: skip
        software.store_seen(session, one, [SeenApplication("Slack", "1")], complete=True)
        assert [(s.name, s.version) for s in software.list_software(session, one)] == [("Slack", "1")]
        assert [s.name for s in software.list_software(session, two)] == ["Zoom"]
        with pytest.raises(UsageError):
            software.store_seen(session, one, [SeenApplication("")])


def test_this_machine_is_registered_once(db: Any, any_two_clients: Places) -> None:
    facts = local_facts()
    assert facts.external_id == stable_id() != stable_id("demo")
    assert facts.booted_at < utcnow()
    assert facts.platform in ("linux", "macos", "windows")
    with db.session() as session:
        one = register(session, location_id=any_two_clients.contoso_site, actor="ann")
        again = register(session, location_id=any_two_clients.contoso_site, actor="ann")
        assert one.computer_id == again.computer_id
        assert (again.transport, places.online(again, 300)) == ("local", True)
        other = register(session, location_id=any_two_clients.fabrikam_site, actor="ann", suffix="demo")
        assert other.computer_id != one.computer_id
        with pytest.raises(Conflict, match="another location"):
            register(session, location_id=any_two_clients.fabrikam_site, actor="ann")


def test_an_endless_maintenance_of_plain_sql_can_be_read_and_ended(db: Any, any_two_clients: Places) -> None:
    """SQLite's column takes any number: one absurd row must not stop every offboarding, nor its own removal."""
    one, _ = any_two_clients.contoso_computers
    with db.session() as session:
        endless = 99_999_999_999_999 if session.get_bind().dialect.name == "sqlite" else 2**31 - 1
        session.add(MaintenanceMode(computer_id=one, time_start=utcnow(), duration=endless))
        session.flush()
        assert groups.in_maintenance(session, [one]) == {one}
        assert groups.maintenance_off(session, one, actor="ann") == 1
