"""The pictures of README.md and docs/console.md: taken of the console at work, with real runs of a real worker.

`EXEUNT_PICTURES_DOCS=1` writes them to docs/pictures; without it they are artefacts like any other picture.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from test_whole_way import working, write
from web_help import Console, Person, browsing, picture, serving, sign_in_as

from agent.access.principal import Grant, Role
from agent.installation import Installation
from agent.inventory import field_values, places
from agent.inventory.lookup import place_id
from agent.model.base import utcnow
from agent.model.fields import Form
from agent.settings import Settings
from agent.web.asking import COOKIE

if TYPE_CHECKING:
    from conftest import Places

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "pictures"
#: What is shown, in the order in which it is taken.
SHOWN = ("preview", "run", "wizard", "wizard-preview", "inventory", "overview")
#: Asked for as the module is loaded: no test sees a setting of whoever runs it.
WRITE = bool(os.environ.get("EXEUNT_PICTURES_DOCS"))
WIDTH, LARGEST = 1280, 150_000
#: Name, platform, system, server, minutes since the last contact.
FLEET = {
    "contoso": (
        ("CON-DC01", "windows", "Windows Server 2022", True, 1), ("CON-FS01", "windows", "Windows Server 2022", True, 1),
        ("CON-LT014", "windows", "Windows 11 Pro", False, 2), ("CON-LT017", "windows", "Windows 11 Pro", False, 3000),
        ("CON-LT023", "windows", "Windows 11 Pro", False, 2), ("CON-MAC02", "macos", "macOS 15", False, 3),
        ("CON-WS107", "linux", "Debian GNU/Linux 12", False, 0),
    ),
    "fabrikam": (
        ("FAB-APP01", "linux", "Debian GNU/Linux 12", True, 1), ("FAB-LT003", "windows", "Windows 11 Pro", False, 4),
        ("FAB-LT008", "windows", "Windows 11 Pro", False, 4300), ("FAB-MAC01", "macos", "macOS 15", False, 2),
        ("FAB-WS021", "windows", "Windows 10 Pro", False, 1),
    ),
}  # fmt: skip
#: What the child script removes; the last one refuses.
APPLICATIONS = ("Backup Agent", "DNS Filter", "Patch Agent")
REFUSING = "Endpoint Protection"
LISTS = {
    "Offboarding Wrapper": ("Offboarding Scripts - Contoso",),
    "User Offboarding - 1 Initial Security Actions": (
        "Microsoft 365 - Security Actions", "Active Directory - Lock Account",
    ),
    "User Offboarding - 2 Access Revocation": ("Microsoft 365 - Access Revocation", "Slack - Offboarding"),
    "User Offboarding - 3 Data Preservation and Transfer": (
        "Microsoft 365 - Backup Mailbox", "Microsoft 365 - Data Transfer", "Zoom - Offboarding",
    ),
    "User Offboarding - 4 License and Resource Reclamation": ("Microsoft 365 - License Reclamation",),
    "User Offboarding - 6 Administrative Cleanup": ("Active Directory - Clean Up",),
    "User Offboarding - 8 Scheduled Deletion": ("Microsoft 365 - Deletion",),
}  # fmt: skip


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nothing starts without an approval, and the worker looks often."""
    return settings.model_copy(update={"require_approval": True, "queue_poll_seconds": 0.05})


