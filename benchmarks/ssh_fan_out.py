"""One command on many hosts by SSH: Exeunt with every result recorded, bare asyncssh, and ansible-core if asked for.

The hosts are one sshd of our own on a loopback port; each connection is made anew. What is compared is the time from
"go" to the last answer: ours includes planning and, before and after each command, a synced commit.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import Sample, Target, folder, heading, in_fresh_process, line, print_targets, ratio
from workspace import add_fleet, add_script, check_states, installation_in, running_worker, wait_for_plan

AT_ONCE = 50
FSYNC = "FULL"
#: Over which the computers are spread; the queue is divided by client.
CLIENTS = 10
KEX = "curve25519-sha256"


@dataclass(frozen=True)
class Sshd:
    """A server that lets the present user in by a key."""

    folder: Path
    port: int
    user: str

    @property
    def host_key(self) -> str:
        return " ".join((self.folder / "host.pub").read_text().split()[:2])


def run(*, quick: bool, with_ansible: bool = False) -> list[Target]:
    """Prints the figures; returns the targets."""
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if sshd is None or shutil.which("ssh-keygen") is None:
        heading("SSH: left out, openssh-server and openssh-client are needed")
        return []
    hosts, repetitions = (20, 1) if quick else (100, 3)
    with folder() as place, _serving(sshd, place) as server:
        ours, bare, others = [], [], []
        ansible = _install_ansible(place) if with_ansible else None
        for repetition in range(repetitions):
            sides: list[tuple[list[Any], Any]] = [(ours, _ours), (bare, _asyncssh)]
            for found, side in sides if repetition % 2 == 0 else sides[::-1]:
                found.append(in_fresh_process(side, server, hosts))
            if ansible is not None:
                others.append(_ansible(ansible, server, hosts, place))
        heading(
            f"`true` on {hosts} SSH hosts, {AT_ONCE} at once ({server.user}@127.0.0.1:{server.port}, login shell {_shell()})"
        )
        total = Sample.of([r["total"] for r in ours])
        line(f"Exeunt, planned, executed, recorded (synchronous={FSYNC})", total)
        line("  of which planning, storing and releasing", Sample.of([r["planned"] for r in ours]))
        line("  CPU of the worker per host", Sample.of([r["cpu"] for r in ours], "ms"))
        line("asyncssh alone, nothing stored", Sample.of([r["total"] for r in bare]))
        line("  its CPU per host", Sample.of([r["cpu"] for r in bare], "ms"))
        targets = [Target("Exeunt to asyncssh alone", ratio(total, Sample.of([r["total"] for r in bare])), 1.3)]
        if others:
            line(f"ansible all -m command, {AT_ONCE} forks", Sample.of(others))
            slower = ratio(Sample.of(others), total)
            targets.append(Target("ansible-core to Exeunt", slower, 10, at_least=True))
        print_targets(targets)
    return targets


def _shell() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_shell


@contextmanager
def _serving(sshd: str, place: Path) -> Iterator[Sshd]:
    for name in ("host", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)], check=True)
    shutil.copy(place / "id.pub", place / "authorized_keys")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd of root wants it
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    lines = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": place / "host",
        "AuthorizedKeysFile": place / "authorized_keys", "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no", "UsePAM": "no", "StrictModes": "no", "PermitRootLogin": "yes",
        "PidFile": "none", "MaxStartups": "500:30:1000", "MaxSessions": 500, "LogLevel": "ERROR", "UseDNS": "no",
        # bash that believes to run inside another shell does not read ~/.bashrc, which may take longer than all the rest.
        "SetEnv": "SHLVL=2",
    }  # fmt: skip
    (place / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    process = subprocess.Popen([sshd, "-D", "-f", str(place / "sshd_config"), "-E", str(place / "log")])
    try:
        deadline = time.monotonic() + 10
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((place / "log").read_text())
            time.sleep(0.05)
        yield Sshd(place, port, getpass.getuser())
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as link:
            return link.recv(4) == b"SSH-"
    except OSError:
        return False


def _ours(server: Sshd, hosts: int) -> dict[str, float]:
    """Plan, release, and wait until the last result is stored. The worker has done one such run before, and is idle."""
    from agent.running import verbs
    from agent.running.planning import draft_plan, store_plan
    from agent.running.requests import PlanOrigin, RunRequest

    with folder() as place:
        installation = installation_in(
            place / "workspace", sqlite_synchronous=FSYNC, concurrency_total=AT_ONCE, concurrency_per_client=AT_ONCE
        )
        options = (
            f'{{"username": "{server.user}", "key_file": "{server.folder / "id"}", "host_key": "{server.host_key}"}}'
        )
        add_fleet(
            installation,
            hosts,
            clients=CLIENTS,
            transport="ssh",
            address="127.0.0.1",
            port=server.port,
            transportoptions=options,
        )
        add_script(installation, "command", "name: Command\nbody: body.sh\n", body="true\n")
        with running_worker(installation) as worker:

            def start(computers: range) -> str:
                requests = [RunRequest("Command", "computer", n) for n in computers]
                stored = store_plan(installation, draft_plan(installation, requests, PlanOrigin("benchmark")))
                verbs.release(installation, worker.port, stored.id, actor="benchmark")
                return stored.id

            wait_for_plan(installation, start(range(1, 2)))
            cpu, started = time.process_time(), time.perf_counter()
            plan = start(range(1, hosts + 1))
            planned = time.perf_counter()
            wait_for_plan(installation, plan)
            ended, cpu = time.perf_counter(), time.process_time() - cpu
        check_states(installation, plan, hosts)
        installation.database.close()
    return {"total": ended - started, "planned": planned - started, "cpu": 1000 * cpu / hosts}


def _asyncssh(server: Sshd, hosts: int) -> dict[str, float]:
    """One process, a connection and a command per host; the host key is checked. It has done one before, too."""
    import asyncssh

    known = asyncssh.import_known_hosts(f"[127.0.0.1]:{server.port} {server.host_key}\n")

    async def one(turn: asyncio.Semaphore) -> None:
        async with turn, asyncssh.connect(
            "127.0.0.1", server.port, username=server.user, client_keys=[str(server.folder / "id")],
            known_hosts=known, config=None, agent_path=None, kex_algs=[KEX],
        ) as connection:  # fmt: skip
            result = await connection.run("true")
            assert result.exit_status == 0

    async def all_of_them(number: int) -> None:
        turn = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(one(turn) for _ in range(number)))

    asyncio.run(all_of_them(1))
    cpu, started = time.process_time(), time.perf_counter()
    asyncio.run(all_of_them(hosts))
    return {"total": time.perf_counter() - started, "cpu": 1000 * (time.process_time() - cpu) / hosts}


def _install_ansible(place: Path) -> Path | None:
    """ansible-core in an environment of its own; None when it cannot be had."""
    made = place / "ansible"
    venv.create(made, with_pip=False)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(made / "bin" / "python"), "install", "-q", "ansible-core"],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        line("ansible-core cannot be installed", done.stderr.strip().splitlines()[-1][:80])
        return None
    return made / "bin" / "ansible"


def _ansible(program: Path, server: Sshd, hosts: int, place: Path) -> float:
    """`ansible all -m command -a true` as it is by default, but for host keys and the number at once."""
    inventory = place / "inventory.ini"
    common = (
        f"ansible_host=127.0.0.1 ansible_port={server.port} ansible_user={server.user} "
        f"ansible_ssh_private_key_file={server.folder / 'id'} ansible_python_interpreter={shutil.which('python3')}"
    )
    inventory.write_text("".join(f"h{n:03} {common}\n" for n in range(1, hosts + 1)))
    environment = {**os.environ, "ANSIBLE_HOST_KEY_CHECKING": "False", "ANSIBLE_HOME": str(place / "home")}
    started = time.perf_counter()
    done = subprocess.run(
        [str(program), "all", "-i", str(inventory), "-f", str(AT_ONCE), "-m", "command", "-a", "true"],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    elapsed = time.perf_counter() - started
    assert done.stdout.count("rc=0") == hosts, done.stdout[-2000:] + done.stderr[-2000:]
    return elapsed
