"""Reading content files so that nothing is guessed.

YAML is read as text only: `on`, `yes`, `12:30`, `1.10` and `null` stay what was written, and the definitions coerce.
Refused: a key twice, tags, anchors and aliases, merge keys, keys that are no text, a key without a value, a second
document, NUL characters, more than a bounded size, number of values and depth. Every fault has file, line and key.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

import yaml
from pydantic import ValidationError

from agent.content.definitions import Definition
from agent.content.faults import Place, all_faults, dotted, explain, one_error
from agent.errors import ContentError

#: Largest YAML or SQL file, in bytes.
YAML_BYTES = 262_144
#: Largest script body, in bytes.
BODY_BYTES = 1_048_576
#: Most values in one YAML file, and how deep they may be nested.
NODES, DEPTH = 20_000, 32
#: How many files' definitions are kept, for a text that is read again.
REMEMBERED = 2048

# The C parser is about ten times faster; both give the same events and marks.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NOT_PRINTABLE = yaml.reader.Reader.NON_PRINTABLE


@dataclass(frozen=True)
class Document:
    """A YAML file as text: mappings, lists and str only, with the line (from 1) of every key and item."""

    file: Path
    text: str
    data: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    #: First and last character (exclusive) of each scalar in `text`.
    spans: dict[Place, tuple[int, int]] = field(default_factory=dict)

    def known_place(self, place: Place) -> Place:
        """The longest beginning of a place that stands in the file; a missing key keeps its own name."""
        return (
            place if place in self.lines or place[:-1] in self.lines or len(place) < 2 else self.known_place(place[:-1])
        )

    def line(self, place: Place) -> int:
        """The line of a place, or of the nearest thing around it."""
        return self.lines.get(place) or (self.line(place[:-1]) if place else 1)

    def fault(self, reason: str, place: Place = ()) -> ContentError:
        """An error at a place of this file."""
        place = self.written(place)
        return ContentError(reason, file=self.file, line=self.line(place), key=dotted(place))

    def written(self, place: Place) -> Place:
        """The place as it is written: `body: x.py` stands for `body: {any: x.py}`."""
        return place[:-1] if place[-1:] == ("any",) and place not in self.lines else place


D = TypeVar("D", bound=Definition)


@dataclass(frozen=True)
class Loaded(Generic[D]):
    """A valid definition and where it came from."""

    definition: D
    document: Document


def load(file: Path, model: type[D]) -> Loaded[D]:
    """Read and validate one file. Raises ContentError (ContentErrors when it has several faults).

    The file is read each time. When it holds what it held before, the same definition is given again.
    """
    return _loaded(read_text(file, YAML_BYTES), file, model)


@lru_cache(REMEMBERED)
def _loaded(text: str, file: Path, model: type[Definition]) -> Loaded[Any]:
    # Content is read again whenever somebody may have changed it, and hardly ever has: parsing is most of the work.
    document = parse(text, file)
    return Loaded(validate(document, model), document)


def validate(document: Document, model: type[D]) -> D:
    """The definition that a document describes. Raises ContentError."""
    if not isinstance(document.data, dict):
        raise document.fault("expected a mapping (`key: value`) at the top of the file")
    try:
        return model.model_validate(document.data, by_alias=True, by_name=False)
    except ValidationError as error:
        raise one_error(explain(error, document, model)) from None


def faults(file: Path, model: type[Definition]) -> list[ContentError]:
    """Everything that is wrong in one file; empty when it loads."""
    try:
        load(file, model)
    except ContentError as error:
        return list(all_faults(error))
    return []


def read_text(file: Path, limit: int) -> str:
    """The text of a regular UTF-8 file of at most `limit` bytes; a byte order mark is dropped. Raises ContentError."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise ContentError("is no regular file", file=file)
        with file.open("rb") as stream:
            content = stream.read(limit + 1)
    except FileNotFoundError:
        raise ContentError("the file does not exist", file=file) from None
    except OSError as error:
        raise ContentError(f"cannot be read: {error.strerror}", file=file) from None
    if len(content) > limit:
        raise ContentError(f"is larger than {limit} bytes", file=file)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ContentError("is not UTF-8 text: save it as UTF-8", file=file, line=line) from None


