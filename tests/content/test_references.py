"""References: found wherever they stand, put in place once, and nothing lost."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.content.references import (
    Literal,
    Reference,
    Template,
    escape,
    parse_subject,
    parse_value,
    references,
    resolve,
)
from agent.errors import UsageError


def nothing(reference: Reference) -> object:
    raise UsageError(f"{reference} is set nowhere")


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("plain", "plain"),
        ("", ""),
        ("@App1@", Reference("variable", "App1")),
        ("@Success@", Reference("list", "Success")),
        ("%ComputerName%", Reference("system", "ComputerName")),
        ("on %computername%!", Template(("on ", Reference("system", "computername"), "!"))),
        ("@a@@b@", Template((Reference("variable", "a"), Reference("variable", "b")))),
        ("a@contoso.com", "a@contoso.com"),
        ("100 % of 5 %", "100 % of 5 %"),
        ("@@App1@@", "@App1@"),
        ("%%PATH%%", "%PATH%"),
        ("a@@b.c and c@@d.e", "a@b.c and c@d.e"),
        ({"parameter": "x"}, Reference("parameter", "x")),
        ({"step": "a b", "value": "removed"}, Reference("step", "a b", "removed")),
        ({"fact": "computer.name"}, Reference("fact", "computer.name")),
        ({"literal": {"secret": "@x@"}}, Literal({"secret": "@x@"})),
        ({"a": ["@x@", {"b": "%y%"}]}, {"a": [Reference("variable", "x"), {"b": Reference("system", "y")}]}),
        (True, True),
        (5, 5),
    ],
)
def test_what_a_value_means(value: object, parsed: object) -> None:
    assert parse_value(value) == parsed


@pytest.mark.parametrize(
    "value",
    [
        {"parameter": "x", "default": "y"},
        {"parameter": ""},
        {"secret": ["x"]},
        {"step": "x"},
        {"step": "x", "key": "y"},
        {"a": [{"global": {}}]},
        {"secret": "a", "field": "b"},
    ],
)
def test_half_a_reference_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="literal"):
        parse_value(value)


def test_one_reference_keeps_its_type_and_a_text_is_joined() -> None:
    held: dict[str, object] = {"n": 5, "yes": True, "list": ["a", "b"], "day": datetime.date(2026, 1, 2), "t": "x"}

    def look_up(reference: Reference) -> object:
        return held[reference.name]

    assert resolve("@n@", look_up) == 5
    assert resolve({"parameter": "list"}, look_up) == ["a", "b"]
    assert resolve("@yes@", look_up) is True
    assert resolve("@n@/@yes@/@list@/@day@/@t@", look_up) == "5/1/a, b/2026-01-02/x"
    held["m"] = {"a": 1}
    with pytest.raises(UsageError, match="part of a text"):
        resolve("x @m@", look_up)


def test_a_missing_value_is_an_error_and_never_an_empty_text() -> None:
    with pytest.raises(UsageError, match="no value"):
        resolve("a %x% b", lambda _: None)
    with pytest.raises(UsageError, match=r"\{field: Last Day\} is set nowhere"):
        resolve(["a", {"x": {"field": "Last Day"}}], nothing)


_HOSTILE = st.text(st.sampled_from("@%ab_1 {}$()`\n'\"\\é"), max_size=20)
_LEAVES = st.one_of(_HOSTILE, st.integers(), st.booleans(), st.floats(allow_nan=False))
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_HOSTILE, inner, max_size=3)),
    max_leaves=8,
)


@given(_HOSTILE)
def test_an_escaped_text_means_itself(text: str) -> None:
    assert references(escape(text)) == []
    assert resolve(escape(text), nothing) == text


@given(_VALUES)
def test_a_literal_means_itself(value: Any) -> None:
    assert references({"literal": value}) == []
    assert resolve({"literal": value}, nothing) == value


@given(st.lists(st.tuples(_HOSTILE, st.sampled_from(["@a@", "%b%"])), min_size=1, max_size=4), _HOSTILE, _HOSTILE)
@settings(max_examples=200)
def test_what_was_put_in_place_is_never_looked_at_again(parts: list[tuple[str, str]], a: str, b: str) -> None:
    """Values full of `@a@` and `%b%` come out as they are, and every literal character between them too."""
    seen: list[str] = []

    def look_up(reference: Reference) -> object:
        seen.append(reference.name)
        return {"a": a, "b": b}[reference.name]

    written = "".join(escape(text) + reference for text, reference in parts)
    expected = "".join(text + {"@a@": a, "%b%": b}[reference] for text, reference in parts)
    assert resolve(written, look_up) == expected
    assert seen == [reference.strip("@%") for _, reference in parts]
    assert resolve({"x": [written]}, look_up) == {"x": [expected]}


@given(_VALUES)
@settings(max_examples=200)
def test_any_value_is_read_or_refused(value: Any) -> None:
    found = references(value)
    assert len(found) == len(references([value]))
    resolved = resolve(value, lambda r: "v")
    assert type(resolved) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("computer.name", "computer", "name"),
        ("step.Remove App.v2.state", "step", "Remove App.v2"),
        ("children.state", "children", "state"),
        ("outcome.agent", "outcome", "agent"),
        ("field.Offboard Computer", "field", "Offboard Computer"),
        ("property._sysX", "property", "_sysX"),
    ],
)
def test_subjects_of_conditions(text: str, kind: str, name: str) -> None:
    subject = parse_subject(text)
    assert (subject.kind, subject.name) == (kind, name)


@pytest.mark.parametrize(
    "text", ["", "computer", "computer.", "steps.a.state", "step..state", "step.a", "outcome.x", "x.y"]
)
def test_unknown_subjects_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"step\.<name>\.state"):
        parse_subject(text)
