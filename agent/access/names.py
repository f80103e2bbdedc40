"""Names of people: what may be one, and that none is ever given to a second person, whatever its case."""

from __future__ import annotations

import unicodedata

from sqlmodel import Session, col, select

from agent.errors import Conflict, NotFound, UsageError
from agent.model.access import User, UserName

MOST_LENGTH = 100
#: What the audit trail calls those who are no person.
_RESERVED = frozenset({"system", "plain sql", "nobody", "worker"})


def checked(name: str) -> str:
    """The name. Raises UsageError when it cannot be one: lists of names are written with commas, actors with colons."""
    if (
        not name
        or name != name.strip()
        or not name.isprintable()
        or len(name) > MOST_LENGTH
        or set(name) & set(",:/\\")
    ):
        raise UsageError(
            f"{name[:MOST_LENGTH]!r} is no user name: one line of at most {MOST_LENGTH} characters without comma, colon and slashes"
        )
    if key(name) in _RESERVED:
        raise UsageError(f"{name!r} is reserved: choose another name")
    return name


def key(name: str) -> str:
    """What two names have in common that people would take for the same."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def is_taken(session: Session, name: str) -> bool:
    """Whether somebody has or had that name."""
    return session.get(UserName, key(name)) is not None


def take(session: Session, name: str, user: User) -> None:
    """Give the name to the user, for good. Raises UsageError, Conflict when another person has or had it."""
    present = session.get(UserName, key(checked(name)))
    if present is not None and present.user_id != user.id:
        raise Conflict(
            f"the name {name!r} is or was another person's: it stays theirs in the audit trail; choose another"
        )
    user.name = name
    session.add(user)
    session.flush()
    if present is None:
        session.add(UserName(key=key(name), user_id=user.id))
        session.flush()


def by_name(session: Session, name: str) -> User | None:
    """The person who has that name now, in any case."""
    taken = session.get(UserName, key(name)) if name.isprintable() else None
    user = session.get(User, taken.user_id) if taken else None
    return user if user is not None and key(user.name) == key(name) else None


def find(session: Session, reference: str) -> User:
    """The person with that name or id. Raises NotFound."""
    user = by_name(session, reference) or session.exec(select(User).where(col(User.id) == reference)).first()
    if user is None:
        raise NotFound(f"there is no user {reference!r}; `exeunt user list` shows them")
    return user
