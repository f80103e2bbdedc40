"""Running bodies on another machine by SSH.

The command is a constant (see `binding`), the body and its parameters follow on the standard input of its exec channel.
Only a body for `sh` above `upload_above_bytes` goes before it by SFTP (see `ssh_upload`, also for what was measured); it
goes by standard input as well where the server has no SFTP or the shell does not see its files. What counts:

* The body starts only when its last byte has arrived. A connection that breaks before is CannotConnect; after it,
  without an exit code, it is AnswerLost: also when a signal ended the shell itself and not just the body.
* `Execution.exit_code` is 128 + n when signal n ended the body.
* At the time limit a second channel ends the process group and what left it; if that cannot be opened, the closed
  connection lets the body's own watcher kill the group.
* When our worker or the connection goes away, the watcher kills the group too. It does not reach descendants that left
  the group, nor bodies in PowerShell.
* The target runs POSIX `sh` and, for `py`, `python3`; a Windows target runs `ps1` only.
"""

from __future__ import annotations

import logging
import select
import shlex
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import ClassVar, Self

import paramiko
from pydantic import BaseModel

from agent.errors import AnswerLost, CannotConnect, CannotRun, SettingsError, TimeLimitReached
from agent.model.base import utcnow
from agent.transports.base import Body, Execution, Target
from agent.transports.binding import FILE_REFUSED, Announcement, Bound, bind, check_tag, end_command
from agent.transports.output import OutputCollector
from agent.transports.ssh_hosts import Hop, SshOptions
from agent.transports.ssh_login import Login, close_all, closed_after, first_line_through, open_transport
from agent.transports.ssh_upload import END_UPLOADS, NotUploaded, Upload, uploaded

log = logging.getLogger(__name__)

#: Seconds in which output may still come after the body's end, from what it left running.
LINGER = 1.0
#: Seconds between two looks whether the exit code is there while something keeps the streams open.
_LOOK = 0.2
_PIECE = 65_536


