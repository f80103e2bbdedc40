"""An HR export becomes contacts with their managers; the database itself holds the rules; equipment comes in likewise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlmodel import select

from agent import audit
from agent.errors import Conflict, ImportRefused
from agent.installation import Installation
from agent.inventory import lookup, places, transfer
from agent.model.places import Contact, Equipment

if TYPE_CHECKING:
    from conftest import Places

HR = (
    "external_id,client,first_name,last_name,email,employee_id,department,job_title,manager,status,start_date,"
    "termination_date,termination_type,legal_hold,external_ids,timezone,field:Exclude From Offboarding\n"
    "e1,contoso,John,Smith,john@contoso.example,EMP-1,Sales,Rep,jane@contoso.example,terminated,2023-10-01,2026-01-15,"
    'Voluntary,0,"{""psa"": ""12345""}",Europe/Berlin,\n'
    "e2,contoso,Jane,Doe,Jane@contoso.example,EMP-2,Sales,Head,,Active,,,,1,,,1\n"
    "e3,fabrikam,Łucja,O'Neil,lucja@fabrikam.example,EMP-3,IT,Admin,e4,,,,,0,,,\n"
    "e4,fabrikam,Max,$(id),max@fabrikam.example,EMP-4,IT,Boss,,,,,,no,,,\n"
)


def load(installation: Installation, path: Path, kind: str, content: str) -> Any:
    path.write_text(content, encoding="utf-8", newline="")
    with installation.database.session() as session:
        return transfer.import_file(session, kind, path, actor="hr")


def persons(installation: Installation) -> dict[str, Contact]:
    with installation.database.reading() as session:
        return {c.external_id: c for c in session.exec(select(Contact))}


def test_an_hr_export_comes_in_with_managers_that_follow_later(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    assert load(any_installation, tmp_path / "hr.csv", "contacts", HR).created == 4
    found = persons(any_installation)
    john, jane, lucja, boss = (found[f"e{n}"] for n in (1, 2, 3, 4))
    assert (john.name, john.status, john.termination_type) == ("John Smith", "Terminated", "voluntary")
    assert (john.termination_date, john.start_date, john.timezone) == ("2026-01-15", "2023-10-01", "Europe/Berlin")
    assert john.external_ids == {"psa": "12345"}
    assert john.manager_id == jane.contact_id
    assert jane.manager_id is None and jane.legal_hold
    assert lucja.manager_id == boss.contact_id
    again = load(any_installation, tmp_path / "hr.csv", "contacts", HR)
    assert (again.created, again.changed, again.unchanged) == (0, 0, 4)
    moved = HR.replace("2026-01-15", "2026-02-01").replace(",e4,", ",,")
    assert load(any_installation, tmp_path / "hr.csv", "contacts", moved).changed == 2
    found = persons(any_installation)
    assert found["e1"].termination_date == "2026-02-01"
    assert found["e3"].manager_id is None
    with any_installation.database.session() as session:
        assert audit.verify(session) == []


def test_it_comes_out_as_it_came_in(any_installation: Installation, any_two_clients: Places, tmp_path: Path) -> None:
    load(any_installation, tmp_path / "hr.csv", "contacts", HR)
    for name in ("out.json", "out.csv"):
        with any_installation.database.reading() as session:
            assert transfer.export_file(session, "contacts", tmp_path / name) == 4
        with any_installation.database.session() as session:
            assert transfer.import_file(session, "contacts", tmp_path / name, actor="hr").unchanged == 4
    rows = {r["external_id"]: r for r in json.loads((tmp_path / "out.json").read_text())}
    assert (rows["e1"]["manager"], rows["e2"]["manager"]) == ("e2", None)


@pytest.mark.parametrize(
    ("old", "new", "column"),
    [
        (",Voluntary,", ",fired,", "termination_type"),
        (",terminated,", ",gone,", "status"),
        ("2026-01-15", "15.01.2026", "termination_date"),
        ("Europe/Berlin", "Europe/Nowhere", "timezone"),
        ("jane@contoso.example,terminated", "e4,terminated", "manager"),
        ("jane@contoso.example,terminated", "e1,terminated", "manager"),
        ("jane@contoso.example,terminated", "nobody,terminated", "manager"),
    ],
)
def test_a_wrong_cell_is_named_and_nothing_is_stored(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path, old: str, new: str, column: str
) -> None:
    with pytest.raises(ImportRefused) as caught:
        load(any_installation, tmp_path / "hr.csv", "contacts", HR.replace(old, new))
    assert [(f.line, f.column) for f in caught.value.faults] == [(2, column)]
    assert persons(any_installation) == {}


def test_a_manager_by_address_only_may_be_somebody_outside(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    rows = (
        "external_id,client,name,email,manager_email\n"
        "a,contoso,A,a@contoso.example,B@contoso.example\nb,contoso,B,b@contoso.example,boss@elsewhere.example\n"
    )
    load(any_installation, tmp_path / "hr.csv", "contacts", rows)
    found = persons(any_installation)
    assert found["a"].manager_id == found["b"].contact_id
    assert (found["b"].manager_id, found["b"].manager_email) == (None, "boss@elsewhere.example")


REFUSED = [
    "UPDATE contacts SET status = 'Fired' WHERE contactid = 1",
    "UPDATE contacts SET terminationtype = 'x' WHERE contactid = 1",
    "UPDATE contacts SET terminationdate = '2026-2-1' WHERE contactid = 1",
    "UPDATE contacts SET terminationdate = '2026-02-30' WHERE contactid = 1",
    "UPDATE contacts SET managerid = 1 WHERE contactid = 1",
    "UPDATE contacts SET managerid = 3 WHERE contactid = 1",
    "UPDATE contacts SET managerid = 99 WHERE contactid = 1",
    "INSERT INTO contacts (clientid, externalid, name, managerid) VALUES (1, 'x', 'x', 3)",
    "INSERT INTO contacts (clientid, externalid, name, startdate) VALUES (1, 'x', 'x', 'soon')",
    "INSERT INTO equipment (contactid, externalid, name) VALUES (99, 'q', 'Laptop')",
    "INSERT INTO equipment (contactid, externalid, name, state) VALUES (1, 'q', 'Laptop', 'lost')",
    "INSERT INTO equipment (contactid, externalid, name, due) VALUES (1, 'q', 'Laptop', 'soon')",
    "INSERT INTO equipment (contactid, externalid, name, quantity) VALUES (1, 'q', 'Laptop', 0)",
]


def test_the_database_itself_refuses(any_installation: Installation, any_two_clients: Places, tmp_path: Path) -> None:
    load(any_installation, tmp_path / "hr.csv", "contacts", HR)
    accepted = []
    for statement in REFUSED:
        try:
            with any_installation.database.session() as session:
                session.execute(text(statement))
            accepted.append(statement)
        except Conflict:
            pass
    assert accepted == []


def test_who_moves_or_goes_leaves_no_manager_behind(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    load(any_installation, tmp_path / "hr.csv", "contacts", HR)
    with any_installation.database.session() as session:
        session.execute(text(f"UPDATE contacts SET clientid = {any_two_clients.fabrikam} WHERE externalid = 'e1'"))
        session.execute(text("DELETE FROM contacts WHERE externalid = 'e4'"))
    found = persons(any_installation)
    assert found["e1"].manager_id is None
    assert found["e3"].manager_id is None


def test_a_contact_is_found_by_address_and_changed_by_the_verbs(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    load(any_installation, tmp_path / "hr.csv", "contacts", HR)
    with any_installation.database.session() as session:
        jane = lookup.find(session, Contact, "jane@CONTOSO.example")
        places.change(session, jane, actor="ann", status="Offboarding", termination_date="2026-03-01")
        added = places.add_contact(
            session, client_id=any_two_clients.contoso, name="New", actor="ann", department="IT", legal_hold="1"
        )
        assert added.legal_hold is True
    assert persons(any_installation)["e2"].status == "Offboarding"


def test_equipment_comes_in_and_goes_with_its_person(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    load(any_installation, tmp_path / "hr.csv", "contacts", HR)
    rows = (
        "external_id,contact,name,kind,serial,due,value,quantity\n"
        'q1,e1,"Dell ""7450""",laptop,ABC,2026-01-15,1200.50,\nq2,e4,Phone,phone,,,,2\n'
    )
    assert load(any_installation, tmp_path / "things.csv", "equipment", rows).created == 2
    with any_installation.database.reading() as session:
        assert transfer.export_file(session, "equipment", tmp_path / "out.csv", client_id=any_two_clients.contoso) == 1
    with any_installation.database.session() as session:
        session.execute(text("DELETE FROM contacts WHERE externalid = 'e1'"))
        assert [(e.external_id, e.quantity) for e in session.exec(select(Equipment))] == [("q2", 2)]
    with pytest.raises(ImportRefused):
        load(any_installation, tmp_path / "things.csv", "equipment", rows.replace("1200.50", "a lot"))
