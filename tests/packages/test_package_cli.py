"""`exeunt package`: what people type. Every change is shown first, and nothing happens without a yes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from leavers_help import add_clients, add_leavers
from made_packages import write_package

from agent.cli.main import main
from agent.installation import Installation
from agent.model.administration import Credential
from agent.packages import store
from agent.secrets import create_key
from agent.settings import Settings


@pytest.fixture
def ready(installation: Installation, leavers: object) -> Installation:
    """A workspace with a key and three packages."""
    create_key(installation.settings)
    for key, revocation in (("aero", "collaboration"), ("brio", "business"), ("cello", "remote_access")):
        write_package(installation, key, revocation=revocation)
    return installation


def call(installation: Installation, *arguments: str, expect: int = 0) -> Result:
    given = ["--workspace", str(installation.settings.workspace), "--user", "ann", "package", *arguments]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == expect, f"{arguments}: {result.stdout}\n{result.stderr}"
    return result


def test_nothing_is_changed_without_a_yes(ready: Installation) -> None:
    for name in ("aero", "brio", "cello"):
        shown = call(ready, "apply", name, "--client", "contoso", "--dry-run")
        assert "empty credential" in shown.stdout and "nothing was changed" in shown.stdout
        refused = call(ready, "apply", name, "--client", "contoso", expect=2)
        assert "--yes" in refused.stderr
        assert store.applied(ready, "contoso") == []
    for name in ("aero", "brio", "cello"):
        call(ready, "apply", name, "--client", "contoso", "--yes")
    assert "nothing to do" in call(ready, "apply", "aero", "--client", "Contoso", "--yes").stdout
    listed = json.loads(call(ready, "list", "--client", "contoso", "--json").stdout)
    assert [(p["number"], p["name"], p["drift"]) for p in listed] == [
        (1, "Cello", []),
        (2, "Brio", []),
        (3, "Aero", []),
    ]
    assert json.loads(call(ready, "order", "--client", "contoso", "--json").stdout) == ["Cello", "Brio", "Aero"]
    call(ready, "order", "aero", "--to", "4", "--client", "contoso", "--yes", expect=2)
    moved = call(ready, "order", "aero", "--to", "1", "--client", "contoso", "--yes")
    assert "against the order of danger" in moved.stderr
    assert "against the order of danger" in call(ready, "list", "--client", "contoso").stderr
    call(ready, "order", "--by-danger", "--client", "contoso", "--yes")
    file = ready.settings.workspace / "numbers.txt"
    file.write_text("1 Brio\n2 Cello\n4 Aero\n")
    assert (
        "the number 3 is missing"
        in call(ready, "order", "--from-numbers", str(file), "--client", "contoso", "--yes", expect=2).stderr
    )
    file.write_text("1 brio\n2 Cello\n3 Aero\n")
    call(ready, "order", "--from-numbers", str(file), "--client", "contoso", "--yes")
    assert json.loads(call(ready, "order", "--client", "contoso", "--json").stdout) == ["Brio", "Cello", "Aero"]
    store_list = json.loads(call(ready, "list", "--json").stdout)
    assert {p["name"]: p["applied"] for p in store_list}["Aero"] == ["contoso"]
    steps = json.loads(call(ready, "show", "aero", "--json").stdout)["steps"]
    assert [s["does"] for s in steps] == ["demo.close"]
    call(ready, "remove", "aero", "--client", "contoso", "--yes")
    assert json.loads(call(ready, "list", "--client", "fabrikam", "--json").stdout) == []
    # The order goes against danger, and the check says so.
    assert "against the order of danger" in call(ready, "check", expect=1).stdout
    call(ready, "check", "brio")


def test_migrate_goes_from_one_workspace_to_another(ready: Installation, tmp_path: Path) -> None:
    target = tmp_path / "production"
    target.mkdir()
    production = Installation(Settings(workspace=target))
    production.database.initialise()
    create_key(production.settings)
    add_leavers(production, add_clients(production))
    for name in ("aero", "brio"):
        call(ready, "apply", name, "--client", "contoso", "--yes")
    key = json.loads(call(ready, "key", "--json").stdout)["key"]
    assert json.loads(call(ready, "key", "--json").stdout) == {"key": key, "made": False}
    migrate = ("migrate", "--client", "contoso", "--to", str(target))
    assert "not trusted here" in call(ready, *migrate, "--yes", expect=2).stderr
    trust = ["--workspace", str(target), "property", "set", "_sysTrustedPublishers", f"Development={key}"]
    assert CliRunner().invoke(main, trust).exit_code == 0
    shown = call(ready, *migrate, "--dry-run")
    assert "frozen configuration" in shown.stdout and "import the package Aero 1.0.0" in shown.stdout
    assert store.applied(production, "contoso") == []
    secrets = tmp_path / "secrets.yaml"
    secrets.write_text("aero: {account: '1', token: abc}\n")
    done = call(ready, *migrate, "--yes", "--secrets-from", str(secrets))
    assert "'aero' is ready" in done.stdout and "'brio' waits for its secret" in done.stderr
    assert "abc" not in done.stdout + done.stderr
    production.content.reload()
    assert [a.name for a in store.applied(production, "contoso")] == ["Brio", "Aero"]
    assert store.applied(production, "fabrikam") == []
    with production.database.reading() as session:
        found = session.get(Credential, 1)
        assert found is not None and found.client_id == 1
    undone = CliRunner().invoke(main, ["--workspace", str(target), "package", "undo", "--yes"])
    assert undone.exit_code == 2 and "is applied for contoso" in undone.stderr
    production.database.close()


def test_export_and_import_are_files(ready: Installation, tmp_path: Path) -> None:
    file = tmp_path / "aero.zip"
    call(ready, "export", "aero", "--to", str(file))
    first = file.read_bytes()
    assert "there already" in call(ready, "export", "aero", "--to", str(file), expect=2).stderr
    call(ready, "export", "aero", "--to", str(file), "--replace")
    assert file.read_bytes() == first
    assert "not signed" in call(ready, "import", str(file), "--yes", expect=2).stderr
    file.write_bytes(first[:-40])
    assert "no archive" in call(ready, "import", str(file), "--yes", "--allow-unsigned", expect=2).stderr


@pytest.mark.parametrize("options", [(), ("--function",)])
def test_a_new_package_works_and_so_does_its_test(ready: Installation, options: tuple[str, ...]) -> None:
    made = call(ready, "new", "Badge Desk", *options)
    first = Path(made.stdout.splitlines()[0])
    assert first.name == "package.yaml"
    assert "already" in call(ready, "new", "Badge Desk", expect=2).stderr
    if not options:
        call(ready, "check", "badge_desk")
        call(ready, "apply", "badge_desk", "--client", "contoso", "--yes")
    test = first.parent / "tests" / "test_badge_desk.py"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(test)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, cwd=first.parent)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", ["", "1st", "a/b", "../x", "Ünïcode", "a'b", "x\ny", "a{b}"])
def test_a_name_that_cannot_be_one_is_refused(ready: Installation, name: str) -> None:
    assert call(ready, "new", name, expect=2).stderr
