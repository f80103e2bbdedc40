"""The look from outside: real and faulty hosts, strict time limits, and what the inventory remembers."""

from __future__ import annotations

import http.server
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import peers
import pytest
from ssh_peers import open_ssh, raw_server

from agent.installation import Installation
from agent.inventory.contact import probe_contacts
from agent.model.administration import Credential
from agent.model.base import utcnow
from agent.model.places import Computer
from agent.transports.base import Identification
from agent.transports.probe import probe

IDENTIFY_ANSWER = b"""<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>
<wsmid:IdentifyResponse xmlns:wsmid="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd">
<wsmid:ProtocolVersion>http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd</wsmid:ProtocolVersion>
<wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor>
<wsmid:ProductVersion>OS: 10.0.20348 SP: 0.0 Stack: 3.0</wsmid:ProductVersion>
</wsmid:IdentifyResponse></s:Body></s:Envelope>"""


def look(transport: str, port: int, timeout: float = 60.0, **options: Any) -> Identification:
    computer = {
        "computer_id": 1,
        "transport": transport,
        "address": "127.0.0.1",
        "port": port,
        "transport_options": options,
    }
    return probe([computer], timeout)[1]


@contextmanager
def http_server(status: int, body: bytes, certificate: Path | None = None) -> Iterator[tuple[int, list[Any]]]:
    """An HTTP server that answers every POST alike. Yields its port and the requests it got."""
    seen: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append((self.path, dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1], seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_openssh_is_told_by_its_banner(tmp_path: Path) -> None:
    with open_ssh(tmp_path) as server:
        found = look("ssh", server.port)
        assert found.reachable and found.detail.startswith("SSH-2.0-OpenSSH")
        assert look("something", server.port) == Identification(
            True, f"port {server.port} takes connections", pytest.approx(0, abs=60)
        )  # fmt: skip


def test_a_host_behind_a_jump_host_is_seen_from_there(tmp_path: Path) -> None:
    for name in ("gate", "inner"):
        (tmp_path / name).mkdir()
    with open_ssh(tmp_path / "gate") as gate, open_ssh(tmp_path / "inner") as inner:
        hop = {"address": "127.0.0.1", "port": gate.port, "host_key": gate.host_key}
        computer = {"computer_id": 1, **inner.computer(jump=[hop], host_key=None)}
        found = probe([{**computer, "secrets": {"private_key": gate.key}}])[1]
        assert found.reachable and found.detail.startswith("SSH-2.0-OpenSSH")
        assert (
            "jump host does not reach"
            in probe([{**computer, "port": 1, "secrets": {"private_key": gate.key}}])[1].detail
        )
        assert "does not let" in probe([{**computer, "secrets": {"private_key": inner.key}}])[1].detail
        assert "no way to log in" in probe([computer])[1].detail


def test_ws_management_is_told_by_identify(tmp_path: Path) -> None:
    with http_server(200, IDENTIFY_ANSWER) as (port, seen):
        found = look("winrm", port, tls=False)
    assert found.reachable and "Microsoft Corporation OS: 10.0.20348" in found.detail
    path, headers, body = seen[0]
    assert path == "/wsman" and headers["wsmanidentify"] == "unauthenticated" and b"<wsmid:Identify/>" in body
    assert "Authorization" not in headers


def test_ws_management_that_wants_a_login_is_there_too(tmp_path: Path) -> None:
    openssl = peers.require("openssl", "openssl")
    pem = tmp_path / "own.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x",
         "-keyout", pem, "-out", tmp_path / "cert"], check=True, capture_output=True,
    )  # fmt: skip
    pem.write_text(pem.read_text() + (tmp_path / "cert").read_text())
    with http_server(401, b"", pem) as (port, _):
        assert look("psrp", port).reachable
    with http_server(404, b"not here") as (port, _):
        found = look("psrp", port, tls=False)
        assert not found.reachable and "HTTP 404" in found.detail
    with http_server(200, b"<html>hello</html>") as (port, _):
        assert not look("psrp", port, tls=False).reachable


def silent(link: socket.socket) -> None:
    while link.recv(10_000):
        pass


def dripping(link: socket.socket) -> None:
    while True:
        link.sendall(b"S")
        time.sleep(0.03)


def flooding(link: socket.socket) -> None:
    while True:
        link.sendall(b"HTTP/1.1 200 OK\r\n" + b"x" * 10_000)


def closing(link: socket.socket) -> None:
    link.shutdown(socket.SHUT_RDWR)


def hostile(link: socket.socket) -> None:
    link.sendall(b"Welcome\r\nSSH-2.0-evil\x1b[2J\xff\xfe\r\n")


