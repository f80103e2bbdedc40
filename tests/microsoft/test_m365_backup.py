"""The backup of a OneDrive: whole, gone on with after a break, never called complete when it is not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from drive_peer import DriveItem, quick_xor
from hypothesis import given
from hypothesis import strategies as st
from m365_context import UserContext
from tenant_server import Server
from tenant_state import TestTenant

from agent.functions.microsoft365 import backup as backup_function
from agent.inventory import retention
from agent.running.tree import RunTree
from agent.services import backup_reading
from agent.services.backup_names import FolderNames
from agent.services.backup_stores import DirectoryStore
from agent.services.microsoft.quickxor import QuickXorHash

NAME = "m365.backup_onedrive"
BIG = bytes(range(256)) * (20 << 10)  # 5 MiB: several chunks of the store
TEXT, PHOTO = b"quarterly figures\n" * 500, b"\xff\xd8" + bytes(200_000)


@pytest.fixture(autouse=True)
def the_other_client(fabrikam: TestTenant, server: Server) -> Iterator[None]:
    """Whatever happens at Contoso: Fabrikam's files are not asked for."""
    fabrikam.files = {"theirs": DriveItem("secret.txt", b"of another client")}
    before = fabrikam.snapshot()
    yield
    assert fabrikam.snapshot() == before
    assert {domain for domain, _ in server.calls} <= {"contoso.test"}
    assert {domain for domain, _, _ in server.downloads} <= {"contoso.test"}


@pytest.fixture
def files(contoso: TestTenant) -> dict[str, DriveItem]:
    contoso.files = {
        "f1": DriveItem("Reports"), "f2": DriveItem("Łódź 2025", parent="f1"), "f3": DriveItem("Empty folder"),
        "text": DriveItem("figures.txt", TEXT, "f2"), "photo": DriveItem("photo.jpg", PHOTO, "f1", hashes=("sha1Hash",)),
        "empty": DriveItem("empty", b""),
        "plain": DriveItem("no hash", b"abc", hashes=()), "sha": DriveItem("sha", b"abcd", hashes=("sha256Hash",)),
        "link": DriveItem("Shared with me", facets={"remoteItem": {"id": "elsewhere"}}),
        "big": DriveItem("big.bin", BIG, hashes=("sha256Hash",)),
    }  # fmt: skip
    return contoso.files


def restored(context: UserContext, store: DirectoryStore, folder: Path) -> dict[str, bytes]:
    """What comes back of the run's backup."""
    backup_reading.restore(store, context.installation.secrets, f"contoso/{context.root_id}-onedrive", folder)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@contextmanager
def before(server: Server, ending: str, act: Callable[[], object]) -> Iterator[None]:
    """Something happens in the tenant right before a request arrives."""
    strike = server.strike

    def struck(call: str) -> Any:
        if call.endswith(ending):
            act()
        return strike(call)

    server.__dict__["strike"] = struck
    try:
        yield
    finally:
        del server.__dict__["strike"]


def manifest(context: UserContext, store: DirectoryStore) -> backup_reading.Manifest:
    return backup_reading.manifest_of(store, context.installation.secrets, f"contoso/{context.root_id}-onedrive")


WHOLE = {
    "Reports/Łódź 2025/figures.txt": TEXT, "Reports/photo.jpg": PHOTO, "big.bin": BIG, "empty": b"", "no hash": b"abc",
    "sha": b"abcd",
}  # fmt: skip


def test_every_file_is_stored_and_comes_back(
    leaver: UserContext, contoso: TestTenant, files: Any, store: DirectoryStore, server: Server, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG, "agent")
    contoso.page_size = 2
    before = contoso.snapshot()
    assert leaver.verify(NAME) is False
    outcome = leaver.run(NAME)
    assert outcome.state == "succeeded", outcome
    result = outcome.result
    assert (result["file_count"], result["backup_bytes"]) == (len(WHOLE), sum(map(len, WHOLE.values())))
    assert result["verified"] and result["onedrive_size_gb"] == 3 and result["shortcuts"] == ["Shared with me"]
    assert restored(leaver, store, tmp_path / "back") == WHOLE
    assert leaver.verify(NAME) is True
    assert contoso.snapshot() == before
    assert "as-good-as-a-key" not in caplog.text + str(result)
    assert all(TEXT[:18] not in p.read_bytes() for p in store.root.rglob("*") if p.is_file())
    # Done is done: nothing is fetched a second time, and a damaged backup is not called done.
    server.downloads.clear()
    assert leaver.run(NAME).result["outcome"] == "already" and server.downloads == []
    stored = store.root / result["backup"] / "00000001"
    stored.write_bytes(stored.read_bytes()[:-1] + b"\0")
    assert leaver.verify(NAME) is False
    assert leaver.run(NAME).error.code == "backup_damaged"  # type: ignore[union-attr]


