"""Peers that tests talk to: how to ask for one, and how to find a free port."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


def require(program: str, package: str, *, path: str | None = None) -> str:
    """The full path of a program that a peer needs.

    Absent, the test is skipped with the name of the Debian package that brings it; in CI (`CI=true`) it fails.
    """
    found = shutil.which(program, path=path)
    if found:
        return found
    reason = f"{program} is missing: install the package {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def require_extra(extra: str, *modules: str) -> None:
    """Skip the test where the libraries of an extra of ours are not installed; in CI (`CI=true`) it fails."""
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError as error:
        reason = f"the extra {extra} is not installed: {error}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@contextmanager
def kept_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A TCP port that no other process is given until the end of the block. Who connects to it is refused.

    A server that sets SO_REUSEADDR, as servers do, may listen on it within the block: nobody can take it between the
    choice and the start.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind((host, 0))
        yield int(keeper.getsockname()[1])


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now; another process may be given it at once, see `kept_port`."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
