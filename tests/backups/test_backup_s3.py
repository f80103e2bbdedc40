"""Backups in a bucket: the contract of the folder, over real HTTP, with what a store of that kind can do to us."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_peer import Relay, Sent, moto, relaying

from agent.errors import NotFound, StepError
from agent.functions.backups import VerifyBackups, complete, open_backup
from agent.functions.probing import probe
from agent.installation import Installation
from agent.model.runs import RunStep
from agent.secrets import SecretBox, add_key, generate_key
from agent.services import credentials, key_rotation
from agent.services.backup_places import open_store
from agent.services.backup_reading import listed, restore, verify
from agent.services.backup_s3 import PART_BYTES, S3Store, open_s3, parse_location
from agent.services.backup_stores import StoreUnavailable
from agent.services.backups import BackupWriter

SECRET = "the-secret-key-of-contoso"
BACKUP = "contoso/3f9a-onedrive"
CONTENT = b"secret words " * 1000


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with moto() as port:
        yield port


@pytest.fixture
def relay(port: int) -> Iterator[Relay]:
    """Two empty buckets behind it: ours and theirs."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/moto-api/reset")
    connection.getresponse().read()
    with relaying(port) as relay:
        for bucket in ("ours", "theirs"):
            connection.request("PUT", f"/{bucket}")
            assert connection.getresponse().read() is not None
        yield relay
    connection.close()


@pytest.fixture
def box() -> SecretBox:
    key = generate_key()
    return SecretBox(lambda: [key])


def settings(relay: Relay, bucket: str = "ours") -> dict[str, Any]:
    return {"bucket": bucket, "key_id": "AKIDCONTOSO", "endpoint": relay.url, "answer_seconds": 60}


@pytest.fixture
def store(relay: Relay, tmp_path: Path) -> S3Store:
    return open_s3(settings(relay), {"secret_key": SECRET}, "ours", "exeunt/backups", tmp_path / "spool")


def make(store: S3Store, box: SecretBox, content: bytes = CONTENT, backup: str = BACKUP) -> Any:
    with BackupWriter(store, box, backup, {"client": backup.partition("/")[0]}) as writer:
        for name in ("Documents/Zażółć.docx", "empty"):
            if not writer.has(name, "v1"):
                with writer.file(name, marker="v1") as file:
                    file.write((content if name != "empty" else b"")[file.offset :])
                    file.finish()
        return writer.finish()


def spooled(store: S3Store) -> list[str]:
    return [n for n in store.names(f"{BACKUP}/*") if n.endswith(".part")]


def test_what_was_backed_up_comes_back_and_nothing_leaves_in_clear(
    store: S3Store, box: SecretBox, relay: Relay, tmp_path: Path
) -> None:
    manifest = make(store, box)
    assert manifest.location == f"s3://ours/exeunt/backups/{BACKUP}"
    assert verify(store, box, BACKUP, digest=manifest.digest) == [] and spooled(store) == []
    assert [b["complete"] for b in listed(store)] == [True]
    restore(store, box, BACKUP, tmp_path / "back")
    assert (tmp_path / "back" / "Documents/Zażółć.docx").read_bytes() == CONTENT
    for sent in relay.sent:
        everything = sent.body + repr(sent.headers).encode() + sent.path.encode()
        assert b"secret words" not in everything and b"Documents" not in everything
        assert SECRET.encode() not in everything and "exeunt" in sent.headers["user-agent"]
    assert {s.path.split("/")[1].partition("?")[0] for s in relay.sent} == {"ours"}
    with pytest.raises(NotFound):
        store.read(f"{BACKUP}/../../theirs/x")
    with pytest.raises(NotFound):
        store.read(f"{BACKUP}/00000009")


def test_a_backup_is_deleted_with_its_key_first(store: S3Store, box: SecretBox, relay: Relay) -> None:
    make(store, box)
    make(store, box, backup="contoso/other")
    with store.open_part(f"{BACKUP}/00000009") as part:
        part.write(b"unfinished")
    others = store.names("contoso/other/*")
    relay.sent.clear()
    store.delete(BACKUP, first="header.json")
    assert store.names(f"{BACKUP}/*") == [] and store.names("contoso/other/*") == others
    sent = [s for s in relay.sent if s.method in ("DELETE", "POST")]
    assert sent[0].method == "DELETE" and sent[0].path.endswith(f"{BACKUP}/header.json")
    store.delete(BACKUP, first="header.json")


