"""Fixtures that all tests share: an initialised workspace, and two clients in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from postgres import create_tables, postgres_server, postgres_url

from agent.database import Database
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.places import Client, Computer, Location
from agent.settings import Settings

__all__ = ["postgres_server", "postgres_url"]

# The same examples on every machine, and none is judged by its time: a slow machine, or an example that nobody has met
# before, must not stop a release. `pytest --hypothesis-profile=default` looks for new ones.
hypothesis_settings.register_profile("exeunt", deadline=None, derandomize=True, print_blob=True)
hypothesis_settings.load_profile("exeunt")


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """No setting of the person who runs the tests reaches them, nor what is made once for all of them.

    Servers of the tests are on loopback, where the network's proxy, if there is one, does not reach them.
    """
    with pytest.MonkeyPatch.context() as environment:
        for name in list(os.environ):
            if name.startswith("EXEUNT_"):
                environment.delenv(name)
        for name in ("NO_PROXY", "no_proxy"):
            others = os.environ.get(name)
            environment.setenv(name, ",".join(["127.0.0.1", "localhost", *([others] if others else [])]))
        yield


@pytest.fixture(scope="session")
def keys_read_once() -> Iterator[None]:
    """A private key of RSA that signs in again in each test is checked for being one (40 ms) the first time only."""
    import jwt.algorithms
    from cryptography.hazmat.primitives import serialization

    remembering = cache(serialization.load_pem_private_key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serialization, "load_pem_private_key", remembering)
        patch.setattr(jwt.algorithms, "load_pem_private_key", remembering)
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a workspace that exists and is empty."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    return Settings(workspace=workspace, sqlite_synchronous="NORMAL")


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> None:
    """For `usefixtures`: hours and days of this test's installation are those of Berlin."""
    monkeypatch.setenv("EXEUNT_TIME_ZONE", "Europe/Berlin")


@pytest.fixture(scope="session")
def made_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a database whose tables are created: each test gets a copy, which is 30 times faster than migrating."""
    folder = tmp_path_factory.mktemp("made_database")
    database = Database(Settings(workspace=folder))
    database.initialise()
    database.close()
    # All that was written is in the one file.
    assert [file.name for file in folder.iterdir()] == ["inventory.db"]
    return folder / "inventory.db"


@pytest.fixture
def installation(settings: Settings, made_database: Path) -> Iterator[Installation]:
    """An installation on SQLite with its tables created."""
    shutil.copy(made_database, settings.workspace)
    installation = Installation(settings)
    yield installation
    installation.database.close()


@dataclass(frozen=True)
class Places:
    """Ids of two clients with one location and two online computers each."""

    contoso: int
    contoso_site: int
    contoso_computers: tuple[int, int]
    fabrikam: int
    fabrikam_site: int
    fabrikam_computers: tuple[int, int]


@pytest.fixture
def two_clients(installation: Installation) -> Places:
    """Contoso and Fabrikam, so that each test can ask what the other client got."""
    return add_two_clients(installation)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_installation(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Installation]:
    """The same test on SQLite and on PostgreSQL: an installation with its tables created."""
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres_server")
        name = server.create(server.template("exeunt_template", create_tables))
        settings = settings.model_copy(update={"database_url": server.url(name)})
    else:
        shutil.copy(request.getfixturevalue("made_database"), settings.workspace)
    installation = Installation(settings)
    yield installation
    installation.database.close()
    if request.param == "postgresql":
        server.drop(name)


@pytest.fixture
def any_two_clients(any_installation: Installation) -> Places:
    """`two_clients` of `any_installation`."""
    return add_two_clients(any_installation)


def add_two_clients(installation: Installation) -> Places:
    """Store Contoso and Fabrikam."""
    made: dict[str, tuple[int, int, tuple[int, int]]] = {}
    with installation.database.session() as session:
        for slug in ("contoso", "fabrikam"):
            client = Client(external_id=slug, name=slug.capitalize(), slug=slug)
            session.add(client)
            session.flush()
            assert client.client_id is not None
            location = Location(client_id=client.client_id, external_id=f"{slug}-hq", name="Headquarters")
            session.add(location)
            session.flush()
            assert location.location_id is not None
            computers = [
                Computer(
                    client_id=client.client_id, location_id=location.location_id, external_id=f"{slug}-pc{n}",
                    name=f"{slug.upper()}-PC{n}", os="Debian GNU/Linux 12", platform="linux", transport="local",
                    last_contact=utcnow(), date_added=utcnow(),
                )
                for n in (1, 2)
            ]  # fmt: skip
            session.add_all(computers)
            session.flush()
            ids = tuple(c.computer_id for c in computers)
            made[slug] = (client.client_id, location.location_id, (ids[0] or 0, ids[1] or 0))
    return Places(*made["contoso"], *made["fabrikam"])
