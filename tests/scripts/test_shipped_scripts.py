"""The shipped removal scripts as texts, as definitions, and as whole runs by the real executor."""

from __future__ import annotations

import re
import secrets
import shlex
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import package_help
import pytest

from agent.functions import registry
from agent.functions.agents import SCRIPT as AGENT_SCRIPT
from agent.functions.applications import SCRIPT as APPLICATION_SCRIPT
from agent.functions.screenconnect import SCRIPT as SCREENCONNECT_SCRIPT
from agent.installation import Installation
from agent.model.places import Software
from agent.model.runs import RunState, ScriptRun, StepState
from agent.running.executor import Executor
from agent.running.planning import draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.tree import RunTree, load_tree
from agent.shipped import path as shipped_path

FOLDERS = [
    "remove_application", "remove_application_on_computer", "cw_control_uninstall", "screenconnect_on_computer",
    "remove_automate_agent", "automate_agent_on_computer", "leave_domain", "remove_vpn", "uninstall_sentinelone",
    "offboarding_scripts_partner_template",
]  # fmt: skip
POWERSHELL = sorted(f for folder in FOLDERS for f in shipped_path("scripts", folder).glob("*.ps1"))
SHELL = sorted(f for folder in FOLDERS for f in shipped_path("scripts", folder).glob("*.sh"))


