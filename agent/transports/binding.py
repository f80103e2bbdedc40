"""Binding a body and its parameters without any of them becoming text of a command (DESIGN 5.5).

The command line is always one of a few constants; the body, its parameters and its secrets go in by standard input:

* `sh`: each parameter is an environment variable `EXEUNT_<NAME>`. Text is as it is, numbers are written as in JSON,
  true and false are `1` and `0`, lists and mappings are JSON, and what is null stays unset.
* `py`: one JSON object of all parameters, which the body reads from standard input.
* `ps1`: named parameters of the script block; texts, numbers, booleans, arrays and hashtables.

The environment and the memory of a process can be read by the same user of that machine and by its administrator.
"""

from __future__ import annotations

import base64
import json
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any

from agent.errors import UsageError
from agent.transports.base import Body

PREFIX = "EXEUNT_"
#: Linux takes 131,072 bytes for one variable and refuses the next program that is started otherwise.
VARIABLE_BYTES = 120_000
ENVIRONMENT_BYTES = 1_000_000
#: Exit code of the shell when it cannot read, or cannot remove, the file that the body was uploaded in.
FILE_REFUSED = 125
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")

#: Runs a `py` body: reads {"mark", "script", "parameters"}, gives the parameters to the body as its standard input,
#: and kills the process group when standard input ends while the body runs (see prelude.sh). No single quotes.
_PYTHON = """
import io, json, os, sys, threading, types
given = json.loads(sys.stdin.buffer.readline())
watched, null, group = os.dup(0), os.open(os.devnull, 0), os.getppid()
os.dup2(null, 0)
os.close(null)
def watch():
    os.read(watched, 1)
    try:
        os.killpg(group, 9)
    finally:
        os._exit(137)
threading.Thread(target=watch, daemon=True).start()
sys.stdin = io.TextIOWrapper(io.BytesIO(json.dumps(given["parameters"]).encode()), "utf-8")
sys.argv, name = sys.argv[1:], sys.argv[1]
sys.modules["__main__"] = main = types.ModuleType("__main__")
print(given["mark"], group, file=sys.stderr, flush=True)
exec(compile(given["script"], name, "exec"), main.__dict__)
"""


@dataclass(frozen=True)
class Bound:
    """What a transport starts and sends. `argv` holds constants and the body's tag only."""

    argv: tuple[str, ...]
    stdin: bytes
    #: The first line `<mark> <process id>` on standard error tells that the body is started and how to end it.
    mark: str
    #: Standard input stays open after `stdin` was sent, until the body has ended; otherwise it is closed at once.
    watched: bool


def bind(body: Body, *, powershell: str = "pwsh", file: str | None = None) -> Bound:
    """The command and the standard input that run a body. `powershell` is the program for `ps1`.

    `file`: where the text of an `sh` body stands on the target already, alone in its folder; the shell takes it from
    there, and removes file and folder before the body starts.
    Raises UsageError when a parameter cannot be bound or the tag is not one.
    """
    check_tag(body.tag)
    if "\0" in body.text:
        raise UsageError(f"the body of {body.tag} holds a NUL character")
    mark = secrets.token_hex(12)
    if body.language == "sh":
        return Bound(("/bin/sh", "-c", _sh_prelude(), body.tag), _sh_input(body, mark, file), mark, True)
    if body.language == "py":
        sent = _json({"mark": mark, "script": body.text, "parameters": merged(body)})
        # Not `exec`: the shell stays the leader of the group and turns a signal into 128 + n.
        runner = 'python3 -I -X utf8 -c "$1" "$0"; exit $?'
        return Bound(("/bin/sh", "-c", runner, body.tag, _PYTHON), sent, mark, True)
    return Bound((powershell, *POWERSHELL_ARGUMENTS, powershell_prelude()), powershell_input(body, mark), mark, False)


def check_tag(tag: str) -> None:
    """Raises UsageError for a tag that might be read as something else on a command line or in a path."""
    if not _TAG.fullmatch(tag):
        raise UsageError(f"a body's tag has letters, digits and . _ : - only: {tag!r}")


#: What stands before `powershell_prelude()` on PowerShell's command line.
POWERSHELL_ARGUMENTS = (
    "-NoLogo", "-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-OutputFormat", "Text",
    "-EncodedCommand",
)  # fmt: skip


def merged(body: Body) -> dict[str, Any]:
    """Parameters and secrets of a body in one mapping, as JSON knows them; dates as ISO 8601 text.

    Raises UsageError: a name that occurs twice (also when only case or punctuation differ, since they would be one
    environment variable), a NUL or half a surrogate pair in a text, a number that is not finite, a type JSON lacks.
    """
    seen: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, value in (*body.parameters.items(), *body.secrets.items()):
        variable = variable_name(name)
        if variable in seen:
            raise UsageError(f"parameters {seen[variable]!r} and {name!r} of {body.tag} would both be {variable}")
        seen[variable] = name
        values[name] = _plain(value, f"parameter {name!r} of {body.tag}")
    return values


