"""What is built and installed: the wheel's exact contents, the command from another folder, two owners of one name.

Everything happens in a copy of the tree and in environments of its own. Nothing is fetched: the environments see the
libraries of the one that runs the tests by a `.pth` file, which does not make its `exeunt` importable first.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Folder of the tree -> where the wheel keeps it.
MAPPED = {"agent": "agent", "monitors": "agent/_shipped/monitors", "alert_templates": "agent/_shipped/alert_templates",
          "scripts": "agent/_shipped/scripts"}  # fmt: skip
#: What somebody's own tree may hold and no wheel may bring.
PLANTED = (
    "scripts/clients/contoso/client.yaml", "scripts/clients/contoso/offboarding/script.yaml",
    "scripts/clients/contoso/offboarding/body.ps1", "scripts/clients/contoso/offboarding/body.sh",
    "scripts/remove_application/script.yaml~", "monitors/exeunt.env", "agent/secrets.key", "exeunt-workspace/inventory.db",
    "tests/test_planted.py",
)  # fmt: skip
PLANT = b"planted in a copy of the tree\n"
_COPIED = (*MAPPED, "edf_schema.sql", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")


@dataclass(frozen=True)
class Built:
    tree: Path
    wheel: Path
    sdist: Path


def must_be_inside(tree: Path) -> set[str]:
    """Every file of the four folders belongs into the wheel, whatever its kind, so that none is forgotten."""
    found = {"agent/_shipped/edf_schema.sql"}
    for folder, place in MAPPED.items():
        for file in (tree / folder).rglob("*"):
            inside = file.relative_to(tree / folder)
            junk = file.suffix == ".pyc" or file.name == ".keep" or f"{folder}/{inside.as_posix()}" in PLANTED
            if file.is_file() and not junk:
                found.add(f"{place}/{inside.as_posix()}")
    return found


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The source archive and the wheel made from it, out of a copy of the tree with planted files."""
    for module in ("build", "setuptools"):
        if importlib.util.find_spec(module) is None:
            _missing(f"the Python package {module} is missing: pip install -e '.[test]'")
    tree = tmp_path_factory.mktemp("tree")
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "clients"))
        elif source.exists():
            shutil.copy(source, tree / name)
    for name in PLANTED:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(PLANT)
    out = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree)], tree)
    return Built(tree, next(out.glob("*.whl")), next(out.glob("*.tar.gz")))


