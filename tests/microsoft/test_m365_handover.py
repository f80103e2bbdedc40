"""A new password that is handed over to the manager: in force, behind the link, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from m365_context import UserContext
from sqlalchemy import inspect, text
from sqlmodel import select
from tenant_server import Server
from tenant_state import TestTenant

from agent.errors import NotFound
from agent.functions import registry
from agent.installation import Installation
from agent.model.places import Contact
from agent.model.tickets import Notification
from agent.services import handover, mail
from agent.settings import Settings

URL = "https://exeunt.example.com"


@pytest.fixture
def asked(leaver: UserContext, tmp_path: Path) -> UserContext:
    """A run on Alex at an installation that has a public address; Alex has a manager."""
    old = leaver.installation.settings
    leaver.installation = Installation(Settings(**{**old.model_dump(), "public_url": URL}))
    with leaver.installation.database.session() as session:
        contact = session.get_one(Contact, leaver.target_id)
        contact.manager_email, contact.email = "mia@contoso.test", "alex@contoso.test"
        session.add(contact)
    return leaver


def everything(installation: Installation) -> str:
    """All that the database holds, as text."""
    with installation.database.reading() as session:
        connection = session.connection()
        names = inspect(connection).get_table_names()
        return "\n".join(str(connection.execute(text(f'SELECT * FROM "{name}"')).all()) for name in names)


def body_of(context: UserContext) -> str:
    """The message as it is sent."""
    with context.installation.database.reading() as session:
        stored = session.exec(select(Notification)).one()
    assert stored.recipient == "mia@contoso.test" and stored.body.startswith("enc:")
    return mail._text(context.installation, stored).body


def test_the_manager_gets_a_link_that_shows_it_once(
    asked: UserContext, contoso: TestTenant, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    outcome = asked.run("m365.reset_password", hand_over=True)
    assert outcome.state == "succeeded" and outcome.result["recoverable"] is True, outcome
    assert outcome.result["handover"]["sent_to"] == "mia@contoso.test"
    password = contoso.named("alex").password
    found = re.search(rf"{re.escape(URL)}/handover/(\S+)", body_of(asked))
    assert found, body_of(asked)
    kept = everything(asked.installation) + str(outcome) + caplog.text
    assert password not in kept and found[1] not in kept, "neither password nor token is kept in clear"
    assert handover.take(asked.installation, found[1], actor="link") == password
    with pytest.raises(NotFound):
        handover.take(asked.installation, found[1], actor="link")


def test_it_is_not_handed_over_unless_asked(asked: UserContext, contoso: TestTenant) -> None:
    outcome = asked.run("m365.reset_password")
    assert outcome.result["recoverable"] is False and "handover" not in outcome.result
    with asked.installation.database.reading() as session:
        assert session.exec(select(Notification)).all() == []


@pytest.mark.parametrize("lacks", ["address", "manager"])
def test_what_keeps_it_from_being_handed_over_does_not_keep_the_old_one_in_force(
    asked: UserContext, contoso: TestTenant, lacks: str
) -> None:
    if lacks == "address":
        asked.installation = Installation(Settings(**{**asked.installation.settings.model_dump(), "public_url": None}))
    else:
        with asked.installation.database.session() as session:
            contact = session.get_one(Contact, asked.target_id)
            contact.manager_email = ""
            session.add(contact)
    outcome = asked.run("m365.reset_password", hand_over=True)
    assert outcome.state == "succeeded" and outcome.result["recoverable"] is False
    assert outcome.result["handover"]["sent_to"] is None and outcome.result["handover"]["reason"]
    assert contoso.named("alex").password != "old"


@pytest.mark.parametrize("fault", [403, 500, "drop"])
def test_a_password_that_is_not_in_force_is_not_handed_over(
    asked: UserContext, contoso: TestTenant, server: Server, fault: Any
) -> None:
    server.fault("PATCH /users/", fault)
    outcome = asked.run("m365.reset_password", hand_over=True)
    assert outcome.state == "failed" and contoso.named("alex").password == "old"
    with asked.installation.database.reading() as session:
        assert session.exec(select(Notification)).all() == []
    kept = everything(asked.installation)
    assert "handover.revoke" in kept
    with asked.installation.database.reading() as session:
        assert session.execute(text("SELECT secret FROM one_time_link")).scalars().all() == [None]


def test_preflight_says_what_is_missing(asked: UserContext) -> None:
    function = registry.get("m365.reset_password")
    asked.installation = Installation(Settings(**{**asked.installation.settings.model_dump(), "public_url": None}))
    asked.once = lambda key, ask: ask()  # type: ignore[attr-defined]
    parameters = function.Parameters.model_validate({"user": "alex@contoso.test", "hand_over": True})
    found = function.preflight(asked, parameters)  # type: ignore[arg-type]
    assert [f.message for f in found if f.severity == "error"] == [
        "the new password would be set and could not be handed over: EXEUNT_PUBLIC_URL is not set, so there is no address "
        "for a link"
    ]