def test_no_onedrive_is_no_backup(leaver: UserContext, contoso: TestTenant, store: DirectoryStore) -> None:
    contoso.named("alex").drive = None
    assert leaver.run(NAME).state == "skipped" and leaver.verify(NAME) is False


def test_a_cut_download_goes_on_by_range(
    leaver: UserContext, files: Any, store: DirectoryStore, server: Server, tmp_path: Path
) -> None:
    server.fault("DOWNLOAD big", "cut", times=8)  # more often than one call may fail without getting on
    server.fault("GET .*/text/content", 429, times=2, retry_after=3)
    server.fault("DOWNLOAD photo", 503, times=1, retry_after=1)
    server.fault("DOWNLOAD sha", 403, times=1)  # an address that has run out
    outcome = leaver.run(NAME)
    assert outcome.state == "succeeded", outcome
    assert restored(leaver, store, tmp_path / "back") == WHOLE
    ranges = [wanted for _, item, wanted in server.downloads if item == "big"]
    assert len(ranges) == 9 and ranges[0] is None and ranges[1] == f"bytes={len(BIG) // 2}-"


def test_a_server_without_ranges(
    leaver: UserContext, files: Any, store: DirectoryStore, server: Server, tmp_path: Path
) -> None:
    server.ignores_range = True
    server.fault("DOWNLOAD big", "cut", times=1)
    assert leaver.run(NAME).state == "succeeded"
    assert restored(leaver, store, tmp_path / "back")["big.bin"] == BIG


def test_a_broken_off_run_goes_on_where_it_was(
    leaver: UserContext, files: Any, store: DirectoryStore, server: Server, tmp_path: Path
) -> None:
    server.fault("DOWNLOAD big", "cut", times=1)
    server.fault("DOWNLOAD big", 503)
    outcome = leaver.run(NAME)
    assert outcome.state == "failed" and outcome.error.type == "INTEGRATION_ERROR", outcome  # type: ignore[union-attr]
    assert leaver.verify(NAME) is False
    server.reset()
    outcome = leaver.run(NAME)
    assert outcome.state == "succeeded", outcome
    assert restored(leaver, store, tmp_path / "back") == WHOLE
    begun = [int(w.removeprefix("bytes=").rstrip("-")) for _, i, w in server.downloads if i == "big" and w]
    assert begun and begun[0] >= 1 << 20, "whole chunks of the first attempt are kept"
    again = {i for _, i, w in server.downloads if w is None}
    assert again == {"text", "photo"}, "files that were stored are not fetched again"


def test_a_file_that_changes_meanwhile_is_taken_anew(
    leaver: UserContext, contoso: TestTenant, files: Any, store: DirectoryStore, server: Server, tmp_path: Path
) -> None:
    def change() -> None:
        files["big"].content, files["big"].version = BIG + b"more", 2

    with before(server, "/big/content", change):
        outcome = leaver.run(NAME)
    assert outcome.state == "succeeded", outcome
    assert restored(leaver, store, tmp_path / "back")["big.bin"] == BIG + b"more"


@pytest.mark.parametrize("size", [len(TEXT) - 1, len(TEXT) + 1])
def test_a_size_that_never_agrees(leaver: UserContext, files: Any, size: int) -> None:
    files["text"].said = {"size": size}
    outcome = leaver.run(NAME)
    assert (outcome.state, outcome.error and outcome.error.code) == ("failed", "changed_meanwhile"), outcome
    assert (
        outcome.error is not None and outcome.error.type == "DATA_TRANSFER_FAILED" and "figures" in str(outcome.error)
    )
    assert leaver.verify(NAME) is False


