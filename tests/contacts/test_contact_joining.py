"""People who were added by hand and come with the HR export later: one person stays one contact, or the line is refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from sqlalchemy import func
from sqlmodel import select

from agent import audit
from agent.cli.main import main
from agent.errors import ImportRefused
from agent.installation import Installation
from agent.inventory import places, transfer
from agent.inventory.transfer import ImportCounts
from agent.model.administration import AuditEntry
from agent.model.places import Contact

if TYPE_CHECKING:
    from conftest import Places

HEAD = "external_id,client,name,email,upn,employee_id,manager\n"


def load(installation: Installation, folder: Path, rows: str, *, dry_run: bool = False) -> ImportCounts:
    path = folder / "contacts.csv"
    path.write_text(HEAD + rows, encoding="utf-8", newline="")
    with installation.database.session() as session:
        return transfer.import_file(session, "contacts", path, actor="hr", dry_run=dry_run)


def refused(installation: Installation, folder: Path, rows: str) -> list[tuple[int, str | None, str]]:
    before = everybody(installation)
    with pytest.raises(ImportRefused) as caught:
        load(installation, folder, rows)
    assert everybody(installation) == before, "nothing was imported"
    return [(f.line, f.column, f.reason) for f in caught.value.faults]


def add(installation: Installation, client_id: int, name: str, **columns: str) -> int:
    with installation.database.session() as session:
        made = places.add_contact(session, client_id=client_id, name=name, actor="ann", **columns).contact_id
    assert made is not None
    return made


def everybody(installation: Installation) -> dict[int | None, tuple[str, str, str]]:
    with installation.database.reading() as session:
        return {c.contact_id: (c.external_id, c.name, c.email) for c in session.exec(select(Contact))}


def test_who_was_added_by_hand_is_taken_over_and_not_doubled(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    at = any_installation, tmp_path
    john = add(any_installation, any_two_clients.contoso, "John", email="john@contoso.example")
    jane = add(any_installation, any_two_clients.contoso, "Jane", upn="Jane@contoso.example")
    pia = add(any_installation, any_two_clients.contoso, "Pia", employee_id="EMP-3")
    theirs = add(any_installation, any_two_clients.fabrikam, "John", email="john@contoso.example")
    rows = (
        "e1,contoso,John Smith,JOHN@Contoso.example,,,e2\ne2,contoso,Jane Doe,,jane@contoso.example,,\n"
        "e3,contoso,Pia,,,emp-3,\ne4,contoso,New,new@contoso.example,,,\n"
    )
    before = everybody(any_installation)
    shown = load(*at, rows, dry_run=True)
    assert everybody(any_installation) == before
    counts = load(*at, rows)
    assert counts == shown
    assert (counts.created, counts.changed, counts.unchanged, counts.joined) == (1, 0, 0, 3)
    assert counts.joins[0] == f"line 2: e1 is id:{john} John, by email"
    found = everybody(any_installation)
    assert found[john] == ("e1", "John Smith", "john@contoso.example")
    assert (found[jane][0], found[pia][0], len(found)) == ("e2", "e3", 5)
    assert found[theirs] == before[theirs], "the other client's person of that address is somebody else"
    with any_installation.database.session() as session:
        person = session.get(Contact, john)
        assert person is not None and person.manager_id == jane
        entry = session.exec(
            select(AuditEntry).where(AuditEntry.action == "contact.change", AuditEntry.object_id == str(john))
        ).first()  # fmt: skip
        assert entry is not None and entry.client_id == any_two_clients.contoso
        assert entry.details["joined"] is True and entry.details["old"]["external_id"] == before[john][0]
        assert entry.details["new"]["external_id"] == "e1"
        assert audit.verify(session) == []
    again = load(*at, rows)
    assert (again.created, again.changed, again.unchanged, again.joined) == (0, 0, 4, 0)


def test_what_is_not_certain_is_refused_by_line_and_column(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    at = any_installation, tmp_path
    contoso = any_two_clients.contoso
    for name in ("Ann", "Ann too"):
        add(any_installation, contoso, name, email="ann@contoso.example")
    add(any_installation, contoso, "Bob", email="bob@contoso.example", external_id="hr-7")
    add(any_installation, contoso, "Cleo", email="cleo@contoso.example", employee_id="EMP-1")
    add(any_installation, contoso, "Dora", email="dora@contoso.example")
    good = "x1,contoso,Good,good@contoso.example,,,\n"
    ((line, column, reason),) = refused(*at, good + "x2,contoso,Ann,ann@contoso.example,,,\n")
    assert (line, column) == (3, "email") and "more than one contact of the client" in reason and "'Ann too'" in reason
    assert "exeunt inventory set --contact id:N external_id=x2" in reason
    ((line, column, reason),) = refused(*at, good + "x3,contoso,Bob,Bob@contoso.example,,,\n")
    assert (line, column) == (3, "email") and "the external id 'hr-7'" in reason
    # One by her address, another one by the number: it is not said whom the line means.
    ((line, column, reason),) = refused(*at, "x4,contoso,Dora,dora@contoso.example,,EMP-1,\n")
    assert (line, column) == (2, "email") and "more than one" in reason
    ((line, column, reason),) = refused(*at, "x5,contoso,Cleo,cleo@contoso.example,,EMP-2,\n")
    assert (line, column) == (2, "email") and "another employee id ('EMP-1')" in reason
    both = "x6,contoso,Dora,dora@contoso.example,,,\nx7,contoso,Dora,dora@contoso.example,,,\n"
    ((line, column, reason),) = refused(*at, both)
    assert (line, column) == (3, "email") and "line 2 is about the same contact" in reason


def test_a_line_of_its_own_says_that_it_is_somebody_else(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order of the lines, and in however many parts the file is read."""
    at = any_installation, tmp_path
    bob = add(any_installation, any_two_clients.contoso, "Bob", email="desk@contoso.example", external_id="hr-7")
    own, other = "hr-7,contoso,Bob,bob@contoso.example,,,\n", "hr-8,contoso,Eve,desk@contoso.example,,,\n"
    assert refused(*at, other)[0][:2] == (2, "email")
    for size in (1, 500):
        monkeypatch.setattr(transfer, "_CHUNK", size)
        for rows in (own + other, other + own):
            counts = load(*at, rows, dry_run=True)
            assert (counts.created, counts.changed, counts.joined) == (1, 1, 0)
        # Two new people with one address are two, as they were before.
        counts = load(*at, "n1,contoso,N,n@contoso.example,,,\nn2,contoso,M,n@contoso.example,,,\n", dry_run=True)
        assert counts.created == 2
    made = add(any_installation, any_two_clients.contoso, "Pia", email="pia@contoso.example")
    line = f"{everybody(any_installation)[made][0]},contoso,Pia,pia@contoso.example,,,\n"
    joining = "hr-9,contoso,Pia,pia@contoso.example,,,\n"
    for size in (1, 500):
        monkeypatch.setattr(transfer, "_CHUNK", size)
        for rows in (line + joining, joining + line):
            ((_, _, reason),) = refused(*at, rows)
            assert "is about the same contact" in reason
    with any_installation.database.reading() as session:
        assert session.exec(select(func.count()).select_from(Contact)).one() == 2
        assert everybody(any_installation)[bob][0] == "hr-7"


