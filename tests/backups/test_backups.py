"""Backups: encrypted, whole or not there, gone on with after a break, and found out when somebody changed them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from context_of_backups import context_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import Conflict, NotFound, StepError, UsageError
from agent.functions.backups import VerifyBackups, complete, open_backup, recorded_digest
from agent.model.runs import RunStep
from agent.secrets import SecretBox, add_key, generate_key, load_secret_box
from agent.services import backup_reading, backup_stores, key_rotation
from agent.services.backup_crypto import CHUNK, BackupDamaged, ChunkCipher, plain_text
from agent.services.backup_reading import restore, verify
from agent.services.backup_stores import DirectoryStore, StoreUnavailable
from agent.services.backups import BackupWriter

NAMES = ("Documents/Zażółć.docx", "a b/$(id) 'x'.txt", "empty")
CONTENTS = (b"secret words " * 1000, b"\0" * 5, b"")
BACKUP = "contoso/3f9a-onedrive"


@pytest.fixture
def box() -> SecretBox:
    key = generate_key()
    return SecretBox(lambda: [key])


def make(store: DirectoryStore, box: SecretBox, backup: str = BACKUP) -> Any:
    with BackupWriter(store, box, backup, {"client": "contoso"}) as writer:
        for name, content in zip(NAMES, CONTENTS, strict=True):
            with writer.file(name, marker="v1") as file:
                file.write(content)
                file.finish()
        return writer.finish()


def objects(store: DirectoryStore, backup: str = BACKUP) -> list[Path]:
    return sorted(p for p in (store.root / backup).iterdir() if not p.name.startswith("."))


def test_what_was_backed_up_comes_back_and_nothing_is_readable(store: Any, box: SecretBox, tmp_path: Path) -> None:
    manifest = make(store, box)
    assert [f.name for f in manifest.files] == list(NAMES) and manifest.size == sum(map(len, CONTENTS))
    assert verify(store, box, BACKUP, digest=manifest.digest) == []
    restore(store, box, BACKUP, tmp_path / "back")
    for name, content in zip(NAMES, CONTENTS, strict=True):
        assert (tmp_path / "back" / name).read_bytes() == content
    for path in objects(store):
        raw = path.read_bytes()
        assert b"secret words" not in raw and b"Documents" not in raw, path.name
        assert path.stat().st_mode & 0o777 == 0o600
    assert make(store, box, "fabrikam/x").digest != manifest.digest


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "flip":
        content = content[:-1] + bytes([content[-1] ^ 1])
    elif how == "cut":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = b""
    else:
        content += content
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["flip", "cut", "empty", "double"])
@pytest.mark.parametrize("number", range(8))
def test_every_change_of_every_object_is_found(store: Any, box: SecretBox, number: int, how: str) -> None:
    make(store, box)
    damage(objects(store)[number], how)
    try:
        faults = verify(store, box, BACKUP)
    except BackupDamaged as error:
        faults = [str(error)]
    assert faults


def test_removed_added_swapped_and_foreign_objects_are_found(store: Any, box: SecretBox) -> None:
    make(store, box)
    folder = store.root / BACKUP
    (folder / "extra").write_text("x")
    assert verify(store, box, BACKUP) == [f"{BACKUP}/extra is no part of the backup"]
    (folder / "extra").unlink()
    one, two = (folder / "00000001").read_bytes(), (folder / "00000002").read_bytes()
    (folder / "00000001").write_bytes(two)
    (folder / "00000002").write_bytes(one)
    assert len(verify(store, box, BACKUP)) == 2
    (folder / "00000001").write_bytes(one)
    (folder / "00000002").unlink()
    assert len(verify(store, box, BACKUP)) == 1
    header = json.loads((folder / "header.json").read_text())
    (folder / "header.json").write_text(json.dumps({**header, "client": "fabrikam"}))
    assert "the header says something else than when the backup was completed" in verify(store, box, BACKUP)
    assert "the manifest is not the one that was recorded" in verify(store, box, BACKUP, digest="0" * 64)


def test_a_backup_under_another_name_does_not_open(store: Any, box: SecretBox) -> None:
    make(store, box)
    (store.root / BACKUP).rename(store.root / "contoso" / "other")
    with pytest.raises(BackupDamaged, match="something else"):
        backup_reading.read_key(store, box, "contoso/other")


def test_an_incomplete_backup_is_no_backup(store: Any, box: SecretBox, tmp_path: Path) -> None:
    with BackupWriter(store, box, BACKUP, {}) as writer:
        with writer.file("a") as file:
            file.write(b"x")
        with pytest.raises(Conflict, match="'a' is unfinished"):
            writer.finish()
    with pytest.raises(NotFound, match="incomplete"):
        verify(store, box, BACKUP)
    with pytest.raises(NotFound, match="incomplete"):
        restore(store, box, BACKUP, tmp_path / "back")
    assert [b["complete"] for b in backup_reading.listed(store)] == [False]


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "", "a/", "a\0b"])
def test_a_name_that_leads_out_is_refused(store: Any, box: SecretBox, name: str) -> None:
    with BackupWriter(store, box, BACKUP, {}) as writer, pytest.raises(UsageError):
        writer.file(name)
    with pytest.raises(NotFound):
        DirectoryStore(store.root).read("../../etc/passwd")


@given(
    cuts=st.lists(st.integers(0, 3 * CHUNK + 100), max_size=4), size=st.integers(0, 3 * CHUNK + 50),
    torn=st.integers(0, CHUNK),
)  # fmt: skip
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_broken_upload_goes_on_where_it_was(
    tmp_path_factory: Any, box: SecretBox, cuts: list[int], size: int, torn: int
) -> None:
    store = DirectoryStore(tmp_path_factory.mktemp("store"))
    content = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    offsets = []
    for cut in sorted(cuts):
        with BackupWriter(store, box, BACKUP, {}) as writer, writer.file("big", marker="v1") as file:
            offsets.append(file.offset)
            file.write(content[file.offset : max(file.offset, min(cut, size))])
        part = store.root / BACKUP / "00000001.part"
        with part.open("ab") as raw:  # a power failure leaves pieces
            raw.write(b"\xff" * torn)
    with BackupWriter(store, box, BACKUP, {}) as writer:
        assert not writer.has("big", "v1")
        with writer.file("big", marker="v1") as file:
            assert file.offset % CHUNK == 0 and file.offset >= max(offsets, default=0)
            file.write(content[file.offset :])
            file.finish()
        assert writer.has("big", "v1") and not writer.has("big", "v2")
        manifest = writer.finish()
    assert manifest.files[0].size == size and verify(store, box, BACKUP) == []
    assert (
        b"".join(backup_reading.contents(store, backup_reading.read_key(store, box, BACKUP), BACKUP, manifest.files[0]))
        == content
    )


def test_another_version_of_a_file_is_taken_from_the_beginning(store: Any, box: SecretBox) -> None:
    with BackupWriter(store, box, BACKUP, {}) as writer, writer.file("a", marker="v1") as file:
        file.write(b"old" * CHUNK)
    with BackupWriter(store, box, BACKUP, {}) as writer:
        with writer.file("a", marker="v2") as file:
            assert file.offset == 0
            file.write(b"new")
            file.finish()
        manifest = writer.finish()
    assert [f.size for f in manifest.files] == [3] and verify(store, box, BACKUP) == []


def test_a_complete_backup_takes_nothing_more_and_one_writes_at_a_time(store: Any, box: SecretBox) -> None:
    with BackupWriter(store, box, BACKUP, {}), pytest.raises(Conflict, match="somebody else"):
        BackupWriter(store, box, BACKUP, {}).__enter__()
    make(store, box)
    with pytest.raises(Conflict, match="is complete"):
        BackupWriter(store, box, BACKUP, {}).__enter__()


def test_a_process_that_is_killed_anywhere_leaves_no_half_backup(tmp_path: Path) -> None:
    """It dies at each bringing to the disk in turn; the next one completes the same backup."""
    program = Path(__file__).parent / "killed_backups.py"
    done = subprocess.run([sys.executable, program, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


def test_a_full_disk_and_a_store_that_is_away(
    run_of: Any, two_clients: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = run_of(two_clients.contoso)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(backup_stores.os, "fsync", full)
        with pytest.raises(StepError) as caught, open_backup(context, "onedrive"):
            pass
    assert (caught.value.type, caught.value.code, caught.value.critical) == (
        "BACKUP_STORAGE_UNAVAILABLE",
        "disk_full",
        True,
    )
    away = run_of(two_clients.contoso, name="Away", location=str(store.root / "not mounted"))
    with pytest.raises(StepError) as caught, open_backup(away, "onedrive"):
        pass
    assert caught.value.code == "unreachable" and not (store.root / "not mounted").exists()
    with (
        pytest.raises(StepError) as caught,
        open_backup(run_of(two_clients.contoso, name="R", location="relative"), "x"),
    ):
        pass
    assert caught.value.code == "not_configured"


def test_a_really_full_disk(tmp_path: Path, box: SecretBox) -> None:
    """A file system of 4 MiB, where one can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system needs root and the right to mount")
    try:
        store = DirectoryStore(disk)
        with BackupWriter(store, box, BACKUP, {}) as writer, pytest.raises(StoreUnavailable) as caught:  # noqa: SIM117
            with writer.file("big") as file:
                file.write(os.urandom(8 << 20))
                file.finish()
        assert caught.value.code == "disk_full"
        with pytest.raises(NotFound, match="incomplete"):
            verify(store, box, BACKUP)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _finished(context: Any, result: dict[str, Any]) -> Any:
    with context.installation.database.session() as session:
        step = session.get(RunStep, context.step_id)
        step.result = result
        session.add(step)
    return context_of(context.installation, context.root_id)


