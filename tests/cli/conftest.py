"""The command line in this process and as a process of its own, on a workspace with two clients."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from command_line import TEMPLATE, WRAPPER, Cli, write_script

from agent.cli.logs import QUIET
from agent.model.base import utcnow


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """The command line configures logging for its process; that must not outlive a test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in QUIET}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


@pytest.fixture
def cli(tmp_path: Path, made_database: Path) -> Cli:
    """An initialised workspace without any place in it. Its tables are there already: making them takes longest."""
    made = Cli(tmp_path / "workspace")
    made.workspace.mkdir()
    shutil.copy(made_database, made.workspace)
    made("init")
    return made


@pytest.fixture
def fleet(cli: Cli, tmp_path: Path) -> Cli:
    """Contoso and Fabrikam with a location and four computers each, all online and reached locally.

    The monitor Offboarding is answered by a wrapper of the tests' own: nothing on this machine is removed.
    """
    (tmp_path / "clients.csv").write_text("external_id,name,slug\nC1,Contoso,contoso\nC2,Fabrikam,fabrikam\n")
    (tmp_path / "locations.csv").write_text("external_id,client,name\nL1,C1,HQ\nL2,C2,HQ\n")
    now = utcnow().strftime("%Y-%m-%dT%H:%M:%S+00:00")
    lines = [
        f"{c}{n},{site},{c}-PC{n},linux,local,{now}" for c, site in (("con", "L1"), ("fab", "L2")) for n in range(1, 5)
    ]
    header = "external_id,location,name,platform,transport,last_contact"
    (tmp_path / "computers.csv").write_text("\n".join([header, *lines]) + "\n")
    cli("inventory", "import", *(str(tmp_path / f"{kind}.csv") for kind in ("clients", "locations", "computers")))
    write_script(
        cli, "test_wrapper",
        f"name: {WRAPPER}\nrole: wrapper\nexclusive: true\nsteps:\n  - {{name: Children, children: {WRAPPER}}}\n"
        "  - {name: Fallback, fallback: Failed Uninstall Process}\n",
    )  # fmt: skip
    folder = cli.workspace / "content" / "alert_templates"
    (folder / "own.yaml").write_text(
        f'name: "{TEMPLATE}"\nguid: 11111111-2222-4333-8444-555555555555\nfailed:\n  - run_script: {WRAPPER}\n',
        encoding="utf-8",
    )
    return cli


@pytest.fixture
def child(fleet: Cli) -> Callable[..., None]:
    """`child("exit 1")`: the one child script of both clients, a shell body."""

    def write(body: str, verify: str = "exit 0") -> None:
        for slug in ("contoso", "fabrikam"):
            text = (
                f"name: Leave {slug}\nrole: child\nbody: run.sh\nverify: {{body: verify.sh}}\ntime_limit: 60 seconds\n"
            )
            bodies = {"run.sh": f"#!/bin/sh\n{body}\n", "verify.sh": f"#!/bin/sh\n{verify}\n"}
            write_script(fleet, f"clients/{slug}/leave", text, bodies)
            fleet("script", "use", f"Leave {slug}", "--client", slug, "--wrapper", WRAPPER)

    return write
