"""Monitors of a test's own: written as files into the workspace, as a person would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.installation import Installation

Write = Callable[..., None]


def write_content(installation: Installation, kind: str, name: str, content: dict[str, Any]) -> Path:
    """Write one content file; JSON is YAML."""
    folder = installation.settings.workspace / "content" / kind
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name.lower().replace(" ", "_") + ".yaml")
    path.write_text(json.dumps({"name": name, **content}), encoding="utf-8")
    installation.content.reload()
    return path


@pytest.fixture
def write_monitor() -> Callable[..., None]:
    """`write_monitor(installation, sql, name="Test", **keys)`: a monitor with its SQL beside it."""

    def write(installation: Installation, sql: str | None, name: str = "Test", **keys: Any) -> None:
        content: dict[str, Any] = {"interval": "5 minutes", **keys}
        if sql is not None:
            content["sql"] = name.lower().replace(" ", "_") + ".sql"
            folder = installation.settings.workspace / "content" / "monitors"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / content["sql"]).write_text(sql, encoding="utf-8")
        write_content(installation, "monitors", name, content)

    return write


@pytest.fixture
def write_template() -> Callable[..., None]:
    """`write_template(installation, name, failed=[...], success=[...], both=[...])`."""

    def write(installation: Installation, name: str, **lists: Any) -> None:
        write_content(installation, "alert_templates", name, {"guid": f"guid-{name}", **lists})

    return write
