"""Finding content: shipped first, own content of the workspace after it."""

from __future__ import annotations

from pathlib import Path


class ContentRepository:
    """All scripts, monitors and alert templates of an installation; read when first asked for, and again on `reload`."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
