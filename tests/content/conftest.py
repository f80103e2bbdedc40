"""A workspace with a wrapper, a template, a removal script, fallbacks and two clients; nothing of it is shipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent import shipped
from agent.content.repository import ContentRepository

WRAPPER = """\
name: Test Wrapper
role: wrapper
exclusive: true
steps:
  - {name: Children, children: Test Wrapper}
"""

TEMPLATE = """\
# This comment stays.
name: Test Scripts - Partner [Template]   # so does this one
role: child
globals:
  App1: "Datto AV"   # and this one: 'quoted', △, "@@"
steps:
  # a comment between keys
  - {name: App1, script: test_removal, with: {Name: "@App1@"}}
"""

REMOVAL = """\
name: Test Removal
parameters:
  Name: {required: true}
body: {linux: remove.sh}
verify: {body: {linux: verify.sh}}
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def nothing_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the content that a test writes."""
    monkeypatch.setattr(shipped, "ROOT", tmp_path / "shipped")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file below the workspace's content folder."""

    def write_file(name: str, text: str) -> Path:
        file = tmp_path / "workspace" / "content" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="")
        return file

    return write_file


@pytest.fixture
def repository(nothing_shipped: None, write: Write, tmp_path: Path) -> ContentRepository:
    """Content of two clients: contoso has folders of its own, fabrikam has none yet."""
    write("scripts/test_wrapper/script.yaml", WRAPPER)
    write("scripts/test_scripts_partner_template/script.yaml", TEMPLATE)
    write("scripts/test_removal/script.yaml", REMOVAL)
    write("scripts/test_removal/remove.sh", "echo removing\nexit 0\n")
    write("scripts/test_removal/verify.sh", "exit 0\n")
    return ContentRepository(tmp_path / "workspace")
