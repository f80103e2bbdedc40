"""`exeunt demo`: a whole offboarding on this machine, by the same commands that a user gives.

Everything lies in one folder, which is marked as ours; nothing else is ever removed.
"""

from __future__ import annotations

import csv
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TypeVar

import click
from sqlmodel import col, select
from sqlmodel.sql.expression import SelectOfScalar

from agent import audit
from agent.cli.caller import Caller, pass_caller
from agent.cli.demo_content import FLEET, STUBBORN, WILLING, edited_child, install_applications
from agent.cli.lazy import Command
from agent.cli.main import main
from agent.cli.output import say
from agent.cli.script_group import TEMPLATE
from agent.content import loading
from agent.content.definitions import ScriptDefinition
from agent.errors import Conflict, StoreError, UsageError
from agent.installation import open_installation
from agent.inventory.local_facts import stable_id
from agent.model.monitors import Alert
from agent.model.places import Client, Computer
from agent.model.runs import RunState, ScriptRun
from agent.model.tickets import Notification, Ticket
from agent.reporting.run_report import run_document

MARK = ".exeunt-demo"
_MARK_TEXT = "`exeunt demo` made this folder, and `exeunt demo --fresh` removes it with everything in it.\n"
CHILD = "Offboarding Scripts - Contoso"
T = TypeVar("T")


@click.command("demo", cls=Command, examples=("exeunt demo", "exeunt demo --workspace .demo/workspace --fresh"))
@click.option("--workspace", type=click.Path(path_type=Path), default=Path("exeunt-demo/workspace"), show_default=True,
              help="Folder of the demonstration's own workspace; the folder around it holds the rest.")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Remove the folder of an earlier demonstration first.")
@pass_caller
def demo(caller: Caller, workspace: Path, fresh: bool) -> None:
    """Show a whole offboarding on this machine: two throw-away applications, one is removed and proven, one refuses.

    Only the demonstration's own folder is touched. Every command that it runs is printed.
    """
    if sys.platform == "win32":
        raise UsageError("the demonstration runs on Linux and macOS: its applications have shell uninstallers")
    Demonstration(caller.actor, workspace.absolute(), fresh).show()


