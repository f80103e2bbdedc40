"""Which roles a person has where, and that an unrestricted administrator always remains."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import func, or_
from sqlmodel import Session, col, delete, select
from sqlmodel.sql.expression import SelectOfScalar

from agent import audit
from agent.access.principal import Grant, Permission, Principal, Role
from agent.errors import Conflict, NotFound
from agent.model.access import User, UserGrant
from agent.model.places import Client

LOCAL = "local"
#: Given by the identity provider; renewed at each sign-in.
OIDC = "oidc"


def grants_of(session: Session, user_id: str, *, source: str | None = None) -> list[Grant]:
    """A person's grants, of one source or of all, in a fixed order."""
    query = select(UserGrant).where(UserGrant.user_id == user_id)
    if source is not None:
        query = query.where(UserGrant.source == source)
    return _ordered(Grant(Role(row.role), row.client_id) for row in session.exec(query))


def principal_of(session: Session, user: User, *, scopes: frozenset[Permission] | None = None) -> Principal:
    """The person as everything asks for it; a disabled one may do nothing."""
    grants = () if user.disabled_at is not None else tuple(grants_of(session, user.id))
    return Principal(user.id, user.name, grants, scopes)


def put(session: Session, user: User, wanted: Collection[Grant], *, source: str, actor: str) -> None:
    """Replace a person's grants of one source; old and new go to the audit trail.

    Raises NotFound for a client that does not exist, Conflict when no unrestricted administrator would remain.
    """
    lock_administrators(session)
    old, new = grants_of(session, user.id, source=source), _ordered(wanted)
    if old == new:
        return
    asked = {g.client_id for g in new if g.client_id is not None}
    missing = asked - set(session.exec(select(Client.client_id).where(col(Client.client_id).in_(asked))))
    if missing:
        raise NotFound(f"there is no client with the id {min(missing)}")
    session.execute(delete(UserGrant).where(col(UserGrant.user_id) == user.id, col(UserGrant.source) == source))
    session.add_all(UserGrant(user_id=user.id, role=g.role, client_id=g.client_id, source=source) for g in new)
    session.flush()
    if source == LOCAL and Grant(Role.ADMINISTRATOR) in old:
        require_administrator(session)
    audit.record(
        session, actor=actor, action="user.grants", object_kind="user", object_id=user.id,
        details={"name": user.name, "source": source, "old": told(old), "new": told(new)},
    )  # fmt: skip


def told(grants: Iterable[Grant]) -> list[dict[str, str | int | None]]:
    """Grants as the audit trail holds them."""
    return [{"role": g.role.value, "client_id": g.client_id} for g in grants]


def lock_administrators(session: Session) -> None:
    """Two people who remove each other wait for each other (PostgreSQL; SQLite has one writer anyway)."""
    session.exec(_administrators().order_by(col(UserGrant.id)).with_for_update()).all()


def require_administrator(session: Session) -> None:
    """Raises Conflict when nobody is left who can sign in and administer the whole server."""
    able = or_(col(User.password_hash).is_not(None), col(User.subject).is_not(None))
    left = session.scalar(
        select(func.count()).select_from(
            _administrators()
            .join(User, col(User.id) == col(UserGrant.user_id))
            .where(col(User.disabled_at).is_(None), able)
            .subquery()
        )
    )
    if not left:
        raise Conflict("this is the last administrator of the whole server: make somebody else one first")


def _administrators() -> SelectOfScalar[UserGrant]:
    return select(UserGrant).where(UserGrant.role == Role.ADMINISTRATOR, col(UserGrant.client_id).is_(None))


def _ordered(grants: Iterable[Grant]) -> list[Grant]:
    return sorted(set(grants), key=lambda g: (g.client_id is not None, g.client_id or 0, g.role))
