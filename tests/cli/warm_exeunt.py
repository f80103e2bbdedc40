"""The command `exeunt` without its start: a process that has imported it forks for each call.

For tests of long chains of commands. That the command starts by itself, and what it imports when, is tested elsewhere.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from command_line import clean_environment

#: Hands its arguments, environment, folder and standard streams over, and ends with the code that it gets.
_CLIENT = """\
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect(sys.argv[1])
    call = json.dumps([sys.argv[2:], dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(line, [len(call).to_bytes(8, "big")], [0, 1, 2])
    line.sendall(call)
    answer = line.recv(1)
sys.exit(answer[0] if answer else 70)
"""
#: What commands import when they run.
_LATER = ("agent.migrations.runner", "agent.running.worker", "agent.reporting.run_report")


@contextmanager
def warm_exeunt(folder: Path) -> Iterator[Path]:
    """A folder with the program `exeunt`, for PATH. Its process ends with the block."""
    programs = folder / "bin"
    programs.mkdir()
    client, address = folder / "client.py", folder / "s"
    client.write_text(_CLIENT)
    (programs / "exeunt").write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{client}" "{address}" "$@"\n')
    (programs / "exeunt").chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno())], pass_fds=[listener.fileno()], env=clean_environment()
        )
    try:
        yield programs
    finally:
        process.terminate()
        process.wait(120)


def _serve(listener: socket.socket) -> None:
    """Fork for each call until the process is ended; only the forked process that is to run a command returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    while True:
        line, _ = listener.accept()
        if os.fork():
            line.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        size, streams, _, _ = socket.recv_fds(line, 8, 3)
        with line.makefile("rb") as stream:
            arguments, environment, folder = json.loads(stream.read(int.from_bytes(size, "big")))
        command = os.fork()
        if command:
            _, status = os.waitpid(command, 0)
            line.sendall(bytes([os.waitstatus_to_exitcode(status) & 255]))
            os._exit(0)
        line.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, mode, closefd=False) for n, mode in enumerate("rww"))
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["exeunt", *arguments]
        return


if __name__ == "__main__":
    import agent.cli
    from agent.cli.main import main

    for found in pkgutil.iter_modules(agent.cli.__path__, "agent.cli."):
        if not found.name.endswith("__main__"):
            import_module(found.name)
    for name in _LATER:
        import_module(name)
    _serve(socket.socket(fileno=int(sys.argv[1])))
    main()
