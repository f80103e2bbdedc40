"""The functions for ConnectWise PSA and HaloPSA. `psa_peers` says what the test systems leave out: neither vendor has a contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from psa_peers import ConnectWisePeer, HaloPeer
from vendor_matrix import Case, FaultMatrix

from agent.functions import registry
from agent.functions.systems import connectwise_psa, halopsa
from agent.installation import Installation
from agent.inventory import field_values, places
from agent.inventory.lookup import place_id
from agent.model.fields import Form
from agent.settings import Settings

TEXT = 'Okta (1 of 3): succeeded\n- <b>"Deactivate"</b> & $(id)'
NOTE = {"ticket": "7", "text": TEXT}
TIME = {**NOTE, "hours": 0.25}
CW_TICKET = {
    "company": "contoso",
    "board": "Help Desk",
    "summary": "Offboard\nAlex & 'co'",
    "contact": "alex@contoso.test",
}
HALO_TICKET = {"client": 1, "summary": "Offboard\nAlex", "description": "<script>\nline", "user": "alex@contoso.test"}


def _made(peer: Any) -> list[dict[str, Any]]:
    return [t for key, t in peer.state["tickets"].items() if key != 7]


CONNECTWISE = [
    Case(
        "connectwise_psa.deactivate_contact", "PATCH .*/contacts/",
        lambda p: {k: (c["inactiveFlag"], c["types"]) for k, c in p.state["contacts"].items()}
        == {10: (True, ["Approver"]), 11: (False, ["Approver"]), 20: (False, ["Approver"])}, {"company": "Contoso"},
        before=lambda p: [c.update(company=c["company"].replace("contoso", "Contoso")) for c in p.state["contacts"].values()],
    ),
    Case(
        "connectwise_psa.deactivate_contact", "PATCH .*/contacts/",
        lambda p: p.state["contacts"][10]["inactiveFlag"] and p.state["contacts"][10]["types"] == ["Former Employee"],
        {"company": "contoso", "contact_type": "Former Employee"}, id="as a former employee",
    ),
    Case(
        "connectwise_psa.create_ticket", "POST .*/tickets$",
        lambda p: [t["externalXRef"] for t in _made(p)] == ["exeunt-root1"], CW_TICKET, finds=False,
    ),
    Case("connectwise_psa.add_note", "POST .*/notes", lambda p: len(p.state["tickets"][7]["notes"]) == 1, NOTE, finds=False),
    Case(
        "connectwise_psa.add_time", "POST .*/time/entries",
        lambda p: [t["actualHours"] for t in p.state["times"].values()] == [0.25], TIME, finds=False,
    ),
    Case(
        "connectwise_psa.set_status", "PATCH .*/tickets/", lambda p: p.state["tickets"][7]["status"] == "Completed",
        {"ticket": "7", "status": "Completed"}, finds=False,
    ),
]  # fmt: skip
HALO = [
    Case(
        "halopsa.deactivate_user", "POST /api/Users", lambda p: [u["inactive"] for u in p.state["users"].values()] == [True, False, False],
        {"client": 1},
    ),
    Case("halopsa.create_ticket", "POST /api/Tickets", lambda p: len(_made(p)) == 1, HALO_TICKET, finds=False),
    Case("halopsa.add_note", "POST /api/Actions", lambda p: len(p.state["actions"]) == 1, NOTE, finds=False),
    Case("halopsa.add_time", "POST /api/Actions", lambda p: [a["timetaken"] for a in p.state["actions"].values()] == [0.25], TIME, finds=False),
    Case(
        "halopsa.set_status", "POST /api/Tickets", lambda p: p.state["tickets"][7]["status_id"] == 9,
        {"ticket": "7", "status": "Closed"}, finds=False,
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Alex of Contoso leaves; Max of Fabrikam does not. Made once: making a database takes longer than a test."""
    installation = Installation(Settings(workspace=tmp_path_factory.mktemp("psa"), sqlite_synchronous="NORMAL"))
    installation.database.initialise()
    with installation.database.session() as session:
        for name, client in (("alex", "Contoso"), ("max", "Fabrikam")):
            made = places.add_client(session, name=client, slug=client.lower(), actor="hr")
            places.add_contact(session, client_id=place_id(made), name=name, email=f"{name}@x.test", actor="hr")
    yield installation
    installation.database.close()


@pytest.fixture
def any_workspace(workspace: Installation) -> Installation:
    """Nobody has a ticket yet."""
    with workspace.database.session() as session:
        field_values.clear_value(session, Form.CONTACT, 1, "Offboarding Ticket", actor="hr")
    return workspace


class Psa(FaultMatrix):
    """What both have in common."""

    create: Case
    note: Case

    def field(self, contact: int = 1) -> str:
        """The contact's ticket; `0` when there is none."""
        with self.context.installation.database.reading() as session:
            return field_values.effective_value(session, Form.CONTACT, contact, "Offboarding Ticket").value

    def test_the_number_of_the_ticket_is_kept_for_later_steps(self) -> None:
        outcome = self.run(self.create)
        assert outcome.result["ticket"] == self.field() == "8"
        assert self.field(2) == "0"

    @pytest.mark.parametrize("lag", [0, 3])
    def test_a_ticket_whose_answer_was_lost_is_found_and_kept(self, lag: int) -> None:
        self.contoso.lag = lag  # type: ignore[attr-defined]
        self.contoso.fault(self.create.writes, "lose", 1)
        assert self.run(self.create).state == "succeeded"
        assert len(_made(self.contoso)) == 1 and self.field() == "8"

    def test_another_run_has_another_ticket(self) -> None:
        self.run(self.create)
        self.context.root_id = "root2"
        assert self.run(self.create).result["ticket"] == "9"

    def test_another_text_is_another_note_and_another_step_too(self) -> None:
        first = len(self.contoso.snapshot())
        for values, step in (({}, "step1"), ({}, "step1"), ({"text": "x"}, "step1"), ({}, "step2")):
            self.context.step_id = step
            assert self.run(self.note, **values).state == "succeeded"
        assert sum("POST" in call and "token" not in call for call in self.contoso.calls) == 3 and first

    def test_a_ticket_that_is_gone_is_named(self) -> None:
        for case in self.cases:
            if case.values.get("ticket"):
                self.failed(self.run(case, ticket="99"), "INTEGRATION_ERROR")

    @pytest.mark.parametrize("ticket", ["", "../x", "7/notes", "7?a=b", "0", "-1", "seven"])
    def test_what_is_no_number_of_a_ticket_is_refused(self, ticket: str) -> None:
        with pytest.raises(ValueError):
            registry.get(self.note.function).Parameters.model_validate({"ticket": ticket, "text": "x"})