def test_an_address_that_is_given_again_is_a_new_colleague(
    installation: Installation, two_clients: Places, tmp_path: Path
) -> None:
    """HR tells no more of who has left; the next one of that name gets the address."""
    add(
        installation,
        two_clients.contoso,
        "Bob",
        email="bob@contoso.example",
        external_id="hr-7",
        status="Former Employee",
    )
    counts = load(installation, tmp_path, "hr-8,contoso,Bob,bob@contoso.example,,,\n")
    assert (counts.created, counts.joined) == (1, 0)


def test_the_command_line_names_who_was_joined(installation: Installation, two_clients: Places, tmp_path: Path) -> None:
    number = add(installation, two_clients.contoso, "Jo\x1bhn", email="john@contoso.example")
    path = tmp_path / "contacts.csv"
    path.write_text(HEAD + "e1,contoso,John,john@contoso.example,,,\n", encoding="utf-8")
    workspace = str(installation.settings.workspace)
    done = CliRunner().invoke(main, ["--workspace", workspace, "inventory", "import", str(path)])
    assert done.exit_code == 0, done.output
    assert f"{path}: 0 created, 0 changed, 0 as they were, 1 joined" in done.output
    assert f"line 2: e1 is id:{number}" in done.output and "\x1b" not in done.output
