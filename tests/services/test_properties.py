"""agent.services.properties: exact names, values that are checked, defaults, audit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import audit
from agent.errors import NotFound, UsageError
from agent.installation import Installation
from agent.model.administration import SystemProperty
from agent.services import properties


def value(installation: Installation, name: str) -> str | None:
    with installation.database.reading() as session:
        return properties.value_of(installation, session, name)


def test_the_names_of_the_source_are_all_declared() -> None:
    assert {
        "_sysOffboardingAlertType", "_sysOffboardingDefaultEmailAddress", "_sysOffboardingDefaultTicketCategory",
        "_sysOffboardingTicketOnSuccess", "_sysOffboardingClientInformativeTicket", "_sysOffboardingLiteralOutcomes",
        "RMMPlus_AccessKey", "RMMPlus_Headers", "RMMPlus_StaleAgentThreshold", "RMMPlus_Timeout",
    } <= set(properties.CATALOGUE)  # fmt: skip


def test_a_default_counts_until_a_value_is_set(installation: Installation) -> None:
    name = "_sysOffboardingClientInformativeTicket"
    assert value(installation, name) == "1"
    properties.set_value(installation, name, "0", actor="jane")
    assert value(installation, name) == "0"
    properties.unset(installation, name, actor="jane")
    assert value(installation, name) == "1"
    with pytest.raises(NotFound):
        properties.unset(installation, name, actor="jane")
    assert value(installation, "unknown") is None


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("", set()), ("  ", set()), ("Ticket", {"Ticket"}), ("email", {"Email"}), ("Email, Ticket", {"Email", "Ticket"}),
        ("TICKET,EMAIL", {"Email", "Ticket"}), (" ticket ,\temail, ", {"Email", "Ticket"}), ("Ticket,Ticket", {"Ticket"}),
    ],
)  # fmt: skip
def test_alert_types_in_any_case_and_spacing(installation: Installation, text: str, types: set[str]) -> None:
    properties.set_value(installation, "_sysOffboardingAlertType", text, actor="jane")
    stored = value(installation, "_sysOffboardingAlertType")
    assert stored == text and properties.alert_types(stored) == types


@given(st.text())
def test_alert_types_never_guess(text: str) -> None:
    words = {w.strip().lower() for w in text.split(",")} - {""}
    if words <= {"ticket", "email"}:
        assert {t.lower() for t in properties.alert_types(text)} == words
    else:
        with pytest.raises(ValueError, match="is no alert type"):
            properties.alert_types(text)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("_sysOffboardingAlertType", "Ticket Email"), ("_sysOffboardingAlertType", "Tickets"),
        ("_sysOffboardingTicketOnSuccess", "yes"), ("_sysOffboardingTicketOnSuccess", ""),
        ("_sysOffboardingClientInformativeTicket", "2"), ("_sysOffboardingDefaultEmailAddress", "jane"),
        ("_sysOffboardingDefaultEmailAddress", "a@b.c\nBcc: d@e.f"), ("_sysOffboardingDefaultTicketCategory", "board"),
        ("RMMPlus_Timeout", "0"), ("RMMPlus_Timeout", "1.5"), ("RMMPlus_StaleAgentThreshold", "-1"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused(installation: Installation, name: str, wrong: str) -> None:
    with pytest.raises(UsageError, match=name):
        properties.set_value(installation, name, wrong, actor="jane")
    with installation.database.reading() as session:
        assert session.get(SystemProperty, name) is None


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("_sysOffboardingAlertTypes", "_sysOffboardingAlertType"),
        ("_sysoffboardingalerttype", "_sysOffboardingAlertType"),
        ("_sysOffboardingTicketOnSucess", "_sysOffboardingTicketOnSuccess"),
        ("RMMPlus_Accesskey", "RMMPlus_AccessKey"),
        ("_sysOffboardingX", "_sysOffboarding"),
        ("_sysOfboardingAlertType", "_sysOffboardingAlertType"),
        ("sysOffboardingTicketOnSuccess", "_sysOffboardingTicketOnSuccess"),
    ],
)
def test_a_typing_error_is_not_ignored(installation: Installation, typo: str, meant: str) -> None:
    with pytest.raises(UsageError, match=meant):
        properties.set_value(installation, typo, "1", actor="jane")


@pytest.mark.parametrize("name", ["", " x", "a\nb", "\x00"])
def test_a_name_is_one_line(installation: Installation, name: str) -> None:
    with pytest.raises(UsageError):
        properties.set_value(installation, name, "1", actor="jane")


def test_other_names_are_allowed_and_listed(keyed: Installation) -> None:
    properties.set_value(keyed, "OurPortal", "https://example.com", actor="jane")
    properties.set_value(keyed, "OurKey", "hidden", actor="jane", secret=True)
    assert value(keyed, "OurKey") == "hidden"
    with keyed.database.reading() as session:
        views = {v.name: v for v in properties.list_properties(session)}
    assert views["OurPortal"].value == "https://example.com" and views["OurPortal"].changed_by == "jane"
    assert views["OurKey"].value is None and views["OurKey"].is_secret and views["OurKey"].is_set
    assert not views["RMMPlus_Timeout"].is_set and views["RMMPlus_Timeout"].default == "1000"


def test_a_secret_property_stays_secret_when_it_is_set_again(keyed: Installation) -> None:
    properties.set_value(keyed, "OurKey", "hidden", actor="jane", secret=True)
    properties.set_value(keyed, "OurKey", "hidden too", actor="jane")
    with keyed.database.reading() as session:
        row: Any = session.get(SystemProperty, "OurKey")
    assert row.is_secret and row.value.startswith("enc:v1:")


def test_old_and_new_value_are_audited(keyed: Installation) -> None:
    properties.set_value(keyed, "_sysOffboardingTicketOnSuccess", "1", actor="jane")
    properties.set_value(keyed, "_sysOffboardingTicketOnSuccess", "0", actor="joe")
    properties.set_value(keyed, "RMMPlus_AccessKey", "hidden", actor="joe")
    properties.unset(keyed, "RMMPlus_AccessKey", actor="joe")
    with keyed.database.session() as session:
        trail = [(e.actor, e.details["old"], e.details["new"]) for e in reversed(audit.entries(session))]
    assert trail == [("jane", None, "1"), ("joe", "1", "0"), ("joe", None, "(secret)"), ("joe", "(secret)", None)]