class TestConnectWise(Psa):
    """ConnectWise PSA."""

    peer, cases, kind = ConnectWisePeer, CONNECTWISE, "connectwise_psa"
    create, note = CONNECTWISE[2], CONNECTWISE[3]
    contoso: ConnectWisePeer

    def credential(self, peer: Any) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        return peer.settings(), {"private_key": peer.private_key}

    def test_the_credential_is_tested(self) -> None:
        assert connectwise_psa.SYSTEM.test(*self.credential(self.contoso)) == "it reads 3 contacts"
        with pytest.raises(Exception, match="answered 401"):
            connectwise_psa.SYSTEM.test(
                self.contoso.settings(client_id="other"), {"private_key": self.contoso.private_key}
            )

    def test_a_contact_of_another_company_is_nobodys(self) -> None:
        for who in ("20", "alex@contoso.test"):
            values = {"user": who, "company": "contoso" if who == "20" else "nobody"}
            self.failed(self.context.run("connectwise_psa.deactivate_contact", **values), "ACCOUNT_NOT_FOUND")
        assert self.contoso.written() == []
        assert self.context.run("connectwise_psa.deactivate_contact", user="10", company="contoso").state == "succeeded"

    def test_two_contacts_with_one_address_are_nobodys(self) -> None:
        self.contoso.state["contacts"][11]["mail"] = "ALEX@contoso.test"
        outcome = self.run(CONNECTWISE[1])
        self.failed(outcome, "ACCOUNT_NOT_FOUND")
        assert "10, 11" in str(outcome.error)

    @pytest.mark.parametrize("user", ['a" or company/identifier="fabrikam@x', "a\\@x", "alex", "10x"])
    def test_an_address_never_becomes_a_condition(self, user: str) -> None:
        self.failed(
            self.context.run("connectwise_psa.deactivate_contact", user=user, company="contoso"), "ACCOUNT_NOT_FOUND"
        )
        assert [c for c in self.contoso.calls if c.endswith("/contacts")] == []
        with pytest.raises(ValueError):
            registry.get("connectwise_psa.deactivate_contact").Parameters.model_validate(
                {"user": "1", "company": 'a" or "'}
            )

    def test_the_ticket_is_about_the_contact(self) -> None:
        self.run(self.create)
        [ticket] = _made(self.contoso)
        assert (ticket["summary"], ticket["contact"]) == ("Offboard Alex & 'co'", {"id": 10})

    def test_a_board_that_there_is_not_is_told(self) -> None:
        outcome = self.run(self.create, board="Nowhere")
        self.failed(outcome, "INTEGRATION_ERROR")
        assert outcome.error is not None and "check board" in str(outcome.error.remediation)


class TestHalo(Psa):
    """HaloPSA."""

    peer, cases, kind = HaloPeer, HALO, "halopsa"
    create, note = HALO[1], HALO[2]
    contoso: HaloPeer

    def credential(self, peer: Any) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        return peer.settings(), {"client_secret": peer.secret}

    def test_the_credential_is_tested(self) -> None:
        assert halopsa.SYSTEM.test(*self.credential(self.contoso)) == "it reads 3 users"
        with pytest.raises(Exception, match="invalid_client"):
            halopsa.SYSTEM.test(self.contoso.settings(), {"client_secret": "wrong"})

    def test_a_user_of_another_client_is_nobodys(self) -> None:
        self.failed(self.context.run("halopsa.deactivate_user", user="20", client=1), "ACCOUNT_NOT_FOUND")
        self.failed(
            self.context.run("halopsa.deactivate_user", user="alex@contoso.test", client=3), "ACCOUNT_NOT_FOUND"
        )
        assert [c for c in self.contoso.written() if "token" not in c] == []

    def test_two_users_with_one_address_are_nobodys(self) -> None:
        self.contoso.state["users"][11]["emailaddress"] = "ALEX@contoso.test"
        self.failed(self.run(HALO[0]), "ACCOUNT_NOT_FOUND")

    def test_what_is_written_is_no_html(self) -> None:
        self.run(self.create)
        assert _made(self.contoso)[0]["details_html"] == "&lt;script&gt;<br>line"
        assert _made(self.contoso)[0]["summary"] == "Offboard Alex [exeunt-root1]"
        self.run(self.note)
        [action] = self.contoso.state["actions"].values()
        assert "&lt;b&gt;" in action["note_html"] and "<b>" not in action["note_html"]
        assert (action["hiddenfromuser"], action["sendemail"]) == (True, False)

    def test_a_status_that_there_is_not_is_named_with_those_that_are(self) -> None:
        outcome = self.run(HALO[4], status="Frozen")
        self.failed(outcome, "INTEGRATION_ERROR")
        assert "New, Closed" in str(outcome.error)
