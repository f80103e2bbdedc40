"""offboarding.report, offboarding.informative_ticket, ticket.* and mail.send: who is told what, once."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from pydantic import ValidationError
from sqlmodel import col, select

from agent.errors import StepError
from agent.functions import registry
from agent.functions.base import FinishedStep
from agent.functions.offboarding import how_to_tell
from agent.functions.results import absent_names, result_lists
from agent.installation import Installation
from agent.model.administration import SystemProperty
from agent.model.places import Computer
from agent.model.runs import StepState
from agent.model.tickets import Notification, Ticket, TicketComment
from agent.services import properties, tickets

GOOD: Any = [("Datto AV", "succeeded", None), ("Zoom", "succeeded", None)]
BAD: Any = [*GOOD, ("Sentinel", "failed", {"type": "still_installed", "message": "it is\nstill installed"})]
REMOVE_ALL = {"screenconnect": "remove", "agent": "remove"}


def act(name: str, context: Any, **parameters: Any) -> Any:
    function = registry.get(name)
    return function.do(context, function.Parameters(**parameters))


def everything(installation: Installation) -> tuple[list[Ticket], list[TicketComment], list[Notification]]:
    with installation.database.reading() as session:
        return (
            list(session.exec(select(Ticket).order_by(col(Ticket.id)))),
            list(session.exec(select(TicketComment).order_by(col(TicketComment.id)))),
            list(session.exec(select(Notification).order_by(col(Notification.id)))),
        )


def set_property(installation: Installation, name: str, value: str) -> None:
    properties.set_value(installation, f"_sysOffboarding{name}", value, actor="jane")


#: The outcomes of facts 4.1 by option, with the failure ticket that each asks for.
FAILURE_TICKET = {
    "Ticket + Halt": True, "Ticket - Leave ScreenConnect": True, "Best Effort - Continue": False,
    "Ticket + Continue": True, "nothing selected": False,
}  # fmt: skip
TYPES = [frozenset[str](), frozenset({"Ticket"}), frozenset({"Email"}), frozenset({"Ticket", "Email"})]
#: (alert types, option or None for full success, ticket on success) -> (ticket, mail): the whole table, written out.
TABLE = {
    (types, option, on_success): (
        "Ticket" in types and (on_success if option is None else FAILURE_TICKET[option]),
        "Email" in types,
    )
    for types, option, on_success in itertools.product(TYPES, [None, *FAILURE_TICKET], [False, True])
}


@pytest.mark.parametrize(("given", "expected"), TABLE.items())
def test_the_whole_table(given: tuple[frozenset[str], str | None, bool], expected: tuple[bool, bool]) -> None:
    types, option, on_success = given
    told = how_to_tell(
        types, all_off=option is None, failure_ticket=option is None or FAILURE_TICKET[option],
        ticket_on_success=on_success,
    )  # fmt: skip
    assert (told.ticket, told.mail) == expected


def test_fixed_points_of_the_table() -> None:
    """Cells that the facts name, so that the table above cannot be wrong in the same way as the function."""

    def tell(types: str, all_off: bool, failure_ticket: bool, on_success: bool = False) -> tuple[bool, bool]:
        told = how_to_tell(
            properties.alert_types(types), all_off=all_off, failure_ticket=failure_ticket, ticket_on_success=on_success
        )
        return told.ticket, told.mail

    assert tell("", False, True, True) == (False, False)  # CWA-18
    assert tell("Ticket", True, True) == (False, False)  # CWA-21: a full success makes none
    assert tell("Ticket", True, False, True) == (True, False)  # CWA-21: unless it is asked for
    assert tell("Ticket", False, True) == (True, False)  # CWA-12, 13, 15
    assert tell("Ticket", False, False, True) == (False, False)  # CWA-14, 16: success is what it is asked for
    assert tell("Email, Ticket", False, True) == (True, True)
    assert tell("Email", True, False) == (False, True)


def test_the_computer_ticket(installation: Installation, two_clients: Any, story: Any) -> None:
    set_property(installation, "DefaultTicketCategory", "234")
    computer = two_clients.contoso_computers[0]
    children = [
        *BAD,
        ("VPN", "reboot_needed", None),
        ("Backup", "unknown", {"message": "answer lost"}),
        ("Old", "skipped", None),
    ]
    root = story.run(computer, children, finished_at=None)
    result = act("offboarding.report", story.context(root)).result
    (ticket,), comments, mails = everything(installation)
    assert comments == mails == [] and result["ticket"] == ticket.id
    assert ticket.subject == f"Offboarding status on CONTOSO-PC1({computer})"
    assert (ticket.client_id, ticket.computer_id, ticket.category) == (two_clients.contoso, computer, "234")
    for text in (
        "Removed applications (2):\n  - Datto AV\n  - Zoom\n", "Failed applications (1):\n  - Sentinel: it is still installed\n",
        "A reboot is needed before it can be told (1):\n  - VPN\n", "The outcome is unknown (1):\n  - Backup: answer lost\n",
        "rebooted, then run Offboarding Wrapper again", "Remove by hand what fails a second time",
        "so that it removes the Automate agent", "Failed Uninstall Process: Ticket + Halt",
    ):  # fmt: skip
        assert text in ticket.body, text
    assert "Old" not in ticket.body


def test_a_crash_between_the_ticket_and_the_end_of_the_step_leaves_one(
    installation: Installation, two_clients: Any, story: Any
) -> None:
    set_property(installation, "AlertType", "Ticket, Email")
    set_property(installation, "DefaultEmailAddress", "msp@example.com")
    root = story.run(two_clients.contoso_computers[0], BAD, finished_at=None)
    results = [act("offboarding.report", story.context(root)).result for _ in range(3)]
    assert results[0] == results[1] == results[2]
    made = everything(installation)
    assert [len(x) for x in made] == [1, 0, 1]


def test_a_second_run_comments_and_the_other_client_gets_nothing(
    installation: Installation, two_clients: Any, story: Any
) -> None:
    computer = two_clients.contoso_computers[0]
    for _ in range(2):
        root = story.run(computer, BAD, finished_at=None)
        act("offboarding.report", story.context(root))
        story.end(root)
    (ticket,), (comment,), _ = everything(installation)
    assert comment.ticket_id == ticket.id and comment.run_id == root
    with installation.database.reading() as session:
        assert tickets.list_tickets(session, client_id=two_clients.fabrikam) == []


@pytest.mark.parametrize("children", [[], [("Old", "skipped", None)]])
def test_nothing_removed_is_no_success(installation: Installation, two_clients: Any, story: Any, children: Any) -> None:
    root = story.run(two_clients.contoso_computers[0], children, finished_at=None)
    act("offboarding.report", story.context(root))
    (ticket,), _, _ = everything(installation)
    assert "Removed applications: none" in ticket.body


def test_a_full_success_makes_a_ticket_only_when_asked(
    installation: Installation, two_clients: Any, story: Any
) -> None:
    first, second = two_clients.contoso_computers
    act("offboarding.report", story.context(story.run(first, GOOD, finished_at=None)))
    assert everything(installation)[0] == []
    set_property(installation, "TicketOnSuccess", "1")
    act("offboarding.report", story.context(story.run(second, GOOD, finished_at=None)))
    (ticket,), _, _ = everything(installation)
    assert (
        ticket.computer_id == second and "What to do" not in ticket.body and "Failed applications: none" in ticket.body
    )


def test_best_effort_makes_no_ticket(installation: Installation, two_clients: Any, story: Any) -> None:
    outcome = {**REMOVE_ALL, "failure_ticket": False}
    root = story.run(
        two_clients.contoso_computers[0], BAD, finished_at=None, outcome=outcome, option="Best Effort - Continue"
    )
    act("offboarding.report", story.context(root))
    assert everything(installation)[0] == []


@pytest.mark.parametrize(
    ("address", "started_by", "recipient", "state"),
    [
        ("msp@example.com", "jane@example.com", "msp@example.com", "sending"),
        ("", "jane@example.com", "jane@example.com", "sending"),
        ("", "jane", "jane", "failed"),
    ],
)
def test_who_gets_the_mail(
    installation: Installation, two_clients: Any, story: Any, address: str, started_by: str, recipient: str, state: str
) -> None:
    set_property(installation, "AlertType", "email")
    set_property(installation, "DefaultEmailAddress", address)
    root = story.run(two_clients.contoso_computers[0], GOOD, finished_at=None, started_by=started_by)
    act("offboarding.report", story.context(root))
    (made, _, (mail,)) = everything(installation)
    assert made == [] and (mail.recipient, mail.state, mail.run_id) == (recipient, state, root)
    assert mail.subject == f"Offboarding status on CONTOSO-PC1({two_clients.contoso_computers[0]})"
    if state == "failed":
        assert "'jane' is not a mail address" in str(mail.error) and "Datto AV" in mail.body


def test_of_several_computers_no_mail_of_their_own(installation: Installation, two_clients: Any, story: Any) -> None:
    set_property(installation, "AlertType", "Email, Ticket")
    plan = story.plan()
    roots = [story.run(c, BAD, finished_at=None, plan_id=plan) for c in two_clients.contoso_computers]
    results = [act("offboarding.report", story.context(r)).result for r in roots]
    made, _, mails = everything(installation)
    assert len(made) == 2 and mails == [] and results[0]["mail_in"] == "the summary of the plan"


def test_a_property_broken_by_plain_sql_is_named(installation: Installation, two_clients: Any, story: Any) -> None:
    with installation.database.session() as session:
        session.add(SystemProperty(name=properties.ALERT_TYPE, value="Pigeon"))
    root = story.run(two_clients.contoso_computers[0], GOOD, finished_at=None)
    with pytest.raises(StepError, match="_sysOffboardingAlertType: 'Pigeon'"):
        act("offboarding.report", story.context(root))


def test_newlines_in_names_stay_in_one_line(installation: Installation, two_clients: Any, story: Any) -> None:
    computer = two_clients.contoso_computers[0]
    story.rename(computer, "PC\r\nBcc: x@y.z\n$(id)")
    root = story.run(computer, [("App\n  - Forged: removed", "failed", {"message": "a\nb"})], finished_at=None)
    act("offboarding.report", story.context(root))
    (ticket,), _, _ = everything(installation)
    assert ticket.subject == f"Offboarding status on PC Bcc: x@y.z $(id)({computer})"
    assert "\n  - App - Forged: removed: a b\n" in ticket.body and "\n  - Forged" not in ticket.body


def test_the_client_and_the_location_ticket(installation: Installation, two_clients: Any, story: Any) -> None:
    first, second = two_clients.contoso_computers
    for computer in (first, second, first):
        root = story.run(computer, GOOD, finished_at=None, levels=["client", "location"])
        act("offboarding.informative_ticket", story.context(root, "Informative Ticket"))
        story.end(root)
    made, comments, _ = everything(installation)
    assert comments == [] and [t.subject for t in made] == [
        "Offboarding initiated on client - Contoso", "Offboarding initiated on location - Headquarters",
    ]  # fmt: skip
    assert "Offboarding Wrapper was started" in made[0].body and "Offboard Location is selected" in made[1].body
    assert {t.client_id for t in made} == {two_clients.contoso} and made[1].location_id == two_clients.contoso_site


def test_one_informative_ticket_per_ticking(
    installation: Installation, two_clients: Any, story: Any, flag: Any
) -> None:
    def again() -> int:
        root = story.run(two_clients.contoso_computers[0], GOOD, finished_at=None, levels=["client"])
        act("offboarding.informative_ticket", story.context(root, "Informative Ticket"))
        story.end(root)
        return len(everything(installation)[0])

    flag("Offboard Client", 3, two_clients.contoso)
    assert again() == 1
    with installation.database.session() as session:
        tickets.close(session, 1, author="jane")
    assert again() == 1  # the same ticking
    flag("Offboard Client", 3, two_clients.contoso, "0")
    flag("Offboard Client", 3, two_clients.contoso, "1")
    assert again() == 2


@pytest.mark.parametrize(("levels", "value"), [(["computer"], "1"), ([], "1"), (["client", "location"], "0")])
def test_no_informative_ticket(
    installation: Installation, two_clients: Any, story: Any, levels: list[str], value: str
) -> None:
    set_property(installation, "ClientInformativeTicket", value)
    root = story.run(two_clients.contoso_computers[0], GOOD, finished_at=None, levels=levels)
    outcome = act("offboarding.informative_ticket", story.context(root, "Informative Ticket"))
    assert outcome.state == StepState.SKIPPED and outcome.result["reason"] and everything(installation)[0] == []


def test_generic_steps_do_it_once(installation: Installation, two_clients: Any, story: Any) -> None:
    root = story.run(two_clients.contoso_computers[0], GOOD, finished_at=None)
    first, second = story.context(root), story.context(root, "Informative Ticket")
    with pytest.raises(StepError, match="no ticket about laptop"):
        act("ticket.comment", first, text="x", matter="laptop")
    for context in (first, first, second, second):
        act("ticket.create", context, subject="Laptop\nmissing", body="Ask for it.", matter="laptop")
        act("mail.send", context, to="hr@example.com", subject="Laptop", body="Please.")
    for context in (first, first):
        act("ticket.comment", context, text="still missing", matter="laptop")
    (ticket,), comments, mails = everything(installation)
    assert ticket.subject == "Laptop missing" and ticket.client_id == two_clients.contoso
    assert [c.text for c in comments] == ["Ask for it.", "still missing"] and len(mails) == 2
    with pytest.raises(ValidationError, match="is not a mail address"):
        registry.get("mail.send").Parameters(to="hr", subject="x", body="y")


def test_lists_count_each_application_and_only_children() -> None:
    applications = [
        {"name": "A", "outcome": "removed"}, {"name": "B", "outcome": "already_absent"},
        {"name": "C", "outcome": "failed", "reasons": ["locked", "again"]},
        {"name": "D", "outcome": "reboot_needed"}, {"name": "E", "outcome": "unknown"},
    ]  # fmt: skip
    steps = [
        FinishedStep("App1", "s", "remove_application", StepState.FAILED, "A;;B;;C;;D;;E", {"applications": applications}, {"message": "m"}, True),
        FinishedStep("Informative Ticket", "w", "x", StepState.SUCCEEDED, "no", {}, None, False),
        FinishedStep("App2", "s", "x", StepState.CANCELLED, "no", {}, None, True),
    ]  # fmt: skip
    lists = result_lists(steps)
    assert lists.labels() == {"success": ["A", "B"], "failure": ["C"], "reboot_needed": ["D"], "unknown": ["E"]}
    assert lists.failure[0].reason == "locked; again" and not lists.everything_came_off
    # "Removed" of what was never there, such as a misspelt name, would prove too much.
    assert [entry.reason for entry in lists.success] == [None, "was not installed"]
    assert absent_names(steps[0].result, "x") == ["B"]
    agent = FinishedStep("A", "s", "agent.remove", StepState.SUCCEEDED, "it", {"outcome": "already_absent"}, None, True)
    assert [entry.reason for entry in result_lists([agent]).success] == ["was not installed"]
    assert absent_names(agent.result, "it") == ["it"]


def test_a_message_of_another_client_is_refused(installation: Installation, two_clients: Any, story: Any) -> None:
    root = story.run(two_clients.contoso_computers[0], BAD, finished_at=None)
    context = story.context(root)
    with installation.database.session() as session:
        computer = session.get(Computer, two_clients.contoso_computers[0])
        assert computer is not None
        computer.client_id, computer.location_id = two_clients.fabrikam, two_clients.fabrikam_site
    with pytest.raises(Exception, match="another client"):
        act("offboarding.report", context)
    assert everything(installation)[0] == []
