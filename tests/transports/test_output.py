"""Output: both streams apart, bounded in memory, masked, and a full disk costs the file only."""

from __future__ import annotations

import base64
import itertools
import json
import resource
import stat
import threading
import tracemalloc
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.transports.masking import MASK, Masker, mask
from agent.transports.output import OutputCollector, printable


def collector(folder: Path, masks: tuple[str, ...] = (), *, head: int = 100, limit: int = 1000, live: bool = False) -> OutputCollector:  # fmt: skip
    return OutputCollector(folder, "step", head, limit, masks, live=live)


def test_small_output_stays_in_memory_and_makes_no_file(tmp_path: Path) -> None:
    output = collector(tmp_path / "runs")
    output.write("stdout", "één\n".encode())
    output.write("stderr", b"two\n")
    result = output.finish()
    assert result["stdout"] == {"text": "één\n", "bytes": 6, "truncated": False, "file": None}
    assert result["stderr"]["text"] == "two\n"
    assert not (tmp_path / "runs").exists()
    output.write("stdout", b"late")
    assert output.finish() == result


def test_large_output_is_whole_in_a_private_file(tmp_path: Path) -> None:
    output = collector(tmp_path / "runs")
    for _ in range(30):
        output.write("stdout", "äb\n".encode())
    result = output.finish()["stdout"]
    whole = ("äb\n" * 30).encode()
    assert result["text"] == ("äb\n" * 25) and result["truncated"] and result["bytes"] == len(whole)
    file = tmp_path / "runs" / "step.stdout"
    assert result["file"] == "step.stdout" and file.read_bytes() == whole
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert not (tmp_path / "runs" / "step.stderr").exists()


def test_the_head_is_not_cut_inside_a_character(tmp_path: Path) -> None:
    output = collector(tmp_path, head=4)
    output.write("stdout", "aaaé".encode())
    result = output.finish()["stdout"]
    assert result["text"] == "aaa" and result["truncated"]


def test_a_file_has_a_limit_and_what_is_dropped_is_counted(tmp_path: Path) -> None:
    output = collector(tmp_path)
    for _ in range(5):
        output.write("stdout", b"x" * 300)
    result = output.finish()["stdout"]
    assert (tmp_path / "step.stdout").stat().st_size == 1000
    assert result["bytes"] == 1500 and result["dropped"] == 500 and "lost" not in result


def test_live_output_can_be_read_before_the_end(tmp_path: Path) -> None:
    output = collector(tmp_path, ("hunter2hunter2",), live=True)
    output.write("stdout", b"first line\n")
    assert (tmp_path / "step.stdout").read_bytes() == b"first line\n"
    assert output.finish()["stdout"]["file"] is None
    assert not (tmp_path / "step.stdout").exists()


def test_live_output_that_the_head_cannot_hold_stays(tmp_path: Path) -> None:
    output = collector(tmp_path, head=10, live=True)
    output.write("stdout", b"0123456789abcdef")
    assert output.finish()["stdout"]["file"] == "step.stdout"
    assert (tmp_path / "step.stdout").read_bytes() == b"0123456789abcdef"


