"""Installing the tests' own packages while somebody else may hold dpkg's lock, such as another worker of the test run."""

from __future__ import annotations

import fcntl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def dpkg(*arguments: str | Path, check: bool = True, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run dpkg, again for as long as it is locked. With `check` a failure raises, with dpkg's words."""
    deadline = time.monotonic() + seconds
    while True:
        done = subprocess.run(["dpkg", *map(str, arguments)], capture_output=True, text=True)
        if "locked by another process" not in done.stderr or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert not check or done.returncode == 0, done.stderr
    return done


def build(tree: Path) -> Path:
    """The package of a folder with a DEBIAN folder in it."""
    file = tree.with_suffix(".deb")
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, file], check=True, capture_output=True)
    return file


def purge(name: str) -> None:
    """Take a package of the tests away, whatever its scripts say about it."""
    for script in Path("/var/lib/dpkg/info").glob(f"{name}.p*rm"):
        script.unlink()
    dpkg("--force-all", "--purge", name)


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Nobody else on this machine works on it meanwhile, such as another worker of the test run."""
    with (Path(tempfile.gettempdir()) / f"exeunt-tests-{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