@pytest.fixture
def fleet(installation: Installation) -> dict[str, int]:
    """Two clients with a dozen computers and some people; name -> id."""
    ids: dict[str, int] = {}
    now = utcnow()
    with installation.database.session() as session:
        for slug, computers in FLEET.items():
            client = place_id(places.add_client(session, name=slug.capitalize(), slug=slug, actor="ann"))
            site = place_id(places.add_location(session, client_id=client, name="Headquarters", actor="ann"))
            ids[slug] = client
            for name, platform, system, server, minutes in computers:
                made = places.add_computer(
                    session, location_id=site, name=name, platform=platform, os=system, is_server=server, actor="ann",
                    transport="local" if name == "CON-WS107" else None,
                    last_contact=now - timedelta(minutes=minutes),
                )  # fmt: skip
                ids[name] = place_id(made)
        for name, title, manager in (
            ("Jane Doe", "Head of Sales", None), ("John Smith", "Account Manager", "Jane Doe"),
            ("Maria Garcia", "Account Manager", "Jane Doe"), ("Wei Chen", "Sales Engineer", "Jane Doe"),
        ):  # fmt: skip
            given, family = name.lower().split()
            person = places.add_contact(
                session, client_id=ids["contoso"], name=name, email=f"{given}.{family}@contoso.example", actor="ann",
                department="Sales", job_title=title, **({"manager_id": ids[manager]} if manager else {}),
            )  # fmt: skip
            ids[name] = place_id(person)
        field_values.set_value(
            session, Form.CLIENT, ids["contoso"], "Failed Uninstall Process", "Ticket + Halt", actor="ann"
        )
    return ids


def write_scripts(installation: Installation, folder: Path) -> None:
    """Contoso's own child script: three applications that come off, and one that refuses."""
    workspace = installation.settings.workspace
    steps = ""
    for name in (*APPLICATIONS, REFUSING):
        key = name.lower().replace(" ", "_")
        (folder / key).mkdir(parents=True)
        remove = 'rmdir "$EXEUNT_FOLDER" && echo "removed"'
        if name == REFUSING:
            remove = "echo 'tamper protection is on: a passphrase is needed' >&2; exit 5"
        write(
            workspace, f"remove_{key}",
            f"name: Remove {name}\nparameters: {{folder: {{default: '{folder / key}'}}}}\nbody: {{linux: remove.sh}}\n"
            "verify: {body: {linux: check.sh}}\n",
            remove=remove, check='test ! -e "$EXEUNT_FOLDER"',
        )  # fmt: skip
        steps += f"  - {{name: {name}, script: Remove {name}}}\n"
    write(
        workspace, "clients/contoso/offboarding_scripts_contoso",
        f"name: Offboarding Scripts - Contoso\nrole: child\ntarget: computer\nsteps:\n{steps}",
    )  # fmt: skip
    lists = "".join(f"  {w}:\n" + "".join(f"    - {n}\n" for n in names) for w, names in LISTS.items())
    listing = workspace / "content/scripts/clients/contoso/client.yaml"
    listing.write_text(f"client: contoso\nscripts:\n{lists}", encoding="utf-8")
    installation.content.reload()


@pytest.fixture
def ann(installation: Installation, fleet: dict[str, int], tmp_path: Path) -> Iterator[tuple[Console, Person]]:
    """The console with its worker, and an administrator who is signed in."""
    write_scripts(installation, tmp_path / "applications")
    token = sign_in_as(installation, "ann", (Grant(Role.ADMINISTRATOR),))
    with (
        working(installation), serving(installation) as address,
        httpx.Client(base_url=address, cookies={COOKIE: token}, timeout=120) as client,
    ):  # fmt: skip
        who = Person("ann", token, client)
        where: Places = None  # type: ignore[assignment]
        yield Console(installation, where, address, who, who, who, who, who, who), who


def keep(page: Page, name: str, height: int | None = None) -> None:
    """The picture as an artefact, and in 200 colours for the documentation if that was asked for; only its top."""
    assert name in SHOWN
    page.evaluate("scrollTo(0, 0)")
    file = picture(page, f"docs-{name}")
    if not WRITE:
        return
    from PIL import Image

    FOLDER.mkdir(exist_ok=True)
    with Image.open(file) as taken:
        top = taken.crop((0, 0, WIDTH, min(taken.height, height or taken.height)))
        top.convert("RGB").quantize(200, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)