def test_100_megabytes_are_never_held_in_memory(tmp_path: Path) -> None:
    output = OutputCollector(tmp_path, "step", 65_536, 1_000_000, ("a secret that never occurs",))
    piece = b"The quick brown fox jumps over the lazy dog.\n" * 2000
    tracemalloc.start()
    try:
        for _ in range(100_000_000 // len(piece)):
            output.write("stdout", piece)
        result = output.finish()["stdout"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    assert result["bytes"] > 99_000_000 and (tmp_path / "step.stdout").stat().st_size == 1_000_000


def test_a_full_disk_costs_the_file_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "step.stdout").symlink_to("/dev/full")
    full = OutputCollector(Path("/dev"), "full", 10, 1000)  # /dev/full.stdout cannot be: see below
    full._streams["stdout"].path = Path("/dev/full")
    full.write("stdout", b"0123456789abcdef")
    full.write("stdout", b"more\nlast line\n")
    result = full.finish()["stdout"]
    assert result["text"] == "0123456789" and result["file"] is None and result["dropped"] == 31
    assert "No space left on device" in result["lost"]
    assert full.last_line("stdout") == "last line"


def test_a_file_that_stops_growing_keeps_what_it_has(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        output = OutputCollector(tmp_path, "step", 10, 100_000)
        output.write("stdout", b"y" * 1500)
        output.write("stdout", b"y" * 1500)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    output.write("stdout", b"z" * 500)  # there is room again, but a gap would be worse than an end
    output.write("stderr", b"fine")
    result = output.finish()
    assert (tmp_path / "step.stdout").stat().st_size == 2000
    assert result["stdout"]["dropped"] == 1500 and "after byte 2000" in result["stdout"]["lost"]
    assert result["stdout"]["file"] == "step.stdout" and result["stderr"]["text"] == "fine"


def test_a_folder_that_cannot_be_made_costs_the_file_only(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    output = collector(tmp_path / "runs", head=2)
    output.write("stdout", b"abcdef")
    result = output.finish()["stdout"]
    assert result["text"] == "ab" and result["file"] is None and "could not be written" in result["lost"]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "step.stdout").symlink_to(tmp_path / "precious")
    output = collector(tmp_path, head=2)
    output.write("stdout", b"abcdef")
    assert "lost" in output.finish()["stdout"]
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("stem", ["../x", "a/b", "", ".hidden", "a\n"])
def test_a_stem_cannot_leave_the_folder(tmp_path: Path, stem: str) -> None:
    with pytest.raises(ValueError, match="stem"):
        OutputCollector(tmp_path, stem, 10, 10)


def test_secrets_are_masked_in_head_and_file_in_every_usual_form(tmp_path: Path) -> None:
    secret = 'p"ä\\ss/w ö+rd'
    printed = [
        secret, json.dumps(secret), json.dumps(secret, ensure_ascii=False), quote(secret), quote(secret, safe=""),
        base64.b64encode(secret.encode()).decode(), base64.b64encode(b"admin:" + secret.encode() + b"!").decode(),
        base64.b64encode(b"ab:" + secret.encode() + b"cd").decode(), base64.b64encode(secret.encode("utf-16-le")).decode(),
    ]  # fmt: skip
    text = "\n".join(f"<{line}>" for line in printed)
    output = collector(tmp_path, (secret,), head=20)
    for byte in text.encode():
        output.write("stdout", bytes([byte]))
    output.finish()
    stored = (tmp_path / "step.stdout").read_text()
    assert stored.count(MASK) == len(printed)
    for line in printed[:6]:
        assert line not in stored
    assert base64.b64encode(secret.encode()).decode()[4:-4] not in stored


def test_a_key_of_several_lines_is_masked_line_by_line() -> None:
    key = "-----BEGIN KEY-----\nAAAAB3NzaC1yc2EAAAADAQAB\nzzzzzzzzzzzz\n-----END KEY-----\n"
    shown = "".join(f"    {line}\r\n" for line in key.splitlines())
    assert "AAAAB3" not in mask(shown, [key]) and "zzzz" not in mask(shown, [key])


def test_a_secret_split_by_nul_or_encoding_is_masked(tmp_path: Path) -> None:
    output = collector(tmp_path, ("hunter22",))
    output.write("stdout", "hunter22".encode("utf-16-le"))
    assert output.finish()["stdout"]["text"] == MASK


@given(
    st.lists(st.text("ab1", min_size=1, max_size=4), min_size=1, max_size=3),
    st.text("ab1", max_size=40),
    st.lists(st.integers(0, 40), max_size=8),
)
def test_masking_does_not_depend_on_how_the_text_is_cut(secrets: list[str], text: str, cuts: list[int]) -> None:
    masker = Masker(secrets)
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [masker.feed(text[a:b]) for a, b in itertools.pairwise(edges)]
    masked = "".join([*pieces, masker.flush()])
    assert masked == mask(text, secrets)
    left = masked.replace(MASK, "\0")
    assert not any(secret in part for secret in secrets for part in left.split("\0"))


def test_a_secret_that_repeats_without_end_is_not_held_back() -> None:
    masker = Masker(["0000"])
    assert masker.feed("0" * 50_000) == MASK and masker.feed("0" * 50_000) == ""
    assert len(masker._held) < 10
    assert masker.feed("x") + masker.flush() == "x"


def test_other_encodings_and_broken_text(tmp_path: Path) -> None:
    output = collector(tmp_path)
    output.decode_as("cp850")
    output.write("stdout", "Zürich".encode("cp850"))
    assert output.finish()["stdout"]["text"] == "Zürich"
    broken = collector(tmp_path)
    broken.write("stdout", b"a\xffb\xe2\x82")
    assert broken.finish()["stdout"]["text"] == "a�b�"


def test_the_last_line_is_known_although_the_head_is_full(tmp_path: Path) -> None:
    output = collector(tmp_path, head=64, limit=10)
    for number in range(1000):
        output.write("stdout", f"line {number}\n".encode())
    output.write("stdout", b'{"answer": 42}\n\n')
    output.finish()
    assert output.last_line("stdout") == '{"answer": 42}'
    assert output.last_line("stderr") is None


def test_many_threads_write_at_once(tmp_path: Path) -> None:
    output = collector(tmp_path, limit=10_000_000)

    def write() -> None:
        for _ in range(200):
            output.write("stdout", b"0123456789\n")

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert output.finish()["stdout"]["bytes"] == 8 * 200 * 11
    assert (tmp_path / "step.stdout").read_bytes() == b"0123456789\n" * 1600


@given(st.text())
def test_printable_text_cannot_drive_a_terminal(text: str) -> None:
    shown = printable(text)
    assert all(character.isprintable() or character in "\n\t" or character >= "\xa0" for character in shown)
    assert "\x1b" not in shown and "\x9b" not in shown and "‮" not in shown


def test_printable_keeps_what_is_harmless() -> None:
    assert printable("Ünï\tcode\r\n\x1b[31mred\r‮") == "Ünï\tcode\n\\x1b[31mred\\x0d\\u202e"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    def files() -> list[str]:
        """Open files of this test only: others come and go."""
        found = []
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):
                found.append(str(descriptor.readlink()))
        return [name for name in found if name.startswith(str(tmp_path))]

    for _ in range(20):
        output = collector(tmp_path, head=1)
        output.write("stdout", b"abc")
        assert len(files()) == 1
        output.finish()
    assert files() == []
