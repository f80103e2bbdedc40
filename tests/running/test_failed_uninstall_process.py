"""The outcomes of `Failed Uninstall Process` (facts 4), proven on the shipped wrapper and the shipped fallbacks.

The wrapper is the shipped text; only the names of the two scripts that remove agents are exchanged for scripts that
leave a mark, since a test must not look for agents on the machine it runs on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlmodel import select
from test_executor import execute, plan, tree_of

from agent import shipped
from agent.installation import Installation
from agent.model.fields import ExtraField, ExtraFieldData
from agent.model.places import Computer
from agent.model.runs import RunState
from agent.model.tickets import Ticket
from agent.services import properties

if TYPE_CHECKING:
    from conftest import Places

#: option, literal text -> (ScreenConnect, Automate agent, failure ticket): facts 4.1 and 4.2.
OUTCOMES = {
    ("Ticket + Halt", False): ("kept", "kept", True),
    ("Ticket - Leave ScreenConnect", False): ("kept", "kept", True),
    ("Best Effort - Continue", False): ("removed", "removed", False),
    ("Ticket + Continue", False): ("removed", "removed", True),
    ("Ticket+Continue", False): ("removed", "removed", True),
    (None, False): ("kept", "kept", False),
    ("Ticket + Halt", True): ("kept", "kept", True),
    ("Ticket - Leave ScreenConnect", True): ("removed", "kept", True),
    ("Best Effort - Continue", True): ("removed", "removed", False),
    ("Ticket + Continue", True): ("removed", "removed", False),
    (None, True): ("kept", "kept", False),
}
AGENTS = {
    "CW Control - Uninstall and Remove from Control Web Portal": "Mark ScreenConnect",
    "Remove Automate Agent": "Mark Agent",
}


@pytest.fixture
def marked_wrapper(installation: Installation, two_clients: Places, write_script, use_children, tmp_path: Path) -> Path:
    """The shipped wrapper under another name, whose agent removals leave marks in the folder that is returned."""
    text = shipped.text("scripts", "offboarding_wrapper", "script.yaml").replace(
        "Offboarding Wrapper", "Marked Wrapper"
    )
    for name, mark in AGENTS.items():
        assert f"script: {name}\n" in text
        text = text.replace(f"script: {name}\n", f"script: {mark}\n")
        write_script(
            mark.replace(" ", "_").lower(),
            f'name: {mark}\nparameters: {{File: {{default: "{tmp_path / mark}"}}}}\nbody: a.sh\n',
            {"a.sh": 'touch "$EXEUNT_FILE"'},
        )
    write_script("marked", text)
    write_script("good", "name: Good\nrole: child\nbody: a.sh\n", {"a.sh": "exit 0"}, client="contoso")
    write_script("bad", "name: Bad\nrole: child\nbody: a.sh\n", {"a.sh": "exit 9"}, client="contoso")
    return tmp_path


def _choose(installation: Installation, client_id: int, option: str) -> None:
    with installation.database.session() as session:
        field = session.exec(select(ExtraField).where(ExtraField.name == "Failed Uninstall Process")).one()
        session.add(ExtraFieldData(extra_field_id=field.id, id=client_id, value=option))


@pytest.mark.parametrize(("option", "literal"), list(OUTCOMES))
def test_each_option_after_a_failed_child(
    installation, two_clients, marked_wrapper, use_children, option: str | None, literal: bool
) -> None:
    use_children("contoso", "Marked Wrapper", ["Good", "Bad"])
    if option is not None:
        _choose(installation, two_clients.contoso, option)
    if literal:
        properties.set_value(installation, properties.LITERAL_OUTCOMES, "1", actor="tester")
    computer = two_clients.contoso_computers[0]
    tree = execute(installation, plan(installation, "Marked Wrapper", computer).run_ids[0])
    screenconnect, agent, ticket = OUTCOMES[option, literal]
    assert (marked_wrapper / "Mark ScreenConnect").exists() == (screenconnect == "removed")
    assert (marked_wrapper / "Mark Agent").exists() == (agent == "removed")
    assert tree.root.state == RunState.PARTIAL
    assert tree.root.result is not None and tree.root.result["failure"] == ["Bad"]
    chosen = "Ticket + Continue" if option == "Ticket+Continue" else option
    assert tree.root.context["fallback"]["option"] == chosen
    with installation.database.reading() as session:
        subjects = [t.subject for t in session.exec(select(Ticket))]
        retired = {c.computer_id for c in session.exec(select(Computer)) if c.retired_at is not None}
    assert subjects == ([f"Offboarding status on CONTOSO-PC1({computer})"] if ticket else [])
    assert retired == ({computer} if agent == "removed" else set())


@pytest.mark.parametrize("option", ["Ticket + Halt", None])
def test_without_a_failure_no_option_applies(installation, two_clients, marked_wrapper, use_children, option) -> None:
    use_children("contoso", "Marked Wrapper", ["Good"])
    if option is not None:
        _choose(installation, two_clients.contoso, option)
    computer = two_clients.contoso_computers[0]
    tree = execute(installation, plan(installation, "Marked Wrapper", computer).run_ids[0])
    assert tree.root.state == RunState.SUCCEEDED
    assert (marked_wrapper / "Mark ScreenConnect").exists()
    assert (marked_wrapper / "Mark Agent").exists()
    with installation.database.reading() as session:
        assert not session.exec(select(Ticket)).all()
        kept = session.get(Computer, two_clients.contoso_computers[1])
    assert kept is not None and kept.retired_at is None


def test_a_failed_screenconnect_removal_keeps_the_agent(
    installation, two_clients, marked_wrapper, use_children, write_script
) -> None:
    use_children("contoso", "Marked Wrapper", ["Good"])
    body = installation.settings.workspace / "content" / "scripts" / "mark_screenconnect" / "a.sh"
    body.write_text("exit 3")
    installation.content.reload()
    tree = execute(installation, plan(installation, "Marked Wrapper", two_clients.contoso_computers[0]).run_ids[0])
    assert not (marked_wrapper / "Mark Agent").exists()
    assert tree.root.state == RunState.PARTIAL


def test_the_wrapper_refuses_without_a_child_script(installation, two_clients, marked_wrapper) -> None:
    from agent.running.planning import draft_plan
    from agent.running.requests import PlanOrigin, RunRequest

    request = RunRequest("Marked Wrapper", "computer", two_clients.fabrikam_computers[0])
    draft = draft_plan(installation, [request], PlanOrigin("tester"))
    assert not draft.targets
    assert "exeunt script use" in str(draft.skipped[0]["reason"])


def test_the_partner_default_serves_a_client_without_its_own(
    installation, two_clients, marked_wrapper, use_children, write_script
) -> None:
    write_script("partner", "name: Partner Child\nrole: child\nbody: a.sh\n", {"a.sh": "exit 0"}, client="partner")
    use_children("partner", "Marked Wrapper", ["Partner Child"])
    run_id = plan(installation, "Marked Wrapper", two_clients.fabrikam_computers[0]).run_ids[0]
    tree = execute(installation, run_id)
    assert tree.root.state == RunState.SUCCEEDED
    assert tree_of(installation, run_id).root.context["children"]["source"] == "partner"
