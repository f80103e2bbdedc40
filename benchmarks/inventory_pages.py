"""The console's pages of the inventory over HTTP, with 100,000 computers in SQLite: every page under 100 ms."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from measuring import Sample, Target, folder, heading, in_fresh_process, line, print_targets, seconds
from sqlalchemy import text
from workspace import add_fleet, flag, installation_in

from agent.access.principal import Grant, Role
from agent.access.sessions import open_session
from agent.access.users import create
from agent.installation import Installation
from agent.inventory import field_values
from agent.model.access import User
from agent.model.fields import Form
from agent.web.asking import COOKIE

CLIENTS = 100
#: What is asked: a name for the table, and the address.
PAGES = (
    ("overview", "/"),
    ("tree: clients", "/inventory"),
    ("tree: a client opened", "/inventory?client=7"),
    ("tree: a location opened", "/inventory?location=7"),
    ("search: one computer", "/inventory?q=pc-9999"),
    ("search: fits every computer", "/inventory?q=pc"),
    ("search: one digit", "/inventory?q=1"),
    ("search: fits nothing", "/inventory?q=nobody-has-this"),
    ("search: a mail address", "/inventory?q=person77@client"),
    ("computers", "/inventory/computers"),
    ("computers of a client", "/inventory/computers?client=7"),
    ("computers of a location", "/inventory/computers?client=7&location=6"),
    ("computers: online", "/inventory/computers?state=online"),
    ("computers: offline", "/inventory/computers?state=offline"),
    ("computers: never in contact", "/inventory/computers?state=never"),
    ("computers: retired", "/inventory/computers?state=retired"),
    ("computers: flagged", "/inventory/computers?flagged=yes"),
    ("computers: flagged and offline", "/inventory/computers?flagged=yes&state=offline"),
    ("computers: a platform that nobody has", "/inventory/computers?platform=macos"),
    ("computers: servers, found by words", "/inventory/computers?q=pc&kind=server"),
    ("people", "/inventory/people"),
    ("people of a status", "/inventory/people?status=Terminated"),
    ("people: found by words", "/inventory/people?q=person"),
    ("client", "/clients/7"),
    ("client: fields", "/clients/7/fields"),
    ("client: what its flag would reach", "/clients/7/flag"),
    ("client: history", "/clients/7/history"),
    ("location", "/locations/7"),
    ("computer", "/computers/77777"),
    ("computer: fields", "/computers/77777/fields"),
    ("computer: what its flag would reach", "/computers/77777/flag"),
    ("computer: edit", "/computers/77777/edit"),
    ("contact", "/contacts/777"),
)
#: The same for somebody who sees two clients only.
LIMITED = (
    "/inventory",
    "/inventory?q=pc",
    "/inventory/computers",
    "/inventory/computers?state=online",
    "/inventory/computers?flagged=yes",
)


def run(*, quick: bool) -> list[Target]:
    """Prints the figures; returns the targets."""
    fleet, repetitions = (10_000, 5) if quick else (100_000, 20)
    found = in_fresh_process(_measure, fleet, repetitions)
    heading(f"pages of the inventory over HTTP, {fleet:,} computers in SQLite, {repetitions} times each")
    line("made in", f"{found['made']:.1f} s, file of {found['megabytes']:.0f} MB")
    print(f"   {'page':<58} {'median':>9} {'p95':>9} {'processor':>10}")
    worst = dict.fromkeys(("median", "p95", "processor"), 0.0)
    for name, times, processor in found["pages"]:
        sample, cpu = Sample.of(times), Sample.of(processor)
        told = {"median": sample.median, "p95": sample.percentile(0.95), "processor": cpu.median}
        worst = {what: max(worst[what], 1000 * value) for what, value in told.items()}
        print(f"   {name:<58}" + "".join(f" {1000 * v:>6.1f} ms" for v in told.values()), flush=True)
    targets = [
        Target("the slowest page's median", worst["median"], 100, "ms"),
        Target("the slowest page's 95th percentile", worst["p95"], 150, "ms"),
        # What the page costs, however busy the machine is with something else.
        Target("the slowest page's processor time, median", worst["processor"], 100, "ms"),
    ]
    print_targets(targets)
    return targets


def _measure(fleet: int, repetitions: int) -> dict[str, Any]:
    with folder() as place:
        workspace = place / "workspace"
        installation = installation_in(workspace, sqlite_synchronous="FULL")
        made = seconds(lambda: _fill(installation, fleet))
        owner = _sign_in(installation, "owner", (Grant(Role.ADMINISTRATOR),))
        limited = _sign_in(installation, "limited", (Grant(Role.TECHNICIAN, 7), Grant(Role.TECHNICIAN, 8)))
        # The last connection that closes writes the log back into the file.
        installation.database.close()
        megabytes = (workspace / "inventory.db").stat().st_size / 1e6
        asked = [(name, address, owner) for name, address in PAGES]
        asked += [(f"sees two clients: {address}", address, limited) for address in LIMITED]
        return {"made": made, "megabytes": megabytes, "pages": _ask(workspace, fleet, asked, repetitions)}


def _fill(installation: Installation, fleet: int) -> None:
    """The fleet; as many people as a tenth of it; a few of every state; a flagged client and flagged computers."""
    add_fleet(installation, fleet, clients=CLIENTS)
    flag(installation, range(1, fleet, fleet // 100))
    with installation.database.session() as session:
        session.execute(
            text(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :last) "
                f"INSERT INTO contacts (contactid, clientid, externalid, name, email) SELECT i, 1 + i % {CLIENTS}, "
                f"'person-' || i, 'Person ' || i, 'person' || i || '@client' || (1 + i % {CLIENTS}) || '.example' FROM n"
            ),
            {"last": fleet // 10},
        )
        for change in (
            "lastcontact = NULL WHERE computerid % 1000 = 3", "lastcontact = '2026-01-01 00:00:00' WHERE computerid % 100 = 4",
            "retiredat = '2026-01-01 00:00:00' WHERE computerid % 5000 = 5", "isserver = TRUE WHERE computerid % 2000 = 6",
        ):  # fmt: skip
            session.execute(text(f"UPDATE computers SET {change}"))
        field_values.set_value(session, Form.CLIENT, 9, "Offboard Client", "1", actor="benchmark")
        session.execute(text("ANALYZE"))


def _sign_in(installation: Installation, name: str, grants: tuple[Grant, ...]) -> str:
    user = create(installation, name, wanted=grants, actor="benchmark")
    with installation.database.session() as session:
        return open_session(session, installation.settings, session.get_one(User, user.id))


def _ask(
    workspace: Path, fleet: int, asked: list[tuple[str, str, str]], repetitions: int
) -> list[tuple[str, list[float], list[float]]]:  # fmt: skip
    """Ask a server of its own process each page in turn, so that a busy moment of the machine meets all of them.

    Name, seconds by the clock and seconds of the server's processor time, of each request.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ, "EXEUNT_WORKSPACE": str(workspace), "EXEUNT_LOG_LEVEL": "ERROR", "EXEUNT_SECRETS_KEY_SOURCE": "file",
    }  # fmt: skip
    command = [sys.executable, "-m", "agent.cli", "serve", "--no-worker", "--port", str(port)]
    found: list[tuple[str, list[float], list[float]]] = [(name, [], []) for name, _, _ in asked]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                _wait(client, server)
                for turn in range(repetitions + 2):
                    for (_, times, processor), (_, address, token) in zip(found, asked, strict=True):
                        path, cookie = (
                            address.replace("77777", str(min(77_777, fleet))),
                            {"cookie": f"{COOKIE}={token}"},
                        )
                        before, started = _processor(server.pid), time.perf_counter()
                        answer = client.get(path, headers=cookie)
                        assert answer.status_code == 200, (path, answer.status_code)
                        if turn >= 2:
                            times.append(time.perf_counter() - started)
                            processor.append(_processor(server.pid) - before)
        finally:
            server.terminate()
    return found


def _processor(pid: int) -> float:
    """Seconds that all threads of a process have run. The kernel counts them finely where it can."""
    try:
        return sum(int(f.read_text().split()[0]) for f in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    except (OSError, IndexError):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)


def _wait(client: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            client.get("/sign-in")
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError("the console does not start")
