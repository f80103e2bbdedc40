"""Every content file that is shipped loads, is complete, and passes the check."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import shipped
from agent.content.repository import ContentRepository, from_content
from agent.running.checking import SHIPPED_OPTIONS, Fault, check

FILES = sorted(
    file for folder in ("scripts", "monitors", "alert_templates") for file in shipped.path(folder).rglob("*.yaml")
)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> ContentRepository:
    """What a fresh installation has."""
    return ContentRepository(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def faults(content: ContentRepository) -> list[Fault]:
    """What the check says about it."""
    return check(content)


@pytest.mark.parametrize("file", FILES, ids=[str(f.relative_to(shipped.ROOT)) for f in FILES])
def test_a_shipped_file_is_read_and_has_no_fault(content: ContentRepository, faults: list[Fault], file: Path) -> None:
    assert [str(f) for f in faults if f.file == str(file)] == []
    kinds = (content.scripts(), content.monitors(), content.alert_templates(), content.packages())
    read = [item.file for items in kinds for item in items]
    if file.parent.name not in ("monitors", "alert_templates") or file.parent.parent == shipped.ROOT:
        assert read.count(file) == 1
    else:
        # Those of a package count only where it is applied; it has to name them.
        package = content.package(file.parent.parent.name).definition
        assert file.name in (*package.monitors, *package.alert_templates)


def test_nothing_else_is_wrong_with_the_shipped_content(faults: list[Fault]) -> None:
    assert [str(f) for f in faults] == []


def test_every_body_belongs_to_a_script(content: ContentRepository) -> None:
    used = {script.file.parent / name for script in content.scripts() for name in script.bodies}
    bodies = {f for f in shipped.path("scripts").rglob("*") if f.suffix in (".ps1", ".sh", ".py") and f.is_file()}
    assert bodies - used == set()


def test_every_option_has_its_fallback(content: ContentRepository) -> None:
    scripts = {content.fallback(option).name for option in (*SHIPPED_OPTIONS, None)}
    assert len(scripts) == 5
    assert content.fallback("Ticket+Continue") == content.fallback("Ticket + Continue")


def test_every_shipped_script_is_stored_without_loss(content: ContentRepository) -> None:
    for script in content.scripts():
        assert from_content(script.content()) == (script.definition, script.bodies)
