"""The backup of a mailbox: every message, as others can open it, gone on with after a break, never complete when it is not."""

from __future__ import annotations

import mailbox
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from m365_context import UserContext
from tenant_server import Server
from tenant_state import MailFolder, Message, TestTenant

from agent.functions.microsoft365 import mailbox_backup
from agent.inventory import retention
from agent.running.tree import RunTree
from agent.services import backup_reading
from agent.services.backup_stores import DirectoryStore

NAME = "m365.backup_mailbox"


def mime(subject: str, body: str = "Hello\r\n") -> bytes:
    return f"From: a@contoso.test\r\nSubject: {subject}\r\n\r\n{body}".encode()


@pytest.fixture(autouse=True)
def the_other_client(fabrikam: TestTenant, server: Server) -> Iterator[None]:
    """Whatever happens at Contoso: Fabrikam's mail is not asked for."""
    box = fabrikam.named("alex").mailbox
    assert box is not None
    box.folders = {"inbox": MailFolder("Inbox", messages={"theirs": Message(mime("theirs"))})}
    before = fabrikam.snapshot()
    yield
    assert fabrikam.snapshot() == before
    assert {domain for domain, _ in server.calls} <= {"contoso.test"}


@pytest.fixture
def mail(contoso: TestTenant, monkeypatch: pytest.MonkeyPatch) -> dict[str, MailFolder]:
    """Parts of three messages, so that a few messages make several."""
    monkeypatch.setattr(mailbox_backup, "PART", 3)
    box = contoso.named("alex").mailbox
    assert box is not None
    box.folders = {
        "inbox": MailFolder(
            "Inbox", None,
            {f"m{n}": Message(mime(f"No {n}"), f"2025-0{1 + n // 5}-{n + 1:02}T08:00:00Z") for n in range(8)},
        ),
        "tricky": MailFolder("../Ünïcode: a/b", "inbox", {
            "from": Message(mime("From", "From here on\r\n>From there\r\nend")), "empty": Message(b""),
        }),
        "none": MailFolder("Empty", "tricky"), "sent": MailFolder("Sent", None, {"big": Message(mime("big", "x" * 2_000_000))}),
    }  # fmt: skip
    return box.folders


def restored(context: UserContext, store: DirectoryStore, folder: Path) -> dict[str, list[str | None]]:
    """The subjects of each mbox file, as Python's own reader finds them."""
    backup_reading.restore(store, context.installation.secrets, f"contoso/{context.root_id}-mailbox", folder)
    found = {}
    for file in sorted(folder.rglob("*.mbox")):
        with closing(mailbox.mbox(file, create=False)) as opened:
            found[file.relative_to(folder).as_posix()] = [m["Subject"] for m in opened]
    return found


WHOLE = {
    "Inbox/2025-01 001.mbox": ["No 0", "No 1", "No 2"], "Inbox/2025-01 002.mbox": ["No 3", "No 4"],
    "Inbox/2025-02 001.mbox": ["No 5", "No 6", "No 7"], "Sent/2025-03 001.mbox": ["big"],
}  # fmt: skip


def test_every_message_is_stored_and_others_can_open_it(
    leaver: UserContext, contoso: TestTenant, mail: Any, store: DirectoryStore, server: Server, tmp_path: Path
) -> None:
    contoso.page_size = 2
    before = contoso.snapshot()
    assert leaver.verify(NAME) is False
    outcome = leaver.run(NAME)
    assert outcome.state == "succeeded", outcome
    result = outcome.result
    assert (result["folders"], result["messages"], result["file_count"]) == (4, 11, 5)
    assert result["backup_format"] == "mbox" and "archive mailbox" in result["left_out"]
    found = restored(leaver, store, tmp_path / "back")
    (tricky,) = set(found) - set(WHOLE)
    assert {k: v for k, v in found.items() if k != tricky} == WHOLE
    assert found[tricky] == ["From", None], "a line that begins with `From ` begins no message"
    raw = (tmp_path / "back" / tricky).read_bytes()
    assert b"\n>From here on\r\n>>From there\r\nend\n\n" in raw
    assert contoso.snapshot() == before and leaver.verify(NAME) is True
    assert all(b"Subject" not in p.read_bytes() for p in store.root.rglob("*") if p.is_file())
    server.calls.clear()
    assert leaver.run(NAME).result["outcome"] == "already"
    assert not any("$value" in call for _, call in server.calls)


@given(st.lists(st.sampled_from([b"From ", b">From ", b"\n", b"\r\n", b"x", b" From "]), max_size=20).map(b"".join))
@settings(max_examples=60)
def test_quoting_can_be_taken_back(text: bytes) -> None:
    written: list[bytes] = []
    mailbox_backup._write(written.append, {"receivedDateTime": "2025-03-01T10:00:00Z"}, text)
    first, *lines = b"".join(written).split(b"\n")
    assert first == b"From MAILER-DAEMON Sat Mar  1 10:00:00 2025"
    assert not any(line.startswith(b"From ") for line in lines)
    back = b"\n".join(line[1:] if line.lstrip(b">").startswith(b"From ") else line for line in lines)
    assert back in (text + b"\n", text + b"\n\n")