def variable_name(name: str) -> str:
    """The environment variable of a parameter: `user name` -> `EXEUNT_USER_NAME`. Raises UsageError for no name."""
    if not name:
        raise UsageError("a parameter without a name")
    return PREFIX + re.sub(r"[^A-Z0-9_]", "_", name.upper())


def environment(body: Body) -> dict[str, str]:
    """The environment variables of a body for `sh`. Raises UsageError as `merged`, and when they are too large."""
    found = {variable_name(name): _text(value) for name, value in merged(body).items() if value is not None}
    sizes = {name: len(name) + len(value.encode()) for name, value in found.items()}
    for name, size in sizes.items():
        if size > VARIABLE_BYTES:
            raise UsageError(f"{name} of {body.tag} has {size} bytes; an environment variable holds {VARIABLE_BYTES}")
    if sum(sizes.values()) > ENVIRONMENT_BYTES:
        raise UsageError(f"the parameters of {body.tag} have more than {ENVIRONMENT_BYTES} bytes")
    return found


def powershell_input(body: Body, mark: str | None = None) -> bytes:
    """What `powershell_prelude` reads from standard input, ASCII on one line. It prints `mark` and its process id to
    standard error if a mark is given. Raises UsageError as `merged`.
    """
    return _json({"mark": mark, "script": body.text, "parameters": _marked(merged(body))})


@cache
def powershell_prelude() -> str:
    """The constant that follows POWERSHELL_ARGUMENTS."""
    return base64.b64encode(_constant("prelude.ps1", "\n").encode("utf-16-le")).decode()


@cache
def _sh_prelude() -> str:
    return _constant("prelude.sh", " ")


def _constant(name: str, joint: str) -> str:
    lines = files("agent.transports").joinpath(name).read_text(encoding="utf-8").splitlines()
    return joint.join(line for line in lines if not line.startswith("#"))


def _sh_input(body: Body, mark: str, file: str | None) -> bytes:
    lines = [mark]
    for name, value in environment(body).items():
        lines += [name, _escaped(value)]
    last = f"@{file}" if file is not None else "=" + body.text
    return "\n".join([*lines, "", _escaped(last), ""]).encode("ascii")


def _escaped(text: str) -> str:
    """Printable ASCII on one line for the `%b` of `printf`."""
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return "".join(_ESCAPES[byte] for byte in text.encode())


_ESCAPES = [chr(byte) if 32 <= byte < 127 else f"\\0{byte:03o}" for byte in range(256)]
_ESCAPES[ord("\\")], _ESCAPES[ord("\n")] = "\\\\", "\\n"


def _plain(value: Any, what: str) -> Any:
    if isinstance(value, str):
        if "\0" in value:
            raise UsageError(f"{what} holds a NUL character")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{what} is not Unicode text") from None
        return str(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise UsageError(f"{what} is not a finite number")
        return value
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {_plain(str(key), what): _plain(item, what) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, what) for item in value]
    raise UsageError(f"{what} is a {type(value).__name__}, which cannot be passed to a script")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    return json.dumps(value, ensure_ascii=False)


def _marked(value: Any) -> Any:
    if isinstance(value, str):
        return "=" + value
    if isinstance(value, dict):
        return {key: _marked(item) for key, item in value.items()}
    return [_marked(item) for item in value] if isinstance(value, list) else value


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


class Announcement:
    """Takes the line `<mark> <process id>` out of a standard error stream. What stood before it is passed on."""

    _PATIENCE = 65_536
    #: Of any mark: a pattern for each would cost more than the whole stream.
    _LINE = re.compile(rb"(?m)^(\S+) (\d{1,10})\r?\n")

    def __init__(self, mark: str) -> None:
        self.pid: int | None = None
        self._mark = mark.encode()
        self._held: bytes | None = b""

    def feed(self, data: bytes) -> bytes:
        """The bytes that belong to the body, or came before it."""
        if self._held is None:
            return data
        self._held += data
        found = next((line for line in self._LINE.finditer(self._held) if line[1] == self._mark), None)
        if found is None and len(self._held) < self._PATIENCE:
            return b""
        held, self._held = self._held, None
        if found is None:
            return held
        self.pid = int(found[2])
        return held[: found.start()] + held[found.end() :]

    def rest(self) -> bytes:
        """What was held back when the stream ended without the line."""
        held, self._held = self._held or b"", None
        return held


def end_command(pid: int, grace: float, *, windows: bool) -> tuple[str, ...]:
    """The command that ends a body on its own machine: its process group and what left it, SIGKILL after `grace`
    seconds. Exit code 0 when nothing runs any more. `pid` is what the announcement told.
    """
    if windows:
        return ("taskkill", "/T", "/F", "/PID", str(pid))
    return ("/bin/sh", "-c", _constant("end_body.sh", " "), "exeunt", str(pid), str(math.ceil(grace)))
