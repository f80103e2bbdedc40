"""People who may sign in, their roles and sessions; and tokens for programs."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from agent.access import links, sessions, tokens, totp, users
from agent.access.principal import Grant, Permission, Principal, Role
from agent.access.tokens import TokenView
from agent.access.users import UserView
from agent.errors import Forbidden, NotFound
from agent.installation import Installation
from agent.model.access import User
from agent.web.api.common import MOST_ID, Answer, Body, Done, RecordId, api_router
from agent.web.api.once import SECRET
from agent.web.asking import Here, Who

router = api_router("users")


class GrantModel(Answer):
    """A role at a client; null: at all clients."""

    role: Role
    client_id: int | None = Field(None, ge=1, le=MOST_ID)


class UserOut(Answer):
    """A person. No hash, no secret."""

    id: str
    name: str
    email: str | None
    grants: list[GrantModel]
    has_password: bool
    has_totp: bool
    issuer: str | None
    disabled_at: datetime | None
    locked_until: datetime | None
    last_sign_in_at: datetime | None
    created_at: datetime
    created_by: str


class UserIn(Body):
    """A new person, who sets a password by a link."""

    name: str = Field(min_length=1, max_length=100, examples=["ana"])
    email: str | None = Field(None, max_length=254)
    grants: list[GrantModel] = Field(default_factory=list, max_length=500)


class Rename(Body):
    """What the person shall be called; nobody else ever gets the old name."""

    name: str = Field(min_length=1, max_length=100)


class Grants(Body):
    """The person's own roles; those of the identity provider stay as they are."""

    grants: list[GrantModel] = Field(max_length=500)


class Link(Answer):
    """A link with which the person sets a password, once, within a day. It is shown only now."""

    path: str
    address: str | None = Field(description="With the console's address, where a setting says it")


class Me(Answer):
    """Who asks."""

    user_id: str
    name: str
    grants: list[GrantModel]
    scopes: list[Permission] | None = Field(description="What the token is limited to; null: no limit")


class TokenOut(Answer):
    """A token. `hint` is its beginning."""

    id: str
    user: str
    name: str
    hint: str
    scopes: list[str] | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class TokenIn(Body):
    """A new token, of oneself or (for administrators of the whole server) of somebody else."""

    name: str = Field(min_length=1, max_length=100, description="What it is for", examples=["nightly report"])
    scopes: list[Permission] | None = Field(
        None, description="What it may be used for; null: all that its person may do"
    )
    days: int = Field(90, ge=1, le=tokens.MOST_DAYS)
    user_id: str | None = Field(None, pattern="^[0-9a-f]{16}$")


class NewToken(Answer):
    """The token. It is shown only now."""

    id: str
    token: str


@router.get("/me")
def who_am_i(who: Who) -> Me:
    """Who the token or session is of, and what it may be used for."""
    scopes = None if who.scopes is None else sorted(who.scopes)
    return Me(user_id=who.user_id, name=who.name, grants=_grants(who.grants), scopes=scopes)


@router.get("/users")
def list_users(here: Here, who: Who) -> list[UserOut]:
    """All people by name, the disabled ones too."""
    who.require(Permission.ADMINISTER)
    with here.database.reading() as session:
        return [_user(u) for u in users.list_users(session)]


@router.post("/users", status_code=201)
def add_user(here: Here, who: Who, body: UserIn) -> UserOut:
    """Add a person. Ask for a password link next."""
    who.require(Permission.ADMINISTER)
    wanted = [Grant(g.role, g.client_id) for g in body.grants]
    made = users.create(here, body.name, email=body.email, wanted=wanted, actor=who.name)
    return _shown(here, who, made.id)


@router.get("/users/{user_id}")
def show_user(here: Here, who: Who, user_id: RecordId) -> UserOut:
    """One person."""
    return _shown(here, who, user_id)


@router.post("/users/{user_id}/rename")
def rename_user(here: Here, who: Who, user_id: RecordId, body: Rename) -> UserOut:
    """Give a person another name."""
    _shown(here, who, user_id)
    users.rename(here, user_id, body.name, actor=who.name)
    return _shown(here, who, user_id)


