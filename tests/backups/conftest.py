"""A directory store with the keys of an installation, and contexts of runs on people of two clients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from context_of_backups import context_of

from agent import secrets
from agent.installation import Installation
from agent.model.places import Contact
from agent.model.runs import RunStep, ScriptRevision, ScriptRun
from agent.running.context import RunContext
from agent.services.backup_stores import DirectoryStore


@pytest.fixture
def keyed(installation: Installation) -> Installation:
    """The installation with a master key."""
    secrets.create_key(installation.settings)
    return installation


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    """An empty store."""
    (tmp_path / "store").mkdir()
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def run_of(keyed: Installation, store: DirectoryStore, two_clients: Any) -> Callable[..., RunContext]:
    """Makes a run on a person of a client, whose backups go into the store."""
    with keyed.database.session() as session:
        session.add(ScriptRevision(digest="b" * 64, name="any", content={}))

    def make(client_id: int, name: str = "Łukasz", location: str | None = None) -> RunContext:
        with keyed.database.session() as session:
            contact = Contact(client_id=client_id, external_id=name, name=name)
            session.add(contact)
            session.flush()
            run = ScriptRun(
                script="User Offboarding", role="wrapper", revision="b" * 64, target_kind="contact",
                target_id=contact.contact_id, target_name=name, client_id=client_id, exclusive=True, started_by="hr",
                state="running", parameters={"backup_location": {"value": location or str(store.root)}},
            )  # fmt: skip
            session.add(run)
            session.flush()
            session.add(
                RunStep(
                    root_id=run.id, run_id=run.id, ordinal=0, position=0, name="Backup", function="x", state="succeeded"
                )
            )
            run_id = run.id
        return context_of(keyed, run_id)

    return make