def test_the_function_verifies_the_backups_of_its_run_only(run_of: Any, two_clients: Any, store: Any) -> None:
    contexts = [run_of(two_clients.contoso, name="A"), run_of(two_clients.fabrikam, name="B")]
    verifying = VerifyBackups()
    assert verifying.do(contexts[0], verifying.Parameters()).state == "skipped"
    results = []
    for context in contexts:
        with open_backup(context, "onedrive") as backup:
            with backup.file("x", marker="1") as file:
                file.write(b"x" * 10)
                file.finish()
            results.append(complete(context, backup))
    ours, theirs = (_finished(c, r) for c, r in zip(contexts, results, strict=True))
    assert results[0]["backup"].startswith("contoso/") and results[1]["backup"].startswith("fabrikam/")
    assert results[0]["file_count"] == 1 and results[0]["backup_bytes"] == 10
    assert results[0]["verification_hash"] == f"sha256:{recorded_digest(ours.installation, results[0]['backup'])}"
    damage(store.root / results[1]["backup"] / "00000001", "flip")
    outcome = verifying.do(ours, verifying.Parameters())
    assert outcome.state == "succeeded" and [b["backup"] for b in outcome.result["backups"]] == [results[0]["backup"]]
    bad = verifying.do(theirs, verifying.Parameters())
    assert bad.state == "failed" and bad.error.code == "backup_damaged" and bad.error.critical
    # A whole older backup, put back with its own manifest, is not the one that was recorded.
    folder = store.root / results[0]["backup"]
    with BackupWriter(store, ours.installation.secrets, "contoso/forged", {}) as forged:
        forged.finish()
    (folder / "manifest").write_bytes((store.root / "contoso" / "forged" / "manifest").read_bytes())
    assert verifying.do(ours, verifying.Parameters()).state == "failed"


