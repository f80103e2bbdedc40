"""The same commands on PostgreSQL: only the URL differs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from command_line import TEMPLATE, WRAPPER, Cli, write_script

from agent.installation import open_installation
from agent.model.base import utcnow
from agent.running.liveness import Liveness


@pytest.fixture
def on_postgresql(tmp_path: Path, postgres_url: str) -> Cli:
    """A workspace whose database is on a PostgreSQL server."""
    cli = Cli(tmp_path / "workspace")
    cli("init", "--database-url", postgres_url)
    return cli


def test_from_init_to_the_report(on_postgresql: Cli) -> None:
    cli = on_postgresql
    assert not (cli.workspace / "inventory.db").exists()
    for name in ("Contoso", "Fabrikam"):
        cli("inventory", "add-client", name)
        cli("inventory", "add-location", "HQ", "--client", name)
        for number in (1, 2):
            cli(
                "inventory", "add-computer", f"PC{number}", "--location", f"{name}/HQ", "--platform", "linux", "--transport",
                "local",
            )  # fmt: skip
            cli("inventory", "set", "--computer", f"{name}/HQ/PC{number}", f"last_contact={utcnow().isoformat()}")
    write_script(
        cli, "w", f"name: {WRAPPER}\nrole: wrapper\nexclusive: true\nsteps:\n  - {{name: C, children: {WRAPPER}}}\n"
    )
    write_script(cli, "clients/contoso/leave", "name: Leave\nrole: child\nbody: run.sh\n", {"run.sh": "echo gone\n"})
    cli("script", "use", "Leave", "--client", "contoso", "--wrapper", WRAPPER)
    (cli.workspace / "content" / "alert_templates" / "own.yaml").write_text(
        f'name: "{TEMPLATE}"\nguid: 11111111-2222-4333-8444-555555555555\nfailed:\n  - run_script: {WRAPPER}\n',
        encoding="utf-8",
    )
    cli("edf", "set", "Offboard Computer", "1", "--computer", "Contoso/HQ/PC1")
    found = cli.json("monitor", "run", "Offboarding", "--yes", "--wait")
    assert [(r["computer"], r["state"]) for r in found["runs"]] == [("PC1", "succeeded")]
    assert cli.json("run", "list", "--client", "fabrikam") == []
    assert cli.json("audit", "verify")["ok"]
    assert not [f for f in cli.json("doctor", expect=None) if f["state"] == "fault" and f["check"] != "content"]


def test_a_worker_is_seen_while_it_holds_its_lock(on_postgresql: Cli) -> None:
    installation = open_installation(on_postgresql.workspace)
    worker, other, looking = Liveness(installation), Liveness(installation), Liveness(installation)
    assert not looking.any_alive()
    worker.hold("one")
    other.hold("two")
    assert looking.any_alive()
    worker.release()
    assert looking.any_alive()
    other.release()
    # The server lets go of a lock when it notices that the connection is closed.
    deadline = time.monotonic() + 60
    while looking.any_alive():
        assert time.monotonic() < deadline, "the lock outlives its worker"
        time.sleep(0.05)
    installation.database.close()
