"""People with and without grants at two clients, cheap hashes, and a clock that tests turn."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from access_help import PASSWORD, AddUser, Clock
from argon2 import PasswordHasher

from agent.access import links, passwords, sessions, sign_in, tokens, totp, users
from agent.access.principal import Grant
from agent.installation import Installation
from agent.model.access import User
from agent.model.base import utcnow
from agent.secrets import create_key

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that take no time: what is tested here is not how hard they are."""
    monkeypatch.setattr(passwords, "_hasher", lambda: CHEAP)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock(utcnow())
    for module in (links, sessions, sign_in, tokens, totp, users):
        monkeypatch.setattr(module, "utcnow", lambda: made.now)
    return made


@pytest.fixture
def access(any_installation: Installation) -> Installation:
    """An installation with a key, on SQLite and on PostgreSQL."""
    create_key(any_installation.settings)
    return any_installation


@pytest.fixture
def add_user(access: Installation) -> AddUser:
    """`add_user("ana", [Grant(Role.VIEWER)])`: a person who has set the password PASSWORD."""

    def add(name: str, wanted: Collection[Grant] = (), password: str | None = PASSWORD) -> User:
        user = users.create(access, name, wanted=wanted, actor="tester")
        if password is not None:
            link = links.password_link(access, user.id, actor="tester")
            links.use_link(access, link.rpartition("/")[2], password=password)
        return user

    return add
