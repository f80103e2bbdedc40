"""The whole path of a person, to the exit report that the worker writes at its end."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import account_functions
import pytest
from people_help import People, PlayedEngine
from sqlmodel import select

from agent.functions.base import Context, Outcome
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding
from agent.model.tickets import Notification
from agent.monitoring.dispatching import run_monitor
from agent.reporting.exit_report import exit_document
from agent.reporting.exit_store import write_due
from agent.running import user_offboardings as offboardings
from agent.running import verbs
from agent.running.user_offboardings import Request

if TYPE_CHECKING:
    from collections.abc import Callable


def test_an_offboarding_ends_with_its_report(
    any_installation: Installation, people: People, engine: PlayedEngine, done: Callable[[int], list[str]]
) -> None:
    # The last day that has begun everywhere, whatever the time of day.
    today = (utcnow() - timedelta(hours=12)).date().isoformat()
    with any_installation.database.session() as session:
        given = {"termination_type": "voluntary", "termination_date": today, "equipment_to_return": "Laptop"}
        offboardings.plan(session, Request("john@contoso.example", given=given), actor="ann")
    run_monitor(any_installation, "User Offboarding", actor="ann", port=engine, confirmed=True)  # type: ignore[arg-type]
    engine.work()
    assert done(people.john)
    with any_installation.database.session() as session:
        run_id = session.exec(select(ContactOffboarding.run_id)).one()
        mails = session.exec(select(Notification)).all()
        assert [(m.key.partition(":")[0], m.recipient) for m in mails] == [("notify.manager", "jane@contoso.example")]
        for mail in mails:
            mail.state = "failed"
            session.add(mail)
    assert write_due(any_installation) == [run_id]
    (file,) = (any_installation.settings.workspace / "reports").glob("exit-contoso-*.json")
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report["success"] is True and "failed_steps" not in report
    info = report["employee_info"]
    assert (info["full_name"], info["manager_email"], info["termination_date"]) == (
        "John",
        "jane@contoso.example",
        today,
    )
    (laptop,) = report["assets_tracking"]["equipment_to_return"]
    assert laptop["status"] == "Return ticket created" and laptop["ticket_id"]
    assert report["summary"]["pending_manual_tasks"] > 0 and report["summary"]["total_assets_pending_return"] == 1
    assert report["summary"]["offboarding_completion_percentage"] == 100
    assert report["psa_updates"]["contact_record"]["status_updated"] == "Former Employee"
    assert report["compliance_documentation"]["retention_period_days"] == 90
    assert report["notifications_sent"]["manager_notification"]["sent"] is False
    assert "no recipient" in report["notifications_sent"]["hr_notification"]["reason"]
    assert not list((any_installation.settings.workspace / "reports").glob("exit-fabrikam-*"))


def test_a_run_that_somebody_cancels_reports_no_errors_for_what_it_did_not_come_to(
    any_installation: Installation, people: People, engine: PlayedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ann cancels while the first step on an account is at work: that one ends, and the rest is not reached."""
    own, asked = account_functions.Account.do, []

    def cancelled_meanwhile(self: Any, context: Context, parameters: Any) -> Outcome:
        if not asked:
            asked.append(verbs.cancel(any_installation, engine, context.root_id, actor="ann", reason="stays"))  # type: ignore[arg-type]
        return own(self, context, parameters)

    monkeypatch.setattr(account_functions.Account, "do", cancelled_meanwhile)
    today = (utcnow() - timedelta(hours=12)).date().isoformat()
    with any_installation.database.session() as session:
        given = {"termination_type": "voluntary", "termination_date": today}
        offboardings.plan(session, Request("john@contoso.example", given=given), actor="ann")
    run_monitor(any_installation, "User Offboarding", actor="ann", port=engine, confirmed=True)  # type: ignore[arg-type]
    engine.work()
    assert asked == ["stops after this step"]
    with any_installation.database.reading() as session:
        run_id = session.exec(select(ContactOffboarding.run_id)).one()
        assert run_id is not None
        report = exit_document(any_installation, session, run_id)
    assert report["success"] is False and report["partial_completion"] is True and report["failed_steps"] == []
    reasons = {n["reason"] for n in report["not_reached_steps"]}
    assert reasons == {"it was not reached: the run was cancelled by ann"} and len(report["not_reached_steps"]) > 3