@pytest.mark.parametrize("action", ["drop", "cut", 429, 503, 500])
def test_a_message_that_breaks_off_is_fetched_again(
    leaver: UserContext, mail: Any, store: DirectoryStore, server: Server, tmp_path: Path, action: Any
) -> None:
    server.fault(r"GET .*/messages/(m3|big)/\$value", action, times=3, retry_after=1)
    outcome = leaver.run(NAME)
    assert outcome.state == "succeeded", outcome
    assert WHOLE.items() <= restored(leaver, store, tmp_path / "back").items()


@pytest.mark.parametrize("action", ["cut", 503, 403])
def test_a_broken_off_run_goes_on_where_it_was(
    leaver: UserContext, mail: Any, store: DirectoryStore, server: Server, tmp_path: Path, action: Any
) -> None:
    server.fault(r"/messages/m4/\$value", action)
    outcome = leaver.run(NAME)
    assert outcome.state == "failed" and outcome.error is not None
    types = {"cut": "DATA_TRANSFER_FAILED", 503: "INTEGRATION_ERROR", 403: "PERMISSION_DENIED"}
    assert outcome.error.type == types[action]
    assert leaver.verify(NAME) is False
    server.reset()
    outcome = leaver.run(NAME)
    assert outcome.state == "succeeded", outcome
    again = {call.split("/")[-2] for _, call in server.calls if call.endswith("$value")}
    assert not again & {"m0", "m1", "m2"} and "m3" in again, "whole parts of the first attempt are kept"
    assert WHOLE.items() <= restored(leaver, store, tmp_path / "back").items()


def test_messages_that_come_and_go_between_attempts(
    leaver: UserContext, mail: Any, store: DirectoryStore, server: Server, tmp_path: Path
) -> None:
    server.fault(r"/messages/m6/\$value", 503)
    assert leaver.run(NAME).state == "failed"
    server.reset()
    del mail["inbox"].messages["m6"], mail["inbox"].messages["m1"]
    mail["inbox"].messages["new"] = Message(mime("new"), "2025-02-28T10:00:00Z")
    outcome = leaver.run(NAME)
    assert outcome.state == "succeeded", outcome
    found = restored(leaver, store, tmp_path / "back")
    assert found["Inbox/2025-02 001.mbox"] == ["No 5", "No 7", "new"]
    assert found["Inbox/2025-01 001.mbox"] == ["No 0", "No 2", "No 3"]


def test_a_message_that_goes_away_while_it_is_listed_is_named(leaver: UserContext, mail: Any, server: Server) -> None:
    server.fault(r"/messages/m1/\$value", 404)
    outcome = leaver.run(NAME)
    assert outcome.state == "succeeded" and outcome.result["gone"] == ["Inbox/m1"]
    assert outcome.result["messages"] == 10


def test_a_message_that_is_too_large(leaver: UserContext, mail: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_backup, "LARGEST", 1_000_000)
    outcome = leaver.run(NAME)
    assert outcome.error is not None and (outcome.error.type, outcome.error.code) == (
        "DATA_TRANSFER_FAILED",
        "too_large",
    )
    assert leaver.verify(NAME) is False


def test_no_mailbox_is_no_backup(leaver: UserContext, contoso: TestTenant) -> None:
    contoso.named("alex").mailbox = None
    assert leaver.run(NAME).state == "skipped" and leaver.verify(NAME) is False


def test_forbidden_and_nobody(leaver: UserContext, mail: Any, server: Server) -> None:
    server.fault("GET .*/mailFolders", 403)
    outcome = leaver.run(NAME)
    assert outcome.error is not None and outcome.error.type == "PERMISSION_DENIED"
    assert leaver.run(NAME, user="nobody@contoso.test").error.type == "ACCOUNT_NOT_FOUND"  # type: ignore[union-attr]


def test_the_guard_lets_go_only_of_a_complete_backup(
    run: Callable[..., RunTree], installation: Any, mail: Any, store: DirectoryStore, server: Server
) -> None:
    def guarded(tree: RunTree) -> bool:
        with installation.database.reading() as session:
            return not retention.backed_up(session, tree.root.id)

    where = {"employee_email": "alex@contoso.test", "backup_location": str(store.root)}
    server.fault(r"/messages/big/\$value", 503)
    failed = run("Backup Mailbox", **where)
    assert failed.steps[0].state == "failed" and guarded(failed)
    server.reset()
    good = run("Backup Mailbox", **where)
    assert good.steps[0].state == "succeeded" and not guarded(good) and guarded(failed)