def beside(folder: Path, name: str, extensions: tuple[str, ...]) -> Path:
    """The path of a file that a definition in `folder` names.

    Raises ValueError for a path that is absolute, leaves the folder (also by a symbolic link), does not exist or has
    another extension.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or re.search(r"[\\:\x00-\x1f]", name):
        raise ValueError(f"`{name}` must be a file in the folder of this definition, written with `/`")
    if path.suffix not in extensions:
        raise ValueError(f"`{name}` must end in {' or '.join(extensions)}")
    file = folder.joinpath(*path.parts)
    try:
        real = file.resolve(strict=True)
    except (OSError, RuntimeError):
        raise ValueError(f"there is no file `{name}` in {folder}") from None
    if not real.is_relative_to(folder.resolve()):
        raise ValueError(f"`{name}` leads out of the folder of this definition")
    return file


def parse(text: str, file: Path) -> Document:
    """Read YAML as text. Raises ContentError (ContentErrors when there are several faults)."""
    builder = _Builder(Document(file, text))
    if bad := _NOT_PRINTABLE.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        raise ContentError(f"the character U+{ord(bad.group()):04X} cannot stand in YAML", file=file, line=line)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if not builder.take(event):
                break
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else 1
        builder.faults.append(ContentError(_syntax(error), file=file, line=line))
    if not builder.faults and builder.root is _NOTHING:
        builder.faults.append(ContentError("the file is empty", file=file, line=1))
    if builder.faults:
        raise one_error(builder.faults)
    document = builder.document
    return Document(file, text, builder.root, document.lines, document.spans)


def _syntax(error: yaml.MarkedYAMLError) -> str:
    parts = [p for p in (error.context, error.problem) if p]
    hint = ""
    if error.problem and ("mapping values" in error.problem or "cannot start any token" in error.problem):
        hint = "; put quotes around a text with `: ` in it, or that begins with `@`, `%`, `[`, `{` or `*`"
    return f"is not YAML: {', '.join(parts)}{hint}"


_NOTHING: Any = object()


@dataclass
class _Frame:
    """A mapping or list that is being read."""

    place: Place
    container: dict[str, Any] | list[Any]
    #: The key that waits for its value (mappings).
    key: str | None = None
    #: The value of that key goes nowhere: the key is wrong or stands there twice.
    void: bool = False


class _Builder:
    """Builds plain data from YAML events without recursion, and stops at what could multiply or mislead."""

    def __init__(self, document: Document) -> None:
        self.document, self.root, self.count, self.documents = document, _NOTHING, 0, 0
        self.faults: list[ContentError] = []
        self.stack: list[_Frame] = []

    def take(self, event: Any) -> bool:
        """Take in one event; False when reading on makes no sense."""
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            return self.documents == 1 or self._stop(
                event, "a second document (`---`) begins: one file, one definition"
            )
        if isinstance(event, yaml.AliasEvent):
            return self._stop(event, f"an alias (`*{event.anchor}`) is not allowed: write the value out")
        if isinstance(event, yaml.CollectionEndEvent):
            self.stack.pop()
            self._value_done()
        elif isinstance(event, yaml.NodeEvent):
            return self._node(event)
        return True

    @staticmethod
    def _line(event: Any) -> int:
        return int(event.start_mark.line) + 1

    def _stop(self, event: Any, reason: str) -> bool:
        self._fault(event, reason)
        return False

    def _fault(self, event: Any, reason: str) -> None:
        line = self._line(event)
        place = self._place() if self.stack else ()
        self.faults.append(ContentError(reason, file=self.document.file, line=line, key=dotted(place)))

    def _place(self) -> Place:
        frame = self.stack[-1]
        if isinstance(frame.container, list):
            return (*frame.place, len(frame.container))
        return frame.place if frame.key is None else (*frame.place, frame.key)

    def _node(self, event: Any) -> bool:
        self.count += 1
        if self.count > NODES:
            return self._stop(event, f"the file holds more than {NODES} values")
        if event.anchor is not None:
            self._fault(event, f"an anchor (`&{event.anchor}`) is not allowed: write the value out where it is needed")
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame.container, dict) and frame.key is None:
            return self._key(event, frame)
        if event.tag is not None:
            self._fault(event, f"a tag (`{event.tag}`) is not allowed: values are text, and quotes are enough")
        if isinstance(event, yaml.ScalarEvent):
            self._attach(event, self._scalar(event))
            self._value_done()
            return True
        if len(self.stack) == DEPTH:
            return self._stop(event, f"is nested deeper than {DEPTH} levels")
        place = self._place() if self.stack else ()
        container: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._attach(event, container)
        self.stack.append(_Frame(place, container))
        return True

    def _key(self, event: Any, frame: _Frame) -> bool:
        if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
            return self._stop(event, "a key must be plain text")
        frame.key, frame.void = event.value, True
        assert isinstance(frame.container, dict)
        if event.value == "<<" and event.implicit[0]:
            self._fault(event, "a merge key (`<<`) is not allowed: write the keys out")
        elif not event.value.strip():
            self._fault(event, "a key is empty")
        elif event.value in frame.container:
            first = self.document.lines[(*frame.place, event.value)]
            self._fault(event, f"the key stands here a second time; the first is in line {first}")
        else:
            frame.void = not self._clean(event)
            self.document.lines.setdefault((*frame.place, event.value), self._line(event))
        return True

    def _scalar(self, event: Any) -> str:
        value: str = event.value
        if value == "" and event.implicit[0]:
            self._fault(event, 'has no value: leave the key out, or write `""` for an empty text')
        self._clean(event)
        if self.stack:
            self.document.spans.setdefault(self._place(), (event.start_mark.index, event.end_mark.index))
        return value

    def _clean(self, event: Any) -> bool:
        if bad := re.search("[\x00\ud800-\udfff]", event.value):
            self._fault(event, f"the character U+{ord(bad.group()):04X} is not allowed")
        return not bad

    def _attach(self, event: Any, value: Any) -> None:
        if not self.stack:
            self.root = value
            return
        frame = self.stack[-1]
        if isinstance(frame.container, list):
            self.document.lines.setdefault(self._place(), self._line(event))
            frame.container.append(value)
        elif not frame.void:
            assert frame.key is not None
            frame.container[frame.key] = value

    def _value_done(self) -> None:
        if self.stack:
            self.stack[-1].key = None
