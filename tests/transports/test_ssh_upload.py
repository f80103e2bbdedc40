"""Large bodies by SFTP against the real OpenSSH: what is made on the target, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from ssh_peers import OpenSsh, limit_when, misbehaving, open_ssh
from transport_help import Collecting, seconds, sleeping

from agent.errors import TimeLimitReached, UsageError
from agent.transports import ssh, ssh_upload
from agent.transports.base import Body
from agent.transports.registry import connect
from agent.transports.ssh import SshTransport

LARGE = "# " + "x" * 200_000 + "\n"
SHOW = 'printf \'%s|%s\' "$EXEUNT_TEXT" "$0"; echo "$EXEUNT_PASSWORD" >&2; exit 7'


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    with open_ssh(tmp_path_factory.mktemp("sshd"), Subsystem="sftp internal-sftp") as server:
        yield server


@pytest.fixture
def transport(sshd: OpenSsh) -> Iterator[SshTransport]:
    made = connect(sshd.computer(), ({}, {"private_key": sshd.key}))
    assert isinstance(made, SshTransport)
    yield made
    made.close()


@pytest.fixture
def tag() -> Iterator[str]:
    """A tag of this test only; nothing with it is left."""
    tag = f"exeunt-test-{secrets.token_hex(6)}"
    yield tag
    assert not left(tag)


class Sent:
    """What stood on the target when the shell was told about it."""

    def __init__(self) -> None:
        self.files: list[tuple[int, int, str]] = []


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    seen, send = Sent(), ssh._Conversation.send

    def look(self: Any, deadline: float) -> None:
        tag = self._bound.argv[-1]
        for folder in left(tag):
            file = folder / "body"
            modes = [stat.S_IMODE(path.lstat().st_mode) for path in (folder, file)]
            seen.files.append((modes[0], modes[1], file.read_text()))
        send(self, deadline)

    monkeypatch.setattr(ssh._Conversation, "send", look)
    return seen


def left(tag: str) -> list[Path]:
    return sorted(Path("/tmp").glob(f"{tag}.*"))


def test_a_large_body_is_a_private_file_that_is_gone_before_it_starts(
    transport: SshTransport, output: Collecting, tag: str, sent: Sent
) -> None:
    text = LARGE + f'[ -z "$(ls -d /tmp/{tag}.* 2>/dev/null)" ] || echo still there\n' + SHOW
    hostile = "a'b\"$(touch pwned)\n`id`\n"
    done = output(transport, Body(text, "sh", {"text": hostile}, {"password": "S3cret-pass"}, tag=tag))
    assert (done.code, done.stdout, done.stderr) == (7, f"{hostile}|{tag}", "***\n")
    assert [(folder, file) for folder, file, _ in sent.files] == [(0o700, 0o600)]
    assert sent.files[0][2] == text


def test_small_bodies_and_other_languages_go_by_standard_input(
    transport: SshTransport, output: Collecting, tag: str, sent: Sent
) -> None:
    assert output(transport, Body("echo small", "sh", tag=tag)).stdout == "small\n"
    assert output(transport, Body(LARGE + "print('large')", "py", tag=tag)).stdout == "large\n"
    assert not sent.files


@pytest.mark.parametrize("above", [0, None])
def test_the_threshold_is_an_option(sshd: OpenSsh, output: Collecting, tag: str, sent: Sent, above: int | None) -> None:
    computer = sshd.computer()
    computer["transport_options"]["upload_above_bytes"] = above
    transport = connect(computer, ({}, {"private_key": sshd.key}))
    assert output(transport, Body("printf 'ä\\n'; exit 3", "sh", tag=tag)).stdout == "ä\n"
    assert output(transport, Body(LARGE, "sh", tag=tag)).code == 0
    assert len(sent.files) == (2 if above == 0 else 0)
    transport.close()


def test_without_sftp_the_body_goes_by_standard_input(tmp_path: Path, output: Collecting, tag: str, sent: Sent) -> None:
    with open_ssh(tmp_path) as server:
        transport = connect(server.computer(), ({}, {"private_key": server.key}))
        assert output(transport, Body(LARGE + "echo done", "sh", tag=tag)).stdout == "done\n"
        transport.close()
    assert not sent.files


def test_one_session_at_a_time_is_enough(tmp_path: Path, output: Collecting, tag: str, sent: Sent) -> None:
    with open_ssh(tmp_path, Subsystem="sftp internal-sftp", MaxSessions="1") as server:
        transport = connect(server.computer(), ({}, {"private_key": server.key}))
        for _ in range(3):
            assert output(transport, Body(LARGE + "echo done", "sh", tag=tag)).stdout == "done\n"
        transport.close()
    assert sent.files


def test_a_subsystem_that_hangs_is_given_up(output: Collecting, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        if process.subsystem:
            await asyncio.sleep(1000)
        mark = await process.stdin.readline()
        while not (await process.stdin.readline()).startswith(b"="):
            continue
        process.stderr.write(mark.strip() + b" 4711\n")
        process.stdout.write(b"hello\n")
        process.exit(0)

    given: list[float] = []
    client = ssh_upload._client

    def hasty(connection: Any, limit: float) -> Any:
        given.append(limit)
        return client(connection, 1)

    # Only what hangs has so short a limit: logging in may take longer than a second.
    monkeypatch.setattr(ssh_upload, "_client", hasty)
    with misbehaving(serve) as peer:
        transport = connect(peer.computer(connect_seconds=60), ({}, {"password": "right"}))
        assert output(transport, Body(LARGE, "sh", tag=tag)).stdout == "hello\n"
        transport.close()
    assert given == [60]


def test_a_file_that_the_shell_cannot_see_goes_by_standard_input_once(
    transport: SshTransport, output: Collecting, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a server that shows SFTP another root than the shell."""
    elsewhere = tmp_path / "root"
    elsewhere.mkdir()
    made = ssh_upload._make

    def hide(*given: Any) -> str:
        folder = made(*given)
        Path(folder).rename(elsewhere / Path(folder).name)
        return folder

    monkeypatch.setattr(ssh_upload, "_make", hide)
    done = output(transport, Body(LARGE + f"echo x >> {tmp_path}/count; echo done", "sh", tag=tag))
    assert (done.code, done.stdout, done.stderr) == (0, "done\n", "")
    assert (tmp_path / "count").read_text() == "x\n" and list(elsewhere.iterdir())


