"""Settings: one list, from which the environment, the workspace's file and the manual are served.

Order of precedence: environment (`EXEUNT_...`), then `<workspace>/exeunt.env`, then the default.
"""

from __future__ import annotations

import os
from datetime import date, datetime
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

from dotenv.parser import parse_stream
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent.errors import SettingsError
from agent.time_zones import time_zone

WORKSPACE_VARIABLE = "EXEUNT_WORKSPACE"
DEFAULT_WORKSPACE = "exeunt-workspace"


class Settings(BaseSettings):
    """Everything about one installation that is not in its database. Immutable once loaded."""

    model_config = SettingsConfigDict(env_prefix="EXEUNT_", extra="ignore", frozen=True)

    workspace: Path = Field(description="Folder of the database, the key, own content, output and reports")
    database_url: str | None = Field(None, description="SQLAlchemy URL; empty means SQLite in the workspace")
    sqlite_synchronous: str = Field("FULL", pattern="^(FULL|NORMAL)$", description="SQLite's fsync policy")
    secrets_key: str | None = Field(
        None, repr=False, description="Master key; empty means the file secrets.key or the keyring"
    )
    secrets_key_source: str = Field(
        "file", pattern="^(file|environment|keyring)$", description="Where the master key is"
    )
    secrets_keyring: str | None = Field(
        None, description="Class of the keyring's backend, such as keyring.backends.SecretService.Keyring"
    )
    online_seconds: int = Field(
        300, ge=1, description="A computer is online while its last contact is younger, in seconds"
    )
    concurrency_total: int = Field(8, ge=1, le=500, description="Runs at once in one worker")
    concurrency_per_client: int = Field(4, ge=1, le=500, description="Runs at once for one client")
    queue_poll_seconds: float = Field(
        0.1, gt=0, le=60,
        description="How often a worker asks PostgreSQL for queued runs, in seconds; on SQLite it is told of them",
    )
    time_zone: str = Field(
        "UTC", description="IANA time zone of hours and days that are given without one, such as alert windows"
    )
    monitor_seconds: float = Field(10.0, gt=0, description="Time limit of a monitor's query, in seconds")
    monitor_rows: int = Field(10_000, ge=1, description="Row limit of a monitor's query")
    monitor_role: str | None = Field(
        None, description="PostgreSQL only: role without rights on secrets that monitors' queries take on"
    )
    output_bytes: int = Field(
        65_536, ge=1024, description="Bytes of each output stream kept in the database; the rest in a file"
    )
    output_file_bytes: int = Field(
        1_073_741_824, ge=1024, description="Largest output file, in bytes; what comes after is counted and dropped"
    )
    offline_expiry_days: int = Field(
        14, ge=1, description="A flagged computer that stays offline longer is reported as expired, in days"
    )
    require_approval: bool = Field(False, description="Hold every monitor's run until somebody approves it")
    second_person_from: int | None = Field(
        None, ge=1, description="From this many computers on, somebody else than the planner approves"
    )
    queue_expiry_days: int = Field(3, ge=1, description="A run whose computer stays offline so long fizzles, in days")
    smtp_host: str | None = Field(None, description="Mail server; empty means that mail is kept as failed")
    smtp_port: int = Field(587, ge=1, le=65535, description="Port of the mail server")
    smtp_security: str = Field(
        "starttls", pattern="^(starttls|tls|none)$", description="How the mail connection is protected"
    )
    smtp_user: str | None = Field(None, description="Account on the mail server")
    smtp_password: str | None = Field(None, repr=False, description="Password of that account")
    smtp_from: str = Field("exeunt@localhost", description="Sender of mail")
    smtp_ca_file: Path | None = Field(None, description="Certificate authority of the mail server")
    report_folder: Path | None = Field(None, description="Where exit reports are stored; empty means `reports` here")
    backup_folder: Path | None = Field(
        None, description="Folder, such as a mounted share, for backups whose offboarding names no other place"
    )
    pdf_font: Path | None = Field(
        None, description="TrueType font for what DejaVu Sans lacks in PDF reports, such as Chinese names"
    )
    public_url: str | None = Field(
        None, pattern="^https?://[^/?#@]+$",
        description="Where the console is reached, such as https://exeunt.example.com; used in links of messages",
    )
    session_hours: int = Field(12, ge=1, le=720, description="A session of the console ends after so many hours")
    session_idle_minutes: int = Field(
        60, ge=2, le=10_080, description="A session of the console that nobody uses ends after so many minutes"
    )
    oidc_issuer: str | None = Field(
        None,
        description="Issuer for sign-in by OpenID Connect, such as https://login.microsoftonline.com/TENANT-ID/v2.0",
    )
    oidc_client_id: str | None = Field(None, description="Exeunt's client id at that issuer")
    oidc_client_secret: str | None = Field(None, repr=False, description="Secret of that client")
    webhook_private: bool = Field(
        False, description="Webhooks may be sent to private addresses, such as 10.0.0.7"
    )
    webhook_loopback: bool = Field(
        False, description="Webhooks may be sent to this machine, also by http with a port; for tests"
    )
    metrics_open: bool = Field(
        False, description="`/metrics` needs no token when it is asked for from this machine"
    )
    directory_watch_minutes: int | None = Field(
        None, ge=1, le=1440,
        description="How often the worker looks for accounts that were deleted in clients' Microsoft 365 tenants; empty: never",
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Level of the log on standard error"
    )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        return time_zone(name).key

    @property
    def zone(self) -> ZoneInfo:
        """The time zone in which the hours and days of windows are meant. What is stored is UTC."""
        return time_zone(self.time_zone)

    def day_of(self, moment: datetime) -> date:
        """The day of an aware time, by the calendar of the installation's time zone."""
        return moment.astimezone(self.zone).date()

    @cached_property
    def inventory_url(self) -> str:
        """SQLAlchemy URL of the inventory and the records."""
        return self.database_url or f"sqlite:///{self.workspace / 'inventory.db'}"

    @cached_property
    def engine_url(self) -> str:
        """SQLAlchemy URL of the engine's own store: a second SQLite file, or the schema `dbos` of the same PostgreSQL."""
        return self.database_url or f"sqlite:///{self.workspace / 'engine.db'}"

    @property
    def is_sqlite(self) -> bool:
        """Whether the inventory is an embedded SQLite file."""
        return self.inventory_url.startswith("sqlite")


