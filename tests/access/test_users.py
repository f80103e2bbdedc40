"""People, their grants, tokens and links: what each may do where, and what happens at once or never."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from access_help import PASSWORD, AddUser, Clock
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import select

from agent import audit
from agent.access import links, sessions, sign_in, tokens, users
from agent.access.principal import LEAST_ROLE, Grant, Permission, Principal, Role
from agent.errors import Conflict, ExeuntError, Forbidden, NotFound, NotSignedIn, UsageError
from agent.installation import Installation
from agent.model.access import ApiToken, OneTimeLink, User
from agent.model.base import utcnow
from agent.services import key_rotation

if TYPE_CHECKING:
    from conftest import Places

ADMINISTRATOR = Grant(Role.ADMINISTRATOR)
some_grants = st.lists(
    st.builds(Grant, st.sampled_from(Role), st.one_of(st.none(), st.integers(1, 3))), max_size=5
)  # fmt: skip
some_scopes = st.one_of(st.none(), st.frozensets(st.sampled_from(Permission)))


@given(
    grants=some_grants,
    scopes=some_scopes,
    permission=st.sampled_from(Permission),
    client=st.one_of(st.none(), st.integers(1, 3)),
)
def test_a_permission_needs_a_grant_there_and_a_scope(
    grants: list[Grant], scopes: frozenset[Permission] | None, permission: Permission, client: int | None
) -> None:
    principal = Principal("1", "ana", tuple(grants), scopes)
    order = list(Role)
    fitting = [
        g for g in grants
        if g.client_id in (None, client) and order.index(g.role) >= order.index(LEAST_ROLE[permission])
    ]  # fmt: skip
    expected = bool(fitting) and (scopes is None or permission in scopes)
    assert principal.can(permission, client) == expected
    if expected:
        principal.require(permission, client)
        assert principal.can_somewhere(permission)
    else:
        # A client that may not be seen is not even told of.
        hidden = client is not None and not principal.can(Permission.SEE, client)
        with pytest.raises(NotFound if hidden else Forbidden):
            principal.require(permission, client)


@given(
    grants=st.lists(st.builds(Grant, st.sampled_from(Role), st.just(1)), max_size=4),
    scopes=some_scopes,
    permission=st.sampled_from(Permission),
)
def test_grants_at_one_client_give_nothing_at_another(
    grants: list[Grant], scopes: frozenset[Permission] | None, permission: Permission
) -> None:
    principal = Principal("1", "ana", tuple(grants), scopes)
    assert not principal.can(permission, 2)
    assert not principal.can(permission)
    assert (principal.clients(permission) or frozenset()) <= {1}
    with pytest.raises(NotFound):
        principal.require(permission, 2)
    with pytest.raises(NotFound):
        principal.require_all(permission, [1, 2] if principal.can(permission, 1) else [2])
    with pytest.raises(Forbidden):
        principal.require(permission)


def test_grants_are_stored_and_audited_with_old_and_new(
    access: Installation, any_two_clients: Places, add_user: AddUser
) -> None:
    add_user("root", [ADMINISTRATOR])
    user = add_user("ana", [Grant(Role.VIEWER)])
    wanted = [Grant(Role.APPROVER, any_two_clients.contoso), Grant(Role.VIEWER, any_two_clients.contoso)]
    users.set_grants(access, user.id, wanted, actor="root")
    users.set_grants(access, user.id, wanted, actor="root")  # the same: nothing is recorded
    principal = sessions.principal_of_session(access, sign_in.sign_in(access, "ana", PASSWORD, None, "::1"))
    assert principal.clients(Permission.APPROVE) == {any_two_clients.contoso}
    assert not principal.can(Permission.SEE, any_two_clients.fabrikam)
    with access.database.reading() as session:
        newest = audit.entries(session, action="user.grants", object_id=user.id)
    assert [e.details["old"] for e in newest] == [[{"role": "viewer", "client_id": None}], []]
    assert newest[0].details["new"] == [
        {"role": "approver", "client_id": any_two_clients.contoso}, {"role": "viewer", "client_id": any_two_clients.contoso},
    ]  # fmt: skip
    with pytest.raises(NotFound, match="client"):
        users.set_grants(access, user.id, [Grant(Role.VIEWER, 999_999)], actor="root")


def test_the_last_administrator_stays(access: Installation, any_two_clients: Places, add_user: AddUser) -> None:
    root = add_user("root", [ADMINISTRATOR])
    limited = add_user("limited", [Grant(Role.ADMINISTRATOR, any_two_clients.contoso)])
    invited = add_user("invited", [ADMINISTRATOR], password=None)
    for act in (
        lambda: users.disable(access, root.id, actor="root"),
        lambda: users.set_grants(access, root.id, [], actor="root"),
        lambda: users.set_grants(access, root.id, [Grant(Role.ADMINISTRATOR, any_two_clients.contoso)], actor="root"),
    ):
        with pytest.raises(Conflict, match="last administrator"):
            act()
    users.disable(access, limited.id, actor="root")
    link = links.password_link(access, invited.id, actor="root")
    links.use_link(access, link.rpartition("/")[2], password=PASSWORD)
    users.disable(access, root.id, actor="root")


def test_two_administrators_who_remove_each_other_leave_one(access: Installation, add_user: AddUser) -> None:
    everybody = [add_user(f"root {n}", [ADMINISTRATOR]) for n in range(8)]

    def attempt(n: int) -> bool:
        user = everybody[n]
        try:
            if n % 2:
                users.disable(access, user.id, actor="somebody")
            else:
                users.set_grants(access, user.id, [], actor="somebody")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 7


def test_a_disabled_person_is_out_at_once(access: Installation, add_user: AddUser) -> None:
    add_user("root", [ADMINISTRATOR])
    user = add_user("ana", [Grant(Role.VIEWER)])
    cookie = sign_in.sign_in(access, "ana", PASSWORD, None, "::1")
    _, token = tokens.create(access, user.id, name="script", scopes=None, days=1, actor="ana")
    link = links.password_link(access, user.id, actor="root").rpartition("/")[2]
    users.disable(access, user.id, actor="root")
    for call in (
        lambda: sessions.principal_of_session(access, cookie),
        lambda: tokens.principal_of_token(access, token),
        lambda: sign_in.sign_in(access, "ana", PASSWORD, None, "::1"),
    ):
        with pytest.raises(NotSignedIn):
            call()
    with pytest.raises(NotFound):
        links.look(access, link)
    with pytest.raises(Conflict):
        users.disable(access, user.id, actor="root")
    users.enable(access, user.id, actor="root")
    # What ended stays ended.
    with pytest.raises(NotSignedIn):
        tokens.principal_of_token(access, token)
    assert sign_in.sign_in(access, "ana", PASSWORD, None, "::1")


def test_a_session_of_a_disabled_person_counts_for_nothing(access: Installation, add_user: AddUser) -> None:
    """Even one that was left over."""
    user = add_user("ana", [ADMINISTRATOR])
    cookie = sign_in.sign_in(access, "ana", PASSWORD, None, "::1")
    _, token = tokens.create(access, user.id, name="x", scopes=None, days=1, actor="ana")
    with access.database.session() as session:
        session.get_one(User, user.id).disabled_at = utcnow()
    for call in (
        lambda: sessions.principal_of_session(access, cookie),
        lambda: tokens.principal_of_token(access, token),
    ):
        with pytest.raises(NotSignedIn):
            call()


def test_a_name_is_never_given_twice(access: Installation, add_user: AddUser) -> None:
    ana, ben = add_user("ana"), add_user("ben")
    users.rename(access, ana.id, "Ana Silva", actor="root")
    for name in ("ana", "ANA", "ana silva", "Ａｎａ"):
        with pytest.raises(Conflict):
            users.create(access, name, actor="root")
        with pytest.raises(Conflict):
            users.rename(access, ben.id, name, actor="root")
    with pytest.raises(NotSignedIn):
        sign_in.sign_in(access, "ana", PASSWORD, None, "::1")
    assert sign_in.sign_in(access, "Ana Silva", PASSWORD, None, "::1")
    users.rename(access, ana.id, "Ana", actor="root")  # back to the own one
    with access.database.reading() as session:
        renamed = audit.entries(session, action="user.rename")
    assert [(e.details["old"], e.details["new"]) for e in renamed] == [("Ana Silva", "Ana"), ("ana", "Ana Silva")]


def test_a_name_is_given_once_to_many_at_once(access: Installation) -> None:
    def attempt(n: int) -> bool:
        try:
            users.create(access, "Ana" if n % 2 else "ana", actor="root")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(attempt, range(12))) == 1


@pytest.mark.parametrize(
    "name", ["", " ana", "a\nb", "a,b", "run:1", "a/b", "x" * 101, "System", "plain SQL", "a\u202eb", "a\0b"]
)
def test_what_is_no_name_is_refused(access: Installation, name: str) -> None:
    with pytest.raises(UsageError):
        users.create(access, name, actor="root")


@pytest.mark.parametrize("email", ["ana", "@x", "a@", "a@b@c", "a b@c", "a@b\n", "a@" + "b" * 260])
def test_what_is_no_address_is_refused(access: Installation, email: str) -> None:
    with pytest.raises(UsageError, match="address"):
        users.create(access, "ana", email=email, actor="root")


def test_a_token_acts_for_its_person_within_its_scopes(access: Installation, add_user: AddUser, clock: Clock) -> None:
    user = add_user("ana", [Grant(Role.TECHNICIAN)])
    number, text = tokens.create(access, user.id, name="report", scopes=["see", "approve"], days=2, actor="ana")
    assert text.startswith("exeunt_") and len(text) == len("exeunt_") + 43
    principal = tokens.principal_of_token(access, text)
    assert principal.name == "ana"
    # A scope is no grant.
    assert [p for p in Permission if principal.can(p)] == [Permission.SEE]
    with access.database.reading() as session:
        stored = session.exec(select(ApiToken)).one()
        assert text not in str(stored.model_dump()) and stored.last_used_at == clock.now
        assert tokens.list_tokens(session, user_id=user.id)[0].hint == text[:11]
        assert text not in str([e.details for e in audit.entries(session)])
    clock.forward(days=2)
    with pytest.raises(NotSignedIn):
        tokens.principal_of_token(access, text)
    assert number == stored.id


def test_a_token_is_revoked_by_its_owner_only_once(access: Installation, add_user: AddUser) -> None:
    ana, ben = add_user("ana"), add_user("ben")
    number, text = tokens.create(access, ana.id, name="report", scopes=None, days=366, actor="ana")
    with pytest.raises(NotFound):
        tokens.revoke(access, number, actor="ben", user_id=ben.id)
    tokens.principal_of_token(access, text)
    tokens.revoke(access, number, actor="ana", user_id=ana.id)
    with pytest.raises(NotSignedIn):
        tokens.principal_of_token(access, text)
    with pytest.raises(Conflict):
        tokens.revoke(access, number, actor="ana")


@pytest.mark.parametrize("days", [0, -1, 367, 10**9])
def test_a_token_ends(access: Installation, add_user: AddUser, days: int) -> None:
    with pytest.raises(UsageError, match="366"):
        tokens.create(access, add_user("ana").id, name="x", scopes=None, days=days, actor="ana")


@pytest.mark.parametrize(
    ("name", "scopes"), [("", None), ("a\nb", None), ("x" * 101, None), ("x", []), ("x", ["see", "fly"])]
)
def test_a_token_has_a_name_and_known_scopes(
    access: Installation, add_user: AddUser, name: str, scopes: list[str] | None
) -> None:
    with pytest.raises(UsageError):
        tokens.create(access, add_user("ana").id, name=name, scopes=scopes, days=1, actor="ana")


@pytest.mark.parametrize("token", ["", "exeunt_", "exeunt_" + "a" * 43, "\0", "Bearer x", "exeunt_\ud800"])
def test_what_is_no_token_is_refused(access: Installation, token: str) -> None:
    with pytest.raises(NotSignedIn):
        tokens.principal_of_token(access, token)


def first(access: Installation) -> str:
    path = links.first_link(access)
    assert path is not None and path.startswith("/welcome/")
    return path.removeprefix("/welcome/")


def test_the_first_link_makes_the_first_administrator(access: Installation) -> None:
    old, token = first(access), first(access)
    with pytest.raises(NotFound):
        links.look(access, old)
    assert links.look(access, token).purpose == links.ADMINISTRATOR
    for name, password in [(None, PASSWORD), ("root", "short"), ("a,b", PASSWORD)]:
        with pytest.raises(UsageError):
            links.use_link(access, token, name=name, password=password)
    links.use_link(access, token, name="root", password=PASSWORD)
    for again in (old, token, "", "\0", "x" * 43):
        with pytest.raises(NotFound):
            links.use_link(access, again, name="other", password=PASSWORD)
    assert links.first_link(access) is None
    principal = sessions.principal_of_session(access, sign_in.sign_in(access, "root", PASSWORD, None, "::1"))
    assert principal.can(Permission.ADMINISTER)


def test_a_first_link_is_over_after_half_an_hour(access: Installation, clock: Clock) -> None:
    token = first(access)
    clock.forward(minutes=30)
    with pytest.raises(NotFound):
        links.look(access, token)
    with pytest.raises(NotFound):
        links.use_link(access, token, name="root", password=PASSWORD)
    with access.database.reading() as session:
        assert session.exec(select(User)).all() == []


def test_a_link_is_used_once_by_twenty_at_once(access: Installation) -> None:
    token = first(access)

    def attempt(n: int) -> bool:
        try:
            links.use_link(access, token, name=f"root {n}", password=PASSWORD)
        except NotFound:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(attempt, range(20))) == 1
    with access.database.reading() as session:
        assert len(session.exec(select(User)).all()) == 1


def test_a_password_link_sets_the_password_and_ends_sessions(
    access: Installation, add_user: AddUser, clock: Clock
) -> None:
    user = add_user("ana")
    cookie = sign_in.sign_in(access, "ana", PASSWORD, None, "::1")
    old = links.password_link(access, user.id, actor="root").rpartition("/")[2]
    token = links.password_link(access, user.id, actor="root").rpartition("/")[2]
    with pytest.raises(NotFound):
        links.use_link(access, old, password="a quite new one")
    assert links.look(access, token).name == "ana"
    links.use_link(access, token, password="a quite new one")
    with pytest.raises(NotSignedIn):
        sessions.principal_of_session(access, cookie)
    assert sign_in.sign_in(access, "ana", "a quite new one", None, "::1")
    with access.database.reading() as session:
        assert all(token not in str(link.model_dump()) for link in session.exec(select(OneTimeLink)))
        assert token not in str([e.details for e in audit.entries(session)])
    late = links.password_link(access, user.id, actor="root").rpartition("/")[2]
    clock.forward(hours=24)
    with pytest.raises(NotFound):
        links.look(access, late)


def test_a_changed_password_ends_links(access: Installation, add_user: AddUser) -> None:
    user = add_user("ana")
    token = links.password_link(access, user.id, actor="root").rpartition("/")[2]
    users.change_password(access, user.id, PASSWORD, "a quite new one")
    with pytest.raises(NotFound):
        links.use_link(access, token, password="yet another one")


def test_a_hand_over_is_no_welcome(access: Installation, clock: Clock) -> None:
    """A link of another purpose sets no password."""
    token = first(access)
    with access.database.session() as session:
        session.exec(select(OneTimeLink)).one().purpose = "handover"
    for act in (
        lambda: links.look(access, token),
        lambda: links.use_link(access, token, name="root", password=PASSWORD),
    ):
        with pytest.raises(ExeuntError):
            act()


def test_the_secret_of_an_app_follows_the_key(access: Installation, add_user: AddUser) -> None:
    from agent import secrets
    from agent.access import totp

    user = add_user("ana")
    shown = totp.begin(access, user.id, actor="ana")
    secrets.add_key(access.settings)
    assert key_rotation.rotate(access, actor="root")["authenticator apps"] == 1
    key_rotation.drop_old_keys(access, actor="root")
    assert totp.pending(access, user.id) == shown


def test_lists_show_no_secret(access: Installation, add_user: AddUser) -> None:
    add_user("Ben", [Grant(Role.VIEWER)])
    add_user("ana", password=None)
    with access.database.reading() as session:
        found = users.list_users(session)
    assert [(u.name, u.has_password, u.grants) for u in found] == [
        ("ana", False, ()),
        ("Ben", True, (Grant(Role.VIEWER),)),
    ]
    assert "argon2" not in repr(found)
