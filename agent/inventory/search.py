"""Places by words: each word that is typed begins a word of the name, an id, a mail address or a user's name.

`ada@con` finds `ada@contoso.example`, `byron ada` finds `Ada Byron`, `pc1` finds `CONTOSO-PC1`; case does not count. SQLite
answers from an FTS5 table that triggers keep, PostgreSQL from text-search indexes (migration 0006): both by the same
words, and in the order of the places' ids, so that a part of the answer costs no more than its rows.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from sqlalchemy import Integer, Select, Text, column, false, func, literal_column, table, text
from sqlmodel import Session, col

from agent.inventory.lookup import FORMS, key
from agent.model.places import Client, Computer, Contact, Location

#: `rowid` of a place in the words is its level times this, plus its id.
PLACES_OF_LEVEL = 10**12
#: More words than this are not looked at.
MOST_WORDS = 8
_WORDS = table("placewords", column("rowid", Integer), column("words", Text))
#: As in migration 0006: PostgreSQL takes the index only for the very same expression.
_SEARCHED: dict[type, tuple[str, ...]] = {
    Client: ("name", "slug", "externalid"),
    Location: ("name", "externalid"),
    Computer: ("name", "externalid", "username", "address", "domain"),
    Contact: (
        "name", "firstname", "lastname", "email", "upn", "employeeid", "externalid", "CAST({}.externalids AS TEXT)",
    ),
}  # fmt: skip


def words_of(typed: str) -> list[str]:
    """The words of what somebody typed: letters and digits, small, at most `MOST_WORDS`."""
    return re.findall(r"[^\W_]+", typed.lower())[:MOST_WORDS]


def matching(
    session: Session, query: Select[Any], model: type[Any], typed: str, clients: Collection[int] | None
) -> tuple[Select[Any], Any]:
    """The query kept to places that fit, and the column to order and page by. `clients`: ids that count; None: all.

    What holds no word fits nothing.
    """
    words = words_of(typed)
    if not words or (clients is not None and not clients):
        return query.where(false()), key(model)
    if session.get_bind().dialect.name == "sqlite":
        first = int(FORMS[model]) * PLACES_OF_LEVEL
        asked = " AND ".join(f'words : "{word}" *' for word in words)
        if clients is not None:
            asked += " AND client : (" + " OR ".join(f'"c{int(c)}"' for c in sorted(clients)) + ")"
        query = query.join(_WORDS, key(model) == _WORDS.c.rowid - literal_column(str(first)))
        query = query.where(
            text("placewords MATCH :asked").bindparams(asked=asked),
            _WORDS.c.rowid.between(literal_column(str(first + 1)), literal_column(str(first + PLACES_OF_LEVEL - 1))),
        )
        return query, _WORDS.c.rowid
    asked = " & ".join(f"{word}:*" for word in words)
    name = str(model.__tablename__)
    columns = (c.format(name) if c.startswith("CAST") else f"{name}.{c}" for c in _SEARCHED[model])
    of_table: Any = literal_column(" || ' ' || ".join(columns), Text)
    query = query.where(func.exeunt_words(of_table).op("@@")(func.to_tsquery(text("'pg_catalog.simple'"), asked)))
    if clients is not None:
        query = query.where(col(model.client_id).in_(sorted(clients)))
    return query, key(model)
