"""The audit trail: whatever is changed in it is found, on both databases."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from agent import audit
from agent.errors import Conflict, UsageError
from agent.installation import Installation
from agent.model.base import utcnow
from agent.reporting import audit_trail

if TYPE_CHECKING:
    from conftest import Places

CLIENT_FLAG, SITE_FLAG, COMPUTER_FLAG, PROCESS = 1, 2, 3, 4


def some_entries(installation: Installation, count: int = 5) -> None:
    for number in range(count):
        with installation.database.session() as session:
            audit.record(
                session, actor="ann", action="plan.approve", object_kind="plan", object_id=f"p{number}",
                client_id=number % 2 + 1, details={"reason": f"it's time\n§{number}", "count": number},
            )  # fmt: skip


def faults(installation: Installation, **options: Any) -> list[str]:
    with installation.database.session() as session:
        return audit.verify(session, **options)


def test_the_sequence_has_no_gaps_and_verifies(any_installation: Installation) -> None:
    some_entries(any_installation)
    with any_installation.database.session() as session:
        found = audit.entries(session)
        head = audit.head(session)
    assert [e.sequence for e in found] == [5, 4, 3, 2, 1]
    assert found[-1].previous_digest == audit.GENESIS
    assert (head.count, head.digest) == (5, found[0].digest)
    assert faults(any_installation) == []
    assert faults(any_installation, noted=audit.Head.parse(str(head))) == []


def test_a_transaction_that_is_rolled_back_leaves_no_entry(any_installation: Installation) -> None:
    some_entries(any_installation, 1)
    with pytest.raises(RuntimeError), any_installation.database.session() as session:
        audit.record(session, actor="ann", action="x", object_kind="plan", object_id=1)
        raise RuntimeError
    some_entries(any_installation, 1)
    with any_installation.database.session() as session:
        assert [e.sequence for e in audit.entries(session)] == [2, 1]
    assert faults(any_installation) == []


def test_changes_by_plain_sql_and_by_name_are_sealed(
    any_installation: Installation, any_two_clients: Places, plain_sql: Any
) -> None:
    computer = any_two_clients.contoso_computers[0]
    plain_sql("INSERT INTO extrafielddata (extrafieldid, id, value) VALUES (?, ?, '1')", COMPUTER_FLAG, computer)
    plain_sql("UPDATE extrafielddata SET value = '0', changedby = 'bob' WHERE extrafieldid = ?", COMPUTER_FLAG)
    plain_sql("DELETE FROM extrafielddata WHERE extrafieldid = ?", COMPUTER_FLAG)
    with any_installation.database.session() as session:
        last, middle, first = audit.entries(session, action="edf.change")
    assert (first.actor, first.details["old"], first.details["new"]) == (audit.PLAIN_SQL, None, "1")
    assert (middle.actor, middle.details["old"], middle.details["new"]) == ("bob", "1", "0")
    assert (last.actor, last.details["old"], last.details["new"]) == (audit.PLAIN_SQL, "0", None)
    assert {e.client_id for e in (first, middle, last)} == {any_two_clients.contoso}
    assert first.details["entity_name"] == "CONTOSO-PC1"
    assert (first.details["level"], first.details["field"]) == ("computer", "Offboard Computer")
    assert (first.object_kind, first.object_id) == ("computer", str(computer))
    assert faults(any_installation) == []


def test_many_changes_are_sealed_in_order(
    any_installation: Installation, any_two_clients: Places, plain_sql: Any
) -> None:
    for number in range(600):
        plain_sql(
            "INSERT INTO extrafielddata (extrafieldid, id, value) VALUES (1, ?, ?)"
            " ON CONFLICT (extrafieldid, id) DO UPDATE SET value = excluded.value",
            any_two_clients.contoso, str(number % 2),
        )  # fmt: skip
    some_entries(any_installation, 1)
    with any_installation.database.session() as session:
        found = audit.entries(session, limit=1000)
    assert len(found) == 601
    assert [e.change_id for e in reversed(found[1:])] == sorted(e.change_id or 0 for e in found[1:])
    assert faults(any_installation) == []


def test_a_secret_value_is_never_in_the_trail(
    any_installation: Installation, any_two_clients: Places, plain_sql: Any
) -> None:
    plain_sql("INSERT INTO extrafield (id, form, name, ftype, ltguid) VALUES (900, 3, 'Portal Key', 5, 'g-900')")
    plain_sql(
        "INSERT INTO extrafielddata (extrafieldid, id, value) VALUES (900, ?, 'enc:one')", any_two_clients.contoso
    )
    plain_sql("UPDATE extrafielddata SET value = 'enc:two' WHERE extrafieldid = 900")
    with any_installation.database.session() as session:
        second, first = audit.entries(session)
    assert (first.details["old"], first.details["new"]) == (None, "***")
    assert (second.details["old"], second.details["new"]) == ("***", "***")
    assert faults(any_installation) == []


def test_entries_can_be_filtered_and_paged(any_installation: Installation) -> None:
    some_entries(any_installation, 6)
    with any_installation.database.session() as session:
        audit.record(session, actor="bob", action="run.start", object_kind="run", object_id="r1", client_id=1)
        assert [e.sequence for e in audit.entries(session, actor="bob")] == [7]
        assert [e.sequence for e in audit.entries(session, action="plan.*", limit=2)] == [6, 5]
        assert [e.sequence for e in audit.entries(session, action="plan.*", limit=2, before=5)] == [4, 3]
        assert [e.sequence for e in audit.entries(session, client_id=1)] == [7, 5, 3, 1]
        assert [e.sequence for e in audit.entries(session, object_kind="plan", object_id="p2")] == [3]
        assert audit.entries(session, since=utcnow() + timedelta(days=1)) == []
        assert len(audit.entries(session, until=utcnow() + timedelta(days=1))) == 7


def test_what_is_called_like_a_secret_is_masked() -> None:
    class Odd:
        pass

    masked = audit.mask(
        {"password": "x", "nested": [{"api_key": "y", "note": "enc:abc"}], "passphrase": None, "path": PurePosixPath("/a"),
         "monkey": "banana", "ids": {2, 1}, "nul": "a\0b"}
    )  # fmt: skip
    assert masked == {
        "password": "***", "nested": [{"api_key": "***", "note": "***"}], "passphrase": None, "path": "/a", "monkey": "banana",
        "ids": [1, 2], "nul": "a\\x00b",
    }  # fmt: skip
    with pytest.raises(TypeError, match="Odd"):
        audit.mask({"a": Odd()})


def test_a_noted_head_that_is_not_one_is_refused() -> None:
    with pytest.raises(UsageError, match="count:digest"):
        audit.Head.parse("12")


def test_writers_at_once_make_one_chain(any_installation: Installation) -> None:
    def work(name: str) -> None:
        for number in range(10):
            with any_installation.database.session() as session:
                audit.record(session, actor=name, action="x", object_kind="run", object_id=number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, ["a", "b", "c", "d"]))
    assert faults(any_installation) == []
    with any_installation.database.session() as session:
        assert audit.head(session).count == 40


TAMPERINGS = {
    "actor": "UPDATE audit_entry SET actor = 'eve' WHERE sequence = 3",
    "action": "UPDATE audit_entry SET action = 'none' WHERE sequence = 3",
    "details": """UPDATE audit_entry SET details = '{"reason": "none"}' WHERE sequence = 3""",
    "client": "UPDATE audit_entry SET client_id = NULL WHERE sequence = 3",
    "time": "UPDATE audit_entry SET at = '2001-01-01 00:00:00' WHERE sequence = 3",
    "digest": "UPDATE audit_entry SET digest = 'f' WHERE sequence = 3",
    "removed": "DELETE FROM audit_entry WHERE sequence = 3",
    "removed at the start": "DELETE FROM audit_entry WHERE sequence = 1",
    "removed at the end": "DELETE FROM audit_entry WHERE sequence > 3",
    "all removed": "DELETE FROM audit_entry",
    "head removed": "DELETE FROM audit_head",
    "head and all removed": "DELETE FROM audit_entry; DELETE FROM audit_head",
    "head set back": "UPDATE audit_head SET count = 4, digest = (SELECT digest FROM audit_entry WHERE sequence = 4)",
    "renumbered": "DELETE FROM audit_entry WHERE sequence = 5; UPDATE audit_entry SET sequence = 5 WHERE sequence = 4",
    "swapped": "UPDATE audit_entry SET sequence = sequence + 100 WHERE sequence IN (2, 3);"
    "UPDATE audit_entry SET sequence = 105 - sequence WHERE sequence > 100",
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_tampering_is_found(any_installation: Installation, plain_sql: Any, tampering: str) -> None:
    some_entries(any_installation)
    with any_installation.database.session() as session:
        noted = audit.head(session)
    for statement in TAMPERINGS[tampering].split(";"):
        plain_sql(statement)
    found = faults(any_installation, noted=noted)
    assert found, tampering
    if tampering != "head and all removed":  # nothing is left that could tell, but for the note
        some_entries(any_installation, 2)
        assert faults(any_installation), "later entries must not heal the chain"


def test_an_inserted_entry_is_found_even_with_the_right_digest(any_installation: Installation, plain_sql: Any) -> None:
    some_entries(any_installation)
    with any_installation.database.session() as session:
        last = audit.entries(session)[0]
        forged = {**last.model_dump(), "sequence": 6, "actor": "eve", "previous_digest": last.digest}
        forged["digest"] = audit.digest_of(forged)
        session.execute(audit._ENTRY.insert(), forged)
    assert any("does not end" in fault for fault in faults(any_installation))


def test_a_chain_written_anew_differs_from_the_note(any_installation: Installation, plain_sql: Any) -> None:
    some_entries(any_installation)
    with any_installation.database.session() as session:
        noted = audit.head(session)
    plain_sql("DELETE FROM audit_entry")
    plain_sql("DELETE FROM audit_head")
    some_entries(any_installation)
    assert faults(any_installation) == []
    assert faults(any_installation, noted=noted) == [
        "entry 5 is not the one that was noted: the trail was written anew"
    ]


def _without_triggers(installation: Installation, *statements: str) -> None:
    """What somebody with full rights can do to the log."""
    with installation.database.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            for name in ("extrafieldchange_update", "extrafieldchange_delete", "extrafielddata_update_log"):
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE extrafieldchange SET newvalue = '0'", "change 1 no longer matches entry 1"),
        ("DELETE FROM extrafieldchange WHERE changeid = 1", "change 1, which entry 1 sealed, was removed"),
        ("UPDATE extrafielddata SET value = '0'", "changed without a trace"),
        ("DELETE FROM audit_entry", "change 1 of field 1 was never sealed"),
    ],
)
def test_tampering_with_the_log_of_changes_is_found(
    any_installation: Installation, any_two_clients: Places, plain_sql: Any, statement: str, fault: str
) -> None:
    plain_sql("INSERT INTO extrafielddata (extrafieldid, id, value) VALUES (1, ?, '1')", any_two_clients.contoso)
    assert faults(any_installation) == []
    _without_triggers(any_installation, statement)
    assert any(fault in found for found in faults(any_installation))


def test_a_change_taken_out_of_the_queue_is_found(
    any_installation: Installation, any_two_clients: Places, plain_sql: Any
) -> None:
    plain_sql("INSERT INTO extrafielddata (extrafieldid, id, value) VALUES (1, ?, '1')", any_two_clients.contoso)
    plain_sql("DELETE FROM extrafieldunsealed")
    assert any("never sealed" in fault for fault in faults(any_installation))


def test_garbage_is_reported_and_does_not_stop_the_check(installation: Installation) -> None:
    some_entries(installation)
    with installation.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE audit_entry SET details = '{' WHERE sequence = 2")
        connection.exec_driver_sql("UPDATE audit_entry SET at = 'never' WHERE sequence = 3")
        connection.exec_driver_sql("UPDATE audit_entry SET actor = x'00ff' WHERE sequence = 4")
    found = faults(installation)
    assert [f for f in found if f.endswith("was changed")] == [f"entry {n} was changed" for n in (2, 3, 4)]


def test_faults_are_limited(installation: Installation) -> None:
    some_entries(installation, 8)
    with installation.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE audit_entry SET actor = 'eve'")
    assert len(faults(installation, limit=3)) == 4


@pytest.mark.parametrize("statement", ["UPDATE extrafieldchange SET newvalue = 'x'", "DELETE FROM extrafieldchange"])
def test_the_log_of_changes_cannot_be_changed(
    any_installation: Installation, any_two_clients: Places, statement: str
) -> None:
    with any_installation.database.session() as session:
        session.execute(
            text("INSERT INTO extrafielddata (extrafieldid, id, value) VALUES (1, :id, '1')"),
            {"id": any_two_clients.contoso},
        )
    with pytest.raises(Conflict, match="cannot be changed"), any_installation.database.session() as session:
        session.execute(text(statement))


@hypothesis_settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_single_change_is_found(installation: Installation, data: st.DataObject) -> None:
    """Any column of any entry, with any other value, is noticed; put back, the trail is good again."""
    with installation.database.session() as session:
        if audit.head(session).count == 0:
            for number in range(4):
                audit.record(
                    session, actor="ann", action="x", object_kind="plan", object_id=number, details={"n": number}
                )
    sequence = data.draw(st.integers(1, 4))
    column = data.draw(st.sampled_from(["at", "actor", "action", "object_kind", "object_id", "client_id", "details",
                                        "change_id", "previous_digest", "digest"]))  # fmt: skip
    value: Any = data.draw(st.one_of(st.none(), st.integers(-5, 10**6), st.text(max_size=5)))
    with installation.database.engine.begin() as connection:
        select = f"SELECT {column} FROM audit_entry WHERE sequence = {sequence}"
        before = connection.exec_driver_sql(select).scalar()
    if column == "details":
        value = json.dumps(value)
    if value is None and column not in ("client_id", "change_id"):
        return
    change = f"UPDATE audit_entry SET {column} = ? WHERE sequence = {sequence}"
    try:
        with installation.database.engine.begin() as connection:
            connection.exec_driver_sql(change, (value,))
            after = connection.exec_driver_sql(select).scalar()
    except UnicodeEncodeError:
        return
    found = faults(installation)
    assert bool(found) == (after != before), (column, before, after)
    with installation.database.engine.begin() as connection:
        connection.exec_driver_sql(change, (before,))
    assert faults(installation) == []


def test_verifying_keeps_nobody_from_writing(any_installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a long trail is read: meanwhile others write, by plain SQL too, and what they write is no fault."""
    some_entries(any_installation)
    whole = audit._all_faults
    seen: list[int] = []

    def slowly(session: Any, *given: Any) -> Any:
        seen.append(audit.head(session).count)
        some_entries(any_installation, 3)
        with any_installation.database.session() as writing:
            writing.execute(
                text("INSERT INTO extrafielddata (extrafieldid, id, value) VALUES (:field, 0, '0')"),
                {"field": CLIENT_FLAG},
            )
        yield from whole(session, *given)

    monkeypatch.setattr(audit, "_all_faults", slowly)
    found = audit_trail.verify(any_installation.database)
    assert found.faults == () and [found.head.count] == seen, "one moment is looked at"
    monkeypatch.undo()
    again = audit_trail.verify(any_installation.database, noted=found.head)
    assert again.faults == () and again.head.count == found.head.count + 4