@pytest.mark.parametrize("item", ["text", "photo", "sha"])
def test_other_bytes_are_found_by_the_hash(
    leaver: UserContext, files: Any, store: DirectoryStore, server: Server, tmp_path: Path, item: str
) -> None:
    server.fault(f"DOWNLOAD {item}", "spoil")
    outcome = leaver.run(NAME)
    assert (outcome.state, outcome.error and outcome.error.code) == ("failed", "hash_mismatch"), outcome
    server.faults.clear()
    assert leaver.run(NAME).state == "succeeded", "and it is fetched from the beginning"
    assert restored(leaver, store, tmp_path / "back") == WHOLE


def test_the_hash_covers_what_an_earlier_attempt_stored(
    leaver: UserContext, files: Any, store: DirectoryStore, server: Server, tmp_path: Path
) -> None:
    """The file changes between two attempts behind the same marker: the first half is not that of the second."""
    server.fault("DOWNLOAD big", "cut", times=1)
    server.fault("DOWNLOAD big", "drop")
    assert leaver.run(NAME).state == "failed"
    server.faults.clear()
    other = bytes(len(BIG) // 2) + BIG[len(BIG) // 2 :]
    files["big"].content = other
    assert leaver.run(NAME).state == "succeeded"
    assert restored(leaver, store, tmp_path / "back")["big.bin"] == other


def test_files_that_go_away(leaver: UserContext, files: Any, store: DirectoryStore, server: Server) -> None:
    server.fault("DOWNLOAD big", "cut", times=1)
    server.fault("DOWNLOAD big", 503)
    assert leaver.run(NAME).state == "failed"
    server.faults.clear()
    del files["big"]
    # Another one was listed and is gone when it is fetched.
    files["late"] = DriveItem("late", b"x")
    with before(server, "/late/content", lambda: files.pop("late", None)):
        outcome = leaver.run(NAME)
    assert outcome.state == "succeeded", outcome
    assert set(outcome.result["gone"]) == {"big.bin", "late"}
    assert {f.name: f.marker for f in manifest(leaver, store).files}["big.bin"] == "gone"


HOSTILE = (
    "../../etc/passwd", "..", ".", "a/b", "a\\b", "CON", "nul.txt", "LPT¹", "trailing. ", "new\nline", "\u202egpj.exe",
    "\ud800", "x" * 300 + ".docx", "$(id) 'x' ; rm", "-rf", "a_b", "A_B", "é", "e\u0301", "~", "Ω" * 150, "Zażółć.txt",
)  # fmt: skip


def test_hostile_names_are_safe_unique_and_kept(
    leaver: UserContext, contoso: TestTenant, store: DirectoryStore, tmp_path: Path
) -> None:
    contoso.files = {f"i{n}": DriveItem(name, str(n).encode()) for n, name in enumerate(HOSTILE)}
    contoso.files |= {"up": DriveItem(".."), "in": DriveItem("inside", b"inside", "up")}
    outcome = leaver.run(NAME)
    assert outcome.state == "succeeded", outcome
    found = manifest(leaver, store).files
    back = restored(leaver, store, tmp_path / "back")
    assert sorted(back.values()) == sorted([*(str(n).encode() for n in range(len(HOSTILE))), b"inside"])
    assert {f.original or f.name for f in found} == {*HOSTILE, "../inside"}
    assert len({f.name.casefold() for f in found}) == len(found)
    assert sum("/" in f.name for f in found) == 1, "only a folder makes a folder"


@given(st.lists(st.text(st.characters(), max_size=40), max_size=8))
def test_no_name_is_unsafe(names: list[str]) -> None:
    folder = FolderNames()
    kept = [folder.safe(name, str(number)) for number, name in enumerate(names)]
    assert len({k.casefold() for k in kept}) == len(kept)
    for name in kept:
        backup_reading.check_name(name)
        assert name not in (".", "..") and not set(name) & set('/\\:*?"<>|\n\0') and len(name.encode()) <= 255
        assert not name.endswith((".", " ")) and name.split(".")[0].upper() not in ("CON", "NUL", "AUX", "PRN", "COM1")


@given(st.lists(st.binary(max_size=400), max_size=6))
def test_quick_xor(pieces: list[bytes]) -> None:
    made = QuickXorHash()
    for piece in pieces:
        made.update(piece)
    assert made.base64() == quick_xor(b"".join(pieces))


def test_quick_xor_of_one_byte() -> None:
    """By hand: the byte stands at the beginning, the length of 1 in the byte with the index 12."""
    made = QuickXorHash()
    made.update(b"\x4a")
    assert made.base64() == "SgAAAAAAAAAAAAAAAQAAAAAAAAA="


@pytest.mark.parametrize("location", ["http://127.0.0.1:1/x", "https://user@127.0.0.1/x", "https://[/x", "file:///etc"])
def test_a_download_that_leads_astray(leaver: UserContext, files: Any, server: Server, location: str) -> None:
    server.content_location = location
    outcome = leaver.run(NAME)
    assert (outcome.state, outcome.error and outcome.error.code) == ("failed", "unexpected_answer"), outcome
    assert location not in str(outcome.error) and server.downloads == []


def test_the_token_goes_nowhere_by_redirect(
    leaver: UserContext, contoso: TestTenant, files: Any, server: Server
) -> None:
    """Not even to Graph's own address, which takes the token; and the download host breaks the contract if it gets one."""
    server.content_location = server.urls["graph"]
    assert leaver.run(NAME).state == "failed"
    with_token = [request for _, _, request in server.requests]
    assert any(r.endswith("/content") for r in with_token) and not any(contoso.id in r for r in with_token)


def test_the_store_is_away_or_not_named(leaver: UserContext, files: Any, store: DirectoryStore, server: Server) -> None:
    store.root.rename(store.root.with_name("unmounted"))
    outcome = leaver.run(NAME)
    assert outcome.state == "failed" and outcome.error is not None
    assert (outcome.error.type, outcome.error.critical) == ("BACKUP_STORAGE_UNAVAILABLE", True)
    assert server.downloads == [] and not store.root.exists()


def test_the_time_limit(leaver: UserContext, files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.monotonic()
    with monkeypatch.context() as patched:
        ticks = iter(range(0, 10_000_000, 40))
        patched.setattr(backup_function, "time", SimpleNamespace(monotonic=lambda: start + next(ticks)))
        outcome = leaver.run(NAME, time_limit_minutes=2)
    assert (outcome.state, outcome.error and outcome.error.code) == ("failed", "time_limit"), outcome
    assert leaver.run(NAME).state == "succeeded"


def test_forbidden_and_malware(leaver: UserContext, files: Any, server: Server) -> None:
    server.fault("GET .*/children", 403)
    assert leaver.run(NAME).error.type == "PERMISSION_DENIED"  # type: ignore[union-attr]
    server.faults.clear()
    files["text"].said = {"malware": {"description": "x"}}
    assert leaver.run(NAME).error.code == "malware"  # type: ignore[union-attr]
    assert leaver.verify(NAME) is False


def test_the_guard_lets_go_only_of_a_complete_backup(
    run: Callable[..., RunTree],
    installation: Any,
    files: Any,
    store: DirectoryStore,
    server: Server,
) -> None:
    def guarded(tree: RunTree) -> bool:
        with installation.database.reading() as session:
            return not retention.backed_up(session, tree.root.id)

    given_ = {"employee_email": "alex@contoso.test", "backup_location": str(store.root)}
    server.fault("DOWNLOAD big", "cut", times=1)
    server.fault("DOWNLOAD big", 503)
    failed = run("Backup OneDrive", **given_)
    (step,) = failed.steps
    assert step.state == "failed" and step.attempts == 5 and guarded(failed), step.error
    server.reset()
    off = run("Backup OneDrive", employee_email="alex@contoso.test", backup_user_data="0")
    assert guarded(off) and server.downloads == []
    server.fault("DOWNLOAD big", "cut", times=3)
    good = run("Backup OneDrive", **given_)
    assert good.steps[0].state == "succeeded" and not guarded(good) and guarded(failed)
