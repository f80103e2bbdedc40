"""The whole way in a browser, with a worker that executes: flag, preview, approve, watch, report, ticket, audit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, expect
from web_help import browsing, console_at, picture, serving

from agent.installation import Installation
from agent.inventory import field_values
from agent.model.fields import Form
from agent.settings import Settings

if TYPE_CHECKING:
    from conftest import Places

CHILD = """name: Offboarding Scripts - Contoso
role: child
target: computer
steps:
  - {name: Notes, script: Remove Notes}
  - {name: Stubborn, script: Remove Stubborn}
"""


def write(workspace: Path, folder: str, text: str, **bodies: str) -> None:
    place = workspace / "content" / "scripts" / folder
    place.mkdir(parents=True)
    (place / "script.yaml").write_text(text, encoding="utf-8")
    for name, body in bodies.items():
        (place / f"{name}.sh").write_text(body, encoding="utf-8")


def prepare(installation: Installation, application: Path) -> None:
    """A client with one application that comes off, and one that does not."""
    workspace = installation.settings.workspace
    application.mkdir()
    (application / "notes.txt").write_text("x")
    write(
        workspace, "remove_notes",
        f"name: Remove Notes\nparameters: {{folder: {{default: '{application}'}}}}\nbody: {{linux: remove.sh}}\n"
        "verify: {body: {linux: check.sh}}\n",
        remove='rm "$EXEUNT_FOLDER/notes.txt" && rmdir "$EXEUNT_FOLDER" && echo removed',
        check='test ! -e "$EXEUNT_FOLDER"',
    )  # fmt: skip
    write(
        workspace, "remove_stubborn", "name: Remove Stubborn\nbody: {linux: remove.sh}\n",
        remove="echo 'a tamper protection passphrase is needed' >&2; exit 5",
    )  # fmt: skip
    write(workspace, "clients/contoso/offboarding_scripts_contoso", CHILD)
    listing = "client: contoso\nscripts:\n  Offboarding Wrapper:\n    - Offboarding Scripts - Contoso\n"
    (workspace / "content/scripts/clients/contoso/client.yaml").write_text(listing, encoding="utf-8")
    installation.content.reload()


@contextmanager
def working(installation: Installation) -> Iterator[None]:
    """`exeunt worker` as a process of its own."""
    command = [sys.executable, "-m", "agent.cli", "--workspace", str(installation.settings.workspace)]
    known = {"EXEUNT_REQUIRE_APPROVAL": "1", "EXEUNT_QUEUE_POLL_SECONDS": "0.05", "EXEUNT_SQLITE_SYNCHRONOUS": "NORMAL"}
    with subprocess.Popen([*command, "worker", "--no-monitors", "--no-probe"], env={**os.environ, **known}) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nothing starts without an approval, and the worker looks often."""
    return settings.model_copy(update={"require_approval": True, "queue_poll_seconds": 0.05})


def test_from_the_flag_to_the_report(
    installation: Installation, two_clients: Places, chromium: Browser, tmp_path: Path
) -> None:
    places = two_clients
    application = tmp_path / "notes"
    prepare(installation, application)
    with installation.database.session() as session:
        field_values.set_value(
            session, Form.CLIENT, places.contoso, "Failed Uninstall Process", "Ticket + Halt", actor="ann"
        )
    with (
        working(installation), serving(installation) as address,
        console_at(installation, places, address) as console, browsing(chromium, console, console.owner) as page,
    ):  # fmt: skip
        page.goto(f"/computers/{places.contoso_computers[0]}")
        page.get_by_role("link", name="Offboard this computer").click()
        expect(page.get_by_role("heading", name="1 of 1 computer would be offboarded")).to_be_visible()
        with page.expect_navigation():
            page.get_by_role("button", name="Set Offboard Computer").click()
        page.goto("/monitors/Offboarding/run")
        expect(page.locator("details.card")).to_contain_text("CONTOSO-PC1")
        expect(page.locator(".warning").first).to_contain_text("held")
        picture(page, "way-preview")
        page.get_by_role("button", name="Start 1 run").click()
        expect(page.get_by_role("heading", name="What holds it")).to_be_visible()
        assert application.exists(), "nothing is done before the approval"
        page.get_by_label("Why", exact=True).fill("agreed in ticket 4711")
        page.get_by_role("button", name="Approve and start 1 run").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("CONTOSO-PC1")
        expect(page.locator(".run-head .chip")).to_have_text("partial", timeout=180_000)
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        expect(page.locator(".results")).to_contain_text("Remove Notes")
        expect(page.locator(".step-body .fault").first).to_contain_text("passphrase")
        picture(page, "way-run")
        assert not application.exists()
        report = console.owner.get(page.url.removeprefix(address) + "/report.html")
        assert "agreed in ticket 4711" in report.text and "passphrase" in report.text
        page.locator("dd a[href^='/tickets/']").first.click()
        expect(page.locator("pre").first).to_contain_text("CONTOSO-PC1")
        page.goto("/audit?action=plan.*")
        expect(page.locator("tbody")).to_contain_text("plan.approve")
        # The other client has got nothing.
        assert "FABRIKAM" not in console.owner.get("/runs").text
        assert console.stranger.get("/runs").text.count("CONTOSO-PC1") == 0
