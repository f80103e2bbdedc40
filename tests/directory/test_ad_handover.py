"""A new password of Active Directory that is handed over to the manager: in force, behind the link, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import inspect, text
from sqlmodel import select

from agent.errors import NotFound, StepError
from agent.functions import registry
from agent.installation import Installation
from agent.model.places import Contact
from agent.model.runs import StepState
from agent.model.tickets import Notification
from agent.secrets import create_key
from agent.services import handover, mail
from agent.settings import Settings

if TYPE_CHECKING:
    from conftest import DirectoryContext, Domain, Places

    Make = Callable[..., DirectoryContext]

pytestmark = pytest.mark.parametrize("way", ["ldap", "psrp"])
URL = "https://exeunt.example.com"


@pytest.fixture
def asked(context: Make, installation: Installation, two_clients: Places) -> Make:
    """Contexts of an installation with a public address, for a contact with a manager."""
    create_key(installation.settings)
    public = Installation(Settings(**{**installation.settings.model_dump(), "public_url": URL}))
    with public.database.session() as session:
        contact = Contact(
            client_id=two_clients.contoso, external_id="leaver", name="Leaver", email="leaver@contoso.test"
        )
        contact.manager_email = "mia@contoso.test"
        session.add(contact)
        session.flush()
        target = contact.contact_id
    assert target is not None

    def make(**settings: object) -> DirectoryContext:
        made = context(**settings)
        made.installation, made.target_id, made.client_id = public, target, two_clients.contoso
        return made

    return make


def everything(installation: Installation) -> str:
    """All that the database holds, as text."""
    with installation.database.reading() as session:
        connection = session.connection()
        names = inspect(connection).get_table_names()
        return "\n".join(str(connection.execute(text(f'SELECT * FROM "{name}"')).all()) for name in names)


def messages(installation: Installation) -> list[str]:
    """The messages to the manager, as they are sent."""
    with installation.database.reading() as session:
        stored = session.exec(select(Notification)).all()
    assert all(n.recipient == "mia@contoso.test" and n.body.startswith("enc:") for n in stored)
    return [mail._text(installation, n).body for n in stored]


def test_the_manager_gets_a_link_that_shows_it_once(
    asked: Make, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    made, leaver, colleague = asked(), domain.user("Leaver"), domain.user("Colleague")
    outcome = made.call("ad.reset_password", account=leaver.mail, hand_over=True)
    assert outcome.state == StepState.SUCCEEDED and outcome.result["recoverable"] is True, outcome
    assert outcome.result["handover"]["sent_to"] == "mia@contoso.test" and outcome.result["password_reset"] is True
    body = messages(made.installation)[0]
    found = re.search(rf"{re.escape(URL)}/handover/(\S+)", body)
    assert found and leaver.sam in body
    kept = everything(made.installation) + str(outcome) + str(made.states) + caplog.text
    password = handover.take(made.installation, found[1], actor="link")
    assert password not in kept and found[1] not in kept, "neither password nor token is kept in clear"
    with pytest.raises(NotFound):
        handover.take(made.installation, found[1], actor="link")
    signed_in = asked(username=leaver.mail)
    signed_in.given = (signed_in.given[0], {"password": password})  # type: ignore[index]
    assert signed_in.call("ad.snapshot", account=colleague.sam).state == StepState.SUCCEEDED, "it is the real password"


def test_it_is_not_handed_over_unless_asked(asked: Make, domain: Domain) -> None:
    made = asked()
    outcome = made.call("ad.reset_password", account=domain.user("Quiet").mail)
    assert outcome.result["recoverable"] is False and "handover" not in outcome.result
    assert messages(made.installation) == []


def test_what_keeps_it_from_being_handed_over_does_not_keep_the_old_one_in_force(asked: Make, domain: Domain) -> None:
    made, leaver = asked(), domain.user("No manager")
    with made.installation.database.session() as session:
        contact = session.get_one(Contact, made.target_id)
        contact.manager_email = ""
        session.add(contact)
    before = leaver["pwdLastSet"]
    outcome = made.call("ad.reset_password", account=leaver.mail, hand_over=True)
    assert outcome.state == StepState.SUCCEEDED and outcome.result["recoverable"] is False
    assert outcome.result["handover"]["sent_to"] is None and "manager" in outcome.result["handover"]["reason"]
    assert leaver["pwdLastSet"] != before
    function = registry.get("ad.reset_password")
    made.once = lambda key, ask: ask()  # type: ignore[attr-defined]
    parameters = function.Parameters.model_validate({"account": leaver.mail, "hand_over": True})
    found = [f.message for f in function.preflight(made, parameters) if f.severity == "error"]  # type: ignore[arg-type]
    assert len(found) == 1 and "could not be handed over: the leaver's manager has no mail address" in found[0]


def test_a_password_that_is_not_in_force_is_not_handed_over(asked: Make, domain: Domain) -> None:
    leaver = domain.user("Denied")
    before, made = leaver["pwdLastSet"], asked(username="CORP\\ordinary")
    with pytest.raises(StepError) as denied:
        made.call("ad.reset_password", account=leaver.mail, hand_over=True)
    assert denied.value.type == "PERMISSION_DENIED" and leaver["pwdLastSet"] == before
    assert messages(made.installation) == []
    assert "handover.revoke" in everything(made.installation)
    with made.installation.database.reading() as session:
        assert session.execute(text("SELECT secret FROM one_time_link")).scalars().all() == [None]