def test_the_pictures_are_taken(ann: tuple[Console, Person], fleet: dict[str, int], chromium: Browser) -> None:
    console, who = ann
    with browsing(chromium, console, who, width=WIDTH) as page:
        flag_preview_and_run(page, fleet)
        plan_a_last_day(page, fleet)
        flag_a_second_computer(page, fleet)
        page.goto("/inventory/computers")
        expect(page.get_by_text("FAB-WS021")).to_be_visible()
        keep(page, "inventory")
        page.goto("/")
        expect(page.locator("main")).to_contain_text("John Smith")
        expect(page.locator("main")).to_contain_text("CON-WS107")
        keep(page, "overview")


def flag_preview_and_run(page: Page, fleet: dict[str, int]) -> None:
    """Offboard one computer, as docs/console.md tells it."""
    page.goto(f"/computers/{fleet['CON-WS107']}")
    page.get_by_role("link", name="Offboard this computer").click()
    with page.expect_navigation():
        page.get_by_role("button", name="Set Offboard Computer").click()
    page.goto("/monitors/Offboarding/run")
    expect(page.locator("details.card")).to_contain_text("CON-WS107")
    keep(page, "preview")
    page.get_by_role("button", name="Start 1 run").click()
    page.get_by_label("Why", exact=True).fill("Contract ends, ticket 4711")
    page.get_by_role("button", name="Approve and start 1 run").click()
    expect(page.locator(".run-head .chip")).to_have_text("partial", timeout=180_000)
    # The page of a run that is over loads itself once more, and must not do so under the picture.
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    expect(page.locator(".step-body .fault").first).to_contain_text("passphrase")
    keep(page, "run", 1120)


def plan_a_last_day(page: Page, fleet: dict[str, int]) -> None:
    """John Smith leaves, as docs/console.md tells it."""
    page.goto(f"/offboardings/new?client={fleet['contoso']}")
    page.get_by_label("Search").press_sequentially("john")
    expect(page.locator("#found label")).to_have_count(1)
    page.get_by_label("John Smith").check()
    page.get_by_label("Search").fill("jane")
    expect(page.locator("#found label")).to_contain_text(["Jane Doe"])
    page.get_by_label("Why they leave").select_option("voluntary")
    page.get_by_label("At a date").check()
    page.get_by_label("Date", exact=True).fill("2031-05-30")
    page.get_by_label("Time", exact=True).fill("17:00")
    page.get_by_label("Time", exact=True).blur()
    expect(page.locator("#chosen")).to_contain_text("John Smith")
    keep(page, "wizard", 1400)
    page.get_by_role("button", name="Show what will happen").click()
    expect(page.locator(".answer")).to_contain_text("there is no credential of the kind microsoft365")
    keep(page, "wizard-preview", 1100)
    page.get_by_role("button", name="Plan the offboarding of John Smith").click()
    expect(page.locator(".said")).to_contain_text("1 planned")


def flag_a_second_computer(page: Page, fleet: dict[str, int]) -> None:
    """One that is not online, and so waits."""
    page.goto(f"/computers/{fleet['CON-LT017']}")
    page.get_by_role("link", name="Offboard this computer").click()
    with page.expect_navigation():
        page.get_by_role("button", name="Set Offboard Computer").click()


def test_the_documentation_shows_these_pictures_and_no_other() -> None:
    """Each is there, small enough to be loaded, shown on a page, and taken by the test above."""
    pages = [
        (ROOT / "README.md", r"docs/pictures/([\w-]+)\.png"),
        (ROOT / "docs/console.md", r"pictures/([\w-]+)\.png"),
    ]
    shown = {name for page, pattern in pages for name in re.findall(pattern, page.read_text(encoding="utf-8"))}
    assert shown == set(SHOWN) == {file.stem for file in FOLDER.glob("*")}
    assert "docs/pictures/" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert {f.name: f.stat().st_size for f in FOLDER.iterdir() if f.stat().st_size > LARGEST} == {}
