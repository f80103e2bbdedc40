"""Jira's functions against a site that is held to Jira's own contract."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest
from jira_peer import JiraPeer
from sqlmodel import Session
from vendor_matrix import Case, FaultMatrix

from agent import audit
from agent.errors import StepError
from agent.functions import registry, ticketing
from agent.functions.systems.jira import SYSTEM
from agent.installation import Installation
from agent.inventory import field_values, places
from agent.inventory.lookup import place_id
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding
from agent.model.fields import Form

if TYPE_CHECKING:
    from conftest import Places

REPORT = "exit-contoso-2026-root1.pdf"
TICKET = {"project": "IT", "summary": "Offboard\nAlex & 'co' $(id)", "description": 'First\n\n"quoted" {code}'}
COMMENT = {"issue": "IT-1", "text": "Zoom (1 of 3): succeeded\n- Deactivate User: *done* {{x}}"}


def _made(jira: JiraPeer) -> list[str]:
    return [key for key, issue in jira.state["issues"].items() if "exeunt-root1" in issue["fields"]["labels"]]


CASES = [
    Case(
        "jira.remove_from_groups", "DELETE .*/group/user",
        lambda j: [g[1] for g in j.state["groups"].values()] == [["5b:mia"], [], ["5b:mia"]],
    ),
    Case(
        "jira.hand_over", "PUT ",
        lambda j: [i["assignee"][3:] for i in j.state["issues"].values()] == ["mia", "mia", "mia", "alex", "mia"]
        and set(j.state["filters"].values()) == set(j.state["projects"].values()) == {"5b:mia"},
        {"to": "mia@contoso.test"},
    ),
    Case("jira.delete_user", "DELETE .*/user$", lambda j: "5b:alex" not in j.state["users"]),
    Case("jira.create_ticket", "POST .*/issue$", lambda j: len(_made(j)) == 1, TICKET, finds=False),
    Case("jira.add_comment", "POST .*/comment", lambda j: len(j.texts("IT-1")) == 1, COMMENT, finds=False),
    Case(
        "jira.transition", "POST .*/transitions", lambda j: j.state["issues"]["IT-1"]["status"] == "Done",
        {"issue": "IT-1", "to": "done"}, finds=False,
    ),
    Case(
        "jira.transition", "POST .*/transitions", lambda j: j.state["issues"]["IT-1"]["status"] == "In Progress",
        {"issue": "IT-1", "to": "start progress"}, finds=False, id="by the transition's name",
    ),
    Case(
        "jira.attach_report", "POST .*/attachments",
        lambda j: j.state["issues"]["IT-2"]["attachments"] == {REPORT: b"%PDF-1.7 report"}, {"issue": "IT-2"}, finds=False,
    ),
]  # fmt: skip
CREATE, ADD, MOVE, ATTACH = CASES[3], CASES[4], CASES[5], CASES[7]


@pytest.fixture
def any_workspace(installation: Installation, two_clients: Places) -> Installation:
    """Alex of Contoso left in the run root1, whose report is written; Max of Fabrikam did not."""
    folder = installation.settings.workspace / "reports"
    folder.mkdir()
    (folder / REPORT).write_bytes(b"%PDF-1.7 report")
    with installation.database.session() as session:
        ids = [
            place_id(places.add_contact(session, client_id=client, name=name, email=f"{name}@x.test", actor="hr"))
            for client, name in ((two_clients.contoso, "alex"), (two_clients.fabrikam, "max"))
        ]
        assert ids == [1, 2] and two_clients.contoso == 1
        _offboarded(session, folder)
    return installation


def _offboarded(session: Session, folder: Any) -> None:
    session.add(
        ContactOffboarding(contact_id=1, client_id=1, run_id="root1", started_at=utcnow(), requested_by="hr")
    )  # fmt: skip
    digest = hashlib.sha256(b"%PDF-1.7 report").hexdigest()
    audit.record(
        session, actor="exit report", action="report.write", object_kind="run", object_id="root1", client_id=1,
        details={"sha256": {REPORT: digest}, "folder": str(folder)},
    )  # fmt: skip


class TestJira(FaultMatrix):
    """The matrix."""

    peer, cases, kind = JiraPeer, CASES, "jira"
    contoso: JiraPeer

    def credential(self, peer: Any) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        return peer.settings(), {"token": peer.token}

    def field(self, contact: int = 1) -> str:
        """The contact's ticket; `0` when there is none."""
        with self.context.installation.database.reading() as session:
            return field_values.effective_value(session, Form.CONTACT, contact, "Offboarding Ticket").value

    def test_the_credential_is_tested(self) -> None:
        assert SYSTEM.test(*self.credential(self.contoso)) == "signed in as bot@contoso.test"
        with pytest.raises(StepError, match="answered 401") as raised:
            SYSTEM.test(self.contoso.settings(), {"token": "wrong"})
        assert "wrong" not in str(raised.value)

    def test_the_address_comes_from_the_property_where_the_credential_has_none(self) -> None:
        settings = {"email": "bot@contoso.test"}
        completed = SYSTEM.completed(settings, {"_sysJiraSubdomain": "contoso"}.get)
        assert completed == {**settings, "url": "https://contoso.atlassian.net"}
        assert SYSTEM.completed({"url": "https://own"}, {"_sysJiraSubdomain": "contoso"}.get) == {"url": "https://own"}
        for wrong in ("evil.test/", "a.b", "-a", "a b", "a/../b", "a@b"):
            with pytest.raises(StepError):
                SYSTEM.completed(settings, {"_sysJiraSubdomain": wrong}.get)

    # --- the ticket

    def test_its_key_is_kept_for_later_steps(self) -> None:
        outcome = self.run(CREATE)
        assert outcome.result["ticket"] == self.field() == "IT-6"
        assert self.field(2) == "0"
        fields = self.contoso.state["issues"]["IT-6"]["fields"]
        assert fields["summary"] == "Offboard Alex & 'co' $(id)"
        texts = [c["text"] for p in fields["description"]["content"] for c in p["content"]]
        assert texts == ["First", '"quoted" {code}']

    @pytest.mark.parametrize("lag", [0, 3])
    def test_a_ticket_whose_answer_was_lost_is_found_and_kept(self, lag: int) -> None:
        self.contoso.lag = lag
        self.contoso.fault(CREATE.writes, "lose", 1)
        outcome = self.run(CREATE)
        assert outcome.state == "succeeded", outcome
        assert _made(self.contoso) == ["IT-6"] and self.field() == "IT-6"

    def test_a_worker_that_dies_after_the_creation_makes_no_second_ticket(self) -> None:
        """The one that comes after it looks until the search shows the ticket."""
        self.contoso.lag = 4

        class Died(BaseException):
            pass

        function = registry.get("jira.create_ticket")
        parameters = function.Parameters.model_validate(TICKET)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ticketing, "keep_ticket", lambda *_: (_ for _ in ()).throw(Died()))
            with pytest.raises(Died):
                function.do(self.context, parameters)  # type: ignore[arg-type]
        assert self.field() == "0"
        outcome = self.run(CREATE)
        assert outcome.result["outcome"] == "already" and self.field() == "IT-6"
        assert _made(self.contoso) == ["IT-6"]

    def test_another_run_has_another_ticket(self) -> None:
        self.run(CREATE)
        self.context.root_id = "root2"
        assert self.run(CREATE).result["ticket"] == "IT-7"

    def test_what_jira_says_of_a_wrong_project_is_told(self) -> None:
        outcome = self.run(CREATE, project="NOPE")
        self.failed(outcome, "INTEGRATION_ERROR")
        assert "valid project is required" in str(outcome.error)

    # --- comments, transitions, the report

    def test_a_comment_is_the_text_and_a_reference(self) -> None:
        self.run(ADD)
        assert self.contoso.texts("IT-1")[0].startswith(COMMENT["text"])
        self.run(ADD, text="another")
        self.context.step_id = "step2"
        self.run(ADD)
        assert len(self.contoso.texts("IT-1")) == 3

    def test_a_ticket_that_is_gone_is_named(self) -> None:
        for case in (ADD, MOVE, ATTACH):
            outcome = self.run(case, issue="IT-99")
            self.failed(outcome, "INTEGRATION_ERROR")
            assert "Issue does not exist" in str(outcome.error)

    @pytest.mark.parametrize("issue", ["", "../x", "IT-1/comment", "IT-1?a=b", "IT 1", "{{ offboarding_ticket }}"])
    def test_what_is_no_key_is_refused(self, issue: str) -> None:
        function = registry.get("jira.add_comment")
        with pytest.raises(ValueError):
            function.Parameters.model_validate({"issue": issue, "text": "x"})

    def test_a_status_that_cannot_be_reached_is_named_with_those_that_can(self) -> None:
        outcome = self.run(MOVE, to="Frozen")
        self.failed(outcome, "INTEGRATION_ERROR")
        assert "Close Issue (Done), Start Progress (In Progress)" in str(outcome.error)

    def test_a_report_that_was_changed_is_not_attached(self) -> None:
        (self.context.installation.settings.workspace / "reports" / REPORT).write_bytes(b"%PDF forged")
        outcome = self.run(ATTACH)
        assert outcome.error is not None and outcome.error.code == "report_changed"
        assert self.contoso.written() == []

    def test_without_a_report_nothing_is_attached(self) -> None:
        for more in ({"format": "html"}, {}):
            outcome = self.run(ATTACH, **more)
            assert outcome.error is not None and outcome.error.code == "no_report"
            self.context.target_id = 2

    # --- the leaver

    @pytest.mark.parametrize(
        ("to", "why"), [("", "is missing"), ("nobody@contoso.test", "no user"), ("alex@contoso.test", "is the leaver")]
    )
    def test_without_a_manager_nothing_is_handed_over(self, to: str, why: str) -> None:
        outcome = self.run(CASES[1], to=to)
        self.failed(outcome, "MANAGER_NOT_FOUND")
        assert why in str(outcome.error) and self.contoso.written() == []

    def test_what_cannot_be_handed_over_is_named_and_the_rest_is(self) -> None:
        self.contoso.fault("PUT .*/project", 403)
        outcome = self.run(CASES[1])
        self.failed(outcome, "PERMISSION_DENIED")
        assert [t["id"] for t in outcome.result["things"] if t["outcome"] == "failed"] == ["project IT"]
        assert self.contoso.state["filters"]["7"] == "5b:mia"

    def test_an_address_that_jira_hides_is_nobodys(self) -> None:
        self.contoso.state["users"]["5b:alex"]["mail"] = ""
        outcome = self.run(CASES[0])
        self.failed(outcome, "ACCOUNT_NOT_FOUND")
        assert outcome.error is not None and outcome.error.code == "account_hidden" and "5b:alex" in str(outcome.error)
        assert self.run(CASES[0], user="5b:alex").state == "succeeded"

    def test_a_longer_address_is_somebody_else(self) -> None:
        self.contoso.state["users"]["5b:other"] = {"mail": "alex@contoso.test.au", "active": True}
        assert self.run(CASES[0]).result["user"]["id"] == "5b:alex"
        del self.contoso.state["users"]["5b:alex"]
        self.context.finished.clear()
        self.failed(self.run(CASES[0]), "ACCOUNT_NOT_FOUND")

    def test_only_the_deletion_is_held_by_retention(self) -> None:
        assert {c.function for c in CASES if registry.get(c.function).deletes_account} == {"jira.delete_user"}


class TestTheMonitor:
    """The monitor of the package finds whose report waits for its ticket."""

    def found(self, installation: Installation) -> list[Any]:
        from agent import shipped
        from agent.monitoring.query import Query, run_query

        file = shipped.path("scripts") / "packages" / "jira" / "monitors" / "jira_exit_report.sql"
        return list(run_query(installation.database, Query(file.read_text(encoding="utf-8"), {})).rows)

    def test_it_finds_a_written_report_until_it_is_attached(self, any_workspace: Installation) -> None:
        assert self.found(any_workspace) == []
        with any_workspace.database.session() as session:
            field_values.set_value(session, Form.CONTACT, 1, "Offboarding Ticket", "42", actor="t")
        assert self.found(any_workspace) == []
        with any_workspace.database.session() as session:
            field_values.set_value(session, Form.CONTACT, 1, "Offboarding Ticket", "IT-42", actor="t")
            field_values.set_value(session, Form.CONTACT, 2, "Offboarding Ticket", "IT-43", actor="t")
        assert [(row[0], row[2]) for row in self.found(any_workspace)] == [("IT-42", 1)]