def of(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", POWERSHELL, ids=of)
class TestPowerShell:
    """There is no PowerShell here: what can be held without one is held by its text."""

    def test_no_value_can_become_code(self, file: Path) -> None:
        code = without_comments(file.read_text(encoding="ascii"))
        for forbidden in (
            r"\bInvoke-Expression\b",
            r"\biex\b",
            r"\bcmd(\.exe)?\s+/c\b",
            r"\bAdd-Type\b",
            r"&\s*\$",
            r"\.\s*\$\w",
        ):
            assert not re.search(rf"(?<![\w)\]'\"]){forbidden}", code, re.IGNORECASE), forbidden

    def test_strict_and_stops_at_the_first_error(self, file: Path) -> None:
        text = file.read_text(encoding="ascii")
        assert "Set-StrictMode -Version 2.0" in text and "$ErrorActionPreference = 'Stop'" in text

    def test_nothing_newer_than_windows_powershell(self, file: Path) -> None:
        code = without_comments(file.read_text(encoding="ascii"))
        for newer in (r"\?\?", r"\?\.", r"&&", r"\|\|", r"-Parallel\b", r"\s\?\s[^:{]+\s:\s", r"\bclean\s*\{"):
            assert not re.search(newer, code), newer
        for alias in (
            r"\|\s*%\s*\{",
            r"\|\s*\?\s*\{",
            r"\bgwmi\b",
            r"\bgci\b",
            r"\bsc\b(?!\.exe)",
            r"\becho\b",
            r"\brm\b",
        ):
            assert not re.search(alias, code, re.IGNORECASE), alias

    def test_it_takes_every_parameter_that_its_script_declares(self, file: Path) -> None:
        declared = re.search(r"(?m)^parameters:\n((?:[ ].*\n|\s*#.*\n)+)", (file.parent / "script.yaml").read_text())
        assert declared
        names = set(re.findall(r"(?m)^  (\w+):", declared[1]))
        taken = set(re.findall(r"\[\w+\] \$(\w+)", file.read_text().split("Set-StrictMode")[0]))
        assert names == taken

    def test_it_parses(self, file: Path) -> None:
        # The grammar refuses some working scripts: a finding is shown and does not fail.
        grammar = pytest.importorskip("tree_sitter_powershell", reason="install tree-sitter-powershell")
        from tree_sitter import Language, Parser

        if Parser(Language(grammar.language())).parse(file.read_bytes()).root_node.has_error:
            with warnings.catch_warnings():
                warnings.simplefilter("default")
                warnings.warn(f"{of(file)}: the PowerShell grammar finds an error", stacklevel=1)


def without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


@pytest.mark.parametrize("file", SHELL, ids=of)
@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_shell_body_is_plain_and_parses(file: Path, shell: str) -> None:
    text = file.read_text(encoding="ascii")
    assert text.startswith("#!/bin/sh\n") and "\nset -u\n" in text
    assert not re.search(r"(?m)(^|[;|&({]|\bdo\b|\bthen\b|\belse\b)\s*(eval|local|source)\s", without_comments(text))
    subprocess.run([shell, "-n", str(file)], check=True)


# --- definitions ------------------------------------------------------------------------------------------------------


def test_functions_use_scripts_that_are_shipped(installation: Installation) -> None:
    assert installation.content.faults() == []
    for name in (APPLICATION_SCRIPT, SCREENCONNECT_SCRIPT, AGENT_SCRIPT):
        script = installation.content.script(name)
        assert script.definition.role == "function", "people must not run it by hand"
        assert set(script.definition.body or {}) == {"windows", "linux", "macos"}
    for name in ("screenconnect.uninstall", "screenconnect.end_session", "agent.remove", "inventory.retire"):
        assert registry.get(name).name == name


def test_the_template_holds_every_kind_of_block(installation: Installation) -> None:
    template = installation.content.script("Offboarding Scripts - Partner [Template]").definition
    steps = {s.name: s for s in template.steps}
    assert set(template.globals) == {"App1", "App2"}
    assert steps["App1"].function == steps["App2"].function == "remove_application"
    assert steps["App2"].with_ == {"application": "@App2@"}
    assert steps["DedicatedApp1"].script == "Uninstall SentinelOne"
    assert steps["AdditionalScript1"].on_failure == "continue"
    for step in template.steps:
        if step.script:
            installation.content.script(step.script)


# --- whole runs -------------------------------------------------------------------------------------------------------


class Queue:
    """Stands where the engine stands: remembers what would be queued."""

    def __init__(self) -> None:
        self.queued: list[tuple[str, int]] = []

    def enqueue(self, run_id: str, segment: int, client_id: int, *, delay_seconds: float = 0.0) -> None:
        self.queued.append((run_id, segment))


def run_script(installation: Installation, script: str, computer: int, **parameters: str) -> RunTree:
    draft = draft_plan(installation, [RunRequest(script, "computer", computer, parameters)], PlanOrigin("tester"))
    assert draft.targets, draft.skipped
    [run_id] = store_plan(installation, draft).run_ids
    with installation.database.session() as session:
        run = session.get(ScriptRun, run_id)
        assert run is not None
        run.state = RunState.QUEUED
        session.add(run)
        queue = Queue()
        queue.enqueue(run_id, run.segment, run.client_id)
    executor = Executor(installation, queue)  # type: ignore[arg-type]
    while queue.queued:
        executor.execute(*queue.queued.pop(0))
    with installation.database.reading() as session:
        return load_tree(session, run_id)


@pytest.fixture
def program(tmp_path: Path, installation: Installation) -> Callable[..., Path]:
    """Makes an application folder with its own uninstaller and puts it in the inventory of a computer."""

    def make(name: str, computer_id: int, script: str = 'rm -r -- "$(dirname "$0")"') -> Path:
        folder = tmp_path / secrets.token_hex(4) / "app"
        folder.mkdir(parents=True)
        uninstaller = folder / "uninstall.sh"
        uninstaller.write_text(f"#!/bin/sh\n{script}\n")
        uninstaller.chmod(0o755)
        with installation.database.session() as session:
            session.add(Software(computer_id=computer_id, name=name, uninstall_string=shlex.quote(str(uninstaller))))
        return folder

    return make


class TestRuns:
    def test_remove_application_by_hand(self, installation: Installation, two_clients: Any, program: Any) -> None:
        computer = two_clients.contoso_computers[0]
        folders = [program(n, computer) for n in ("Demo 1", "Demo 2")]
        other = program("Demo 1", two_clients.fabrikam_computers[0])
        tree = run_script(installation, "Remove Application", computer, Name="Demo 1;;Demo 2", Enable_Ticketing="1")
        assert tree.root.state == RunState.SUCCEEDED, tree.steps[0].error
        assert not any(f.exists() for f in folders) and other.exists()
        assert "'Demo 1', 'Demo 2'" in tree.steps[0].options["preview"]

    def test_a_failure_says_what_and_opens_the_ticket(
        self, installation: Installation, two_clients: Any, program: Any
    ) -> None:
        from agent.services import tickets

        computer = two_clients.contoso_computers[0]
        program("Stays", computer, "exit 4")
        tree = run_script(installation, "Remove Application", computer, Name="Stays", Enable_Ticketing="1")
        assert tree.root.state == RunState.FAILED
        error = tree.steps[0].error
        assert error is not None and error["type"] == "application_not_removed" and "exit code 4" in error["message"]
        with installation.database.reading() as session:
            [ticket] = tickets.list_tickets(session)
        assert ticket.subject == "Application Removal - Failed - CONTOSO-PC1"

    def test_an_unedited_template_removes_nothing_and_fails(self, installation: Installation, two_clients: Any) -> None:
        computer = two_clients.contoso_computers[0]
        tree = run_script(installation, "Remove Application", computer, Name="<name of the first application>")
        assert tree.root.state == RunState.FAILED
        assert "placeholder" in str(tree.steps[0].error)

    def test_agents_that_are_not_there_are_no_failure(self, installation: Installation, two_clients: Any) -> None:
        computer = two_clients.contoso_computers[0]
        with package_help.alone("screenconnect"):
            if Path("/usr/local/ltechagent").exists() or list(Path("/opt").glob("*connect*-*")):
                pytest.skip("this machine has such an agent")
            tree = run_script(installation, "CW Control - Uninstall and Remove from Control Web Portal", computer)
        assert [s.state for s in tree.steps] == [StepState.SUCCEEDED, StepState.SKIPPED]
        tree = run_script(installation, "Remove Automate Agent", computer)
        assert [s.state for s in tree.steps] == [StepState.SUCCEEDED], tree.steps[0].error

    @pytest.mark.parametrize("script", [APPLICATION_SCRIPT, SCREENCONNECT_SCRIPT, AGENT_SCRIPT])
    def test_what_functions_run_is_not_for_people(
        self, installation: Installation, two_clients: Any, script: str
    ) -> None:
        parameters = {"Name": "x"} if script == APPLICATION_SCRIPT else {}
        request = RunRequest(script, "computer", two_clients.contoso_computers[0], parameters)
        draft = draft_plan(installation, [request], PlanOrigin("tester"))
        assert not draft.targets
        assert "only another script can call it" in str(draft.skipped)


# --- children: the tools they call are shims that keep a list, and leave out everything else that the real ones do ----


def shim(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\nprintf '%s\\n' \"$*\" >>{shlex.quote(str(folder))}/{name}.calls\n{text}\n")
    (folder / name).chmod(0o755)


def run_child(folder: str, file: str, shims: Path, **parameters: str) -> subprocess.CompletedProcess[str]:
    variables = {f"EXEUNT_{k}": v for k, v in parameters.items()}
    return subprocess.run(
        ["sh", str(shipped_path("scripts", folder, file))], capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": f"{shims}:/usr/bin:/bin", **variables}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


class TestRemoveVpn:
    @pytest.fixture
    def shims(self, tmp_path: Path) -> Path:
        rows = tmp_path / "rows"
        rows.mkdir()
        for uuid, kind, name in (
            ("1", "vpn", "Office"),
            ("2", "wireguard", "Office 2: x"),
            ("3", "ethernet", "Office"),
        ):
            (rows / uuid).write_text(f"{kind}\n{name}\n")
        shim(
            tmp_path / "bin", "nmcli",
            f'cd {rows}; for a do last=$a; done; case "$*" in "-g UUID"*) ls;; *connection.type*) sed -n 1p "$last";; '
            f'*connection.id*) sed -n 2p "$last";; "connection delete"*) rm "$last";; *) exit 9;; esac',
        )  # fmt: skip
        return tmp_path / "bin"

    @pytest.mark.parametrize(
        ("parameters", "left"),
        [
            ({"NAME": "Office"}, ["2", "3"]), ({"NAME": "Office 2: x;;Nothing"}, ["1", "3"]), ({"ALL": "1"}, ["3"]),
            ({"NAME": "Off*"}, ["1", "2", "3"]), ({"NAME": "Offic"}, ["1", "2", "3"]),
        ],
    )  # fmt: skip
    def test_exactly_the_named_ones(
        self, shims: Path, tmp_path: Path, parameters: dict[str, str], left: list[str]
    ) -> None:
        before = run_child("remove_vpn", "verify.sh", shims, **parameters).returncode
        assert run_child("remove_vpn", "unix.sh", shims, **parameters).returncode == 0
        assert sorted(p.name for p in (tmp_path / "rows").iterdir()) == left
        assert before == (1 if len(left) < 3 else 0)
        assert run_child("remove_vpn", "verify.sh", shims, **parameters).returncode == 0

    def test_nothing_named_is_refused(self, shims: Path) -> None:
        assert run_child("remove_vpn", "unix.sh", shims).returncode == 2


class TestLeaveDomain:
    @pytest.fixture
    def shims(self, tmp_path: Path) -> Path:
        (tmp_path / "joined").write_text("corp.example.test\n")
        shim(
            tmp_path / "bin", "realm",
            f'case $1 in list) cat {tmp_path}/joined;; leave) cat >{tmp_path}/password; for a do last=$a; done; '
            f'[ "$last" = corp.example.test ] && : >{tmp_path}/joined;; esac',
        )  # fmt: skip
        return tmp_path / "bin"

    def test_leaves_with_the_password_on_standard_input(self, shims: Path, tmp_path: Path) -> None:
        parameters = {"USER": "admin", "PASSWORD": "p'$(x) y"}
        assert run_child("leave_domain", "verify_linux.sh", shims).returncode == 1
        assert run_child("leave_domain", "linux.sh", shims, **parameters).returncode == 0
        assert (tmp_path / "password").read_text() == "p'$(x) y\n"
        assert "p'$(x)" not in (shims / "realm.calls").read_text()
        assert run_child("leave_domain", "verify_linux.sh", shims).returncode == 0
        assert run_child("leave_domain", "linux.sh", shims, **parameters).returncode == 0

    def test_another_domain_is_refused(self, shims: Path, tmp_path: Path) -> None:
        assert run_child("leave_domain", "linux.sh", shims, DOMAIN="other.example.test").returncode == 1
        assert (tmp_path / "joined").read_text() == "corp.example.test\n"

    def test_no_domain_is_no_failure(self, tmp_path: Path) -> None:
        if Path("/etc/krb5.keytab").exists():
            pytest.skip("this machine is in a domain")
        (tmp_path / "bin").mkdir()
        assert run_child("leave_domain", "linux.sh", tmp_path / "bin").returncode == 0
        assert run_child("leave_domain", "verify_linux.sh", tmp_path / "bin").returncode == 0


def test_sentinelone_that_is_not_there_is_no_failure(tmp_path: Path) -> None:
    if Path("/opt/sentinelone").exists():
        pytest.skip("this machine has the agent")
    (tmp_path / "bin").mkdir()
    assert run_child("uninstall_sentinelone", "unix.sh", tmp_path / "bin", PASSPHRASE="x").returncode == 0
    assert run_child("uninstall_sentinelone", "verify.sh", tmp_path / "bin", PASSPHRASE="x").returncode == 0
