"""The audit trail: who did what, when, with old and new values. Entries form a chain of digests.

Each entry's digest is SHA-256 over the canonical JSON of its columns, among them the digest of the entry before it. The
row `audit_head` holds the number of entries and the last digest, so that entries removed from the end are missed too.
Who can write to the database could also write a new chain: `head` gives what to note elsewhere, `verify` compares it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    RowMapping,
    Select,
    Table,
    Text,
    bindparam,
    func,
    select,
    text,
    type_coerce,
    update,
)
from sqlmodel import Session, SQLModel

from agent.audit_caller import account_beside
from agent.audit_text import MASK, Head, digest_of, mask, parsed, plain, storable, time_text
from agent.field_views import VIEWS
from agent.model.administration import AuditEntry
from agent.model.base import UTCDateTime, utcnow

__all__ = [
    "GENESIS",
    "MASK",
    "PLAIN_SQL",
    "Act",
    "Head",
    "digest_of",
    "entries",
    "head",
    "mask",
    "record",
    "record_all",
    "seal_changes",
    "verify",
]

#: The digest before the first entry.
GENESIS = "0" * 64
#: Who changed a field by plain SQL.
PLAIN_SQL = "plain SQL"
_SEAL_AT_ONCE = 500

_TABLES = SQLModel.metadata.tables
_ENTRY: Table = _TABLES["audit_entry"]
_HEAD: Table = _TABLES["audit_head"]
_CHANGE: Table = _TABLES["extrafieldchange"]
_UNSEALED: Table = _TABLES["extrafieldunsealed"]
_FIELD: Table = _TABLES["extrafield"]
_DATA: Table = _TABLES["extrafielddata"]
#: Level -> (word, table, key).
_LEVELS: dict[int, tuple[str, Table, str]] = {
    form: (form.name.lower(), _TABLES[table], key) for form, (_, table, key) in VIEWS.items()
}


@dataclass(frozen=True)
class Act:
    """What was done to what, as `record` takes it."""

    action: str
    object_kind: str
    object_id: str | int
    client_id: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def record(
    session: Session,
    *,
    actor: str,
    action: str,
    object_kind: str,
    object_id: str | int,
    client_id: int | None = None,
    details: Mapping[str, Any] | None = None,
) -> int:
    """Append an entry within the caller's transaction; its place in the chain. `details` must be JSON; secrets are masked.

    Until the transaction ends, others that record wait: keep it short.
    """
    act = Act(action, object_kind, object_id, client_id, details or {})
    return record_all(session, [act], actor=actor).count


def record_all(session: Session, acts: Iterable[Act], *, actor: str) -> Head:
    """Append an entry for each act of one actor, in order; the end of the chain after that."""
    head, at = seal_changes(session), utcnow()
    new = [
        {"at": at, "actor": storable(actor), "action": storable(act.action), "object_kind": storable(act.object_kind),
         "object_id": storable(str(act.object_id)), "client_id": act.client_id,
         "details": mask({**act.details, **account_beside(actor)}), "change_id": None}
        for act in acts
    ]  # fmt: skip
    return _append(session, head, new) if new else head


def seal_changes(session: Session) -> Head:
    """Turn the changes of fields that the database logged into entries `edf.change`; the end of the chain after that."""
    session.flush()
    head, any_unsealed = _lock_head(session)
    if not any_unsealed:
        return head
    while True:
        rows = session.execute(_unsealed(session.get_bind().dialect.name)).mappings().all()
        if not rows:
            return head
        places = _places_of(session, rows)
        head = _append(session, head, [_change_entry(row, places) for row in rows])
        session.execute(_UNSEALED.delete().where(_UNSEALED.c.changeid.in_([row["changeid"] for row in rows])))


@cache
def _unsealed(dialect: str) -> Select[Any]:
    """Changes that are not in the trail, oldest first. Made once: it is asked before every entry."""
    return (
        select(*_as_stored(dialect, _CHANGE), _FIELD.c.form, _FIELD.c.name.label("field"))
        .join(_UNSEALED, _UNSEALED.c.changeid == _CHANGE.c.changeid)
        .outerjoin(_FIELD, _FIELD.c.id == _CHANGE.c.extrafieldid)
        .order_by(_CHANGE.c.changeid)
        .limit(_SEAL_AT_ONCE)
    )


def entries(
    session: Session,
    *,
    actor: str | None = None,
    action: str | None = None,
    object_kind: str | None = None,
    object_id: str | int | None = None,
    client_id: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[AuditEntry]:
    """The newest entries that fit, newest first. `action` may end with `*`; `before` is the sequence to page on from."""
    seal_changes(session)
    query = select(AuditEntry).order_by(_ENTRY.c.sequence.desc()).limit(limit)
    for column, wanted in (
        (_ENTRY.c.actor, actor), (_ENTRY.c.object_kind, object_kind), (_ENTRY.c.client_id, client_id),
        (_ENTRY.c.object_id, None if object_id is None else str(object_id)),
    ):  # fmt: skip
        if wanted is not None:
            query = query.where(column == wanted)
    if action is not None and action.endswith("*"):
        query = query.where(_ENTRY.c.action.startswith(action[:-1], autoescape=True))
    elif action is not None:
        query = query.where(_ENTRY.c.action == action)
    if since is not None:
        query = query.where(_ENTRY.c.at >= since)
    if until is not None:
        query = query.where(_ENTRY.c.at < until)
    if before is not None:
        query = query.where(_ENTRY.c.sequence < before)
    return list(session.scalars(query))


def head(session: Session) -> Head:
    """The end of the chain, to be noted elsewhere."""
    row = session.execute(select(_HEAD.c.count, _HEAD.c.digest).where(_HEAD.c.id == 1)).first()
    return Head(*row) if row else Head(0, GENESIS)


def verify(session: Session, *, noted: Head | None = None, limit: int = 100) -> list[str]:
    """Faults of the trail, at most `limit`; empty means good. `noted` is an end of the chain that was kept elsewhere."""
    return verify_sealed(session, had_head=seal(session), noted=noted, limit=limit)


def seal(session: Session) -> bool:
    """`seal_changes`, and whether the trail had a head, or needed none, before that."""
    had_head = bool(session.execute(select(_HEAD.c.id)).first()) or not _last_sequence(session)
    seal_changes(session)
    return had_head


def verify_sealed(session: Session, *, had_head: bool, noted: Head | None = None, limit: int = 100) -> list[str]:
    """`verify` in a transaction that only reads, after `seal`; what was logged since waits for the next sealing."""
    faults: list[str] = []
    for fault in _all_faults(session, had_head, noted):
        if len(faults) == limit:
            faults.append("there are more faults, which are not listed")
            break
        faults.append(fault)
    return faults


def _append(session: Session, head: Head, new: Sequence[dict[str, Any]]) -> Head:
    for entry in new:
        entry |= {"sequence": head.count + 1, "previous_digest": head.digest}
        entry["digest"] = digest_of(entry)
        head = Head(entry["sequence"], entry["digest"])
    connection = session.connection()
    connection.execute(_ENTRY.insert(), list(new))
    connection.execute(_NEW_HEAD, {"new_count": head.count, "new_digest": head.digest})
    return head


#: Made once, and asked by one statement: before every entry others wait for the answer.
_LAST_SEQUENCE = select(func.max(_ENTRY.c.sequence)).scalar_subquery()
_LOCKED_HEAD = (
    select(_HEAD.c.count, _HEAD.c.digest, _LAST_SEQUENCE, select(_UNSEALED.c.changeid).limit(1).scalar_subquery())
    .where(_HEAD.c.id == 1)
    .with_for_update()
)
_NEW_HEAD = update(_HEAD).where(_HEAD.c.id == 1).values(count=bindparam("new_count"), digest=bindparam("new_digest"))


def _lock_head(session: Session) -> tuple[Head, bool]:
    """The end of the chain, locked until the transaction ends (SQLite holds its one write lock by then anyway), and
    whether there may be changes of fields that are not in it.

    A head that is missing is made again from the last entry, and that is recorded, so that the loss stays visible.
    """
    connection = session.connection()
    row = connection.execute(_LOCKED_HEAD).first()
    if row:
        count, digest, last_sequence, unsealed = row
        # Where the head was set back, the chain goes on behind what is there, and `verify` sees the break.
        return Head(max(count, last_sequence or 0), digest), unsealed is not None
    made = connection.execute(
        text("INSERT INTO audit_head (id, count, digest) VALUES (1, 0, :digest) ON CONFLICT DO NOTHING"),
        {"digest": GENESIS},
    )
    count, digest, *_ = connection.execute(_LOCKED_HEAD).one()
    last = connection.execute(
        select(_ENTRY.c.sequence, _ENTRY.c.digest).order_by(_ENTRY.c.sequence.desc()).limit(1)
    ).first()
    if made.rowcount == 0 or last is None:
        return Head(count, digest), True
    lost = {
        "at": utcnow(), "actor": "system", "action": "audit.head_missing", "object_kind": "audit", "object_id": str(last.sequence),
        "client_id": None, "details": {}, "change_id": None,
    }  # fmt: skip
    return _append(session, Head(last.sequence, last.digest), [lost]), True


def _last_sequence(session: Session) -> int:
    return session.scalar(select(func.max(_ENTRY.c.sequence))) or 0


def _places_of(session: Session, rows: Sequence[RowMapping]) -> dict[tuple[int, int], tuple[str, int]]:
    """(level, id) -> (name, client id) of the places that the changes are about."""
    found: dict[tuple[int, int], tuple[str, int]] = {}
    for form, (_, table, key) in _LEVELS.items():
        ids = {row["id"] for row in rows if row["form"] == form and row["id"] != 0}
        if ids:
            for place in session.execute(
                select(table.c[key], table.c.name, table.c.clientid).where(table.c[key].in_(ids))
            ):
                found[form, place[0]] = (place.name, place.clientid)
    return found


def _change_entry(row: RowMapping, places: Mapping[tuple[int, int], tuple[str, int]]) -> dict[str, Any]:
    level = _LEVELS[row["form"]][0] if row["form"] is not None else "removed field"
    name, client_id = places.get((row["form"], row["id"]), ("default of the field" if row["id"] == 0 else None, None))
    by = str(plain(row["changedby"])) if row["changedby"] is not None else PLAIN_SQL
    details = {
        "level": level,
        "entity_name": name,
        "field": row["field"],
        "by": by,
        **account_beside(by),
        **_change_details(row),
    }
    return {
        "at": utcnow(), "actor": by, "action": "edf.change", "object_kind": level, "object_id": str(row["id"]),
        "client_id": client_id, "details": details, "change_id": row["changeid"],
    }  # fmt: skip


def _change_details(row: RowMapping) -> dict[str, Any]:
    """The part of an entry that must stay equal to its row of `extrafieldchange`."""
    return {
        "field_id": row["extrafieldid"], "entity_id": row["id"], "old": plain(row["oldvalue"]), "new": plain(row["newvalue"]),
        "changed_by": plain(row["changedby"]), "changed_at": time_text(row["changedat"]),
    }  # fmt: skip


def _all_faults(session: Session, had_head: bool, noted: Head | None) -> Iterator[str]:
    yield from _chain_faults(session, had_head, noted)
    yield from _change_faults(session)


def _chain_faults(session: Session, had_head: bool, noted: Head | None) -> Iterator[str]:
    end = head(session)
    at = Head(0, GENESIS)
    for row in _stream(session, select(*_raw(session, _ENTRY)).order_by(_ENTRY.c.sequence)):
        sequence = row["sequence"]
        if sequence != at.count + 1:
            missing = (
                f"entry {at.count + 1} is"
                if sequence == at.count + 2
                else f"entries {at.count + 1} to {sequence - 1} are"
            )
            yield f"{missing} missing"
        elif row["previous_digest"] != at.digest:
            yield f"entry {sequence} does not follow entry {at.count}: one of them was changed, inserted or swapped"
        if _recomputed(row) != row["digest"]:
            yield f"entry {sequence} was changed"
        if row["action"] == "audit.head_missing":
            yield f"entry {sequence}: the head of the trail had been removed after entry {row['object_id']}"
        at = Head(sequence, row["digest"])
        if noted and noted.count == sequence and noted != at:
            yield f"entry {sequence} is not the one that was noted: the trail was written anew"
    if not had_head and at.count:
        yield "the head of the trail was removed: entries may be missing at the end"
    if end.count > at.count:
        yield f"the last {end.count - at.count} of {end.count} entries are missing"
    elif end != at:
        yield f"the trail does not end at entry {end.count} as its head says: entries were changed or inserted at the end"
    if noted and noted.count > at.count:
        yield f"{noted.count} entries were noted, but there are only {at.count}"


def _recomputed(row: RowMapping) -> str | None:
    """The digest that a stored entry should have; None if what is stored there is no entry at all."""
    try:
        return digest_of({**row, "details": parsed(row["details"])})
    except (TypeError, ValueError):
        return None


def _matches(row: RowMapping) -> bool:
    try:
        details = parsed(row["details"])
    except ValueError:
        return False
    expected = _change_details(row)
    return isinstance(details, dict) and {k: details.get(k) for k in expected} == expected


def _change_faults(session: Session) -> Iterator[str]:
    sealed = select(
        *_raw(session, _CHANGE), _ENTRY.c.sequence, *(c for c in _raw(session, _ENTRY) if c.name == "details")
    ).outerjoin(_ENTRY, _ENTRY.c.change_id == _CHANGE.c.changeid)
    sealed = sealed.where(_CHANGE.c.changeid.not_in(select(_UNSEALED.c.changeid)))
    for row in _stream(session, sealed.order_by(_CHANGE.c.changeid)):
        if row["sequence"] is None:
            yield f"change {row['changeid']} of field {row['extrafieldid']} was never sealed: it was kept out of the trail"
        elif not _matches(row):
            yield f"change {row['changeid']} no longer matches entry {row['sequence']}"
    removed = (
        select(_ENTRY.c.sequence, _ENTRY.c.change_id)
        .outerjoin(_CHANGE, _ENTRY.c.change_id == _CHANGE.c.changeid)
        .where(_ENTRY.c.change_id.is_not(None), _CHANGE.c.changeid.is_(None))
    )
    for row in _stream(session, removed):
        yield f"change {row['change_id']}, which entry {row['sequence']} sealed, was removed"
    yield from _value_faults(session)


def _value_faults(session: Session) -> Iterator[str]:
    """Values that differ from the last logged change: written while the triggers were off."""
    latest = (
        select(_CHANGE.c.newvalue)
        .where(_CHANGE.c.extrafieldid == _DATA.c.extrafieldid, _CHANGE.c.id == _DATA.c.id)
        .order_by(_CHANGE.c.changeid.desc())
        .limit(1)
        .scalar_subquery()
    )
    for row in _stream(session, select(_DATA.c.extrafieldid, _DATA.c.id, _DATA.c.value, latest.label("logged"))):
        if row["logged"] != row["value"] and not (row["logged"] == MASK and row["value"].startswith("enc:")):
            yield f"the value of field {row['extrafieldid']} for place {row['id']} was changed without a trace in the log"


def _stream(session: Session, query: Any) -> Iterator[RowMapping]:
    return iter(session.execute(query, execution_options={"yield_per": 1000}).mappings())


def _raw(session: Session, table: Table) -> list[ColumnElement[Any]]:
    return _as_stored(session.get_bind().dialect.name, table)


def _as_stored(dialect: str, table: Table) -> list[ColumnElement[Any]]:
    """The columns as they are stored: SQLite keeps what somebody wrote there, and reading it must not fail for that."""
    if dialect != "sqlite":
        return list(table.columns)
    return [type_coerce(c, Text).label(c.name) if isinstance(c.type, (JSON, UTCDateTime)) else c for c in table.columns]
