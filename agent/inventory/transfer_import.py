"""One import under way: rows are judged in chunks, compared with what is stored, and written; faults are collected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import insert, text, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from agent import audit
from agent.errors import ClientMismatch, Conflict, ImportLineError, NotFound, UsageError
from agent.inventory.columns import near
from agent.inventory.extra_fields import fields
from agent.inventory.field_values import aliases_of, checked_value
from agent.inventory.places import SLUG_STAYS, free_slug
from agent.inventory.transfer_joining import CannotJoin, Joining
from agent.inventory.transfer_kinds import FIELD_PREFIX, Kind
from agent.inventory.transfer_managers import Managers
from agent.inventory.transfer_references import References
from agent.model.base import utcnow
from agent.model.fields import ExtraField, ExtraFieldData, FieldType
from agent.model.places import Client, Computer, Contact

_UPSERT = text(
    "INSERT INTO extrafielddata (extrafieldid, id, value, changedby) VALUES (:field, :place, :value, :actor)"
    " ON CONFLICT (extrafieldid, id) DO UPDATE SET value = excluded.value, changedby = excluded.changedby"
)


@dataclass
class _Row:
    """A row that was understood. `stored` is what the database has for it, if anything."""

    line: int
    values: dict[str, Any]
    fields: dict[int, str]
    stored: Any = None
    #: `stored` was added by hand, and gets its external id now.
    joined: bool = False
    changes: dict[str, Any] = field(default_factory=dict)


class Importer:
    """Takes chunks of rows. While there is no fault each chunk is written within the caller's transaction."""

    def __init__(self, session: Session, kind: Kind, file: str, actor: str, allow_move: bool) -> None:
        self.faults: list[ImportLineError] = []
        self.created = self.changed = self.unchanged = 0
        self._session, self._kind, self._file, self._actor = session, kind, file, actor
        self._allow_move = allow_move
        self._references = References(session)
        self._managers = Managers(session, actor)
        self.joining = Joining(session)
        of_level = fields(session, kind.form) if kind.form is not None else []
        self._fields: dict[str, ExtraField] = {FIELD_PREFIX + f.name: f for f in of_level}
        self._aliases = {f.id: aliases_of(session, f) for f in of_level}
        self._lines: dict[tuple[Any, ...], int] = {}
        self._slugs = (
            dict(session.exec(select(Client.slug, Client.external_id)).all()) if kind.name == "clients" else {}
        )
        self._judged: set[frozenset[str]] = set()
        #: Lines whose row was stored as it is already.
        self._same: set[int] = set()
        self._key = f"{kind.model.__name__.lower()}_id"

    def check_columns(self, line: int, row: Mapping[str, str]) -> None:
        """Refuse columns that mean nothing here, and a row that cannot be told from others."""
        names = frozenset(row)
        if names in self._judged:
            return
        self._judged.add(names)
        known = [*self._kind.own_columns, *self._fields]
        for name in row:
            if name not in known:
                self._fault(line, name, f"there is no such column for {self._kind.name}" + near(name, known))
            elif name in self._fields and self._fields[name].ftype == FieldType.SECRET:
                self._fault(line, name, "a secret is not imported: set it with `exeunt edf set`")
        for name in self._kind.identity:
            if name not in row and name != "version":
                self._fault(line, name, "this column is needed: it tells which row is meant")

    def can_tell(self, row: Mapping[str, str]) -> bool:
        """Whether a row has the columns that say which one it is; without them nothing more can be judged."""
        return all(name in row for name in self._kind.identity if name != "version")

    def take(self, chunk: Sequence[tuple[int, Mapping[str, str]]]) -> None:
        """Judge a chunk of rows, and write it unless there was a fault in this or an earlier one."""
        for kind in ("client", "location", "computer", "contact"):
            if kind in self._kind.refers:
                self._references.prefetch(kind, (row.get(kind, "") for _, row in chunk))
        rows = [row for line, raw in chunk if (row := self._understood(line, raw)) is not None]
        self._compare(rows)
        if self.faults or not rows:
            return
        try:
            with self._session.begin_nested():
                self._write(rows)
        except IntegrityError as error:
            reason = str(error.orig).splitlines()[0]
            where = f" or one of the next {len(rows) - 1}" if len(rows) > 1 else ""
            self._fault(rows[0].line, None, f"the database refused this line{where}: {reason}")

    def finish(self) -> None:
        """Look up what names another row of the same file, now that all of them are stored."""
        if self.faults:
            return
        for line, column, reason in self.joining.settle(self._lines):
            self._fault(line, column, reason)
        if self.faults:
            return
        for line, reason in self._managers.settle():
            self._fault(line, "manager", reason)
        also = self._managers.changed & self._same
        self.changed, self.unchanged = self.changed + len(also), self.unchanged - len(also)

    def _fault(self, line: int, column: str | None, reason: str) -> None:
        self.faults.append(ImportLineError(reason, file=self._file, line=line, column=column))

    def _understood(self, line: int, raw: Mapping[str, str]) -> _Row | None:
        before = len(self.faults)
        row = _Row(line, {}, {})
        for name, cell in raw.items():
            try:
                if name in self._kind.columns:
                    row.values[name] = self._kind.columns[name].read(cell)
                elif name in self._fields and cell != "":
                    extra = self._fields[name]
                    row.fields[extra.id or 0] = checked_value(self._session, extra, cell, self._aliases[extra.id])
            except (ValueError, UsageError) as error:
                self._fault(line, name, str(error))
        self._refer(row, raw)
        if len(self.faults) > before:
            return None
        identity = self._identity(row.values)
        if identity in self._lines:
            self._fault(line, self._kind.identity[0], f"line {self._lines[identity]} is about the same one")
            return None
        self._lines[identity] = line
        if "manager" in self._kind.late:
            self._managers.note(line, row.values["external_id"], raw)
        return row

    def _refer(self, row: _Row, raw: Mapping[str, str]) -> None:
        """Turn names of other things into their ids."""
        for name in self._kind.refers:
            cell = raw.get(name)
            if cell is None:
                continue
            if cell == "":
                if name in self._kind.needed or (name == "client" and not raw.get("location")):
                    self._fault(row.line, name, "it must not be empty")
                elif name != "client":
                    row.values[f"{name}_id"] = None
                continue
            try:
                if name == "credential":
                    row.values["credential_id"] = self._references.credential(cell)
                    continue
                client_id = row.values.get("client_id")
                identity, its_client = self._references.place(name, cell, client_id)
            except (NotFound, Conflict) as error:
                self._fault(row.line, name, str(error))
                continue
            row.values[f"{name}_id"] = identity
            if name == "location":
                if client_id not in (None, its_client):
                    self._fault(
                        row.line, name, f"the location {cell!r} belongs to another client than the one given here"
                    )
                row.values["client_id"] = its_client

    def _identity(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        if "computer" in self._kind.identity:
            return values["computer_id"], values["name"], values.setdefault("version", "")  # type: ignore[attr-defined]
        return (values["external_id"],)

    def _stored(self, rows: Sequence[_Row]) -> dict[tuple[Any, ...], Any]:
        model = self._kind.model
        name = "computer_id" if "computer" in self._kind.identity else "external_id"
        query = select(model).where(col(getattr(model, name)).in_({row.values[name] for row in rows}))
        return {self._identity(item.model_dump()): item for item in self._session.exec(query)}

    def _compare(self, rows: Sequence[_Row]) -> None:
        stored = self._stored(rows) if rows else {}
        for row in rows:
            row.stored = stored.get(self._identity(row.values)) or self._joined(row)
            if row.stored is None:
                self._check_new(row)
            else:
                row.changes = {
                    n: v for n, v in row.values.items() if getattr(row.stored, n) != v and not _stale(row.stored, n, v)
                }
                self._check_move(row)
            if self._kind.name == "clients" and "slug" in row.values:
                self._check_slug(row)
            if self._kind.name == "computers":
                self._check_credential(row)

    def _joined(self, row: _Row) -> Contact | None:
        """The contact that was added by hand and is meant by a row with a new external id."""
        if self._kind.name != "contacts":
            return None
        try:
            found = self.joining.contact(row.line, row.values)
        except CannotJoin as error:
            self._fault(row.line, error.column, str(error))
            return None
        row.joined = found is not None
        return found

    def _check_new(self, row: _Row) -> None:
        if self._kind.name == "contacts" and not row.values.get("name"):
            parts = (row.values.get("first_name"), row.values.get("last_name"))
            row.values["name"] = " ".join(part for part in parts if part)
        for name in self._kind.needed:
            if row.values.get(f"{name}_id" if name in self._kind.refers else name) in (None, ""):
                self._fault(row.line, name, f"a new row of {self._kind.name} needs this column")
        if self._kind.name == "clients" and row.values.get("name"):
            row.values.setdefault("slug", free_slug(self._session, row.values["name"], taken=self._slugs))
        if self._kind.name == "computers":
            row.values.setdefault("date_added", utcnow())

    def _check_move(self, row: _Row) -> None:
        moved = "client_id" in row.changes
        if moved and not self._allow_move:
            self._fault(
                row.line, "location" if "location" in self._kind.refers else "client",
                f"it belongs to another client: {row.stored.name!r} would move, which must be allowed explicitly",
            )  # fmt: skip
        if moved and self._kind.name == "locations" and _holds_something(self._session, row.stored.location_id):
            self._fault(row.line, "client", "a location with computers or contacts stays with its client")
        if moved and self._kind.name in ("computers", "contacts") and "location_id" not in row.values:
            self._fault(row.line, "location", "a move to another client needs the new location")

    def _check_slug(self, row: _Row) -> None:
        if row.stored is not None and row.values["slug"] != row.stored.slug:
            self._fault(row.line, "slug", SLUG_STAYS)
            return
        owner = self._slugs.setdefault(row.values["slug"], row.values["external_id"])
        if owner != row.values["external_id"]:
            self._fault(row.line, "slug", f"the client {owner!r} has the slug {row.values['slug']!r} already")

    def _check_credential(self, row: _Row) -> None:
        after = {**(row.stored.model_dump() if row.stored else {}), **row.values}
        try:
            if after.get("client_id") and after.get("location_id"):
                self._references.check_credential(after.get("credential_id"), after["client_id"], after["location_id"])
        except ClientMismatch as error:
            self._fault(row.line, "credential", str(error))

    def _write(self, rows: Sequence[_Row]) -> None:
        model, new = self._kind.model, [row for row in rows if row.stored is None]
        acts = [self._act(row) for row in rows if row.changes]
        changed = [{self._key: getattr(row.stored, self._key), **row.changes} for row in rows if row.changes]
        if changed:
            self._session.execute(update(model), changed)
        if new:
            self._session.execute(insert(model), [row.values for row in new])
            made = self._stored(new)
            for row in new:
                row.stored = made[self._identity(row.values)]
            acts += [self._act(row, new=True) for row in new]
        touched = self._write_fields(rows)
        self.created += len(new)
        differing = {row.line for row in rows if row.changes or row.line in touched} - {row.line for row in new}
        self._same |= {row.line for row in rows if row.stored is not None} - differing - {row.line for row in new}
        self.changed += len(differing) - sum(row.joined for row in rows)
        self.unchanged += len(rows) - len(new) - len(differing)
        audit.record_all(self._session, [] if self._kind.name == "software" else acts, actor=self._actor)

    def _write_fields(self, rows: Sequence[_Row]) -> set[int]:
        """Store the values of fields that differ; the lines that have one."""
        with_fields = [row for row in rows if row.fields]
        if not with_fields:
            return set()
        ids = {row.line: getattr(row.stored, self._key) for row in with_fields}
        query = select(ExtraFieldData.extra_field_id, ExtraFieldData.id, ExtraFieldData.value).where(
            col(ExtraFieldData.id).in_(ids.values()),
            col(ExtraFieldData.extra_field_id).in_({number for row in with_fields for number in row.fields}),
        )
        stored = {(number, place): value for number, place, value in self._session.exec(query)}
        writes = [
            (row.line, {"field": number, "place": ids[row.line], "value": value, "actor": self._actor})
            for row in with_fields
            for number, value in row.fields.items()
            if stored.get((number, ids[row.line])) != value
        ]
        if writes:
            self._session.execute(_UPSERT, [values for _, values in writes])
        return {line for line, _ in writes}

    def _act(self, row: _Row, *, new: bool = False) -> audit.Act:
        word = self._kind.model.__name__.lower()
        if new:
            action, details = "add", row.values
        else:
            action = "move" if "client_id" in row.changes else "change"
            details = {"old": {name: getattr(row.stored, name) for name in row.changes}, "new": row.changes}
            details |= {"joined": True} if row.joined else {}
        client_id = row.values.get("client_id") or getattr(row.stored, "client_id", None)
        name = {"name": getattr(row.stored, "name", None), "imported": True}
        return audit.Act(f"{word}.{action}", word, getattr(row.stored, self._key), client_id, {**name, **details})


def _stale(stored: Any, name: str, value: Any) -> bool:
    """Whether a file is behind what happened since: a contact is not taken back, nor is a retirement."""
    if name not in ("last_contact", "booted_at", "retired_at"):
        return False
    known = getattr(stored, name)
    return known is not None and (value is None or (name != "retired_at" and value < known))


def _holds_something(session: Session, location_id: int) -> bool:
    computer = session.exec(select(Computer).where(Computer.location_id == location_id).limit(1)).first()
    return bool(computer or session.exec(select(Contact).where(Contact.location_id == location_id).limit(1)).first())
