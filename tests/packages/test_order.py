"""The order: whatever is done to it, each package stands in it once; an import of numbers names each gap and double."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.content import loading
from agent.content.definitions import ClientScripts
from agent.content.listing import edited_lists
from agent.errors import NotFound, UsageError
from agent.packages import ordering

NAMES = st.sampled_from([f"System {c}" for c in string.ascii_uppercase[:8]] + ["Größe", "on", "a: b", "#x", "12:30"])
LISTS = st.lists(NAMES, unique=True, max_size=8)


class Order(RuleBasedStateMachine):
    """Insertions, moves and removals against a plain model, through the text of the file."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []
        self.document: loading.Document | None = None

    def _write(self, order: list[str]) -> None:
        written = edited_lists(self.document, "contoso", {"Wrapper": [f"{n} - script" for n in order]}, order)
        self.document = loading.parse(written, Path("client.yaml"))
        self.order = order

    @rule(name=NAMES, at=st.integers(1, 9))
    def insert(self, name: str, at: int) -> None:
        if name not in self.order and at <= len(self.order) + 1:
            self._write([*self.order[: at - 1], name, *self.order[at - 1 :]])

    @rule(name=NAMES, to=st.integers(-1, 10))
    def move(self, name: str, to: int) -> None:
        if name not in self.order:
            with pytest.raises(NotFound):
                ordering.moved(self.order, name, to)
        elif not 1 <= to <= len(self.order):
            with pytest.raises(UsageError, match="must be from 1 to"):
                ordering.moved(self.order, name, to)
        else:
            new = ordering.moved(self.order, name, to)
            assert new[to - 1] == name
            assert [n for n in new if n != name] == [n for n in self.order if n != name]
            self._write(new)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        if name in self.order:
            self._write([n for n in self.order if n != name])

    @invariant()
    def each_stands_there_once(self) -> None:
        if self.document is not None:
            stored = loading.validate(self.document, ClientScripts)
            assert list(stored.packages) == self.order
            assert list(stored.scripts["Wrapper"]) == [f"{n} - script" for n in self.order]
            assert len(set(stored.packages)) == len(stored.packages)


TestOrder = Order.TestCase
TestOrder.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)


@given(LISTS.filter(bool), st.randoms())
def test_numbers_without_a_gap_are_the_order(names: list[str], random: object) -> None:
    lines = [f"{n}, {name}" for n, name in enumerate(names, 1)]
    random.shuffle(lines)  # type: ignore[attr-defined]
    assert ordering.from_numbers("\n".join(lines)) == names


@given(LISTS.filter(lambda names: len(names) > 2), st.data())
def test_a_gap_and_a_double_are_named(names: list[str], data: st.DataObject) -> None:
    gone = data.draw(st.integers(1, len(names) - 1))
    numbered = [(n, name) for n, name in enumerate(names, 1) if n != gone]
    with pytest.raises(UsageError, match=f"the number {gone} is missing"):
        ordering.from_numbers("\n".join(f"{n} {name}" for n, name in numbered))
    twice = [(gone if n == gone + 1 else n, name) for n, name in enumerate(names, 1)]
    with pytest.raises(UsageError, match=f"the number {gone} is there twice: .*the number {gone + 1} is missing|twice"):
        ordering.from_numbers("\n".join(f"{n} {name}" for n, name in twice))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 Jira\n2 Slack\n3 Zoom\n5 Okta", "the number 4 is missing"),
        ("1 Jira\n1 Slack", "the number 1 is there twice: Jira, Slack"),
        ("1 Jira\n2 Jira", "Jira is there twice"),
        ("0 Jira\n1 Slack", "begin with 1"),
        ("1 Jira\nSlack", "line 2 is no number"),
        ("999999 Jira", "begin with 1"),
        ("", "it is empty"),
    ],
)
def test_a_wrong_sequence_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ordering.from_numbers(text)
