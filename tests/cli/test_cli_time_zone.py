"""The installation's time zone: a wrong name is told, and what shows hours says which zone they are of."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from command_line import Cli

from agent.access.principal import local_principal
from agent.cli import task
from agent.installation import open_installation
from agent.web.api import desk


@pytest.mark.parametrize(
    ("wrong", "hint"), [("europe/berlin", "did you mean Europe/Berlin?"), ("CEST!", ""), ("../../etc/passwd", ""), ("+01:00", "")]
)  # fmt: skip
def test_a_wrong_name_is_an_error_that_says_what_to_do(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, wrong: str, hint: str
) -> None:
    monkeypatch.setenv("EXEUNT_TIME_ZONE", wrong)
    told = cli("inventory", "list", "clients", expect=2).stderr
    assert told.startswith("error: ") and "Traceback" not in told and "Value error" not in told
    assert f"EXEUNT_TIME_ZONE: {wrong!r} is no time zone: use an IANA name such as Europe/Berlin" in told
    assert hint in told


def test_the_setting_is_read_from_the_workspace_and_shown_with_hours(cli: Cli) -> None:
    (cli.workspace / "exeunt.env").write_text("EXEUNT_TIME_ZONE=Europe/Berlin\n")
    folder = cli.workspace / "content" / "alert_templates"
    folder.mkdir(parents=True, exist_ok=True)
    hours = {"from": "22:00", "until": "06:00"}
    actions = [
        {"raise_alert": {"subject": "x"}, "window": hours},
        {"raise_alert": {"subject": "x"}, "window": {"days": ["sat"], "time_zone": "Asia/Tokyo"}},
    ]
    (folder / "night.yaml").write_text(json.dumps({"name": "Night", "guid": "night", "failed": actions}))
    shown = cli("template", "show", "Night").stdout
    assert "22:00-06:00 Europe/Berlin" in shown and "sat, 00:00-24:00 Asia/Tokyo" in shown
    cli("inventory", "add-client", "Contoso")
    cli("inventory", "add-location", "HQ", "--client", "contoso")
    cli("inventory", "add-computer", "PC1", "--location", "Contoso/HQ")
    said = cli("inventory", "no-alerts", "--computer", "PC1", "--window", "22:00-06:00").stdout
    assert said == "Contoso/HQ/PC1: alerts, only 22:00 to 06:00 Europe/Berlin\n"


@pytest.mark.parametrize(("zone", "overdue"), [("UTC", 0), ("Pacific/Auckland", 1), ("Pacific/Honolulu", 0)])
def test_a_task_is_overdue_when_its_day_is_over_there(
    fleet: Cli, monkeypatch: pytest.MonkeyPatch, zone: str, overdue: int
) -> None:
    """At the command line and by the API; 13:00 in UTC is tomorrow in Auckland."""
    monkeypatch.setenv("EXEUNT_TIME_ZONE", zone)
    for module in (task, desk):
        monkeypatch.setattr(module, "utcnow", lambda: datetime(2026, 1, 31, 13, tzinfo=UTC))
    fleet("inventory", "add-contact", "Jo", "--client", "contoso", "--email", "jo@contoso.example")
    fleet("task", "add", "Collect the keys", "--contact", "jo@contoso.example", "--due", "2026-01-31")
    assert len(fleet.json("task", "list", "--overdue")) == overdue
    here = open_installation(fleet.workspace)
    assert len(desk.list_tasks(here, local_principal("ann"), overdue=True, limit=50).items) == overdue
    here.database.close()
