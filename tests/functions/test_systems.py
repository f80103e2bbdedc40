"""Functions of a system are found by the name of their module; nothing lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from agent.errors import NotFound, SettingsError
from agent.functions import registry, systems
from agent.functions.manual import renewed

MODULE = """from agent.functions.base import Function, Outcome, Parameters

class Close(Function[Parameters]):
    name = "{name}"
    summary = "Close"
    Parameters = Parameters

    def preview(self, parameters):
        return "close"

    def do(self, context, parameters):
        return Outcome.succeeded()

FUNCTIONS = {{"{key}": Close}}
"""


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A module beside the shipped systems: add(file, name, key)."""
    monkeypatch.setattr(systems, "__path__", [*systems.__path__, str(tmp_path)])
    caches = (registry.systems, registry.of_system, registry._third_party)

    def write(file: str, name: str, key: str | None = None) -> None:
        (tmp_path / f"{file}.py").write_text(MODULE.format(name=name, key=key or name))
        for cache in caches:
            cache.cache_clear()

    yield write
    for cache in caches:
        cache.cache_clear()


def test_a_new_module_is_all_that_it_takes(add: Callable[..., None]) -> None:
    with pytest.raises(NotFound, match=r"no function 'harp\.close'"):
        registry.get("harp.close")
    add("harp", "harp.close")
    assert registry.get("harp.close").summary == "Close"
    assert "harp.close" in registry.names()
    begin, end = (
        "<!-- functions of harp: made by `python -m agent.functions.manual` -->\n",
        "<!-- end of functions -->\n",
    )
    assert "| `harp.close` | Close | none |" in renewed(f"# Harp\n{begin}{end}")
    with pytest.raises(NotFound, match=r"did you mean harp\.close"):
        registry.get("harp.closed")


@pytest.mark.parametrize(("name", "key"), [("lute.close", None), ("flute.close", "flute.shut"), ("close", None)])
def test_a_module_that_does_not_keep_to_the_form_is_refused(
    add: Callable[..., None], name: str, key: str | None
) -> None:
    add("flute", name, key)
    with pytest.raises(SettingsError, match="must be the function's name"):
        registry.names()


def test_a_third_party_cannot_take_a_systems_name(add: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    add("viola", "viola.close")
    point = EntryPoint("viola.close", "elsewhere:Close", "exeunt.functions")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    registry._third_party.cache_clear()
    with pytest.raises(SettingsError, match=r"already defined by agent\.functions\.systems\.viola"):
        registry.names()