def test_a_large_file_goes_in_parts_and_a_changed_one_is_found(store: S3Store, box: SecretBox, relay: Relay) -> None:
    make(store, box, os.urandom(2 * PART_BYTES + 5))
    assert sum("partNumber" in s.path for s in relay.sent) == 3
    assert verify(store, box, BACKUP) == []
    with store.read(f"{BACKUP}/00000001") as file:
        content = file.read()
    store.put(f"{BACKUP}/00000001", content[:-1] + bytes([content[-1] ^ 1]))
    assert verify(store, box, BACKUP)
    store.put(f"{BACKUP}/00000001", content[: len(content) // 2])
    assert verify(store, box, BACKUP)


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_a_store_that_refuses_the_account(store: S3Store, box: SecretBox, relay: Relay, code: str) -> None:
    relay.answer = lambda sent: (403, code)
    for act in (lambda: make(store, box), lambda: store.names("*/*/manifest"), lambda: store.read(f"{BACKUP}/x")):
        with pytest.raises(StoreUnavailable) as refused:
            act()
        assert refused.value.code == "forbidden" and SECRET not in str(refused.value)


def test_no_bucket_no_answer_and_a_full_store(relay: Relay, box: SecretBox, tmp_path: Path) -> None:
    nowhere = open_s3(settings(relay, "nowhere"), {"secret_key": SECRET}, "nowhere", "", tmp_path / "spool")
    with pytest.raises(StoreUnavailable, match="no such bucket") as refused:
        make(nowhere, box)
    assert refused.value.code == "no_bucket"
    ours = open_s3(settings(relay), {"secret_key": SECRET}, "ours", "", tmp_path / "spool")
    relay.answer = lambda sent: (507, "QuotaExceeded") if sent.method == "PUT" else None
    with pytest.raises(StoreUnavailable) as full:
        make(ours, box)
    assert full.value.code == "disk_full"
    relay.answer = lambda sent: "hang up"
    with pytest.raises(StoreUnavailable) as silent:
        make(ours, box)
    assert silent.value.code == "unreachable" and SECRET not in str(silent.value)


def test_an_upload_that_is_broken_off_goes_on_and_leaves_nothing_behind(
    store: S3Store, box: SecretBox, relay: Relay
) -> None:
    content = os.urandom(2 * PART_BYTES + 5)
    # Neither the second part arrives nor can the upload be taken back: the worker's last words are lost.
    relay.answer = lambda sent: "hang up" if "partNumber=2" in sent.path or sent.method == "DELETE" else None
    with pytest.raises(StoreUnavailable):
        make(store, box, content)
    assert spooled(store) == [f"{BACKUP}/00000001.part"], "what was encrypted is kept here"
    assert listed(store)[0]["complete"] is False
    assert len(_uploads(store)) == 1
    relay.answer = lambda sent: None
    make(store, box, content)
    assert verify(store, box, BACKUP) == [] and _uploads(store) == [] and spooled(store) == []


def _uploads(store: S3Store) -> list[Any]:
    return list(store._client.list_multipart_uploads(Bucket="ours").get("Uploads", ()))


def test_a_part_that_was_changed_on_its_way_is_refused(store: S3Store, box: SecretBox, relay: Relay) -> None:
    def spoil(sent: Sent) -> None:
        if "partNumber=1" in sent.path:
            sent.headers["content-md5"] = "AAAAAAAAAAAAAAAAAAAAAA=="

    relay.answer = spoil
    with pytest.raises(StoreUnavailable, match="BadDigest"):
        make(store, box, os.urandom(PART_BYTES + 5))


def keep(installation: Installation, relay: Relay, client_id: int | None, bucket: str) -> None:
    credentials.add(
        installation, kind="s3", name=f"s3-{bucket}", client_id=client_id, settings=settings(relay, bucket),
        secret={"secret_key": SECRET}, actor="ann",
    )  # fmt: skip


def back_up(context: Any, name: str = "onedrive") -> dict[str, Any]:
    with open_backup(context, name) as backup:
        with backup.file("a.txt") as file:
            file.write(CONTENT)
            file.finish()
        return complete(context, backup)


def test_a_run_backs_up_into_its_clients_bucket_only(
    keyed: Installation, run_of: Callable[..., Any], two_clients: Any, relay: Relay
) -> None:
    keep(keyed, relay, two_clients.contoso, "ours")
    keep(keyed, relay, two_clients.fabrikam, "theirs")
    context = run_of(two_clients.contoso, location="s3://ours/exeunt")
    result = back_up(context)
    assert result["backup_store"] == "s3://ours/exeunt"
    with keyed.database.session() as session:
        step = session.get_one(RunStep, context.step_id)
        step.result = result
        session.add(step)
    from context_of_backups import context_of

    checked = VerifyBackups().do(context_of(keyed, context.root_id), VerifyBackups.Parameters())  # type: ignore[arg-type]
    assert checked.state == "succeeded" and checked.result["backups"][0]["verified"] is True
    for place, person in (("s3://theirs/x", "A"), ("s3://elsewhere", "B"), ("s3://Bad_Bucket!", "C")):
        with pytest.raises(StepError) as refused:
            back_up(run_of(two_clients.contoso, person, location=place))
        assert (refused.value.type, refused.value.code) == ("BACKUP_STORAGE_UNAVAILABLE", "not_configured")
    assert not [s for s in relay.sent if s.path.startswith("/theirs")]


def test_the_keys_in_a_bucket_follow_the_installations(
    keyed: Installation, run_of: Callable[..., Any], two_clients: Any, relay: Relay
) -> None:
    keep(keyed, relay, None, "ours")
    back_up(run_of(two_clients.contoso, location="s3://ours"))
    back_up(run_of(two_clients.fabrikam, "Max", location="s3://ours"))
    add_key(keyed.settings)
    fresh = Installation(keyed.settings)
    relay.answer = lambda sent: (403, "AccessDenied")
    key_rotation.rotate(fresh, actor="ann")
    with pytest.raises(Exception, match="s3://ours"):
        key_rotation.drop_old_keys(fresh, actor="ann")
    relay.answer = lambda sent: None
    assert key_rotation.rotate(fresh, actor="ann")["backups"] == 2
    assert key_rotation.drop_old_keys(fresh, actor="ann") == 1
    last = Installation(keyed.settings)
    store = open_store(last, "s3://ours")
    for found in listed(store):
        assert verify(store, last.secrets, found["backup"]) == []
    fresh.database.close()
    last.database.close()


def test_a_credential_can_be_tried(keyed: Installation, two_clients: Any, relay: Relay) -> None:
    for client_id, bucket in ((two_clients.contoso, "ours"), (two_clients.fabrikam, "nowhere")):
        keep(keyed, relay, client_id, bucket)
    with keyed.database.reading() as session:
        (ours,) = (c.id for c in credentials.of_client(session, ["s3"], two_clients.contoso))
    assert "may list the bucket ours" in probe(keyed, ours or 0)
    assert [(s.method, s.path.partition("?")[0]) for s in relay.sent] == [("GET", "/ours")]
    with keyed.database.reading() as session:
        (other,) = (c.id for c in credentials.of_client(session, ["s3"], two_clients.fabrikam))
    with pytest.raises(StoreUnavailable, match="no such bucket"):
        probe(keyed, other or 0)


@pytest.mark.parametrize("text", ["s3://", "s3://a", "s3://UPPER/x", "s3://ok/..%2f", "s3://user@host/x", "s3://b/x y"])
def test_what_is_no_location_is_refused(text: str) -> None:
    with pytest.raises(StoreUnavailable):
        parse_location(text)


def test_an_endpoint_without_tls_is_refused(tmp_path: Path) -> None:
    wrong = {"bucket": "ours", "key_id": "A", "endpoint": "http://minio.example.com"}
    with pytest.raises(StoreUnavailable, match="https"):
        open_s3(wrong, {"secret_key": SECRET}, "ours", "", tmp_path)
