"""Import and export: what goes out comes in again; what is wrong is named by line and column and nothing is stored."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from agent import audit
from agent.errors import ImportLineError, ImportRefused, NotFound, UsageError
from agent.installation import Installation
from agent.inventory import field_values, places, transfer
from agent.inventory.transfer import ImportCounts
from agent.inventory.transfer_files import _plain, _safe
from agent.model.administration import Credential
from agent.model.base import utcnow
from agent.model.fields import FieldType, Form
from agent.model.places import Client, Computer

if TYPE_CHECKING:
    from conftest import Places

AWKWARD = ["=1+1", "+x", "-5", "@SUM(A1)", "'=x", "''", "'", "'tHooft", "\tx", "a\nb", "a\r\nb", 'say "hi"', "x,y;z", "$(rm -rf /)", "Łódź 東京 🙂",
           "'); DROP TABLE clients;--", " padded ", "a\\b", "{", "null"]  # fmt: skip


def import_text(
    installation: Installation, tmp_path: Path, kind: str, content: str, name: str = "in.csv", **options: Any
) -> ImportCounts:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    with installation.database.session() as session:
        return transfer.import_file(session, kind, path, actor="ann", **options)


def faults_of(
    installation: Installation, tmp_path: Path, kind: str, content: str, name: str = "in.csv", **options: Any
) -> list[tuple[int, str | None, str]]:
    with pytest.raises(ImportRefused) as caught:
        import_text(installation, tmp_path, kind, content, name, **options)
    return [(f.line, f.column, f.reason) for f in caught.value.faults]


def table(installation: Installation, name: str) -> list[tuple[Any, ...]]:
    with installation.database.reading() as session:
        return [tuple(r) for r in session.execute(text(f"SELECT * FROM {name} ORDER BY 1, 2"))]


def test_a_newcomers_files_come_in(any_installation: Installation, tmp_path: Path) -> None:
    at = (any_installation, tmp_path)
    assert import_text(*at, "clients", "external_id,name\nc1,Contoso Ltd.\nf1,Fabrikam\n") == ImportCounts(2, 0, 0)
    assert import_text(*at, "locations", "external_id;client;name\nl1;c1;HQ\nl2;f1;HQ\n") == ImportCounts(2, 0, 0)
    computers = (
        "external_id,location,name,platform,is_server,last_contact,field:Offboard Computer\n"
        "p1,l1,PC1,linux,no,2026-01-31T17:00:00+01:00,1\n"
        "p2,l2,PC1,windows,1,,\n"
    )
    assert import_text(*at, "computers", computers) == ImportCounts(2, 0, 0)
    assert import_text(*at, "contacts", "external_id,client,name,email\nx,c1,Ann,a@example.com\n") == ImportCounts(
        1, 0, 0
    )
    assert import_text(*at, "software", "computer,name,version\np1,Zoom,5.1\np1,Zoom,5.2\n") == ImportCounts(2, 0, 0)
    with any_installation.database.session() as session:
        one = session.get(Computer, 1)
        assert one is not None and one.last_contact is not None
        assert (one.name, one.client_id, one.is_server, one.last_contact.isoformat()) == (
            "PC1",
            1,
            False,
            "2026-01-31T16:00:00+00:00",
        )
        assert field_values.effective_value(session, Form.COMPUTER, 1, "Offboard Computer").value == "1"
        assert field_values.effective_value(session, Form.COMPUTER, 2, "Offboard Computer").origin == "nothing"
        assert session.get(Client, 1).slug == "contoso-ltd"  # type: ignore[union-attr]
        changes = audit.entries(session, action="edf.change")
        assert [(e.actor, e.details["new"]) for e in changes] == [("ann", "1")]
        assert audit.verify(session) == []
    assert import_text(*at, "computers", computers) == ImportCounts(0, 0, 2)
    assert import_text(*at, "computers", computers.replace("PC1,linux", "PC9,linux")) == ImportCounts(0, 1, 1)
    with any_installation.database.session() as session:
        newest = audit.entries(session, action="computer.change")[0]
        assert (newest.details["old"], newest.details["new"]) == ({"name": "PC1"}, {"name": "PC9"})
        assert (newest.object_id, newest.client_id) == ("1", 1)


def test_columns_that_are_absent_stay_as_they_are(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    before = table(any_installation, "computers")
    counts = import_text(any_installation, tmp_path, "computers", "external_id,name\ncontoso-pc1,CONTOSO-PC1\n")
    assert counts == ImportCounts(0, 0, 1)
    assert table(any_installation, "computers") == before


def test_a_preview_changes_nothing(any_installation: Installation, any_two_clients: Places, tmp_path: Path) -> None:
    content = (
        "external_id,location,name,field:Offboard Computer\ncontoso-pc1,contoso-hq,Renamed,1\nnew,contoso-hq,New,1\n"
    )
    tables = ("computers", "extrafielddata", "extrafieldchange", "audit_entry")
    before = [table(any_installation, t) for t in tables]
    assert import_text(any_installation, tmp_path, "computers", content, dry_run=True) == ImportCounts(1, 1, 0)
    assert [table(any_installation, t) for t in tables] == before
    assert import_text(any_installation, tmp_path, "computers", content) == ImportCounts(1, 1, 0)


def test_all_faults_are_named_and_nothing_is_stored(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    before = table(any_installation, "computers")
    content = (
        "external_id,client,location,name,platform,port,last_contact,is_probe,field:Offboard Computer\n"
        "good,contoso,contoso-hq,Good,linux,22,,0,1\n"  # 2
        "a,contoso,contoso-hq,A,beos,22,,0,\n"  # 3
        "b,contoso,fabrikam-hq,B,linux,22,,0,\n"  # 4
        "c,contoso,nowhere,C,linux,22,,0,\n"  # 5
        'd,contoso,contoso-hq,"two\nlines",linux,99999,2026-01-01 10:00,maybe,yes\n'  # 6 and 7
        "good,contoso,contoso-hq,Again,linux,22,,0,\n"  # 8
        ",contoso,contoso-hq,None,linux,22,,0,\n"  # 9
        "e,,,E,linux,22,,0,\n"  # 10
        "f,contoso,contoso-hq,,linux,22,9999-01-01T00:00:00Z,0,\n"  # 11
    )
    found = faults_of(any_installation, tmp_path, "computers", content)
    assert [(line, column) for line, column, _ in found] == [
        (3, "platform"), (4, "location"), (5, "location"), (6, "port"), (6, "last_contact"), (6, "is_probe"),
        (6, "field:Offboard Computer"), (8, "external_id"), (9, "external_id"), (10, "client"), (10, "location"), (11, "name"),
        (11, "last_contact"),
    ]  # fmt: skip
    assert "another client" in found[1][2]
    assert "line 2 is about the same one" in found[7][2]
    assert table(any_installation, "computers") == before
    with any_installation.database.session() as session:
        assert audit.entries(session) == []


def test_faults_stop_at_a_hundred(installation: Installation, tmp_path: Path) -> None:
    content = "external_id,name,slug\n" + "".join(f"c{n},C{n},NO SLUG\n" for n in range(2000))
    with pytest.raises(ImportRefused, match="more faults") as caught:
        import_text(installation, tmp_path, "clients", content)
    assert len(caught.value.faults) == 100


def test_a_fault_in_a_late_chunk_undoes_the_earlier_ones(any_installation: Installation, tmp_path: Path) -> None:
    content = "external_id,name\n" + "".join(f"c{n},C{n}\n" for n in range(1200)) + "c5,again\n"
    assert faults_of(any_installation, tmp_path, "clients", content) == [
        (1202, "external_id", "line 7 is about the same one")
    ]
    assert table(any_installation, "clients") == []


HEADERS = [
    ("external_id,nmae\n", 1, "nmae", "did you mean 'name'?"),
    ("external_id,name,name\n", 1, None, "more than once"),
    ("external_id,,name\n", 1, None, "no name"),
    ("name\nx\n", 1, "external_id", "is needed"),
    ("", 1, None, "empty"),
    (
        "external_id,name,field:Offboard Computer\n",
        1,
        "field:Offboard Computer",
        "did you mean 'field:Offboard Client'",
    ),
    ("external_id,name\na,b\nc\n", 3, None, "1 cells"),
    ('external_id,name\na,"b\nc,d\n', 2, None, "no CSV"),
    ('external_id,name\na,"b"c\n', 2, None, "no CSV"),
]


@pytest.mark.parametrize(("content", "line", "column", "reason"), HEADERS)
def test_a_malformed_csv_is_named(
    installation: Installation, tmp_path: Path, content: str, line: int, column: str | None, reason: str
) -> None:
    found = faults_of(installation, tmp_path, "clients", content)
    assert found[0][:2] == (line, column)
    assert reason in found[0][2]


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ("", 1, "is expected"), ("{}", 1, "array of objects"), ("[1]", 1, "is expected"), ('[\n{"external_id": "a",\n}]', 2, "no object"),
        ('[{"external_id": "a", "name": "b"},\n{"external_id": "c", "external_id": "d"}]', 2, "more than once"),
        ('[{"external_id": "a", "name": "b"}', 1, "is expected"), ('[{"external_id": "a", "name": "b"}]\n x', 1, "follows"),
        ('[{"external_id": "a", "name": NaN}]', 1, "no JSON"), ("[" + "[" * 100_000, 1, "expected"),
        ('[{"external_id": ' + "[" * 100_000 + "}]", 1, "no object"), ('[{"external_id": "a", "name": "b"}, ]', 1, "is expected"),
        ('[{"external_id": "a", "nome": "b"}]', 1, "did you mean 'name'"), ('[{"external_id": "a\\u0000", "name": "b"}]', 1, "NUL"),
        ('[{"external_id": "a", "name": "\\ud800"}]', 1, "surrogate"),
    ],
)  # fmt: skip
def test_a_malformed_json_is_named(
    installation: Installation, tmp_path: Path, content: str, line: int, reason: str
) -> None:
    found = faults_of(installation, tmp_path, "clients", content, "in.json")
    assert found[0][0] == line
    assert reason in found[0][2]


def test_an_empty_json_array_is_fine(installation: Installation, tmp_path: Path) -> None:
    assert import_text(installation, tmp_path, "clients", " [ ]\n", "in.json") == ImportCounts(0, 0, 0)


def test_files_that_cannot_be_read_are_named(installation: Installation, tmp_path: Path) -> None:
    with installation.database.session() as session:
        with pytest.raises(UsageError, match="No such file"):
            transfer.import_file(session, "clients", tmp_path / "none.csv", actor="ann")
        with pytest.raises(UsageError, match="ending"):
            transfer.import_file(session, "clients", tmp_path / "none.xlsx", actor="ann")
        with pytest.raises(NotFound, match="computers"):
            transfer.import_file(session, "computer", tmp_path / "none.csv", actor="ann")
        (tmp_path / "latin.csv").write_bytes("external_id,name\na,Müller\n".encode("latin-1"))
        with pytest.raises(UsageError, match="not UTF-8"):
            transfer.import_file(session, "clients", tmp_path / "latin.csv", actor="ann")
        with pytest.raises(UsageError, match="cannot be written"):
            transfer.export_file(session, "clients", tmp_path / "missing" / "out.csv")


def test_a_computer_never_moves_silently(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    content = "external_id,location,name\ncontoso-pc1,fabrikam-hq,CONTOSO-PC1\n"
    found = faults_of(any_installation, tmp_path, "computers", content)
    assert [(line, column) for line, column, _ in found] == [(2, "location")]
    assert import_text(any_installation, tmp_path, "computers", content, allow_move=True) == ImportCounts(0, 1, 0)
    with any_installation.database.session() as session:
        moved = session.get(Computer, any_two_clients.contoso_computers[0])
        assert moved is not None and moved.client_id == any_two_clients.fabrikam
        assert audit.entries(session, action="computer.move")[0].details["old"]["client_id"] == any_two_clients.contoso


def test_a_location_with_computers_does_not_move(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    content = "external_id,client\ncontoso-hq,fabrikam\n"
    found = faults_of(any_installation, tmp_path, "locations", content, allow_move=True)
    assert [(line, column) for line, column, _ in found] == [(2, "client")]
    with any_installation.database.session() as session:
        session.execute(text("DELETE FROM computers"))
    assert import_text(any_installation, tmp_path, "locations", content, allow_move=True) == ImportCounts(0, 1, 0)


def test_an_old_file_takes_no_contact_and_no_retirement_back(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    with any_installation.database.session() as session:
        transfer.export_file(session, "computers", tmp_path / "old.csv")
        computer = session.get(Computer, any_two_clients.contoso_computers[0])
        assert computer is not None
        places.retire(session, computer, actor="ann")
        later = utcnow()
        places.record_contact(session, any_two_clients.contoso_computers[0], later)
        assert transfer.import_file(session, "computers", tmp_path / "old.csv", actor="ann") == ImportCounts(0, 0, 4)
        session.refresh(computer)
        assert (computer.last_contact, computer.retired_at is None) == (later, False)


def test_a_credential_of_another_client_is_refused(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    with any_installation.database.session() as session:
        session.add(Credential(kind="ssh", name="fabrikam key", client_id=any_two_clients.fabrikam))
        session.add(Credential(kind="ssh", name="server key"))
    header = "external_id,credential\n"
    found = faults_of(any_installation, tmp_path, "computers", header + "contoso-pc1,fabrikam key\ncontoso-pc2,none\n")
    assert [(line, column) for line, column, _ in found] == [(2, "credential"), (3, "credential")]
    assert import_text(any_installation, tmp_path, "computers", header + "contoso-pc1,server key\n") == ImportCounts(
        0, 1, 0
    )
    with any_installation.database.session() as session:
        transfer.export_file(session, "computers", tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [r["credential"] for r in rows] == ["server key", "", "", ""]
    found = faults_of(any_installation, tmp_path, "computers", header + "contoso-pc1,fabrikam key\n")
    assert "another client" in found[0][2]


def test_a_location_is_found_by_its_name_within_the_client(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    content = "external_id,client,location,name\nx,Fabrikam,Headquarters,X\n"
    assert import_text(any_installation, tmp_path, "computers", content) == ImportCounts(1, 0, 0)
    found = faults_of(any_installation, tmp_path, "computers", "external_id,location,name\ny,Headquarters,Y\n")
    assert "more than one" in found[0][2]


def test_secrets_neither_leave_nor_enter(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    from agent.inventory import extra_fields

    with any_installation.database.session() as session:
        extra_fields.define(session, form=Form.CLIENT, name="Portal Key", type=FieldType.SECRET, actor="ann")
        session.execute(
            text(
                "INSERT INTO extrafielddata (extrafieldid, id, value) SELECT id, 1, 'enc:topsecret' FROM extrafield WHERE name = 'Portal Key'"
            )
        )
        transfer.export_file(session, "clients", tmp_path / "out.json")
    assert "topsecret" not in (tmp_path / "out.json").read_text()
    found = faults_of(any_installation, tmp_path, "clients", "external_id,name,field:Portal Key\ncontoso,Contoso,x\n")
    assert found[0][1] == "field:Portal Key"


@pytest.mark.parametrize("format", ["csv", "json"])
def test_what_goes_out_comes_in_again(any_installation: Installation, tmp_path: Path, format: str) -> None:
    rows = [{"external_id": f"id {n} {name}", "name": name, "slug": f"c{n}"} for n, name in enumerate(AWKWARD)]
    import_text(any_installation, tmp_path, "clients", json.dumps(rows), "in.json")
    with any_installation.database.session() as session:
        assert transfer.export_file(session, "clients", tmp_path / f"out.{format}") == len(rows)
    content = (tmp_path / f"out.{format}").read_bytes()
    before = table(any_installation, "clients")
    assert [r[2] for r in before] == AWKWARD
    with any_installation.database.session() as session:
        assert transfer.import_file(session, "clients", tmp_path / f"out.{format}", actor="ann") == ImportCounts(
            0, 0, len(rows)
        )
        session.execute(text("DELETE FROM clients"))
        assert transfer.import_file(session, "clients", tmp_path / f"out.{format}", actor="ann") == ImportCounts(
            len(rows), 0, 0
        )
        transfer.export_file(session, "clients", tmp_path / f"again.{format}")
    assert (tmp_path / f"again.{format}").read_bytes() == content
    assert [r[1:] for r in table(any_installation, "clients")] == [r[1:] for r in before]


@pytest.mark.parametrize("format", ["csv", "json"])
def test_computers_with_everything_come_in_again(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path, format: str
) -> None:
    with any_installation.database.session() as session:
        one = session.get(Computer, any_two_clients.contoso_computers[0])
        assert one is not None
        one.transport, one.port, one.transport_options = "ssh", 2222, {"jump": "=host", "n": [1, None]}
        session.add(one)
        field_values.set_value(session, Form.COMPUTER, 1, "Offboard Computer", "1", actor="ann")
    path = tmp_path / f"out.{format}"
    before = table(any_installation, "computers"), table(any_installation, "extrafielddata")
    with any_installation.database.session() as session:
        assert transfer.export_file(session, "computers", path) == 4
        assert transfer.import_file(session, "computers", path, actor="ann") == ImportCounts(0, 0, 4)
        session.execute(text("DELETE FROM computers"))
        assert transfer.import_file(session, "computers", path, actor="ann") == ImportCounts(4, 0, 0)
    after = table(any_installation, "computers"), table(any_installation, "extrafielddata")
    assert [r[1:] for r in after[0]] == [r[1:] for r in before[0]]
    assert [r[2] for r in after[1]] == [r[2] for r in before[1]] == ["1"]


def test_an_export_of_one_client_holds_nothing_of_the_other(
    any_installation: Installation, any_two_clients: Places, tmp_path: Path
) -> None:
    import_text(any_installation, tmp_path, "software", "computer,name\ncontoso-pc1,App\nfabrikam-pc1,App\n")
    for kind in ("clients", "locations", "computers", "software"):
        with any_installation.database.session() as session:
            count = transfer.export_file(session, kind, tmp_path / f"{kind}.json", client_id=any_two_clients.contoso)
        assert count == (2 if kind == "computers" else 1)
        assert "fabrikam" not in (tmp_path / f"{kind}.json").read_text().lower()


def test_spreadsheet_formulas_are_disarmed(installation: Installation, tmp_path: Path) -> None:
    import_text(
        installation, tmp_path, "clients", json.dumps([{"external_id": "x", "name": "=cmd|' /C calc'!A0"}]), "in.json"
    )
    with installation.database.session() as session:
        transfer.export_file(session, "clients", tmp_path / "out.csv")
    assert "x,'=cmd|" in (tmp_path / "out.csv").read_text()


@given(st.text(alphabet=st.sampled_from("'=+-@\t\r\nx "), max_size=5) | st.text(max_size=5))
def test_a_guarded_cell_is_no_formula_and_comes_back(cell: str) -> None:
    assert _plain(_safe(cell)) == cell
    assert not _safe(cell).startswith(tuple("=+-@\t\r\n"))


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, max_size=4), format=st.sampled_from(["csv", "json"]))
def test_any_name_survives_the_round_trip(
    installation: Installation, tmp_path: Path, names: list[str], format: str
) -> None:
    path = tmp_path / f"x.{format}"
    with installation.database.session() as session:
        session.execute(text("DELETE FROM clients"))
        session.add_all(Client(external_id=f"{n}{name}", name=name, slug=f"s{n}") for n, name in enumerate(names))
        session.flush()
        transfer.export_file(session, "clients", path)
        session.execute(text("DELETE FROM clients"))
        session.expire_all()
        assert transfer.import_file(session, "clients", path, actor="ann") == ImportCounts(len(names), 0, 0)
    assert [r[1:3] for r in table(installation, "clients")] == [(f"{n}{name}", name) for n, name in enumerate(names)]


def test_an_unfinished_export_leaves_the_old_file(
    installation: Installation, two_clients: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.csv"
    target.write_text("old")

    def break_off(*arguments: Any, **keywords: Any) -> int:
        arguments[0].write("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transfer, "write_rows", break_off)
    with pytest.raises(UsageError, match="No space left"), installation.database.session() as session:
        transfer.export_file(session, "clients", target)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.glob("*out.csv*")] == ["out.csv"]


def test_a_fault_carries_file_line_and_column() -> None:
    fault = ImportLineError("wrong", file="x.csv", line=3, column="port")
    assert str(fault) == "x.csv:3: port: wrong"
