"""Backups in the console: the list and their verification, who may, and how it looks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, expect
from web_help import Console, axe_finds_nothing, browsing, console_at, fits, picture, serving

from agent.installation import Installation
from agent.secrets import create_key
from agent.services.backup_stores import DirectoryStore
from agent.services.backups import BackupWriter

if TYPE_CHECKING:
    from conftest import Places

OURS, THEIRS, BEGUN = "contoso/3f9a21c0de5b7788-onedrive", "fabrikam/0011223344556677-mailbox", "contoso/77-mailbox"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "share"
    made.mkdir()
    return made


@pytest.fixture
def console(installation: Installation, two_clients: Places, folder: Path) -> Iterator[Console]:
    """A console with a backup of each client, and one of Contoso that was only begun."""
    create_key(installation.settings)
    found = Installation(installation.settings.model_copy(update={"backup_folder": folder}))
    store = DirectoryStore(folder)
    for name, client_id in ((OURS, two_clients.contoso), (THEIRS, two_clients.fabrikam), (BEGUN, two_clients.contoso)):
        about = {
            "client": name.partition("/")[0], "client_id": client_id, "target_kind": f"contact {SCRIPT}", "target_id": 7,
            "run": "3f9a21c0de5b7788", "name": "onedrive",
        }  # fmt: skip
        with BackupWriter(store, found.secrets, name, about) as writer:
            with writer.file("Documents/a.docx", marker="v1") as file:
                file.write(b"words " * 1000)
                file.finish()
            if name != BEGUN:
                writer.finish()
    with serving(found) as address, console_at(found, two_clients, address) as made:
        yield made
    found.database.close()


def verify(console: Console, person: str, backup: str) -> int:
    return int(getattr(console, person).post("/backups/verify", data={"backup": backup}).status_code)


def test_each_person_sees_the_backups_that_are_theirs(console: Console) -> None:
    for person in (console.viewer, console.colleague, console.approver):
        text = person.get("/backups").text
        assert OURS in text and BEGUN in text and "abrikam" not in text, person.name
        assert person.get("/backups?client=fabrikam").status_code == 200
        assert THEIRS not in person.get("/backups?client=fabrikam").text
    assert "Verify" not in console.viewer.get("/backups").text and SCRIPT not in console.viewer.get("/backups").text
    assert f"Verify {OURS}" in console.colleague.get("/backups").text
    assert f"Verify {BEGUN}" not in console.owner.get("/backups").text, "it is not complete"
    text = console.stranger.get("/backups").text
    assert THEIRS in text and "ontoso" not in text
    assert console.nobody.get("/backups").headers["location"].startswith("/sign-in")
    assert [verify(console, p, OURS) for p in ("viewer", "stranger", "nobody", "colleague")] == [403, 404, 303, 200]
    for wrong in ("contoso/none", "../x", SCRIPT):
        answer = console.owner.post("/backups/verify", data={"backup": wrong})
        assert answer.status_code == 404 and SCRIPT not in answer.text
    assert console.owner.get("/backups?client=..%2Fx").status_code == 400


def test_a_backup_is_verified_with_a_browser(console: Console, chromium: Browser, folder: Path) -> None:
    with browsing(chromium, console, console.owner) as page:
        page.goto("/backups")
        axe_finds_nothing(page)
        picture(page, "backups")
        page.get_by_role("button", name=f"Verify {OURS}").press("Enter")
        expect(page.locator("h1")).to_have_text("The backup is whole")
        axe_finds_nothing(page)
        stored = max((p for p in (folder / OURS).iterdir() if p.is_file()), key=lambda p: p.stat().st_size)
        content = bytearray(stored.read_bytes())
        content[-1] ^= 1
        stored.write_bytes(content)
        page.get_by_role("link", name="Backups").first.click()
        page.get_by_role("button", name=f"Verify {OURS}").click()
        expect(page.locator("h1")).to_have_text("The backup is not what was written")
        axe_finds_nothing(page)
        page.set_viewport_size({"width": 360, "height": 800})
        fits(page)
        page.goto("/backups")
        fits(page)
        picture(page, "backups-narrow")


def test_without_a_folder_it_says_how_to_set_one(installation: Installation, two_clients: Places) -> None:
    with serving(installation) as address, console_at(installation, two_clients, address) as console:
        answer = console.viewer.get("/backups")
        assert answer.status_code == 200 and "EXEUNT_BACKUP_FOLDER" in answer.text