@pytest.mark.parametrize("answer", [silent, dripping, flooding, closing])
@pytest.mark.parametrize(("transport", "options"), [("ssh", {}), ("winrm", {"tls": False}), ("psrp", {"tls": True})])
def test_a_host_that_never_says_what_it_is_costs_no_more_than_the_limit(
    answer: Callable[[socket.socket], None], transport: str, options: dict[str, Any]
) -> None:
    with raw_server(answer) as port:
        began = time.monotonic()
        found = look(transport, port, 0.5, **options)
        assert not found.reachable and found.detail
        assert time.monotonic() - began < 30


def test_a_banner_cannot_drive_a_terminal() -> None:
    with raw_server(hostile) as port:
        found = look("ssh", port)
    assert found.reachable and "\x1b" not in found.detail and found.detail.startswith("SSH-2.0-evil")


def test_what_cannot_be_asked_is_not_reachable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert "refused" in look("ssh", port).detail
    found = probe([
        {"computer_id": 1, "transport": "ssh", "address": "", "port": None},
        {"computer_id": 2, "transport": "ssh", "address": "no-such-host.invalid", "port": None},
        {"computer_id": 3, "transport": "", "address": "127.0.0.1", "port": None},
        {"computer_id": 4, "transport": "ssh", "address": "127.0.0.1", "port": 99999},
        {"computer_id": 5, "transport": "winrm", "address": "127.0.0.1", "transport_options": {"unknown": 1}},
        {"computer_id": 6, "transport": "ssh", "address": "x" * 300 + ".\x1b", "port": 22},
        {"computer_id": 7, "transport": "local"},
    ])  # fmt: skip
    assert [number for number, identification in found.items() if identification.reachable] == [7]
    assert all(identification.detail for identification in found.values())
    assert "unknown" in found[5].detail
    assert probe([]) == {}


def test_many_silent_hosts_are_looked_at_side_by_side() -> None:
    with raw_server(silent) as port:
        computers = [
            {"computer_id": n, "transport": "ssh", "address": "127.0.0.1", "port": port, "transport_options": {}}
            for n in range(100)
        ]
        began = time.monotonic()
        found = probe(computers, 0.5)
        took = time.monotonic() - began
    assert len(found) == 100 and not any(identification.reachable for identification in found.values())
    assert took < 100 * 0.5 / 2  # one after the other it would take 50 seconds


def test_the_last_contact_of_those_that_answer_is_stored(installation: Installation, two_clients: Any) -> None:
    before = utcnow() - timedelta(days=3)
    ours, theirs = two_clients.contoso_computers, two_clients.fabrikam_computers
    with http_server(401, b"") as (port, _):
        with installation.database.session() as session:
            # The nearest of its kind counts, although the computer names none.
            session.add(Credential(kind="winrm", name="admin", client_id=two_clients.contoso, settings={"tls": False}))
            for number in (*ours, *theirs):
                session.get_one(Computer, number).last_contact = before
            answering, refusing = (session.get_one(Computer, number) for number in ours)
            answering.transport, answering.address, answering.port = "winrm", "127.0.0.1", port
            refusing.transport, refusing.address, refusing.port = "ssh", "127.0.0.1", 1
        seen: dict[int, Identification] = {}
        result = probe_contacts(installation, client_id=two_clients.contoso, report=seen.__setitem__)
    assert (result.answered, result.silent) == (1, 1) and set(seen) == set(ours)
    with installation.database.reading() as reading:
        contacts = {number: reading.get_one(Computer, number).last_contact for number in (*ours, *theirs)}
    assert contacts[ours[0]] is not None and contacts[ours[0]] > before
    assert [contacts[number] for number in (ours[1], *theirs)] == [before] * 3
    assert probe_contacts(installation, computer_ids=[theirs[0]]).answered == 1


def test_a_credential_of_another_client_is_not_used(installation: Installation, two_clients: Any) -> None:
    ours, theirs = two_clients.contoso_computers[0], two_clients.fabrikam_computers[0]
    with http_server(401, b"") as (port, seen):
        with installation.database.session() as session:
            credential = Credential(kind="winrm", name="x", client_id=two_clients.fabrikam, settings={"tls": False})
            session.add(credential)
            session.flush()
            for number in (ours, theirs):
                computer = session.get_one(Computer, number)
                computer.transport, computer.address, computer.port = "winrm", "127.0.0.1", port
                computer.credential_id = credential.id
        found: dict[int, Identification] = {}
        probe_contacts(installation, computer_ids=[ours, theirs], report=found.__setitem__)
    assert found[theirs].reachable and not found[ours].reachable and "another client" in found[ours].detail
    assert len(seen) == 1


def test_retired_computers_are_left_alone(installation: Installation, two_clients: Any) -> None:
    with installation.database.session() as session:
        for number in (*two_clients.contoso_computers, *two_clients.fabrikam_computers):
            session.get_one(Computer, number).retired_at = utcnow()
    result = probe_contacts(installation)
    assert (result.answered, result.silent) == (0, 0)