class Demonstration:
    """One demonstration in one folder."""

    def __init__(self, actor: str, workspace: Path, fresh: bool) -> None:
        self.actor, self.workspace, self.folder = actor, workspace, workspace.parent
        self.began = time.monotonic()
        _prepare(self.folder, fresh)

    def show(self) -> None:
        """Everything, in order. Raises StoreError when one of its own claims does not hold."""
        self.title("A workspace and a small fleet: two clients, only this machine is online")
        say(f"$ export EXEUNT_WORKSPACE={shlex.quote(str(self.workspace))}")
        self.exeunt("init")
        files = self.write_fleet()
        self.exeunt("inventory", "import", *files)
        self.exeunt("inventory", "add-local", "--location", "Contoso/Headquarters")
        uninstallers = self.install()
        self.exeunt("inventory", "list")

        self.title("The client's own child script: a copy of the template, edited, then listed for the wrapper")
        self.exeunt("script", "duplicate", TEMPLATE, "--client", "contoso")
        self.edit()
        self.exeunt("script", "use", CHILD, "--client", "contoso")
        self.exeunt("content", "check")

        self.title("The choice for failures, and the flag")
        self.exeunt("edf", "set", "Failed Uninstall Process", "Ticket + Halt", "--client", "contoso")
        if self.machine().is_server:
            self.exeunt("edf", "set", "Allow Server Offboarding", "1", "--computer", self.reference)
        self.exeunt("edf", "set", "Offboard Computer", "1", "--computer", self.reference)

        self.title("What would happen: nothing is changed")
        self.exeunt("monitor", "run", "Offboarding", "--dry-run")

        self.title("For real: exit code 1, because one application will not go")
        self.exeunt("monitor", "run", "Offboarding", "--yes", "--wait", expected=1)
        self.report()
        self.prove(uninstallers)

    def report(self) -> None:
        """Report, ticket, trail and evidence, each by its command."""
        self.title("The proof: report, ticket, the other client, audit trail, evidence")
        self.exeunt("run", "report", self.run().id)
        self.exeunt("ticket", "show", str(self.one(select(Ticket)).id))
        self.exeunt("run", "list", "--client", "fabrikam")
        self.exeunt("audit", "verify")
        self.exeunt("report", "evidence", "contoso")

    def title(self, text: str) -> None:
        """A heading."""
        click.echo("\n" + click.style(f"== {text}", bold=True))

    def exeunt(self, *arguments: str, expected: int = 0) -> None:
        """Print a command and run it as the command line does. Raises StoreError for another exit code than expected."""
        click.echo(click.style("$ exeunt " + shlex.join(arguments), fg="cyan"))
        own = Caller()
        code: object = 0
        try:
            everything = ["--workspace", str(self.workspace), "--user", self.actor, *arguments]
            with main.make_context("exeunt", everything, obj=own) as context:
                main.invoke(context)
        except SystemExit as end:
            code = end.code or 0
        finally:
            own.close()
        if code != expected:
            raise StoreError(f"exeunt {shlex.join(arguments)} ended with exit code {code}, not {expected}")

    def write_fleet(self) -> list[str]:
        """Write the fleet's files; their paths."""
        folder = self.folder / "fleet"
        folder.mkdir()
        for name, text in FLEET.items():
            (folder / name).write_text(text, encoding="utf-8")
        return [str(folder / name) for name in FLEET]

    def install(self) -> dict[str, Path]:
        """Install both applications and import what an inventory scan would have seen of them."""
        made = install_applications(self.folder / "applications")
        file = self.folder / "fleet" / "software.csv"
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["computer", "name", "version", "uninstall_string"])
            for name, uninstaller in made.items():
                writer.writerow([stable_id(), name, "1.0", f'"{uninstaller}"'])
        say(f"(two throw-away applications are installed in {self.folder / 'applications'})")
        self.exeunt("inventory", "import", str(file))
        self.exeunt("inventory", "software", "--computer", stable_id())
        return made

    def edit(self) -> None:
        """Put our applications into the client's copy, as a person would in an editor."""
        file = (
            self.workspace
            / "content"
            / "scripts"
            / "clients"
            / "contoso"
            / "offboarding_scripts_contoso"
            / "script.yaml"
        )
        file.write_text(edited_child(file.read_text(encoding="utf-8")), encoding="utf-8")
        steps = [s.name for s in loading.load(file, ScriptDefinition).definition.steps]
        if steps != ["App1", "App2"]:
            raise StoreError(f"{file} has the steps {steps}: the demonstration may only run App1 and App2")
        say(f"(edited in {file}: App1 is {WILLING!r}, App2 is {STUBBORN!r}, the other blocks are left out)")

    @property
    def reference(self) -> str:
        """This machine, as a user names it."""
        return f"Contoso/Headquarters/{self.machine().name}"

    def machine(self) -> Computer:
        """This machine's row."""
        return self.one(select(Computer).where(Computer.external_id == stable_id()))

    def run(self) -> ScriptRun:
        """The one run that the monitor started."""
        return self.one(select(ScriptRun).where(col(ScriptRun.parent_id).is_(None)))

    def one(self, query: SelectOfScalar[T]) -> T:
        """The only record that a query finds."""
        database = open_installation(self.workspace).database
        try:
            with database.reading() as session:
                return session.exec(query).one()
        finally:
            database.close()

    def prove(self, uninstallers: dict[str, Path]) -> None:
        """Check every claim against the files and the records. Raises StoreError for one that does not hold."""
        installation = open_installation(self.workspace)
        with installation.database.session() as session:
            document = run_document(session, self.run().id)
            fabrikam = session.exec(select(Client.client_id).where(Client.slug == "fabrikam")).one()
            others = [
                record
                for model in (ScriptRun, Alert, Ticket, Notification)
                for record in session.exec(select(model).where(model.client_id == fabrikam))
            ]
            faults = audit.verify(session)
        installation.database.close()
        claims = {
            f"{WILLING} is gone from the disk": not uninstallers[WILLING].parent.exists(),
            f"{STUBBORN} is still there": uninstallers[STUBBORN].exists(),
            "one removal is proven": document["success"] == [WILLING],
            "one removal failed": document["failure"] == [STUBBORN],
            "the run is partial": document["state"] == RunState.PARTIAL,
            "the fallback that applied is Ticket + Halt": document["fallback"]["option"] == "Ticket + Halt",
            "one ticket tells it": len(document["tickets"]) == 1,
            "the other client got nothing": not others,
            "the audit trail is whole": not faults,
        }
        self.title("Checked against the disk and the records")
        for claim, holds in claims.items():
            say(f"  {'yes' if holds else 'NO '}  {claim}")
        if not all(claims.values()):
            raise StoreError("not every claim of the demonstration holds: see above")
        reports = sorted((self.workspace / "reports").glob("evidence-*.html"))
        say(f"\nThe evidence report, for a browser: {reports[-1]}")
        console = shlex.join(["exeunt", "--workspace", str(self.workspace), "serve"])
        say(f"The same run in the console (extra `web`): {console}")
        say(
            f"Done in {time.monotonic() - self.began:.0f} s. Everything lies in {self.folder}; remove that folder and it is gone."
        )


def _prepare(folder: Path, fresh: bool) -> None:
    """Make the folder and mark it. One that is not marked as ours is never touched."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).is_file() or (folder / MARK).read_text(encoding="utf-8") != _MARK_TEXT:
            raise UsageError(f"{folder} is not empty, and no demonstration made it: name a workspace in a new folder")
        if not fresh:
            raise Conflict(f"{folder} holds an earlier demonstration: give --fresh to remove it first")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    (folder / MARK).write_text(_MARK_TEXT, encoding="utf-8")