def test_backups_follow_a_change_of_the_key(run_of: Any, two_clients: Any, store: Any, tmp_path: Path) -> None:
    context = run_of(two_clients.contoso)
    with open_backup(context, "onedrive") as backup:
        result = complete(context, backup)
    installation = context.installation
    add_key(installation.settings)
    store.root.rename(tmp_path / "unmounted")
    assert key_rotation.rotate(installation, actor="x")["backups"] == 0
    with pytest.raises(Conflict, match="mount their store"):
        key_rotation.drop_old_keys(installation, actor="x")
    (tmp_path / "unmounted").rename(store.root)
    with pytest.raises(Conflict, match="need an old key"):
        key_rotation.drop_old_keys(installation, actor="x")
    assert key_rotation.rotate(installation, actor="x")["backups"] == 1
    assert key_rotation.drop_old_keys(installation, actor="x") == 1
    assert verify(store, load_secret_box(installation.settings), result["backup"]) == []


def test_the_command_line(run_of: Any, two_clients: Any, store: Any, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from agent.cli.main import main

    context = run_of(two_clients.contoso)
    with open_backup(context, "onedrive") as backup:
        with backup.file("a/b.txt") as file:
            file.write(b"text")
            file.finish()
        name = complete(context, backup)["backup"]

    def run(*arguments: str, expect: int = 0) -> str:
        workspace = context.installation.settings.workspace
        result = CliRunner().invoke(main, ["-w", str(workspace), "--user", "t", "backup", *arguments])
        assert result.exit_code == expect, result.output
        return result.output

    at = ("--location", str(store.root))
    assert [b["backup"] for b in json.loads(run("list", *at, "--json"))] == [name]
    assert json.loads(run("list", *at, "--client", "fabrikam", "--json")) == []
    assert "1 files, 4 bytes, whole" in run("verify", name, *at)
    run("restore", name, "--to", str(tmp_path / "back"), *at)
    assert (tmp_path / "back" / "a" / "b.txt").read_bytes() == b"text"
    assert "is not empty" in run("restore", name, "--to", str(tmp_path / "back"), *at, expect=2)
    damage(store.root / name / "00000001", "flip")
    assert "does not decrypt" in run("verify", name, *at, expect=1)
    assert "EXEUNT_BACKUP_FOLDER" in run("list", expect=1)
    run("forget", str(store.root))
    run("forget", str(store.root), expect=2)


def test_chunks_are_bound_to_their_place() -> None:
    from io import BytesIO

    cipher = ChunkCipher(b"k" * 32, "b", "1")
    one, two = cipher.seal(0, b"a", last=False), cipher.seal(1, b"b", last=True)
    assert b"".join(plain_text(BytesIO(one + two), cipher)) == b"ab"
    for wrong in (two + one, one, one + two + two, b"", one + two[:-1]):
        with pytest.raises(BackupDamaged):
            list(plain_text(BytesIO(wrong), cipher))
    assert cipher.seal(0, b"a", last=False) != one