def test_names_that_are_taken_are_not_followed(
    transport: SshTransport, output: Collecting, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "body").write_text("mine")
    names = ["first", "second", "third", "free"]
    planted = [Path(f"/tmp/{tag}.{name}") for name in names[:3]]
    monkeypatch.setattr(ssh_upload, "_random", lambda: names.pop(0))
    try:
        planted[0].symlink_to(victim)
        planted[1].mkdir()
        assert output(transport, Body(LARGE + "echo one", "sh", tag=tag)).stdout == "one\n"
        assert names == ["free"]
        names[:] = ["first", "second", "third"]
        planted[2].symlink_to(tmp_path / "nowhere")
        assert output(transport, Body(LARGE + "echo two", "sh", tag=tag)).stdout == "two\n"
        assert not names
        assert [path.name for path in victim.iterdir()] == ["body"] and (victim / "body").read_text() == "mine"
    finally:
        for path in planted:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_nothing_stays_after_the_time_limit(
    transport: SshTransport, output: Collecting, tag: str, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = seconds()
    limit_when(monkeypatch, lambda: sleeping(number))
    with pytest.raises(TimeLimitReached):
        output(transport, Body(LARGE + f"trap '' TERM; sleep {number}", "sh", tag=tag))
    assert not sleeping(number)
    assert len(sent.files) == 1


def test_nothing_stays_when_the_shell_never_takes_it(
    transport: SshTransport, output: Collecting, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="bytes"):
        output(transport, Body(LARGE, "sh", {"text": "x" * 200_000}, tag=tag))
    assert not left(tag)


def test_what_a_dead_worker_left_is_found_by_its_tag(
    transport: SshTransport, output: Collecting, tag: str, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "body").write_text("mine")
    link, other = Path(f"/tmp/{tag}.link"), f"{tag}-1"
    link.symlink_to(victim)
    for its in (tag, tag, other):
        ssh_upload._make(transport._connection(), Body(LARGE, "sh", tag=its), 60, 60)
    try:
        assert len(left(tag)) == 3
        assert transport.end_leftovers(tag) == 2
        assert left(tag) == [link] and (victim / "body").exists()
        assert transport.end_leftovers(other) == 1 and transport.end_leftovers(other) == 0
    finally:
        link.unlink()
    with pytest.raises(UsageError):
        transport.end_leftovers("$(id) /")
    assert output(transport, Body("echo hello", "sh")).stdout == "hello\n"
