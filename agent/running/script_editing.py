"""Editing the text of an own script: checked and compared before anything is written. Console and API call these.

Shipped scripts are not edited but duplicated. A run under way is not touched: it executes the revision that it stored.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent import audit
from agent.content.faults import all_faults, dotted
from agent.content.loaded import LoadedScript
from agent.content.reading import read_script
from agent.errors import Conflict, ContentError, StoreError, UsageError
from agent.installation import Installation
from agent.running.checking import SHIPPED_OPTIONS, Fault
from agent.running.checking_scripts import check_script
from agent.services.freezing import refuse_when_frozen

MAIN_FILE = "script.yaml"
#: Characters of one file.
MOST_CHARACTERS = 500_000


@dataclass(frozen=True)
class FileDiff:
    """What changes in one file: lines of a unified diff, without its head."""

    file: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Edit:
    """An edit that was looked at. It can be saved when it has no error."""

    script: LoadedScript
    texts: Mapping[str, str]
    faults: tuple[Fault, ...]
    diffs: tuple[FileDiff, ...]
    #: Digest of the script as it would be; None while it does not load.
    digest: str | None

    @property
    def errors(self) -> list[Fault]:
        """What keeps it from being saved."""
        return [f for f in self.faults if f.severity == "error"]


def texts_of(script: LoadedScript) -> dict[str, str]:
    """The script's files: its YAML first, then its bodies by name."""
    return {MAIN_FILE: script.document.text, **dict(sorted(script.bodies.items()))}


def is_own(installation: Installation, script: LoadedScript) -> bool:
    """Whether the script stands in the workspace, so that it may be edited."""
    return script.file.resolve().is_relative_to(installation.settings.workspace.resolve())


def look_at(installation: Installation, script: LoadedScript, texts: Mapping[str, str]) -> Edit:
    """What an edit would change, and every fault it would have. Changes nothing.

    `texts`: file -> its whole new text. Raises Conflict for a shipped script, UsageError for a file that is none of it.
    """
    if not is_own(installation, script):
        raise Conflict(f"{script.name!r} is shipped and is not edited: duplicate it, and edit the duplicate")
    known = texts_of(script)
    for name, text in texts.items():
        if name not in known:
            raise UsageError(f"{name!r} is no file of {script.name!r}: it has {', '.join(known)}")
        if len(text) > MOST_CHARACTERS or "\0" in text:
            raise UsageError(f"{name} is too long (at most {MOST_CHARACTERS} characters), or holds a NUL")
    given = {name: text.replace("\r\n", "\n") for name, text in texts.items()}
    made, faults = _read(script, {**known, **given})
    if made is not None:
        if made.name != script.name:
            faults.append(_fault("name", f"the name stays {script.name!r}: lists and runs go by it"))
        found = check_script(installation.content, made, SHIPPED_OPTIONS)
        faults += [Fault(MAIN_FILE, made.document.line(f.place), dotted(f.place), f.reason, f.severity) for f in found]
    diffs = tuple(FileDiff(n, _diff(known[n], t)) for n, t in given.items() if t != known[n])
    return Edit(script, given, tuple(faults), diffs, made.digest if made is not None else None)


def save(installation: Installation, edit: Edit, *, expected: str, actor: str) -> LoadedScript:
    """Write an edit. `expected`: digest of the script that the person began with.

    Raises ContentError for its first error, Conflict when the script changed meanwhile, StoreError. The audit trail knows
    of it before the first file is written; each file is replaced whole, the YAML last.
    """
    if edit.errors:
        first = edit.errors[0]
        raise ContentError(first.reason, file=first.file, line=first.line, key=first.key)
    installation.content.reload()
    present = read_script(edit.script.file.parent, edit.script.client)
    if present.digest != expected:
        raise Conflict(f"{present.name!r} was changed by somebody else meanwhile: load it again, then edit")
    with installation.database.session() as session:
        refuse_when_frozen(session, f"editing the script {present.name!r}")
        audit.record(
            session, actor=actor, action="script.edit", object_kind="script", object_id=present.name,
            details={"client": present.client, "old": present.digest, "new": edit.digest, "files": sorted(edit.texts)},
        )  # fmt: skip
    folder = edit.script.file.parent
    for name in sorted(edit.texts, key=lambda n: n == MAIN_FILE):
        _replace(folder / name, edit.texts[name])
    installation.content.reload()
    return read_script(folder, edit.script.client)


def _read(script: LoadedScript, texts: Mapping[str, str]) -> tuple[LoadedScript | None, list[Fault]]:
    """The script as it would load, from a folder of its own beside the real one's contents."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / script.key
        folder.mkdir()
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        try:
            return read_script(folder, script.client), []
        except ContentError as error:
            return None, [Fault(Path(f.file).name, f.line, f.key, f.reason, "error") for f in all_faults(error)]


def _fault(key: str, reason: str) -> Fault:
    return Fault(MAIN_FILE, None, key, reason, "error")


def _diff(old: str, new: str) -> tuple[str, ...]:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=3)
    return tuple(lines)[2:]


def _replace(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.new")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        if file.exists():
            temporary.chmod(file.stat().st_mode & 0o777)
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(f"{file} cannot be written: {error.strerror}") from error
