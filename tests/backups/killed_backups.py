"""A program that backs up two files, and dies at the n-th time that something is brought to the disk; for every n.

Each attempt is a fork of this process, so nothing is shared with pytest's threads. It ends with 0 when after each death the
backup was either complete and whole, or completed by one more attempt.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agent.secrets import SecretBox, generate_key
from agent.services.backup_reading import listed, verify
from agent.services.backup_stores import DirectoryStore
from agent.services.backups import BackupWriter

KEY = generate_key()
BOX = SecretBox(lambda: [KEY])
real_fsync = os.fsync


def back_up(root: Path, deaths_after: int) -> int:
    """The exit code of an attempt in a process of its own."""
    process = os.fork()
    if process == 0:
        left = [deaths_after]

        def fsync(handle: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            real_fsync(handle)

        os.fsync = fsync
        with BackupWriter(DirectoryStore(root), BOX, "contoso/x", {}) as writer:
            for name in ("a", "b"):
                if not writer.has(name, "v"):
                    with writer.file(name, marker="v") as file:
                        file.write((name.encode() * 2000)[file.offset :])
                        file.finish()
            writer.finish()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main(folder: Path) -> int:
    """Die everywhere in turn; the number of places where it died."""
    for after in range(100):
        root = folder / str(after)
        root.mkdir()
        store = DirectoryStore(root)
        if back_up(root, after) == 0:
            return after
        if not any(b["complete"] for b in listed(store)):
            assert back_up(root, 1000) == 0, after
        assert verify(store, BOX, "contoso/x") == [], after
    raise AssertionError("it never came to its end")


if __name__ == "__main__":
    sys.stdout.write(str(main(Path(sys.argv[1]))))
