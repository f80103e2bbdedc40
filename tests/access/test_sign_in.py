"""Passwords, lock-outs, codes that are taken once, and sessions that end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pyotp
import pytest
from access_help import PASSWORD, AddUser, Clock
from argon2 import PasswordHasher
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st
from sqlmodel import select

from agent import audit
from agent.access import passwords, sessions, sign_in, totp, users
from agent.access.principal import Grant, Permission, Role
from agent.errors import ExeuntError, NotSignedIn, UsageError
from agent.installation import Installation
from agent.model.access import SignInAttempt, User, WebSession

HOME = "192.0.2.7"


def signs_in(
    access: Installation, name: str = "ana", password: str = PASSWORD, code: str | None = None, at: str = HOME
) -> str:
    return sign_in.sign_in(access, name, password, code, at)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(NotSignedIn) as error:
        call()
    return str(error.value)


def test_a_person_signs_in_and_is_known_by_the_session(access: Installation, add_user: AddUser) -> None:
    user = add_user("ana", [Grant(Role.VIEWER)])
    token = signs_in(access, "Ana")
    principal = sessions.principal_of_session(access, token)
    assert (principal.user_id, principal.name, principal.grants) == (user.id, "ana", (Grant(Role.VIEWER),))
    with access.database.reading() as session:
        assert token not in {s.token_digest for s in session.exec(select(WebSession))}
        assert [e.actor for e in audit.entries(session, action="user.sign_in")] == ["ana"]


def test_all_refusals_sound_the_same_and_count(access: Installation, add_user: AddUser) -> None:
    add_user("ana")
    disabled = add_user("ben")
    users.disable(access, disabled.id, actor="tester")
    add_user("cleo", password=None)
    told = {
        refused(lambda name=name, password=password: signs_in(access, name, password))  # type: ignore[misc]
        for name, password in [
            ("ana", "wrong"), ("ana", ""), ("nobody", PASSWORD), ("", ""), ("ben", PASSWORD), ("cleo", PASSWORD), ("cleo", ""),
            ("a\0b", "\ud800"), ("ana", "x" * 100_000),
        ]
    }  # fmt: skip
    assert told == {sign_in.REFUSED}
    with access.database.reading() as session:
        assert len(session.exec(select(SignInAttempt)).all()) == 9
        assert session.exec(select(WebSession)).all() == []


def test_a_name_that_nobody_has_is_hashed_as_well(access: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    monkeypatch.setattr(PasswordHasher, "verify", lambda self, stored, given: verified.append(given) or True)
    refused(lambda: signs_in(access, "nobody"))
    assert verified == [PASSWORD]


def test_an_old_hash_is_renewed_at_sign_in(
    access: Installation, add_user: AddUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = add_user("ana")
    stronger = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", lambda: stronger)
    signs_in(access)
    with access.database.reading() as session:
        assert "m=16,t=2" in (session.get_one(User, user.id).password_hash or "")
    signs_in(access)


def test_the_delay_grows_and_the_right_password_waits_it_out(
    access: Installation, add_user: AddUser, clock: Clock
) -> None:
    add_user("ana")
    add_user("ben")
    for _ in range(sign_in.FREE_FAILURES):
        refused(lambda: signs_in(access, password="wrong"))
    assert refused(lambda: signs_in(access)) == sign_in.REFUSED
    signs_in(access, "ben")
    clock.forward(seconds=31)
    refused(lambda: signs_in(access, password="wrong"))
    clock.forward(seconds=31)
    refused(lambda: signs_in(access))
    clock.forward(seconds=30)
    signs_in(access)
    # All is forgotten with a success.
    refused(lambda: signs_in(access, password="wrong"))
    signs_in(access)
    with access.database.reading() as session:
        assert [e.details["seconds"] for e in audit.entries(session, action="user.locked")] == [60, 30]


def test_wrong_passwords_while_locked_do_not_prolong_it(access: Installation, add_user: AddUser, clock: Clock) -> None:
    add_user("ana")
    for n in range(15):
        refused(lambda n=n: signs_in(access, password="wrong", at=f"198.51.100.{n}"))  # type: ignore[misc]
    clock.forward(seconds=31)
    signs_in(access)


def test_guesses_at_once_are_counted_one_by_one(access: Installation, add_user: AddUser, clock: Clock) -> None:
    """Twenty wrong passwords at the same moment buy no more guesses than five in a row."""
    user = add_user("ana")
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda n: refused(lambda: signs_in(access, password="wrong", at=f"198.51.100.{n}")), range(20)))
    with access.database.reading() as session:
        assert session.get_one(User, user.id).failed_count == sign_in.FREE_FAILURES
    assert refused(lambda: signs_in(access)) == sign_in.REFUSED


@given(failures=st.integers(0, 10_000))
def test_no_delay_is_shorter_than_the_one_before(failures: int) -> None:
    before, after = sign_in.delay_after(failures), sign_in.delay_after(failures + 1)
    assert before <= after <= sign_in.LONGEST_DELAY
    assert (not before) == (failures < sign_in.FREE_FAILURES)


@tried(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tries=st.lists(st.tuples(st.booleans(), st.integers(0, 90)), max_size=15))
def test_a_right_password_is_taken_exactly_when_no_delay_runs(
    access: Installation, add_user: AddUser, clock: Clock, tries: list[tuple[bool, int]]
) -> None:
    """A model of the lock-out: whatever comes in whatever order, it and the product agree."""
    with access.database.reading() as session:
        name = f"ana {len(session.exec(select(User)).all())}"
    add_user(name)
    failures, locked_until = 0, clock.now
    for n, (right, pause) in enumerate(tries):
        clock.forward(seconds=pause)
        locked = clock.now < locked_until
        try:
            signs_in(access, name, PASSWORD if right else "wrong", at=f"203.0.113.{n}")
            assert right and not locked
            failures = 0
        except NotSignedIn:
            assert locked or not right
            if not locked:
                failures += 1
                locked_until = clock.now + sign_in.delay_after(failures)


def test_an_address_is_refused_after_twenty_names(access: Installation, add_user: AddUser, clock: Clock) -> None:
    add_user("ana")
    for n in range(sign_in.ADDRESS_FAILURES):
        refused(lambda n=n: signs_in(access, f"nobody{n}", at="2001:db8::1"))  # type: ignore[misc]
    assert refused(lambda: signs_in(access, at="2001:db8::ffff")) == sign_in.REFUSED
    signs_in(access, at="2001:db8:0:1::1")
    clock.forward(minutes=16)
    signs_in(access, at="2001:db8::1")


@pytest.mark.parametrize(
    ("address", "block"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1%eth0", "2001:db8::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("x" * 99, "x" * 64),
    ],
)
def test_who_an_address_belongs_to(address: str, block: str) -> None:
    assert sign_in.address_block(address) == block


def enrolled(access: Installation, user: User, clock: Clock) -> pyotp.TOTP:
    app = pyotp.TOTP(totp.begin(access, user.id, actor="ana").secret)
    totp.confirm(access, user.id, app.at(clock.now), actor="ana")
    clock.forward(seconds=60)
    return app


def test_a_code_is_needed_and_never_taken_twice(access: Installation, add_user: AddUser, clock: Clock) -> None:
    app = enrolled(access, add_user("ana"), clock)
    code = app.at(clock.now)
    assert refused(lambda: signs_in(access)) == sign_in.REFUSED
    refused(lambda: signs_in(access, password="wrong", code=code))
    signs_in(access, code=f" {code[:3]} {code[3:]}")
    refused(lambda: signs_in(access, code=code))
    # The one before it is not taken either.
    refused(lambda: signs_in(access, code=app.at(clock.now + timedelta(seconds=-30))))
    clock.forward(seconds=30)
    signs_in(access, code=app.at(clock.now))


def test_clocks_may_differ_by_one_step(access: Installation, add_user: AddUser, clock: Clock) -> None:
    app = enrolled(access, add_user("ana"), clock)
    refused(lambda: signs_in(access, code=app.at(clock.now + timedelta(seconds=30 * -2))))
    refused(lambda: signs_in(access, code=app.at(clock.now + timedelta(seconds=30 * 2))))
    signs_in(access, code=app.at(clock.now + timedelta(seconds=-30)))
    signs_in(access, code=app.at(clock.now + timedelta(seconds=30)))


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "1 2 3 4 5 6 7", "\0", "123456'--"])
def test_what_is_no_code_is_refused(access: Installation, add_user: AddUser, clock: Clock, code: str) -> None:
    enrolled(access, add_user("ana"), clock)
    assert refused(lambda: signs_in(access, code=code)) == sign_in.REFUSED


def test_a_code_is_taken_once_by_twenty_at_once(access: Installation, add_user: AddUser, clock: Clock) -> None:
    app = enrolled(access, add_user("ana"), clock)
    code = app.at(clock.now)

    def attempt(n: int) -> bool:
        try:
            signs_in(access, code=code, at=f"198.51.100.{n}")
        except NotSignedIn:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(attempt, range(20))) == 1


def test_the_secret_of_an_app_is_encrypted_and_counts_when_confirmed(
    access: Installation, add_user: AddUser, clock: Clock
) -> None:
    user = add_user("ana")
    shown = totp.begin(access, user.id, actor="ana")
    again = totp.pending(access, user.id)
    assert again == shown and shown.uri.startswith("otpauth://totp/Exeunt:ana?secret=")
    signs_in(access)  # not confirmed yet
    with pytest.raises(UsageError):
        totp.confirm(access, user.id, "000000", actor="ana")
    totp.confirm(access, user.id, pyotp.TOTP(shown.secret).at(clock.now), actor="ana")
    assert totp.pending(access, user.id) is None
    with pytest.raises(ExeuntError, match="reset"):
        totp.begin(access, user.id, actor="ana")
    with access.database.reading() as session:
        stored = session.get_one(User, user.id).totp_secret or ""
        assert stored.startswith("enc:") and shown.secret not in stored
        assert shown.secret not in str([e.details for e in audit.entries(session)])
    refused(lambda: signs_in(access))
    totp.reset(access, user.id, actor="tester")
    signs_in(access)


def test_a_session_ends_by_time_and_by_idleness(access: Installation, add_user: AddUser, clock: Clock) -> None:
    add_user("ana")
    idle, busy = signs_in(access), signs_in(access)
    for _ in range(17):
        clock.forward(minutes=40)
        sessions.principal_of_session(access, busy)
    refused(lambda: sessions.principal_of_session(access, idle))
    clock.forward(minutes=39)
    sessions.principal_of_session(access, busy)
    clock.forward(minutes=1)  # twelve hours since the sign-in
    refused(lambda: sessions.principal_of_session(access, busy))
    with access.database.reading() as session:
        assert len(session.exec(select(WebSession)).all()) == 2
    signs_in(access)
    with access.database.reading() as session:
        assert len(session.exec(select(WebSession)).all()) == 1


def test_the_last_use_is_written_once_a_minute(access: Installation, add_user: AddUser, clock: Clock) -> None:
    add_user("ana")
    token, first = signs_in(access), clock.now

    def last() -> object:
        sessions.principal_of_session(access, token)
        with access.database.reading() as session:
            return session.exec(select(WebSession)).one().last_used_at

    clock.forward(seconds=59)
    assert last() == first
    clock.forward(seconds=1)
    assert last() == clock.now


def test_signing_out_and_ending_all(access: Installation, add_user: AddUser) -> None:
    ana, ben = add_user("ana", [Grant(Role.VIEWER)]), add_user("ben")
    one, two, three, other = signs_in(access), signs_in(access), signs_in(access), signs_in(access, "ben")
    sessions.sign_out(access, one)
    sessions.sign_out(access, one)
    sessions.sign_out(access, "never one")
    refused(lambda: sessions.principal_of_session(access, one))
    assert sessions.end_sessions(access, ana.id, actor="ana", keep=two) == 1
    refused(lambda: sessions.principal_of_session(access, three))
    assert sessions.principal_of_session(access, two).can(Permission.SEE)
    assert sessions.principal_of_session(access, other).user_id == ben.id


@pytest.mark.parametrize("token", ["", "x", "\0", "\ud800", "é" * 1000, "' or 1=1 --"])
def test_what_is_no_session_is_refused(access: Installation, token: str) -> None:
    refused(lambda: sessions.principal_of_session(access, token))


def test_a_changed_password_ends_other_sessions(access: Installation, add_user: AddUser) -> None:
    user = add_user("ana")
    kept, other = signs_in(access), signs_in(access)
    for old, new in [
        ("wrong", "a quite new one"),
        (PASSWORD, PASSWORD),
        (PASSWORD, "short"),
        (PASSWORD, "ana is my name!"),
    ]:
        with pytest.raises(UsageError):
            users.change_password(access, user.id, old, new, keep=kept)
    users.change_password(access, user.id, PASSWORD, "a quite new one", keep=kept)
    sessions.principal_of_session(access, kept)
    refused(lambda: sessions.principal_of_session(access, other))
    refused(lambda: signs_in(access))
    signs_in(access, password="a quite new one")


@pytest.mark.parametrize(
    "password",
    [
        "short", "elevenchars", "ana-barbara-1", "x" * 1001, "aaaaaaaaaaaaaa", "Password1234!", "1q2w3e4r5t6y", "123456789012",
        "Welcome2026!!", "a1a1a1a1a1a1a1", "Administrator1", "barb@example.com",
    ],
)  # fmt: skip
def test_bad_passwords_are_refused(password: str) -> None:
    with pytest.raises(UsageError, match="password"):
        passwords.check(password, names=("ana-barbara", "barb@example.com"))


@pytest.mark.parametrize(
    "password",
    [PASSWORD, "ein Satz mit Umläuten: ÄÖÜ", "пароль из слов", "🐎🔋📎 correct staple", "x" * 5 + "abcdefghi"],
)
def test_good_passwords_are_taken(password: str) -> None:
    passwords.check(password, names=("ana", "a@example.com"))
    assert passwords.fits(passwords.hashed(password), password)
    assert not passwords.fits(passwords.hashed(password), password + " ")


def test_a_password_is_the_same_however_it_is_composed() -> None:
    assert passwords.fits(passwords.hashed("pässword of ana"), "pa\u0308ssword of ana")
