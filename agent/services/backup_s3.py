"""Backups in a store that speaks S3: Amazon's, MinIO, Ceph, Wasabi and others. Needs the extra `s3`.

What arrives there is encrypted already. A file is written into a folder of the workspace first, so that a break costs nothing,
and is uploaded once it is whole; one file at a time takes that room. Each upload carries its MD5, which the store checks, and
reading back a backup (`backup.verify`) compares the SHA-256 of every object. Nothing is ever deleted there but uploads that
were broken off, so the account needs these rights only: s3:PutObject, s3:GetObject, s3:ListBucket,
s3:ListBucketMultipartUploads, s3:AbortMultipartUpload.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agent.errors import NotFound
from agent.services.backup_stores import PART, DirectoryStore, StoreUnavailable, parts_of, refused

#: The kind of the credential, with `secret_key` as its secret.
KIND: Final = "s3"
#: Bytes of one part of a large object, and the most parts that S3 allows, with some to spare.
PART_BYTES, MOST_PARTS = 8 * 2**20, 9_000
_LOCATION = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9._/-]*))?")
_FORBIDDEN = {
    "AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "401", "403",
}  # fmt: skip
_FULL = {"QuotaExceeded", "XMinioStorageFull", "507"}


class S3Settings(BaseModel):
    """One account at one store, and the only bucket that it is used for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    #: The public half of the access key.
    key_id: str = Field(min_length=1, max_length=200)
    #: Address of another store than Amazon's, such as https://minio.example.com.
    endpoint: str | None = None
    region: str = Field("us-east-1", pattern=r"^[a-z0-9-]{1,50}$")
    #: Further certificate authority, as PEM file.
    ca_file: str | None = None
    answer_seconds: int = Field(60, ge=1, le=600)

    @field_validator("endpoint")
    @classmethod
    def _https(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "https://x")
        plain = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1")
        if not (parts.scheme == "https" or plain) or not parts.hostname or parts.username or parts.query:
            raise ValueError("write the endpoint as https://host[:port]")
        return value


#: Objects that one request deletes.
MOST_DELETED = 1000


def parse_location(location: str) -> tuple[str, str] | None:
    """Bucket and prefix of `s3://bucket/prefix`; None for what is no such address. Raises StoreUnavailable for a wrong one."""
    if not location.startswith("s3://"):
        return None
    found = _LOCATION.fullmatch(location)
    if found is None:
        raise StoreUnavailable(
            f"write the backup location as s3://bucket/prefix, not {location!r}", code="not_configured"
        )
    return found["bucket"], (found["prefix"] or "").strip("/")


