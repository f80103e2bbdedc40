"""Managers of imported contacts: other contacts of the same client, which may come later in the same file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import or_, update
from sqlmodel import Session, col, select

from agent import audit
from agent.inventory.lookup import place_id
from agent.model.places import Contact

_CHUNK = 300


@dataclass(frozen=True)
class _Wish:
    line: int
    external_id: str
    #: What the file says: an external id or an e-mail address; empty: nobody.
    name: str
    #: The file must be right about it; the column `manager_email` may name somebody who is no contact here.
    strict: bool


class Managers:
    """Who is whose manager, noted while rows are read and settled when all are stored."""

    def __init__(self, session: Session, actor: str) -> None:
        self._session, self._actor = session, actor
        self._wishes: list[_Wish] = []
        #: Lines whose contact got another manager.
        self.changed: set[int] = set()

    def note(self, line: int, external_id: str, raw: Mapping[str, str]) -> None:
        """Remember what a row says: the column `manager`, else an address in `manager_email`."""
        if "manager" in raw:
            self._wishes.append(_Wish(line, external_id, raw["manager"].strip(), strict=True))
        elif raw.get("manager_email", "").strip():
            self._wishes.append(_Wish(line, external_id, raw["manager_email"].strip(), strict=False))

    def settle(self) -> Iterator[tuple[int, str]]:
        """Store the managers; (line, reason) for each that is not found, or fits more than one contact."""
        for start in range(0, len(self._wishes), _CHUNK):
            yield from self._settle(self._wishes[start : start + _CHUNK])

    def _settle(self, wishes: Sequence[_Wish]) -> Iterator[tuple[int, str]]:
        persons = {c.external_id: c for c in self._by_external_id({w.external_id for w in wishes})}
        candidates = self._candidates({w.name for w in wishes if w.name})
        acts: list[audit.Act] = []
        for wish in wishes:
            person = persons[wish.external_id]
            found = {
                c.contact_id
                for c in candidates
                if c.client_id == person.client_id
                and (c.external_id == wish.name or c.email.lower() == wish.name.lower())
            } if wish.name else set()  # fmt: skip
            if wish.name and len(found) != 1:
                if wish.strict:
                    many = "fits more than one contact" if found else "is no contact of the same client"
                    yield wish.line, f"{wish.name!r} {many}: name the manager by external id or e-mail address"
                continue
            manager_id = next(iter(found), None)
            if manager_id is not None and manager_id == person.contact_id:
                if wish.strict:
                    yield wish.line, "nobody is their own manager"
                continue
            if manager_id != person.manager_id:
                acts.append(self._store(wish, person, manager_id))
        audit.record_all(self._session, acts, actor=self._actor)

    def _store(self, wish: _Wish, person: Contact, manager_id: int | None) -> audit.Act:
        change = update(Contact).where(col(Contact.contact_id) == person.contact_id).values(managerid=manager_id)
        self._session.execute(change.execution_options(synchronize_session=False))
        self.changed.add(wish.line)
        details = {
            "name": person.name, "imported": True,
            "old": {"manager_id": person.manager_id}, "new": {"manager_id": manager_id},
        }  # fmt: skip
        return audit.Act("contact.change", "contact", place_id(person), person.client_id, details)

    def _by_external_id(self, names: set[str]) -> Sequence[Contact]:
        query = select(Contact).where(col(Contact.external_id).in_(names))
        return self._session.exec(query.execution_options(populate_existing=True)).all()

    def _candidates(self, names: set[str]) -> Sequence[Contact]:
        spellings = names | {name.lower() for name in names}
        either = or_(col(Contact.external_id).in_(names), col(Contact.email).in_(spellings))
        return self._session.exec(select(Contact).where(either)).all() if names else []
