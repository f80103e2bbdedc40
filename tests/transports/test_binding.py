"""Binding: the preludes work in every usual shell, and PowerShell gets its values unharmed."""

from __future__ import annotations

import base64
import json
import subprocess
from datetime import date
from typing import Any

import peers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transport_help import wait_for

from agent.errors import UsageError
from agent.transports import psrp
from agent.transports.base import Body
from agent.transports.binding import (
    POWERSHELL_ARGUMENTS,
    Announcement,
    bind,
    end_command,
    powershell_input,
    powershell_prelude,
    variable_name,
)

SHELLS = [("dash", "dash"), ("bash", "bash"), ("busybox", "busybox")]


def start(program: str, package: str, argv: tuple[str, ...]) -> subprocess.Popen[bytes]:
    shell = [peers.require(program, package), *(["sh"] if program == "busybox" else [])]
    return subprocess.Popen(
        [*shell, *argv[1:]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.parametrize(("program", "package"), SHELLS)
def test_the_prelude_works_in_this_shell(program: str, package: str) -> None:
    texts = ["it's $(x) `y`\\n\n\n", " x ", "-n", "\x81\x88ä€😀", "\\0101\\c", "a\rb\tc", ""]
    show = "".join(f"printf '%s\\037' \"$EXEUNT_N{n}\"\n" for n in range(len(texts)))
    bound = bind(Body(show + "wait; exit 5", "sh", {f"n{n}": text for n, text in enumerate(texts)}))
    with start(program, package, bound.argv) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(bound.stdin)
        process.stdin.flush()
        assert process.stdout.read() == b"".join(text.encode() + b"\x1f" for text in texts)
        assert process.stderr.read() == f"{bound.mark} {process.pid}\n".encode()
        assert process.wait() == 5


@pytest.mark.parametrize(("program", "package"), SHELLS)
@pytest.mark.parametrize("end", ["the input ends", "end_command"])
def test_a_body_is_ended_in_this_shell(program: str, package: str, end: str) -> None:
    bound = bind(Body("trap '' TERM; echo begun; sleep 1000", "sh"))
    with start(program, package, bound.argv) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(bound.stdin)
        process.stdin.flush()
        assert process.stdout.readline() == b"begun\n"
        if end == "the input ends":
            process.stdin.close()
        else:
            with start(program, package, end_command(process.pid, 1, windows=False)) as ending:
                assert ending.wait(120) == 0
        wait_for(lambda: process.poll() is not None)


def test_a_cut_input_starts_nothing() -> None:
    for language, text in (("sh", "echo started"), ("py", "print('started')")):
        bound = bind(Body(text, language, {"a": "b\n"}))  # type: ignore[arg-type]
        for length in range(len(bound.stdin)):
            if language == "py" and length % 40:
                continue  # each start of Python takes long
            done = subprocess.run(bound.argv, input=bound.stdin[:length], capture_output=True, check=False)
            assert done.stdout == b"" and bound.mark.encode() not in done.stderr, length


@pytest.mark.parametrize("language", ["sh", "py", "ps1"])
def test_a_command_is_a_constant_without_quotes_that_a_shell_could_misread(language: Any) -> None:
    first = bind(Body("one", language, {"a": "1"}, {"s": "secret"}))
    second = bind(Body("two 'x'", language, {"b": "$(2)"}))
    assert first.argv == second.argv and first.mark != second.mark
    assert not any("'" in part or "!" in part for part in first.argv)
    assert "\n" not in "".join(first.argv) or language == "py"


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@given(JSON_VALUES)
def test_texts_for_powershell_are_marked_and_ascii_on_one_line(value: Any) -> None:
    sent = powershell_input(Body("Get-Date", "ps1", {"value": value}), "mark")
    assert sent.isascii() and sent.count(b"\n") == 1
    payload = json.loads(sent)
    assert payload["script"] == "Get-Date" and payload["mark"] == "mark"

    def unmarked(item: Any) -> Any:  # what ConvertFrom-Exeunt of the prelude does
        if isinstance(item, str):
            assert item.startswith("=")
            return item[1:]
        if isinstance(item, dict):
            return {name: unmarked(inner) for name, inner in item.items()}
        return [unmarked(inner) for inner in item] if isinstance(item, list) else item

    assert unmarked(payload["parameters"]) == {"value": value}


def test_the_powershell_command_fits_a_windows_command_line() -> None:
    command = " ".join(["powershell", *POWERSHELL_ARGUMENTS, powershell_prelude()])
    assert len(command) < 8000
    text = base64.b64decode(powershell_prelude()).decode("utf-16-le")
    assert "$exeunt.parameters" in text and not any(line.startswith("#") for line in text.splitlines())


PSRP = psrp.WRAPPER.replace("$script)", "$exeunt.script)")


@pytest.mark.parametrize(
    "text", [base64.b64decode(powershell_prelude()).decode("utf-16-le"), PSRP], ids=["prelude", "psrp"]
)
def test_a_body_that_powershell_cannot_start_is_no_success(text: str) -> None:
    """There is no PowerShell here: a text that does not parse must end everything, and parameters that do not fit must
    be seen, since both are errors after which PowerShell goes on to the next line."""
    lines = [line for line in text.replace("$global:LASTEXITCODE", "$LASTEXITCODE").splitlines() if line]
    start = lines.index("$ErrorActionPreference = 'Stop'")
    assert lines[start : start + 3] == [
        "$ErrorActionPreference = 'Stop'",
        "$exeunt = [scriptblock]::Create($exeunt.script)",
        "$ErrorActionPreference = 'Continue'",
    ]
    assert lines[-3:] == [
        "& $exeunt @parameters", "if (-not $? -and $LASTEXITCODE -eq 0) { exit 1 }", "exit $LASTEXITCODE",
    ]  # fmt: skip


def test_values_that_json_lacks() -> None:
    assert b'"2026-11-21"' in bind(Body("", "py", {"day": date(2026, 11, 21)})).stdin
    with pytest.raises(UsageError, match="bytes"):
        bind(Body("", "py", {"raw": b"x"}))


@pytest.mark.parametrize(
    ("name", "variable"), [("a", "A"), ("user name", "USER_NAME"), ("größe", "GR_SSE"), ("x=\n", "X__")]
)
def test_names_of_variables(name: str, variable: str) -> None:
    assert variable_name(name) == "EXEUNT_" + variable


@given(st.binary(max_size=50), st.lists(st.integers(0, 120), max_size=5))
def test_the_announcement_is_taken_out_wherever_it_is_cut(noise: bytes, cuts: list[int]) -> None:
    whole = noise + b"\n" + b"f00d 4711\r\n" + b"rest f00d 1\n"
    announcement = Announcement("f00d")
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    got = b"".join(announcement.feed(whole[a:b]) for a, b in zip(edges, edges[1:], strict=False)) + announcement.rest()  # noqa: RUF007
    assert got == noise + b"\nrest f00d 1\n" and announcement.pid == 4711


def test_without_an_announcement_nothing_is_lost() -> None:
    announcement = Announcement("f00d")
    assert announcement.feed(b"sh: not found\n") == b"" and announcement.rest() == b"sh: not found\n"
    loud = Announcement("f00d")
    assert loud.feed(b"x" * 100_000) == b"x" * 100_000 and loud.pid is None
