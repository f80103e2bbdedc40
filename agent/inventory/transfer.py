"""Import and export of clients, locations, computers, contacts and software, with their extra fields (`field:NAME`).

A row is stored or brought up to date by its external id; a contact that was added by hand gets that of its row, see
`transfer_joining`. Columns that are absent stay as they are; an empty `field:` cell leaves the field as it is. A file that is
behind takes nothing back: a later contact stays, and so does a retirement. All of a file is stored, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from sqlmodel import Session, col, select

from agent import audit
from agent.errors import ImportLineError, ImportRefused, NotFound
from agent.inventory.columns import near
from agent.inventory.extra_fields import fields
from agent.inventory.transfer_files import file_format, read_rows, whole_file, write_rows
from agent.inventory.transfer_import import Importer
from agent.inventory.transfer_kinds import FIELD_PREFIX, KINDS, Kind
from agent.model.administration import Credential
from agent.model.fields import ExtraFieldData, FieldType
from agent.model.places import Client, Computer, Contact, Location

MOST_FAULTS = 100
_CHUNK = 500


@dataclass(frozen=True)
class ImportCounts:
    """How many rows an import made, changed, found as they are, and took over from contacts that were added by hand."""

    created: int
    changed: int
    unchanged: int
    joined: int = 0
    #: Up to 100 of those that were taken over, each with its line and contact.
    joins: tuple[str, ...] = ()


def import_file(
    session: Session, kind: str, path: Path, *, actor: str, dry_run: bool = False, allow_move: bool = False
) -> ImportCounts:
    """Import a `.csv` or `.json` file of a kind of `KINDS`; what became (with `dry_run`: would become) of its rows.

    Raises ImportRefused with up to 100 faults, each with its line and column; nothing is stored then. A computer or
    contact that would get to another client is such a fault unless `allow_move`.
    """
    with session.begin_nested() as savepoint:
        importer = Importer(session, _kind(kind), str(path), actor, allow_move)
        _read(importer, path)
        importer.finish()
        if importer.faults:
            faults = sorted(importer.faults, key=lambda fault: fault.line)[:MOST_FAULTS]
            raise ImportRefused(faults, more=len(importer.faults) >= MOST_FAULTS)
        counts = ImportCounts(
            importer.created, importer.changed, importer.unchanged, importer.joining.count, tuple(importer.joining.told)
        )  # fmt: skip
        if dry_run:
            savepoint.rollback()
        elif counts.created or counts.changed or counts.joined:
            details = {
                "created": counts.created, "changed": counts.changed, "unchanged": counts.unchanged, "joined": counts.joined
            }  # fmt: skip
            audit.record(
                session, actor=actor, action="inventory.import", object_kind=kind, object_id=path.name, details=details
            )
    session.expire_all()
    return counts


def export_file(session: Session, kind: str, path: Path, *, client_id: int | None = None) -> int:
    """Write all rows of a kind (of one client) to a `.csv` or `.json` file, which appears complete or not at all."""
    with whole_file(path) as stream:
        return export(session, kind, stream, file_format(path), client_id=client_id)


def export(session: Session, kind: str, stream: TextIO, format: str, *, client_id: int | None = None) -> int:
    """Write all rows of a kind (of one client) to a stream as `csv` or `json`; how many. Secrets are left out."""
    found = _kind(kind)
    of_level = [] if found.form is None else [f for f in fields(session, found.form) if f.ftype != FieldType.SECRET]
    names = {f.id: FIELD_PREFIX + f.name for f in of_level}
    return write_rows(stream, format, [*found.own_columns, *names.values()], _rows(session, found, names, client_id))


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise NotFound(f"{name!r} cannot be imported or exported, but {', '.join(KINDS)} can" + near(name, list(KINDS)))
    return KINDS[name]


def _read(importer: Importer, path: Path) -> None:
    chunk: list[tuple[int, dict[str, str]]] = []
    try:
        for number, (line, row) in enumerate(read_rows(path)):
            importer.check_columns(line, row)
            if file_format(path) == "csv" and number == 0:
                continue
            if not importer.can_tell(row):
                return
            chunk.append((line, row))
            if len(chunk) == _CHUNK:
                importer.take(chunk)
                chunk = []
            if len(importer.faults) >= MOST_FAULTS:
                return
        importer.take(chunk)
    except ImportLineError as fault:
        # Nothing behind it can be understood.
        importer.take(chunk)
        importer.faults.append(fault)


def _rows(
    session: Session, kind: Kind, names: Mapping[int | None, str], client_id: int | None
) -> Iterator[dict[str, Any]]:
    """Rows in the order of their ids, read in pages."""
    model = kind.model
    key_name = f"{model.__name__.lower()}_id"
    key = col(getattr(model, key_name))
    last = 0
    while True:
        query = select(model).where(key > last).order_by(key).limit(_CHUNK)
        if client_id is not None:
            of_client = select(Computer.computer_id).where(Computer.client_id == client_id)
            persons = select(Contact.contact_id).where(Contact.client_id == client_id)
            if kind.name == "software":
                query = query.where(col(model.computer_id).in_(of_client))
            elif kind.name == "equipment":
                query = query.where(col(model.contact_id).in_(persons))
            else:
                query = query.where(col(model.client_id) == client_id)
        page = list(session.exec(query))
        if not page:
            return
        ids = [getattr(item, key_name) for item in page]
        refers, values = _referred(session, kind, page), _values(session, ids, names)
        for item, identity in zip(page, ids, strict=True):
            row: dict[str, Any] = {name: _shown(kind, name, getattr(item, name)) for name in kind.columns}
            row |= dict.fromkeys(names.values()) | refers[identity] | values.get(identity, {})
            yield row
        last = ids[-1]


def _shown(kind: Kind, name: str, value: Any) -> Any:
    """Booleans, numbers and objects keep their type for JSON; times become text."""
    return value if isinstance(value, (bool, int, dict)) or value is None else kind.columns[name].show(value)


def _values(session: Session, ids: list[int], names: Mapping[int | None, str]) -> dict[int, dict[str, str]]:
    query = select(ExtraFieldData.extra_field_id, ExtraFieldData.id, ExtraFieldData.value).where(
        col(ExtraFieldData.id).in_(ids), col(ExtraFieldData.extra_field_id).in_(list(names))
    )
    found: dict[int, dict[str, str]] = {}
    for field, place, value in session.exec(query):
        found.setdefault(place, {})[names[field]] = value
    return found


def _referred(session: Session, kind: Kind, page: list[Any]) -> dict[int, dict[str, str | None]]:
    """Row id -> what its references are called in a file: external ids, and a credential's name."""
    models = {
        "client": Client, "location": Location, "computer": Computer, "credential": Credential, "contact": Contact,
        "manager": Contact,
    }  # fmt: skip
    key = f"{kind.model.__name__.lower()}_id"
    result: dict[int, dict[str, str | None]] = {getattr(item, key): {} for item in page}
    for name in (*kind.refers, *kind.late):
        model: Any = models[name]
        identity = col(model.id if name == "credential" else getattr(model, f"{model.__name__.lower()}_id"))
        wanted = {getattr(item, f"{name}_id") for item in page}
        shown = model.name if name == "credential" else model.external_id
        called = {row[0]: row[1] for row in session.execute(select(identity, shown).where(identity.in_(wanted)))}
        for item in page:
            result[getattr(item, key)][name] = called.get(getattr(item, f"{name}_id"))
    return result