@router.put("/users/{user_id}/grants")
def set_grants(here: Here, who: Who, user_id: RecordId, body: Grants) -> UserOut:
    """Replace a person's own roles. An administrator of the whole server always remains."""
    _shown(here, who, user_id)
    users.set_grants(here, user_id, [Grant(g.role, g.client_id) for g in body.grants], actor=who.name)
    return _shown(here, who, user_id)


@router.post("/users/{user_id}/disable")
def disable_user(here: Here, who: Who, user_id: RecordId) -> UserOut:
    """Let a person in no more: sessions end, tokens are revoked."""
    _shown(here, who, user_id)
    users.disable(here, user_id, actor=who.name)
    return _shown(here, who, user_id)


@router.post("/users/{user_id}/enable")
def enable_user(here: Here, who: Who, user_id: RecordId) -> UserOut:
    """Let a disabled person in again. Revoked tokens stay revoked."""
    _shown(here, who, user_id)
    users.enable(here, user_id, actor=who.name)
    return _shown(here, who, user_id)


@router.post("/users/{user_id}/password-link", status_code=201, openapi_extra=SECRET)
def make_password_link(here: Here, who: Who, user_id: RecordId) -> Link:
    """A link with which a person sets a password; earlier ones end."""
    _shown(here, who, user_id)
    path = links.password_link(here, user_id, actor=who.name)
    address = here.settings.public_url
    return Link(path=path, address=f"{address}{path}" if address else None)


@router.post("/users/{user_id}/reset-totp")
def reset_totp(here: Here, who: Who, user_id: RecordId) -> Done:
    """Forget a person's authenticator app, after the telephone was lost."""
    _shown(here, who, user_id)
    totp.reset(here, user_id, actor=who.name)
    return Done(done="the next sign-in takes the password alone")


@router.delete("/users/{user_id}/sessions")
def end_sessions(here: Here, who: Who, user_id: RecordId) -> Done:
    """End all of a person's sessions in browsers."""
    _shown(here, who, user_id)
    return Done(done=f"{sessions.end_sessions(here, user_id, actor=who.name)} sessions ended")


@router.get("/tokens")
def list_tokens(here: Here, who: Who) -> list[TokenOut]:
    """One's own tokens; for administrators of the whole server those of all. Those that are over too."""
    mine = None if who.can(Permission.ADMINISTER) else who.user_id
    with here.database.reading() as session:
        return [_token(t) for t in tokens.list_tokens(session, user_id=mine)]


@router.post("/tokens", status_code=201, openapi_extra=SECRET)
def add_token(here: Here, who: Who, body: TokenIn) -> NewToken:
    """Make a token. One that is made with a token may not be used for more than that."""
    owner = body.user_id or who.user_id
    if owner != who.user_id:
        _shown(here, who, owner)
    scopes = body.scopes
    if who.scopes is not None:
        if scopes is not None and not set(scopes) <= who.scopes:
            raise Forbidden("a token cannot make one that may do more than itself")
        scopes = scopes if scopes is not None else sorted(who.scopes)
    made, text = tokens.create(here, owner, name=body.name, scopes=scopes, days=body.days, actor=who.name)
    return NewToken(id=made, token=text)


@router.delete("/tokens/{token_id}")
def revoke_token(here: Here, who: Who, token_id: RecordId) -> Done:
    """End a token now."""
    mine = None if who.can(Permission.ADMINISTER) else who.user_id
    tokens.revoke(here, token_id, actor=who.name, user_id=mine)
    return Done(done=f"the token {token_id} is revoked")


def _shown(here: Installation, who: Principal, user_id: str) -> UserOut:
    """A person, for an administrator of the whole server. Raises Forbidden, NotFound."""
    who.require(Permission.ADMINISTER)
    with here.database.reading() as session:
        found = session.get(User, user_id)
        if found is None:
            raise NotFound(f"there is no user {user_id}")
        return _user(users.view(session, found))


def _user(found: UserView) -> UserOut:
    values = {n: getattr(found, n) for n in UserOut.model_fields if n != "grants"}
    return UserOut(**values, grants=_grants(found.grants))


def _grants(found: tuple[Grant, ...]) -> list[GrantModel]:
    return [GrantModel(role=g.role, client_id=g.client_id) for g in found]


def _token(found: TokenView) -> TokenOut:
    values = {n: getattr(found, n) for n in TokenOut.model_fields if n != "scopes"}
    return TokenOut(**values, scopes=None if found.scopes is None else list(found.scopes))
