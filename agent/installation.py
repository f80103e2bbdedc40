"""One opened installation: its settings, database, content and secrets. Every verb takes it as first argument."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from agent.content.repository import ContentRepository
from agent.database import Database
from agent.errors import SettingsError
from agent.secrets import SecretBox, load_secret_box
from agent.settings import Settings, load_settings


@dataclass(frozen=True)
class Installation:
    """What the verbs need. Cheap to make: database, content and key are opened on first use."""

    settings: Settings

    @cached_property
    def database(self) -> Database:
        """The inventory and the records."""
        return Database(self.settings)

    @cached_property
    def content(self) -> ContentRepository:
        """Shipped and own scripts, monitors and alert templates."""
        return ContentRepository(self.settings.workspace)

    @cached_property
    def secrets(self) -> SecretBox:
        """Encryption of secrets at rest. Raises SettingsError when the key is missing."""
        return load_secret_box(self.settings)


def open_installation(workspace: Path | str | None = None) -> Installation:
    """Open the installation of a workspace. Raises SettingsError when `exeunt init` was not run there."""
    settings = load_settings(workspace)
    if not settings.workspace.is_dir():
        raise SettingsError(f"there is no workspace at {settings.workspace}: run `exeunt init` first")
    return Installation(settings)
