"""Bodies that go to an SSH target by SFTP, since a shell reads its standard input byte by byte.

Measured with OpenSSH 9.2 on the same machine: an upload costs 10 ms (eight round trips, more on a slow line) and 20 ns a
byte. Reading from a pipe costs the shell alone 0.2 microseconds a byte in dash, 0.3 in bash, 0.5 to 1.2 in busybox: 26, 38,
60 ms for 128 KiB, and 0.2, 0.3, 1.2 s for 1 MB; an upload makes that 13, 32, 49 ms. Below 128 KiB nothing is gained. Python
reads in blocks and gains nothing at all, so only bodies for `sh` are uploaded. Parameters and secrets never are.

A body stands alone in a folder of its own, `/tmp/<tag>.<random>` (mode 0700), made by an exclusive `mkdir`, which follows
no link; the file (mode 0600) is created exclusively in it. The shell reads it and removes both before the body starts
(`prelude.sh`), so that neither a time limit nor a lost connection leaves it there. What a worker left that died in
between is found by its tag.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager

import paramiko

from agent.errors import ExeuntError
from agent.transports.base import Body
from agent.transports.ssh_login import closed_after

log = logging.getLogger(__name__)

#: A folder in which everybody may make folders and nobody may move those of others.
_PLACE = "/tmp"
#: Random names that are tried: the server does not say why it refuses one.
_NAMES = 3
_ERRORS = (paramiko.SSHException, EOFError, OSError)

#: Removes the folders of the tag $1 that belong to the caller, and prints how many; no quotes that a csh would misread.
END_UPLOADS = (
    f'c=0; for d in {_PLACE}/"$1".*; do [ -L "$d" ] || '
    '{ [ -d "$d" ] && [ -O "$d" ] && rm -rf "$d" && c=$((c + 1)); }; done; echo $c'
)


class NotUploaded(ExeuntError):
    """The body cannot be handed over as a file, and nothing was started: it must go by standard input."""


class Upload:
    """An uploaded body. `taken`: the shell has read and removed it."""

    def __init__(self, path: str) -> None:
        self.path, self.taken = path, False


@contextmanager
def uploaded(connection: paramiko.Transport, body: Body, limit: float, answer: float) -> Iterator[Upload]:
    """The body as a file on the target, which is gone afterwards.

    `limit`, `answer`: seconds in which the server must have taken it, and in which it must begin to speak SFTP or remove
    it, before the connection is closed. Raises NotUploaded.
    """
    upload = Upload(f"{_make(connection, body, limit, answer)}/body")
    try:
        yield upload
    finally:
        if not upload.taken:
            _remove(connection, upload.path, answer)


def _make(connection: paramiko.Transport, body: Body, limit: float, answer: float) -> str:
    """Upload the body: its folder."""
    try:
        with closed_after(connection, limit), closing(_client(connection, answer)) as sftp:
            folder = _make_folder(sftp, body.tag)
            try:
                with sftp.open(f"{folder}/body", "wx") as file:
                    file.chmod(0o600)
                    file.set_pipelined(True)
                    file.write(body.text.encode())
            except _ERRORS:
                _remove(connection, f"{folder}/body", answer)
                raise
    except _ERRORS as error:
        raise NotUploaded(f"the body of {body.tag} cannot be uploaded by SFTP: {error}") from error
    return folder


def _make_folder(sftp: paramiko.SFTPClient, tag: str) -> str:
    for attempt in range(1, _NAMES + 1):
        folder = f"{_PLACE}/{tag}.{_random()}"
        try:
            sftp.mkdir(folder, 0o700)
            break
        except OSError:
            if attempt == _NAMES:
                raise
    return folder


def _random() -> str:
    return secrets.token_hex(12)


def _client(connection: paramiko.Transport, limit: float) -> paramiko.SFTPClient:
    with closed_after(connection, limit):
        channel = connection.open_session(timeout=limit)
        channel.invoke_subsystem("sftp")
        return paramiko.SFTPClient(channel)


def _remove(connection: paramiko.Transport, path: str, limit: float) -> None:
    try:
        with closed_after(connection, limit), closing(_client(connection, limit)) as sftp:
            _remove_in(sftp, path)
    except _ERRORS as error:
        log.warning("an uploaded body may be left: %s: %s", path, error)


def _remove_in(sftp: paramiko.SFTPClient, path: str) -> None:
    """Remove file and folder, if they are there."""
    for remove, name in ((sftp.remove, path), (sftp.rmdir, path.rpartition("/")[0])):
        try:
            remove(name)
        except FileNotFoundError:
            continue