class S3Store:
    """Objects in a bucket, under a prefix. The same contract as a directory."""

    def __init__(self, client: Any, bucket: str, prefix: str, spool: Path) -> None:
        """`client`: of boto3. `spool`: a folder of this store alone, made where it is missing."""
        self._client, self.bucket, self.prefix = client, bucket, prefix
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._spool = DirectoryStore(spool)

    @property
    def location(self) -> str:
        """As `backup_location` says it."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def put(self, name: str, content: bytes) -> None:
        """One request, which the store takes whole or not at all."""
        with self._said(name):
            self._client.put_object(Bucket=self.bucket, Key=self._key(name), Body=content, ContentMD5=_md5(content))

    def open_part(self, name: str) -> BinaryIO:
        """The file in the workspace, encrypted like everything that a backup writes."""
        return self._spool.open_part(name)

    def finish_part(self, name: str, part: BinaryIO) -> None:
        """Upload it, ask for its size, then remove it here. A broken upload leaves it for the next attempt."""
        try:
            part.flush()
            os.fsync(part.fileno())
            size = part.seek(0, os.SEEK_END)
            part.seek(0)
        except OSError as error:
            raise refused(self._spool.location, error) from error
        with self._said(name):
            if size <= PART_BYTES:
                self.put(name, part.read())
            else:
                self._upload(self._key(name), part, size)
            stored = self._client.head_object(Bucket=self.bucket, Key=self._key(name))["ContentLength"]
        if stored != size:
            raise StoreUnavailable(
                f"the backup store {self.location} holds {stored} bytes of {name} and was given {size}",
                code="unreachable",
            )
        part.close()
        self._spool.root.joinpath(*parts_of(name)).with_name(name.rpartition("/")[2] + PART).unlink()

    def read(self, name: str) -> BinaryIO:
        """As a stream; what breaks while it is read is said in the words of a store, too."""
        with self._said(name):
            body = self._client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"]
        return io.BufferedReader(_Body(self, name, body), 1 << 20)

    def names(self, pattern: str) -> list[str]:
        """What is in the bucket, and what waits in the workspace to be finished."""
        fits = re.compile("[^/]*".join(map(re.escape, pattern.split("*"))))
        start = f"{self.prefix}/" if self.prefix else ""
        with self._said(pattern):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=start + pattern.partition("*")[0]
            )
            found = {o["Key"].removeprefix(start) for page in pages for o in page.get("Contents", ())}
        waiting = [n for n in self._spool.names(pattern) if n.endswith(PART)]
        return sorted({n for n in found if fits.fullmatch(n)} | set(waiting))

    def delete(self, backup: str, *, first: str) -> None:
        """What is in the bucket, and what waits in the workspace. A bucket with versions keeps the older ones."""
        start = f"{self._key(backup)}/"
        with self._said(backup):
            self._client.delete_object(Bucket=self.bucket, Key=start + first)
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start)
            keys = [{"Key": o["Key"]} for page in pages for o in page.get("Contents", ())]
            for begin in range(0, len(keys), MOST_DELETED):
                some = {"Objects": keys[begin : begin + MOST_DELETED], "Quiet": True}
                refused_keys = self._client.delete_objects(Bucket=self.bucket, Delete=some).get("Errors") or []
                if refused_keys:
                    raise _unavailable(self.location, str(refused_keys[0].get("Code", "")))
        self._spool.delete(backup, first=first)

    def look(self) -> None:
        """Ask for one name of the bucket, to see that the account may. Raises StoreUnavailable."""
        with self._said(self.bucket):
            self._client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Of this machine: a run is carried out by one worker, which the engine sees to."""
        return self._spool.lock(name)

    def _key(self, name: str) -> str:
        return "/".join((*([self.prefix] if self.prefix else ()), *parts_of(name)))

    def _upload(self, key: str, part: BinaryIO, size: int) -> None:
        """In parts; nothing that is broken off stays in the bucket, where it would be paid for and never seen."""
        self._abort_left(key)
        step = max(PART_BYTES, -(-size // MOST_PARTS))
        about = {"Bucket": self.bucket, "Key": key}
        upload = self._client.create_multipart_upload(**about)["UploadId"]
        try:
            done: list[dict[str, Any]] = []
            while piece := part.read(step):
                number = len(done) + 1
                answer = self._client.upload_part(
                    **about, UploadId=upload, PartNumber=number, Body=piece, ContentMD5=_md5(piece)
                )
                done.append({"ETag": answer["ETag"], "PartNumber": number})
            self._client.complete_multipart_upload(**about, UploadId=upload, MultipartUpload={"Parts": done})
        except BaseException:
            # What matters is the error that broke it off; what cannot be taken back now is found by the next attempt.
            with suppress(*_errors()):
                self._client.abort_multipart_upload(**about, UploadId=upload)
            raise

    def _abort_left(self, key: str) -> None:
        """Take back what a worker that died had begun under this name."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=key)
        for left in [u for page in pages for u in page.get("Uploads", ()) if u["Key"] == key]:
            self._client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=left["UploadId"])

    @contextmanager
    def _said(self, name: str) -> Iterator[None]:
        """Say what the store refuses in the words of the port. Messages of stores may quote keys, so only codes are told."""
        client_error, other = _errors()
        try:
            yield
        except client_error as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in ("NoSuchKey", "404"):
                raise NotFound(f"there is no {name} in the backup store {self.location}") from None
            raise _unavailable(self.location, code) from None
        except other as error:
            raise StoreUnavailable(
                f"the backup store {self.location} cannot be reached: {type(error).__name__}", code="unreachable"
            ) from None


class _Body(io.RawIOBase):
    """The body of an answer as a stream that Python's buffer reads from."""

    def __init__(self, store: S3Store, name: str, body: Any) -> None:
        self._store, self._name, self._body = store, name, body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises StoreUnavailable when the connection breaks, so that a part is never taken for the whole."""
        with self._store._said(self._name):
            piece = self._body.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()


def open_s3(
    settings: Mapping[str, Any], secrets: Mapping[str, str], bucket: str, prefix: str, spool: Path
) -> S3Store:  # fmt: skip
    """The store of a credential. `spool`: folder for the files of all such stores. Raises StoreUnavailable."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise StoreUnavailable(
            "backups in S3 need a library that is missing: pip install 'exeunt[s3]'", code="not_configured"
        ) from None
    try:
        checked = S3Settings.model_validate(dict(settings))
    except ValidationError as error:
        details = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise StoreUnavailable(f"the credential {KIND} is wrong: {details}", code="not_configured") from None
    config = Config(
        user_agent_extra="exeunt", signature_version="s3v4", retries={"mode": "standard", "total_max_attempts": 4},
        connect_timeout=10, read_timeout=checked.answer_seconds,
        s3={"addressing_style": "path" if checked.endpoint else "auto"},
        # Newer checksums than MD5 are unknown to many stores; each request has its MD5.
        request_checksum_calculation="when_required", response_checksum_validation="when_required",
    )  # fmt: skip
    session = boto3.session.Session(
        aws_access_key_id=checked.key_id,
        aws_secret_access_key=secrets.get("secret_key", ""),
        region_name=checked.region,
    )
    client = session.client("s3", endpoint_url=checked.endpoint, verify=checked.ca_file or True, config=config)
    folder = hashlib.sha256(f"{checked.endpoint}\0{bucket}\0{prefix}".encode()).hexdigest()[:16]
    return S3Store(client, bucket, prefix, spool / folder)


def _errors() -> tuple[Any, Any]:
    """What boto3 raises: an answer that refuses, and everything else."""
    from botocore.exceptions import BotoCoreError, ClientError

    return ClientError, BotoCoreError


def _unavailable(location: str, code: str) -> StoreUnavailable:
    if code == "NoSuchBucket":
        return StoreUnavailable(f"the backup store {location} has no such bucket: make it", code="no_bucket")
    if code in _FORBIDDEN:
        return StoreUnavailable(
            f"the backup store {location} refuses this account ({code}): check the credential {KIND} and its rights",
            code="forbidden",
        )
    if code in _FULL:
        return StoreUnavailable(f"the backup store {location} is full", code="disk_full")
    return StoreUnavailable(
        f"the backup store {location} cannot be used: {code or 'no reason given'}", code="unreachable"
    )


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
