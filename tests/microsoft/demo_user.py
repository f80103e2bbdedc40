"""`make demo-user`: a person leaves a Microsoft 365 tenant, by the real command line, and the exit report is written.

    .venv/bin/python tests/microsoft/demo_user.py FOLDER

The tenant is the test tenant of these tests on loopback, with a certificate of its own; nothing outside FOLDER is touched. The
workspace is made anew each time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE

# What tests share lies one folder up; pytest knows that by itself.
sys.path.append(str(Path(__file__).parent.parent))

import conftest
import tenant_server
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from drive_peer import DriveItem
from tenant_state import MailFolder, Message, TestTenant, make_tenant

from agent.cli.main import main as cli

PERSON, MANAGER = "alex@contoso.test", "mia@contoso.test"
#: Scripts of the package, and the phase for which each is listed.
LISTED = (
    ("Security Actions", "1 Initial Security Actions"), ("Access Revocation", "2 Access Revocation"),
    ("Backup Mailbox", "3 Data Preservation and Transfer"), ("Backup OneDrive", "3 Data Preservation and Transfer"),
    ("Data Transfer", "3 Data Preservation and Transfer"),
    ("License Reclamation", "4 License and Resource Reclamation"), ("Cleanup", "6 Administrative Cleanup"),
)  # fmt: skip
OPTIONS = (
    "--type", "voluntary", "--manager", MANAGER,
    "--reclaim-licenses-immediately", "--onedrive-transfer-to", MANAGER, "--display-name-prefix", "Former - ",
    "--out-of-office", "%leaver% has left %company%. Please write to %contact_email%.",
)  # fmt: skip


def main(folder: Path) -> int:
    """Show it in a folder; the exit code."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("workspace", "backups"):
        (folder / name).mkdir(parents=True)
    set_environment(folder)
    server_file, app_file = folder / "server.pem", folder / "app.pem"
    for file, key in (
        (server_file, ec.generate_private_key(ec.SECP256R1())), (app_file, rsa.generate_private_key(65537, 2048))
    ):  # fmt: skip
        file.write_text(conftest.self_signed(key), encoding="ascii")
        file.chmod(0o600)
    # The contract of Graph is the tests' matter, and need not be at hand here.
    tenant_server.violations = lambda *call: []  # type: ignore[assignment]
    with tenant_server.running(tenant_server.Server(), server_file) as server:
        tenant = filled(server)
        return offboard(folder, server, tenant, app_file)


def filled(server: tenant_server.Server) -> TestTenant:
    """A tenant with some mail and some files of the person who leaves."""
    tenant = make_tenant("contoso")
    tenant.sharepoint, tenant.graph = server.urls["sharepoint"], server.urls["graph"]
    box = tenant.named("alex").mailbox
    assert box is not None
    mime = b"From: mia@contoso.test\r\nTo: alex@contoso.test\r\nSubject: Figures\r\n\r\nSee you.\r\n"
    box.folders = {"inbox": MailFolder("Inbox", messages={f"m{n}": Message(mime) for n in range(12)})}
    tenant.files = {"f": DriveItem("Reports"), "figures": DriveItem("figures.txt", b"quarterly figures\n" * 100, "f")}
    server.tenants[:] = [tenant]
    return tenant


def offboard(folder: Path, server: tenant_server.Server, tenant: TestTenant, app_file: Path) -> int:
    """Set a workspace up and offboard the person; the exit code of the offboarding."""

    options = ["--workspace", str(folder / "workspace"), "--user", "demo"]

    def tell(arguments: Sequence[str]) -> None:
        print("$ exeunt " + " ".join(f'"{a}"' if " " in a else a for a in arguments), flush=True)

    def exeunt(*arguments: str, may_fail: bool = False) -> str:
        """One command in this process, which saves the start of another; gives what it printed."""
        tell(arguments)
        done = CliRunner().invoke(cli, [*options, *arguments])
        if done.exit_code and not may_fail:
            sys.exit(f"{done.output}error: `exeunt {' '.join(arguments[:2])}` ended with {done.exit_code}")
        return done.stdout

    exeunt("init")
    exeunt("inventory", "add-client", "Contoso")
    exeunt("inventory", "add-contact", "Mia O'Neil", "--client", "contoso", "--email", MANAGER)
    exeunt("inventory", "add-contact", "Alex Baker", "--client", "contoso", "--email", PERSON)
    settings = [f"--setting={k}={v}" for k, v in server.settings(tenant).items()]
    exeunt(
        "credential", "add", "contoso-tenant", "--kind", "microsoft365", "--client", "contoso", *settings,
        "--secret-from", f"certificate=file:{app_file}",
    )  # fmt: skip
    for script, phase in LISTED:
        exeunt(
            "script",
            "use",
            f"Microsoft 365 - {script}",
            "--wrapper",
            f"User Offboarding - {phase}",
            "--client",
            "contoso",
        )
    looked = exeunt("offboard", "preflight", PERSON, *OPTIONS[:4], may_fail=True)
    print("\n".join(line for line in looked.splitlines() if not line.startswith("info")))
    command = ["offboard", "user", PERSON, *OPTIONS, "--yes", "--wait"]
    tell(command)
    # A process of its own, as the engine's worker is; its progress is seen while it works.
    done = subprocess.run([sys.executable, "-m", "agent.cli", *options, *command], text=True, stdout=PIPE, check=False)
    print(done.stdout)
    run = next(line.split()[1].rstrip(":") for line in done.stdout.splitlines() if line.startswith("run "))
    files = exeunt("offboard", "report", run)
    print(f"In the tenant: sign-in {'enabled' if tenant.named('alex').enabled else 'disabled'}, "
          f"licences {len(tenant.named('alex').licences)}, display name {tenant.named('alex').name!r}")  # fmt: skip
    print("\nThe exit report:\n" + files)
    return done.returncode


def set_environment(folder: Path) -> None:
    """No settings of whoever runs this count, here or in the processes that are started."""
    for name in [n for n in os.environ if n.startswith("EXEUNT_")]:
        del os.environ[name]
    os.environ |= {"EXEUNT_BACKUP_FOLDER": str(folder / "backups"), "PYTHONPATH": str(Path(__file__).parents[2])}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: demo_user.py FOLDER")
    sys.exit(main(Path(sys.argv[1]).absolute()))
