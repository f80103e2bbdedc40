"""YAML is read as text, every fault has its line, and no text can do more than be refused."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.content import loading
from agent.content.definitions import AlertTemplateDefinition, MonitorDefinition, ScriptDefinition
from agent.content.durations import parse_duration
from agent.content.faults import all_faults
from agent.content.loading import BODY_BYTES, DEPTH, NODES, YAML_BYTES, beside, faults, parse, read_text, validate
from agent.errors import ContentError

FILE = Path("script.yaml")
MODELS = [ScriptDefinition, MonitorDefinition, AlertTemplateDefinition]

TRAPS = """\
on: yes
NO: off
at: 12:30
version: 1.10
code: 010
number: 1_000
power: 1e3
date: 2026-01-02
nothing: null
tilde: ~
quoted: ""
name: △ Custom - Execute Script - Offboarding Wrapper
template: Offboarding Scripts - Partner [Template]
"""


def test_nothing_is_guessed() -> None:
    data = parse(TRAPS, FILE).data
    assert data == {
        "on": "yes", "NO": "off", "at": "12:30", "version": "1.10", "code": "010", "number": "1_000", "power": "1e3",
        "date": "2026-01-02", "nothing": "null", "tilde": "~", "quoted": "",
        "name": "△ Custom - Execute Script - Offboarding Wrapper",
        "template": "Offboarding Scripts - Partner [Template]",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "empty"),
        ("# only a comment\n", 1, "empty"),
        ("a: 1\nb: 2\na: 3\n", 3, "second time; the first is in line 1"),
        ("a:\n  b: 1\n  b: 2\n", 3, "second time"),
        ("a: 1\nb: &x 2\n", 2, "anchor"),
        ("a: 1\nb: *x\n", 2, "alias"),
        ("a: !!int 1\n", 1, "tag"),
        ("a: !python/object/apply:os.system [id]\n", 1, "tag"),
        ("a: ! x\n", 1, "tag"),
        ("a: 1\n<<: {b: 2}\n", 2, "merge key"),
        ("a: 1\nb:\nc: 2\n", 2, "no value"),
        ("a:\n  - x\n  -\n", 3, "no value"),
        ("? [a]\n: b\n", 1, "key must be plain text"),
        ('"": x\n', 1, "key is empty"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ('a: "\\0"\n', 1, "U+0000"),
        ("a: 1\nb: \x07\n", 2, "U+0007"),
        ("a: x: y\n", 1, "quotes"),
        ("a: 1\nb: @Success@\n", 2, "quotes"),
        ("a: 1\n\tb: 2\n", 2, "not YAML"),
        ("a: [1, 2\n", 2, "not YAML"),
        ("[" * (DEPTH + 1), 1, "nested deeper"),
        ("a: [" + "x," * (NODES + 1) + "]", 1, "more than"),
    ],
)
def test_what_is_refused(text: str, line: int, reason: str) -> None:
    with pytest.raises(ContentError) as caught:
        parse(text, FILE)
    first = all_faults(caught.value)[0]
    assert (first.file, first.line) == (str(FILE), line)
    assert reason in first.reason


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML without libyaml: only one parser")
@pytest.mark.parametrize("text", [TRAPS, "a: [x, {b: 'ü△'}]\nc: |\n  d\n", "a:\nb: &x 1\nc: *x\n", "a: 1\na: 2"])
def test_both_parsers_give_the_same(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def result() -> object:
        try:
            document = parse(text, FILE)
        except ContentError as error:
            return str(error)
        return document.data, document.lines, document.spans

    fast = result()
    monkeypatch.setattr(loading, "_Loader", yaml.SafeLoader)
    assert result() == fast


def test_all_faults_of_a_file_are_told_at_once() -> None:
    text = (
        "name: x\nrole: chidl\nstpes: []\nmanual: maybe\nsteps:\n  - name: a\n    functon: f\n    when: [{vaule: a}]\n"
    )
    with pytest.raises(ContentError) as caught:
        validate(parse(text, FILE), ScriptDefinition)
    told = {(f.line, f.key): f.reason for f in all_faults(caught.value)}
    assert "`child`" in told[(2, "role")]
    assert "did you mean `steps`" in told[(3, "stpes")]
    assert "`true` or `false`" in told[(4, "manual")]
    assert "did you mean `function`" in told[(7, "steps.1.functon")]
    assert "did you mean `value`" in told[(8, "steps.1.when.1.vaule")]
    assert "is missing" in told[(8, "steps.1.when.1.value")]
    assert all(str(f) in str(caught.value) for f in all_faults(caught.value))


@pytest.mark.parametrize(
    ("key", "step"),
    [
        ("with_", "name: a, function: f, with_: {}"),
        ("is_", "name: a, function: f, when: [{value: a, is_: b}]"),
        ("in_", "name: a, function: f, when: [{value: a, in_: [b]}]"),
    ],
)
def test_names_of_python_are_no_keys(key: str, step: str) -> None:
    with pytest.raises(ContentError, match=f"unknown key `{key}`"):
        validate(parse(f"name: x\nsteps:\n  - {{{step}}}\n", FILE), ScriptDefinition)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("steps: []\n", 1, "`name` is missing"),
        ("name: x\nbody: a.sh\nsteps: [{name: a, function: f}]\n", 1, "either a `body` or `steps`"),
        ("name: x\nsteps:\n  - {name: a}\n", 3, "exactly one of `function`"),
        ("name: x\nsteps:\n  - {name: a, function: f}\n  - {name: a, function: f}\n", 1, "step names must differ"),
        ("name: ' x'\nbody: a.sh\n", 1, "a name is one line"),
        ('name: "x\\ny"\nbody: a.sh\n', 1, "a name is one line"),
        ("name: x\nbody: a.sh\noption: y\n", 1, "belong to a fallback"),
        ("name: x\nbody: a.sh\ntime_limit: 5 apples\n", 3, "length of time"),
        ("name: x\nbody: a.sh\nparameters: {a b: {}}\n", 3, "letters A to Z"),
        ("name: x\nbody: a.sh\nparameters: {Success: {}}\n", 3, "list of the run"),
        ("name: x\nbody: a.sh\nparameters: {Ab: {}, aB: {}}\n", 3, "upper and lower case"),
        ("name: x\nbody: a.sh\nparameters: {p: {type: secret, default: x}}\n", 3, "a secret has no default"),
        ("name: x\nbody: a.sh\nretries: {attempts: many}\n", 3, "expected a number"),
        ("name: x\nbody: {linux: a.sh, beos: b.sh}\n", 2, "`beos` is none of"),
        ("name: x\nsteps: yes\n", 2, "expected a list"),
        ("- x\n", 1, "expected a mapping"),
    ],
)
def test_a_wrong_script_is_told_with_line_and_reason(text: str, line: int, reason: str) -> None:
    with pytest.raises(ContentError) as caught:
        validate(parse(text, FILE), ScriptDefinition)
    assert any(f.line == line and reason in f.reason for f in all_faults(caught.value)), str(caught.value)


def test_files_that_are_no_text_of_bounded_size(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    for content, reason in (
        (b"a" * (YAML_BYTES + 1), "larger"),
        (b"name: x\nb: \xff\n", "UTF-8"),
    ):
        file.write_bytes(content)
        (fault,) = faults(file, ScriptDefinition)
        assert reason in fault.reason
    assert fault.line == 2
    (fault,) = faults(tmp_path, ScriptDefinition)
    assert "regular" in fault.reason
    (fault,) = faults(tmp_path / "none.yaml", ScriptDefinition)
    assert "does not exist" in fault.reason


def test_only_a_changed_file_is_parsed_again(tmp_path: Path) -> None:
    file, other = tmp_path / "script.yaml", tmp_path / "other.yaml"
    for written in (file, other):
        written.write_text("name: First\nbody: a.sh\n")
    first = loading.load(file, ScriptDefinition)
    assert loading.load(file, ScriptDefinition) is first
    assert loading.load(other, ScriptDefinition).document.file == other
    before = file.stat()
    file.write_text("name: Other\nbody: a.sh\n")
    # Neither its size nor its time tells that it changed.
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert loading.load(file, ScriptDefinition).definition.name == "Other"
    file.write_text("name: First\nbody: [\n")
    with pytest.raises(ContentError):
        loading.load(file, ScriptDefinition)


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "a.ps1"
    file.write_bytes(b"\xef\xbb\xbfexit 0\r\n")
    assert read_text(file, BODY_BYTES) == "exit 0\r\n"


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd.sh", "../out.sh", "a/../../out.sh", "link.sh", "far/x.sh", "..\\out.sh", "C:/x.sh", "", ".", "a.txt",
     "none.sh", "a\n.sh", "a\x00.sh", "loop.sh"],
)  # fmt: skip
def test_a_named_file_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "script"
    folder.mkdir()
    (tmp_path / "out.sh").write_text("secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.sh").write_text("secret")
    (folder / "link.sh").symlink_to(tmp_path / "out.sh")
    (folder / "far").symlink_to(tmp_path / "elsewhere")
    (folder / "loop.sh").symlink_to("loop.sh")
    (folder / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"must|out of|no file"):
        beside(folder, name, (".sh",))


def test_a_named_file_inside_the_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.sh").write_text("x")
    (tmp_path / "b.sh").symlink_to("sub/a.sh")
    assert beside(tmp_path, "sub/a.sh", (".sh",)).read_text() == "x"
    assert beside(tmp_path, "b.sh", (".sh",)).read_text() == "x"


_YAML_LIKE = st.text(st.sampled_from("ab:- \n\t[]{}'\"#&*!|>%@?,~<0\x00\ud800é\u2028\\"), max_size=60)
_KEYS = st.sampled_from(["name", "steps", "body", "when", "with", "sql", "failed", "interval", "x", "<<"])
_TREES = st.recursive(
    st.sampled_from(["", "a.sh", "5 minutes", "yes", "child"]),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=12,
)


@given(st.one_of(st.text(max_size=80), _YAML_LIKE, _TREES.map(lambda t: yaml.safe_dump(t))), st.sampled_from(MODELS))
@settings(max_examples=300, deadline=None)
def test_any_text_loads_or_has_a_fault_with_a_line(text: str, model: type[ScriptDefinition]) -> None:
    try:
        validate(parse(text, FILE), model)
    except ContentError as error:
        lines = len(text.splitlines()) + 1
        assert all(1 <= (f.line or 0) <= lines for f in all_faults(error)), str(error)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_load_or_have_a_fault(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "bytes.yaml"
    file.write_bytes(content)
    assert all(f.file == str(file) for f in faults(file, ScriptDefinition))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("0.5", 0.5), ("5 minutes", 300), ("1 hour 30 minutes", 5400), ("1day", 86400), ("2 Weeks", 1209600)],
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@given(st.text(max_size=30))
def test_any_text_is_a_length_of_time_or_refused(text: str) -> None:
    try:
        assert parse_duration(text) >= timedelta(0)
    except ValueError as error:
        assert "write for example" in str(error)


@given(
    st.lists(
        st.tuples(st.integers(0, 999), st.sampled_from(["second", "minute", "hour", "day", "week"])),
        min_size=1,
        max_size=3,
    )
)
def test_parts_of_a_length_of_time_are_added(parts: list[tuple[int, str]]) -> None:
    unit = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
    expected = timedelta(seconds=sum(n * unit[u] for n, u in parts))
    assert parse_duration(" ".join(f"{n} {u}s" for n, u in parts)) == expected


@given(st.timedeltas(timedelta(seconds=1), timedelta(days=9999)))
def test_a_length_of_time_is_stored_without_loss(length: timedelta) -> None:
    monitor = MonitorDefinition(name="x", interval=length, sql="x.sql")
    stored = monitor.model_dump(mode="json")
    assert MonitorDefinition.model_validate(stored).interval == length


@pytest.mark.parametrize("style", ["often", "13", "-1", "once per 8 days", ""])
def test_a_monitor_with_a_wrong_alert_style_does_not_load(style: str, tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(f'name: M\ninterval: 5 minutes\nsql: m.sql\nalert_style: "{style}"\n', encoding="utf-8")
    with pytest.raises(ContentError, match=r"m\.yaml:4: alert_style: .*alert style"):
        loading.load(file, MonitorDefinition)