class SshTransport:
    """One connection, made on first use and kept for further bodies."""

    name = "ssh"
    Options: ClassVar[type[BaseModel]] = SshOptions

    def __init__(self, target: Target, options: SshOptions) -> None:
        if not target.address:
            raise SettingsError("it has no address")
        if not options.username:
            raise SettingsError("no username: set it in the settings of an ssh credential, or in transport_options")
        self._options, self._windows = options, target.platform == "windows"
        self._hop = Hop(
            address=target.address, port=target.port or 22, username=options.username, host_key=options.host_key
        )
        self._login = Login(options, target.secrets)
        if not self._login:
            raise SettingsError("no way to log in: the credential needs a private_key, key_file, password or use_agent")
        self._jump_login = Login(options, target.secrets, "jump_") if options.jump else self._login
        self._jump_login = self._jump_login or self._login
        self._connections: list[paramiko.Transport] = []

    @classmethod
    def to(cls, target: Target) -> Self:
        """A transport to this machine. Raises SettingsError without address, user name or anything to log in with."""
        return cls(target, target.options)

    def run(self, body: Body, output: OutputCollector) -> Execution:
        """See `Transport.run`. Raises AccessDenied, CannotConnect, CannotRun, TimeLimitReached, AnswerLost, UsageError,
        and SettingsError when the known hosts cannot be read.
        """
        if self._windows and body.language != "ps1":
            raise CannotRun(f"{self._hop.address}: a Windows machine runs ps1 bodies, not {body.language}")
        started_at, deadline = utcnow(), time.monotonic() + body.time_limit
        if self._to_be_uploaded(body):
            try:
                return Execution(self._upload_and_run(body, output, deadline), started_at, utcnow())
            except NotUploaded as error:
                log.info("%s: %s", self._hop.address, error)
        return Execution(self._converse(body, output, deadline), started_at, utcnow())

    def end_leftovers(self, tag: str) -> int:
        """Remove bodies that were uploaded for runs with this tag and never started; what ran was ended with its
        connection. Returns how many there were. Raises TransportError if the host cannot be asked.
        """
        if self._windows:
            return 0
        check_tag(tag)
        connection, channel = self._open(_command_line(("/bin/sh", "-c", END_UPLOADS, "exeunt", tag), windows=False))
        with closed_after(connection, self._options.connect_seconds), closing(channel):
            said = channel.makefile("rb").read(100).strip()
        if not said.isdigit():
            raise CannotConnect(f"{self._hop.address} does not tell whether uploaded bodies were left there")
        return int(said)

    def _to_be_uploaded(self, body: Body) -> bool:
        above = self._options.upload_above_bytes
        return body.language == "sh" and above is not None and len(body.text.encode(errors="replace")) > above

    def _upload_and_run(self, body: Body, output: OutputCollector, deadline: float) -> int:
        """The exit code of a body that is handed over as a file. Raises NotUploaded when it was not started."""
        answer = self._options.connect_seconds
        with uploaded(self._connection(), body, deadline - time.monotonic(), answer) as upload:
            return self._converse(body, output, deadline, upload)

    def _converse(self, body: Body, output: OutputCollector, deadline: float, upload: Upload | None = None) -> int:
        powershell = self._options.powershell or ("powershell" if self._windows else "pwsh")
        bound = bind(body, powershell=powershell, file=upload.path if upload else None)
        connection, channel = self._open(_command_line(bound.argv, self._windows))
        conversation = _Conversation(channel, bound, output, self._hop.address)
        try:
            conversation.send(deadline)
            if not conversation.follow(deadline):
                self._end(connection, conversation)
                raise TimeLimitReached(
                    f"{self._hop.address}: the body was ended at its time limit of {body.time_limit:g} s"
                )
            if upload and conversation.pid is None and channel.exit_status == FILE_REFUSED:
                raise NotUploaded("the shell cannot read the file that was uploaded")
            return conversation.exit_code()
        finally:
            if upload:
                upload.taken = conversation.pid is not None
            conversation.close()

    def close(self) -> None:
        """End the connections."""
        close_all(self._connections)
        self._connections = []

    def banner(self, limit: float) -> str:
        """What a target behind jump hosts says first; nobody logs in to it. `limit`: seconds for each stage.

        Raises CannotConnect, AccessDenied, SettingsError, OSError.
        """
        options = self._options.model_copy(update={"connect_seconds": limit})
        return first_line_through(options, self._hop, self._jump_login).decode("ascii", "replace").strip()

    def _open(self, command: str) -> tuple[paramiko.Transport, paramiko.Channel]:
        """A channel on which the command was started; a connection that is there already is used if it still works."""
        if self._connections:
            try:
                return self._connections[-1], self._start(command)
            except CannotConnect:
                self.close()  # it died since the last body; nothing was sent, so a new one may be tried
        return self._connection(), self._start(command)

    def _connection(self) -> paramiko.Transport:
        """The connection to the target, made if there is none that may still work."""
        if not self._connections or not self._connections[-1].is_active():
            self.close()
            self._connections = open_transport(self._options, self._hop, self._login, self._jump_login)
            for connection in self._connections:
                connection.set_keepalive(self._options.keepalive_seconds)
        return self._connections[-1]

    def _start(self, command: str) -> paramiko.Channel:
        connection, address, limit = self._connections[-1], self._hop.address, self._options.connect_seconds
        with _bounded(connection, limit, address):
            try:
                channel = connection.open_session(timeout=limit)
                channel.exec_command(command)
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise CannotConnect(f"{address} does not take a command: {error}") from error
        return channel

    def _end(self, connection: paramiko.Transport, conversation: _Conversation) -> None:
        """End the body on the target. Raises AnswerLost when it cannot be told whether that worked."""
        address, limit = self._hop.address, self._options.grace_seconds + self._options.connect_seconds
        if conversation.pid is None:
            self.close()
            raise AnswerLost(f"{address}: the time limit was reached and the target never told that the body started")
        try:
            argv = end_command(conversation.pid, self._options.grace_seconds, windows=self._windows)
            channel = self._start(_command_line(argv, self._windows))
            with _bounded(connection, limit, address):
                # Meanwhile the body may still write, for example that it cleans up.
                conversation.follow(time.monotonic() + limit)
                ended = channel.recv_exit_status() == 0
                channel.close()
        except CannotConnect as error:
            self.close()
            raise AnswerLost(
                f"{address}: the time limit was reached and the connection is lost: it cannot be told whether the body ended"
            ) from error
        if not ended:
            self.close()
            raise AnswerLost(f"{address}: the time limit was reached, but process {conversation.pid} did not end")


