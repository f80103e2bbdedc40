"""Scripts of the tests' own, in the workspace, that run as real local processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.installation import Installation

Write = Callable[..., None]


@pytest.fixture
def write_script(installation: Installation) -> Write:
    """Write a script into the workspace: write_script(folder, yaml, {file: body}, client=None)."""

    def write(folder: str, text: str, bodies: dict[str, str] | None = None, client: str | None = None) -> None:
        root = installation.settings.workspace / "content" / "scripts"
        place: Path = (root / "clients" / client if client else root) / folder
        place.mkdir(parents=True)
        (place / "script.yaml").write_text(text, encoding="utf-8")
        for name, body in (bodies or {}).items():
            (place / name).write_text(body, encoding="utf-8")
        installation.content.reload()

    return write


@pytest.fixture
def use_children(installation: Installation) -> Callable[[str, str, list[str]], None]:
    """List child scripts for a wrapper: use_children(client slug, wrapper, names)."""

    def use(client: str, wrapper: str, names: list[str]) -> None:
        folder = installation.settings.workspace / "content" / "scripts" / "clients" / client
        folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"    - {name}\n" for name in names)
        (folder / "client.yaml").write_text(f"client: {client}\nscripts:\n  {wrapper}:\n{lines}", encoding="utf-8")
        installation.content.reload()

    return use
