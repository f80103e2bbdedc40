"""SSH against the real OpenSSH, and against servers that hang, drop or answer garbage."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ssh_peers import OpenSsh, limit_when, make_key, misbehaving, open_ssh, raw_server
from transport_help import Collecting, command_lines, seconds, sleeping, wait_for

from agent.errors import AccessDenied, AnswerLost, CannotConnect, CannotRun, SettingsError, TimeLimitReached
from agent.transports.base import Body, Transport
from agent.transports.registry import connect

ANY_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=200)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    with open_ssh(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="module")
def kept(sshd: OpenSsh) -> Iterator[Transport]:
    """One connection for many bodies."""
    transport = connect(sshd.computer(), ({}, {"private_key": sshd.key}))
    yield transport
    transport.close()


Limit = Callable[[Callable[[], object]], None]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """`limit(when)`: a body reaches its time limit as soon as that is true, and not before."""
    return lambda when: limit_when(monkeypatch, when)


def once(output: Collecting, computer: dict[str, Any], secrets: dict[str, str], body: Body | None = None) -> str:
    """Connect, run one body, and say what it wrote."""
    transport = connect(computer, ({}, secrets))
    try:
        return output(transport, body or Body("echo hello", "sh")).stdout
    finally:
        transport.close()


def test_streams_and_exit_code_come_apart(kept: Transport, output: Collecting) -> None:
    done = output(kept, Body("echo out; echo err >&2; exit 7", "sh"))
    assert (done.code, done.stdout, done.stderr) == (7, "out\n", "err\n")
    done = output(kept, Body("import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(7)", "py"))
    assert (done.code, done.stdout, done.stderr) == (7, "out\n", "err\n")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY_TEXT)
def test_any_text_arrives_byte_for_byte(kept: Transport, output: Collecting, text: str) -> None:
    done = output(kept, Body("printf '%s' \"$EXEUNT_TEXT\"", "sh", {"text": text}))
    assert done.bytes("stdout") == text.encode()
    body = "import json, sys\nsys.stdout.buffer.write(json.load(sys.stdin)['text'].encode())"
    assert output(kept, Body(body, "py", {"text": text})).bytes("stdout") == text.encode()


def test_large_output_and_large_bodies_pass(kept: Transport, output: Collecting) -> None:
    text = "# " + "x" * 200_000 + "\nhead -c 5000000 /dev/zero | tr '\\000' x; head -c 3000000 /dev/zero >&2"
    done = output(kept, Body(text, "sh"))
    assert done.result["stdout"]["bytes"] == 5_000_000 and done.result["stderr"]["bytes"] == 3_000_000
    body = Body(
        f"import json, sys\nprint(len(json.load(sys.stdin)['big']))\n{'#' * 500_000}", "py", {"big": "é" * 1_000_000}
    )
    assert output(kept, body).stdout == "1000000\n"


def test_secrets_are_neither_on_command_lines_nor_in_output(
    kept: Transport, output: Collecting, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    secret, flag, lines = "S3cret-'\"\\-welcome", tmp_path / "flag", []
    for language, text in (
        ("sh", 'while [ ! -e "$EXEUNT_FLAG" ]; do sleep 0.05; done; echo "$EXEUNT_PASSWORD"'),
        ("py", "import json, os, sys, time\np = json.load(sys.stdin)\nwhile not os.path.exists(p['flag']): time.sleep(.05)\nprint(p['password'])"),
    ):  # fmt: skip

        def look() -> None:
            seen = [line for line in command_lines() if "look-for-it" in line]
            lines.extend(command_lines())
            if seen:
                flag.touch()

        body = Body(text, language, {"flag": str(flag)}, {"password": secret}, tag="look-for-it")  # type: ignore[arg-type]
        done = output(kept, body, meanwhile=look)
        assert done.code == 0 and done.stdout == "***\n"
        flag.unlink()
    assert lines and not any("S3cret" in line for line in lines)
    assert "S3cret" not in caplog.text


@pytest.mark.parametrize("stubborn", ["trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep N' & sleep N", "sleep N"])
def test_the_time_limit_ends_the_whole_tree_on_the_target(
    kept: Transport, output: Collecting, limit: Limit, stubborn: str
) -> None:
    number = seconds()
    limit(lambda: len(sleeping(number)) == stubborn.count("N"))
    with pytest.raises(TimeLimitReached, match="at its time limit"):
        output(kept, Body("echo begun\n" + stubborn.replace("N", number), "sh"))
    assert output.last.stdout == "begun\n"
    assert not sleeping(number)
    assert output(kept, Body("echo still here", "sh")).stdout == "still here\n"


def test_a_python_body_is_ended_at_its_time_limit(kept: Transport, output: Collecting, limit: Limit) -> None:
    number = seconds()
    limit(lambda: sleeping(number))
    with pytest.raises(TimeLimitReached):
        output(kept, Body(f"import subprocess\nsubprocess.run(['sleep', '{number}'])", "py"))
    assert not sleeping(number)


def test_the_body_ends_when_a_second_channel_is_refused(tmp_path: Path, output: Collecting, limit: Limit) -> None:
    number = seconds()
    limit(lambda: sleeping(number))
    with open_ssh(tmp_path, MaxSessions="1") as server:
        transport = connect(server.computer(), ({}, {"private_key": server.key}))
        with pytest.raises(AnswerLost, match="cannot be told"):
            output(transport, Body(f"trap '' TERM; sleep {number}", "sh"))
        wait_for(lambda: not sleeping(number))
        transport.close()


def test_a_dropped_connection_is_an_unknown_outcome_and_ends_the_body(tmp_path: Path, output: Collecting) -> None:
    with open_ssh(tmp_path) as server:
        transport = connect(server.computer(), ({}, {"private_key": server.key}))
        dropped, number = threading.Event(), seconds()

        def drop() -> None:
            said = output.collector.last_line("stdout")
            if sleeping(number) and said == "begun" and not dropped.is_set():
                dropped.set()
                server.drop_connections()

        with pytest.raises(AnswerLost):
            output(transport, Body(f"echo begun; sleep {number}", "sh", time_limit=60), meanwhile=drop)
        assert dropped.is_set() and output.last.stdout == "begun\n"
        wait_for(lambda: not sleeping(number))
        assert output(transport, Body("echo again", "sh")).stdout == "again\n"
        transport.close()


def test_a_connection_that_died_between_two_bodies_is_made_again(tmp_path: Path, output: Collecting) -> None:
    with open_ssh(tmp_path) as server:
        transport = connect(server.computer(), ({}, {"private_key": server.key}))
        assert output(transport, Body("echo 1", "sh")).stdout == "1\n"
        server.drop_connections()
        assert output(transport, Body("echo 2", "sh")).stdout == "2\n"
        transport.close()


def test_a_body_ended_by_a_signal_gives_128_and_its_number(kept: Transport, output: Collecting) -> None:
    assert output(kept, Body("sh -c 'kill -KILL $PPID'", "sh")).code == 137
    assert output(kept, Body("import os; os.kill(os.getpid(), 9)", "py")).code == 137


def test_a_killed_shell_is_an_unknown_outcome(kept: Transport, output: Collecting) -> None:
    with pytest.raises(AnswerLost):
        output(kept, Body("kill -KILL $$", "sh"))


def test_a_child_that_holds_the_streams_does_not_hang_us(kept: Transport, output: Collecting) -> None:
    began, number = time.monotonic(), seconds()
    assert output(kept, Body(f"sleep {number} & echo done", "sh", time_limit=50)).stdout == "done\n"
    assert time.monotonic() - began < 30
    for process in sleeping(number):
        process.kill()


def test_detached_work_outlives_body_and_connection(sshd: OpenSsh, output: Collecting, tmp_path: Path) -> None:
    go, did = tmp_path / "go", tmp_path / "did"
    text = """setsid sh -c 'while [ ! -e "$EXEUNT_GO" ]; do sleep 0.05; done; echo yes > "$EXEUNT_DID"' </dev/null >/dev/null 2>&1 &"""
    once(output, sshd.computer(), {"private_key": sshd.key}, Body(text, "sh", {"go": str(go), "did": str(did)}))
    go.touch()
    wait_for(did.exists)


def test_a_missing_interpreter_is_said(sshd: OpenSsh, kept: Transport, output: Collecting) -> None:
    with pytest.raises(CannotRun, match="could not be started"):
        once(output, sshd.computer(powershell="no-such-powershell"), {"private_key": sshd.key}, Body("Get-Date", "ps1"))
    assert "no-such-powershell" in output.last.stderr
    with pytest.raises(CannotRun, match="Windows"):
        once(output, {**sshd.computer(), "platform": "windows"}, {"private_key": sshd.key})
    assert output(kept, Body("no-such-command", "sh")).code == 127


def test_ways_to_log_in(sshd: OpenSsh, output: Collecting, tmp_path: Path) -> None:
    assert once(output, sshd.computer(key_file=str(sshd.folder / "id")), {}) == "hello\n"
    make_key(tmp_path / "other")
    for secrets in ({"private_key": (tmp_path / "other").read_text()}, {"password": "wrong"}):
        with pytest.raises(AccessDenied, match="does not let"):
            once(output, sshd.computer(), secrets)


def test_an_encrypted_key(output: Collecting, tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    (tmp_path / "authorized").write_bytes(key.export_public_key())
    text = key.export_private_key("openssh", passphrase="pass phrase", rounds=64).decode()

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.exit(0)

    with misbehaving(serve, authorized_client_keys=str(tmp_path / "authorized")) as peer:
        computer = peer.computer()
        with pytest.raises(SettingsError, match=r"PC1.*encrypted"):
            connect(computer, ({}, {"private_key": text}))
        with pytest.raises(SettingsError, match=r"PC1.*passphrase is wrong"):
            connect(computer, ({}, {"private_key": text, "passphrase": "wrong"}))
        with pytest.raises(CannotRun):  # logged in; the peer ends at once
            once(output, computer, {"private_key": text, "passphrase": "pass phrase"})


def test_passwords(output: Collecting) -> None:
    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        mark = await process.stdin.readline()
        process.stderr.write(mark.strip() + b" 4711\n")
        process.stdout.write(b"hello\n")
        process.exit(0)

    with misbehaving(serve) as peer:
        assert once(output, peer.computer(), {"password": "right"}) == "hello\n"
        with pytest.raises(AccessDenied):
            once(output, peer.computer(), {"password": "wrong"})


def test_an_unknown_host_is_refused_with_its_fingerprint(sshd: OpenSsh, output: Collecting, tmp_path: Path) -> None:
    known, secrets = tmp_path / "known_hosts", {"private_key": sshd.key}
    known.touch()
    options = {"host_key": None, "known_hosts_file": str(known)}
    with pytest.raises(AccessDenied, match=r"not known.*host_key to SHA256:") as refused:
        once(output, sshd.computer(**options), secrets)
    fingerprint = str(refused.value).split("host_key to ")[1].split(",")[0]
    assert once(output, sshd.computer(host_key=fingerprint), secrets) == "hello\n"
    assert once(output, sshd.computer(**options, accept_new=True), secrets) == "hello\n"
    assert once(output, sshd.computer(**options), secrets) == "hello\n"
    assert known.read_text().count("\n") == 1


def test_known_hosts(sshd: OpenSsh, output: Collecting, tmp_path: Path) -> None:
    secrets, name = {"private_key": sshd.key}, f"[127.0.0.1]:{sshd.port}"
    make_key(tmp_path / "other")
    make_key(tmp_path / "ecdsa", "-t", "ecdsa")
    other, ecdsa = ((tmp_path / f"{kind}.pub").read_text() for kind in ("other", "ecdsa"))
    (tmp_path / "empty").touch()

    def known(text: str, **more: Any) -> dict[str, Any]:
        return sshd.computer(host_key=None, known_hosts=text, known_hosts_file=str(tmp_path / "empty"), **more)

    assert once(output, known(f"# comment\n{name},other {sshd.host_key} comment\n"), secrets) == "hello\n"
    assert once(output, known(f"[127.0.*]:* {sshd.host_key}\n"), secrets) == "hello\n"
    with pytest.raises(AccessDenied, match="not known"):
        once(output, known(f"{name}1 {sshd.host_key}\n!{name},[*]:* {sshd.host_key}\n"), secrets)
    for text in (f"{name} {other}", f"{name} {ecdsa}"):
        with pytest.raises(AccessDenied, match="another is known"):
            once(output, known(text, accept_new=True), secrets)
    with pytest.raises(AccessDenied, match="revoked"):
        once(output, known(f"{name} {sshd.host_key}\n@revoked * {sshd.host_key}\n"), secrets)
    with pytest.raises(AccessDenied, match="not the pinned one"):
        once(output, sshd.computer(host_key=other.strip()), secrets)
    hashed = tmp_path / "hashed"
    hashed.write_text(f"{name} {sshd.host_key}\n")
    import subprocess

    subprocess.run(["ssh-keygen", "-q", "-H", "-f", hashed], check=True, capture_output=True)
    assert "127.0.0.1" not in hashed.read_text()
    assert once(output, sshd.computer(host_key=None, known_hosts_file=str(hashed)), secrets) == "hello\n"


def test_a_host_with_several_keys_is_asked_for_the_known_one(tmp_path: Path, output: Collecting) -> None:
    make_key(tmp_path / "ecdsa", "-t", "ecdsa")
    with open_ssh(tmp_path, HostKey=f"{tmp_path / 'host'}\nHostKey {tmp_path / 'ecdsa'}") as server:
        ecdsa = " ".join((tmp_path / "ecdsa.pub").read_text().split()[:2])
        for options in ({"host_key": ecdsa}, {"host_key": None, "known_hosts": f"[127.0.0.1]:{server.port} {ecdsa}"}):
            (tmp_path / "empty").touch()
            computer = server.computer(**options, known_hosts_file=str(tmp_path / "empty"))
            assert once(output, computer, {"private_key": server.key}) == "hello\n"


def test_jump_hosts(sshd: OpenSsh, output: Collecting, tmp_path: Path) -> None:
    with open_ssh(tmp_path) as gate:
        hop = {"address": "127.0.0.1", "port": gate.port, "host_key": gate.host_key}
        secrets = {"private_key": sshd.key, "jump_private_key": gate.key}
        assert once(output, sshd.computer(jump=[hop]), secrets) == "hello\n"
        with pytest.raises(AccessDenied, match="does not let"):
            once(output, sshd.computer(jump=[hop]), {"private_key": sshd.key})
        with pytest.raises(CannotConnect, match="jump host does not reach"):
            once(output, {**sshd.computer(jump=[hop]), "port": 1}, secrets)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"transport": "telnet"}, "there is no transport 'telnet'"),
        ({"transport": ""}, "has no transport"),
        ({"address": ""}, "has no address"),
        ({"port": 70000}, "no TCP port"),
        ({"transport_options": {"username": "x", "hostkey": "y"}}, "hostkey"),
        ({"transport_options": {"username": "x"}}, "no way to log in"),
        ({"transport_options": {}}, "no username"),
    ],
)
def test_wrong_settings_name_the_computer(change: dict[str, Any], reason: str) -> None:
    computer = {"name": "CONTOSO-PC1", "transport": "ssh", "address": "127.0.0.1", "port": 22, "platform": "linux"}
    with pytest.raises(SettingsError, match=f"computer CONTOSO-PC1.*{reason}"):
        connect({**computer, **change}, ({}, {"password": ""} if "no way" not in reason else {}))


def test_nobody_listens(output: Collecting) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        computer = {"name": "PC1", "transport": "ssh", "address": "127.0.0.1", "port": taken.getsockname()[1],
                    "transport_options": {"username": "user", "host_key": "SHA256:x"}}  # fmt: skip
        with pytest.raises(CannotConnect, match="cannot be reached"):
            once(output, computer, {"password": "right"})
    with pytest.raises(CannotConnect, match="cannot be reached"):
        once(output, {**computer, "address": "no-such-host.invalid"}, {"password": "right"})


def silent(link: socket.socket) -> None:
    link.recv(1)
    link.recv(100_000)
    link.recv(1)


def dripping(link: socket.socket) -> None:
    while True:
        link.sendall(b"x")
        time.sleep(0.05)


def garbage(link: socket.socket) -> None:
    link.sendall(b"SSH-2.0-garbage\r\n" + b"\xff" * 5000)
    link.recv(100_000)


def closing(link: socket.socket) -> None:
    link.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("answer", [silent, dripping, garbage, closing])
def test_a_host_that_is_no_ssh_server_is_given_up(output: Collecting, answer: Any) -> None:
    began = time.monotonic()
    with raw_server(answer) as port:
        computer = {"name": "PC1", "transport": "ssh", "address": "127.0.0.1", "port": port,
                    "transport_options": {"username": "user", "host_key": "SHA256:x", "connect_seconds": 1}}  # fmt: skip
        with pytest.raises(CannotConnect):
            once(output, computer, {"password": "right"})
    assert time.monotonic() - began < 15


def test_faults_of_a_server_after_the_login(output: Collecting, monkeypatch: pytest.MonkeyPatch) -> None:
    async def drop(process: asyncssh.SSHServerProcess[bytes]) -> None:
        mark = await process.stdin.readline()
        process.stderr.write(mark.strip() + b" 4711\n")
        process.stdout.write(b"half of the ans")
        await process.stdout.drain()
        process.channel.get_connection().abort()

    with misbehaving(drop) as peer, pytest.raises(AnswerLost):
        once(output, peer.computer(), {"password": "right"})
    assert output.last.stdout == "half of the ans"

    async def close_without_code(process: asyncssh.SSHServerProcess[bytes]) -> None:
        await process.stdin.readline()
        process.close()

    with misbehaving(close_without_code) as peer, pytest.raises(AnswerLost):
        once(output, peer.computer(), {"password": "right"})

    async def hang(process: asyncssh.SSHServerProcess[bytes]) -> None:
        await asyncio.sleep(1000)

    began = time.monotonic()
    with misbehaving(hang) as peer:
        limit_when(monkeypatch, lambda: peer.commands, started=False)
        with pytest.raises(AnswerLost, match="never told that the body started"):
            once(output, peer.computer(grace_seconds=0), {"password": "right"}, Body("true", "sh"))
    assert time.monotonic() - began < 60


def test_nothing_of_a_body_is_in_the_command(output: Collecting) -> None:
    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        await process.stdin.readline()
        process.exit(1)

    with misbehaving(serve) as peer:
        for text in ("echo one", "echo two"):
            with pytest.raises(CannotRun):
                once(output, peer.computer(), {"password": "right"}, Body(text, "sh", {"a": text}, {"b": text}))
    assert len(set(peer.commands)) == 1 and "echo one" not in peer.commands[0]


def test_nothing_stays_behind(sshd: OpenSsh, output: Collecting) -> None:
    once(output, sshd.computer(), {"private_key": sshd.key})  # the one thread of all deadlines starts, and stays
    before = set(threading.enumerate())
    for language in ("sh", "py"):
        once(output, sshd.computer(), {"private_key": sshd.key}, Body("x=1", language, tag="left-behind"))  # type: ignore[arg-type]
    wait_for(lambda: set(threading.enumerate()) <= before)
    wait_for(lambda: not any("left-behind" in line for line in command_lines()))