def _command_line(argv: tuple[str, ...], windows: bool) -> str:
    """Constants only, quoted for the login shell of the target; on Windows they need no quotes."""
    return " ".join(argv) if windows else "exec " + shlex.join(argv)


@contextmanager
def _bounded(connection: paramiko.Transport, limit: float, address: str) -> Iterator[None]:
    """`closed_after`, which is told where it was the reason for CannotConnect."""
    with closed_after(connection, limit) as deadline:
        try:
            yield
        except CannotConnect:
            if deadline.fired:
                raise CannotConnect(f"{address} does not answer in time") from None
            raise


class _Conversation:
    """One body on one channel."""

    def __init__(self, channel: paramiko.Channel, bound: Bound, output: OutputCollector, address: str) -> None:
        self._channel, self._bound, self._output, self._address = channel, bound, output, address
        self._announcement = Announcement(bound.mark)

    @property
    def pid(self) -> int | None:
        """The process that leads the body's group, once it is known."""
        return self._announcement.pid

    def send(self, deadline: float) -> None:
        """Send the body. Raises CannotConnect when not all of it was sent, since then it does not start."""
        channel, left, reason = self._channel, memoryview(self._bound.stdin), "it was closed"
        with _bounded(channel.get_transport(), deadline - time.monotonic() + 1, self._address):
            try:
                while left:
                    channel.settimeout(max(0.01, deadline - time.monotonic()))
                    count = channel.send(bytes(left[:_PIECE]))
                    if count == 0:
                        break
                    left = left[count:]
                if not self._bound.watched:
                    channel.shutdown_write()
            except (OSError, EOFError, paramiko.SSHException) as error:
                reason = str(error) or "it takes too long"
        # A command that ended before it took everything: its exit code tells why.
        if left and not (channel.status_event.is_set() and channel.exit_status >= 0):
            raise CannotConnect(f"{self._address}: the body could not be sent: {reason}")

    def follow(self, deadline: float) -> bool:
        """Pass the output on until the body has ended (True) or the time is up (False)."""
        self._channel.setblocking(False)
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        ended_at: float | None = None
        while not self._take():
            now = time.monotonic()
            if self._channel.status_event.is_set():
                ended_at = ended_at or now
                if now - ended_at >= LINGER:
                    return True
            elif now >= deadline:
                return False
            poll.poll(1000 * min(_LOOK, max(0.0, deadline - now)) if ended_at is None else 1000 * _LOOK)
        return self._channel.status_event.wait(max(0.0, deadline - time.monotonic()))

    def _take(self) -> bool:
        """Take what is there. True when both streams are over."""
        channel = self._channel
        over = bool(channel.eof_received or channel.closed)
        while channel.recv_ready():
            self._output.write("stdout", channel.recv(_PIECE))
        while channel.recv_stderr_ready():
            self._output.write("stderr", self._announcement.feed(channel.recv_stderr(_PIECE)))
        return over

    def exit_code(self) -> int:
        """The exit code of a body that ended. Raises AnswerLost, CannotConnect or CannotRun when there is none."""
        code = self._channel.exit_status
        if code < 0:
            raise AnswerLost(
                f"{self._address}: the connection ended, or the shell was killed, before the exit code came"
            )
        if self.pid is None:
            raise CannotRun(f"{self._address}: the body could not be started (exit code {code}): see its output")
        return code

    def close(self) -> None:
        """End the channel."""
        self._output.write("stderr", self._announcement.rest())
        self._channel.close()