def load_settings(workspace: Path | str | None = None) -> Settings:
    """Settings of the given workspace, else of `$EXEUNT_WORKSPACE`, else of `exeunt-workspace` here.

    Raises SettingsError with the name of the setting that is wrong.
    """
    folder = Path(workspace or os.environ.get(WORKSPACE_VARIABLE) or DEFAULT_WORKSPACE).absolute()
    _check_file(folder / "exeunt.env")
    try:
        return Settings(_env_file=folder / "exeunt.env", workspace=folder)
    except ValidationError as error:
        # The input is left out on purpose: it may be a password.
        details = "; ".join(
            f"EXEUNT_{'.'.join(map(str, e['loc'])).upper()}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise SettingsError(f"settings of {folder}: {details}") from None


def is_setting(variable: str) -> bool:
    """Whether a variable `EXEUNT_...` means something to us; case does not count."""
    name = variable.upper().removeprefix("EXEUNT_")
    return name == "USER" or name.lower() in Settings.model_fields


def _check_file(file: Path) -> None:
    """Raise SettingsError for a line that would be ignored: so a mistyped name could leave out a guardrail unseen."""
    try:
        with file.open(encoding="utf-8") as stream:
            lines = list(parse_stream(stream))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {type(error).__name__}") from error
    for line in lines:
        where = f"{file}:{line.original.line}"
        # What stands there is left out on purpose: it may be a password.
        if line.error or (line.key is not None and line.value is None):
            raise SettingsError(f"{where}: this line cannot be read: write NAME='value'")
        if line.key is not None and line.key.upper().startswith("EXEUNT_") and not is_setting(line.key):
            known = [f"EXEUNT_{name.upper()}" for name in Settings.model_fields]
            near = get_close_matches(line.key.upper(), known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{where}: there is no setting {line.key}{hint}")