def _missing(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def run(command: list[str], folder: Path, *, code: int = 0) -> str:
    """Run a command in a folder with nothing of our environment; what it printed on both streams."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("EXEUNT_", "PYTHON", "VIRTUAL_ENV", "COV"))}
    done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@dataclass(frozen=True)
class Environment:
    """An environment with our libraries and whatever is installed into it."""

    folder: Path

    @property
    def site(self) -> Path:
        return next((self.folder / "lib").glob("python*/site-packages"))

    def exeunt(self, *arguments: str, folder: Path, code: int = 0) -> str:
        return run([str(self.folder / "bin" / "exeunt"), *arguments], folder, code=code)

    def python(self, text: str, folder: Path) -> str:
        return run([str(self.folder / "bin" / "python"), "-P", "-c", text], folder).strip()


def environment(folder: Path, *install: str) -> Environment:
    """A fresh environment into which this is installed without its dependencies."""
    venv.create(folder, with_pip=False)
    made = Environment(folder)
    (made.site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    python = str(folder / "bin" / "python")
    # What is never imported need not be compiled.
    options = [
        "--no-compile",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--quiet",
        "--disable-pip-version-check",
    ]
    run([sys.executable, "-m", "pip", "--python", python, "install", *options, *install], folder)
    return made


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return environment(tmp_path_factory.mktemp("wheel") / "venv", str(built.wheel))


def test_the_wheel_holds_all_that_is_shipped_and_nothing_else(built: Built) -> None:
    names = set(zipfile.ZipFile(built.wheel).namelist())
    own = {n for n in names if not n.split("/")[0].endswith(".dist-info")}
    assert own == must_be_inside(built.tree)
    # The rule itself, held to a few names of each kind.
    shipped = "agent/_shipped"
    assert own > {
        "agent/py.typed", "agent/transports/prelude.ps1", "agent/reporting/run_report.schema.json",
        f"{shipped}/edf_schema.sql", f"{shipped}/monitors/offboarding.sql", f"{shipped}/scripts/README.md",
        f"{shipped}/alert_templates/execute_script_offboarding_wrapper.yaml",
        f"{shipped}/scripts/failed_uninstall_process/ticket_halt/script.yaml",
        f"{shipped}/scripts/remove_application_on_computer/windows.ps1",
    }  # fmt: skip


def test_nothing_of_a_client_and_no_secret_is_in_what_is_given_away(built: Built) -> None:
    """By content, so that no new place or name hides it. (A source archive brings the tests along.)"""
    wheel = zipfile.ZipFile(built.wheel)
    held = {name: wheel.read(name) for name in wheel.namelist()}
    with tarfile.open(built.sdist) as archive:
        files = [m for m in archive.getmembers() if m.isfile()]
        held |= {m.name: archive.extractfile(m).read() for m in files if "/tests/" not in m.name}  # type: ignore[union-attr]
    assert len(held) > 400
    assert [name for name, content in held.items() if PLANT in content] == []


def test_installed_the_command_works_from_another_folder(installed: Environment, tmp_path: Path) -> None:
    assert installed.exeunt("--version", folder=tmp_path).startswith("exeunt ")
    place = installed.python("import agent, agent.shipped; print(agent.__file__, agent.shipped.ROOT)", tmp_path)
    assert place == f"{installed.site}/agent/__init__.py {installed.site}/agent/_shipped"
    installed.exeunt("init", folder=tmp_path)
    assert (tmp_path / "exeunt-workspace" / "inventory.db").exists()
    assert "Offboarding Wrapper" in installed.exeunt("script", "list", "--json", folder=tmp_path)
    assert "Offboarding" in installed.exeunt("monitor", "list", "--json", folder=tmp_path)


def test_an_editable_installation_finds_the_same_content(built: Built, tmp_path: Path) -> None:
    made = environment(tmp_path / "venv", "--editable", str(built.tree))
    place = made.python("import agent.shipped; print(agent.shipped.ROOT)", tmp_path)
    assert place == str(built.tree)
    assert (
        made.python("from agent import shipped; print(len(shipped.text('edf_schema.sql')) > 1000)", tmp_path) == "True"
    )
    assert made.exeunt("--version", folder=tmp_path).startswith("exeunt ")


@pytest.mark.parametrize("told_by", ["top_level.txt", "RECORD"])
def test_another_owner_of_the_import_name_is_named(built: Built, tmp_path: Path, told_by: str) -> None:
    """pip installs a second package `agent` over the first without a word."""
    made = environment(tmp_path / "venv", str(built.wheel))
    other = made.site / "other_agent-0.1.3.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other-agent\nVersion: 0.1.3\n")
    (other / told_by).write_text("agent\n" if told_by == "top_level.txt" else "agent/__init__.py,,\n")
    said = made.exeunt("--version", folder=tmp_path, code=2)
    assert "other-agent" in said
    assert "environment of its own" in said
    shutil.rmtree(other)
    made.exeunt("--version", folder=tmp_path)


def test_a_package_of_another_name_is_no_reason_to_stop(installed: Environment, tmp_path: Path) -> None:
    other = installed.site / "agentless-1.0.dist-info"
    other.mkdir()
    (other / "top_level.txt").write_text("agentless\n")
    (other / "RECORD").write_text("agentless/__init__.py,,\nuser/agent/x.py,,\n")
    installed.exeunt("--version", folder=tmp_path)
