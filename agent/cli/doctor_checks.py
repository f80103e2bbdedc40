"""What `exeunt doctor` looks at. Each check yields findings; none of them changes anything."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import func, text
from sqlmodel import Session, col, select

from agent.cli import foreign
from agent.cli.caller import Caller
from agent.cli.output import counted
from agent.errors import SettingsError
from agent.inventory import flags
from agent.inventory.effective import destructive_defaults
from agent.model.base import utcnow
from agent.model.fields import Form
from agent.model.monitors import MonitorStatus
from agent.model.runs import Plan, RunState, ScriptRun
from agent.model.tickets import Notification
from agent.monitoring.listing import is_enabled
from agent.running.checking import check as check_content
from agent.running.liveness import Liveness
from agent.services import key_rotation, properties
from agent.settings import is_setting

State = Literal["ok", "warning", "fault"]
_ROOM = 200 * 1024 * 1024


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `mend` says what to do about it."""

    check: str
    state: State
    what: str
    mend: str | None = None


Check = Callable[[Caller], Iterator[Finding]]


def versions(caller: Caller) -> Iterator[Finding]:
    """Python, SQLite, and who owns the import name."""
    shown = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", "ok" if sys.version_info >= (3, 11) else "fault", shown, "install Python 3.11 or newer")
    recent = sqlite3.sqlite_version_info >= (3, 40)
    yield Finding("sqlite", "ok" if recent else "fault", sqlite3.sqlite_version, "install SQLite 3.40 or newer")
    foreign.check()
    yield Finding("package", "ok", "no other distribution has a package called agent")


def optional(caller: Caller) -> Iterator[Finding]:
    """Libraries of extras: only what the settings need is a fault."""
    settings = caller.settings
    needed = {
        "psycopg": ("postgresql", not settings.is_sqlite),
        "keyring": ("keyring", settings.secrets_key_source == "keyring"),
    }
    for module, (extra, wanted) in needed.items():
        if wanted and find_spec(module) is None:
            yield Finding(f"extra {extra}", "fault", f"{module} is missing", f"pip install 'exeunt[{extra}]'")
    missing = [m for m in ("gssapi", "krb5", "requests_credssp") if find_spec(m) is None]
    if missing:
        yield Finding(
            "authentication", "ok", f"without {' and '.join(missing)}: no Kerberos (WinRM, PSRP, LDAP) or CredSSP",
            "pip install 'exeunt[kerberos,credssp]' where it is needed",
        )  # fmt: skip


def workspace(caller: Caller) -> Iterator[Finding]:
    """The folder, its permissions, its settings, the room on its disk."""
    folder = caller.settings.workspace
    if not folder.is_dir():
        raise SettingsError(f"there is no workspace at {folder}: run `exeunt init`")
    yield Finding("workspace", "ok", str(folder))
    yield from _permissions(folder)
    unknown = sorted(_unknown_settings())
    if unknown:
        what = f"not known and ignored: {', '.join(unknown)}"
        yield Finding("settings", "warning", what, "correct the spelling in the environment")
    free = shutil.disk_usage(folder).free
    room: State = "ok" if free >= _ROOM else "warning"
    yield Finding("disk", room, f"{free // 1024 // 1024} MB free", "make room, or reports and output will be cut")


def _permissions(folder: Path) -> Iterator[Finding]:
    if os.name != "posix":
        return
    wanted = {
        folder: 0o700,
        folder / "exeunt.env": 0o600,
        folder / "inventory.db": 0o600,
        folder / "secrets.key": 0o600,
    }
    for path, mode in wanted.items():
        if path.exists() and path.stat().st_mode & 0o077:
            yield Finding("permissions", "fault", f"{path} can be read by others", f"chmod {mode:o} {path}")
        if path.exists() and path.stat().st_uid not in (0, os.geteuid()):
            yield Finding(
                "permissions", "fault", f"{path} belongs to another user", f"chown it, then chmod {mode:o} {path}"
            )


def _unknown_settings() -> Iterator[str]:
    """Variables that look like settings. In the file of the workspace such a name is refused."""
    return (name for name in os.environ if name.upper().startswith("EXEUNT_") and not is_setting(name))


def database(caller: Caller) -> Iterator[Finding]:
    """Whether it can be reached, is not locked, and has its tables."""
    settings = caller.settings
    if settings.is_sqlite and settings.database_url is None:
        yield from _sqlite(settings.workspace / "inventory.db")
    with caller.installation.database.reading() as session:
        clients = session.scalar(text("select count(*) from clients"))
        computers = session.scalar(text("select count(*) from computers"))
        if not settings.is_sqlite:
            number = session.scalar(text("show server_version_num"))
            recent: State = "ok" if int(number or 0) >= 150_000 else "fault"
            yield Finding("postgresql", recent, f"version {number}", "PostgreSQL 15 or newer is needed")
    yield Finding("database", "ok", f"{counted(clients or 0, 'client')}, {counted(computers or 0, 'computer')}")


def _sqlite(file: Path) -> Iterator[Finding]:
    if not file.exists():
        yield Finding("database", "fault", f"{file} does not exist", "exeunt init")
        return
    connection = sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=1)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()
    except sqlite3.OperationalError as error:
        yield Finding(
            "database", "fault", f"{file} cannot be written: {error}", "end the process that keeps it locked, or wait"
        )
    except sqlite3.DatabaseError as error:
        yield Finding("database", "fault", f"{file} is damaged: {error}", "restore it from a backup")
    finally:
        connection.close()


def key(caller: Caller) -> Iterator[Finding]:
    """The key, and whether it opens what is stored."""
    number = key_rotation.count_readable(caller.installation)
    yield Finding("key", "ok", f"it is there, and opens {counted(number, 'stored secret')}")


def content(caller: Caller) -> Iterator[Finding]:
    """Faults of scripts, monitors and alert templates."""
    faults = check_content(caller.installation.content)
    errors = [f for f in faults if f.severity == "error"]
    for fault in errors[:5]:
        yield Finding("content", "fault", str(fault), "exeunt content check")
    if len(errors) > 5:
        yield Finding("content", "fault", counted(len(errors) - 5, "more fault"), "exeunt content check")
    warnings = len(faults) - len(errors)
    if warnings:
        yield Finding("content", "warning", counted(warnings, "warning"), "exeunt content check")
    elif not errors:
        yield Finding(
            "content", "ok", f"{counted(len(caller.installation.content.scripts()), 'script')} without a fault"
        )


def approvers(caller: Caller) -> Iterator[Finding]:
    """Who may confirm the offboarding of whole clients."""
    with caller.installation.database.reading() as session:
        names = properties.value_of(caller.installation, session, properties.CLIENT_APPROVERS)
    if names:
        yield Finding("approvers", "ok", f"{names} may confirm the offboarding of whole clients")
    else:
        mend = f"exeunt property set {properties.CLIENT_APPROVERS} NAME"
        yield Finding("approvers", "warning", "nobody may confirm the offboarding of a whole client", mend)


def smtp(caller: Caller) -> Iterator[Finding]:
    """Whether the mail server takes a connection, and mail that was kept as failed."""
    settings = caller.settings
    with caller.installation.database.reading() as session:
        wanted = properties.value_of(caller.installation, session, properties.ALERT_TYPE) or ""
        failed = _count(session, select(func.count()).select_from(Notification).where(Notification.state == "failed"))
    if settings.smtp_host is None:
        state: State = "warning" if "email" in wanted.lower() else "ok"
        yield Finding(
            "mail", state, "no mail server is set: mail is kept as failed", "set EXEUNT_SMTP_HOST in exeunt.env"
        )
    else:
        try:
            socket.create_connection((settings.smtp_host, settings.smtp_port), timeout=5).close()
            yield Finding("mail", "ok", f"{settings.smtp_host}:{settings.smtp_port} takes connections")
        except OSError as error:
            where = f"{settings.smtp_host}:{settings.smtp_port}"
            yield Finding(
                "mail", "fault", f"{where} cannot be reached: {error}", "check EXEUNT_SMTP_HOST and EXEUNT_SMTP_PORT"
            )
    if failed:
        yield Finding(
            "mail", "warning", f"{counted(failed, 'mail')} could not be sent", "exeunt notification list --state failed"
        )


def standing_flags(caller: Caller) -> Iterator[Finding]:
    """Flags that stay set, and defaults that flag everything."""
    with caller.installation.database.reading() as session:
        defaults = [(form.name.lower(), name) for form in Form for name in destructive_defaults(session, [form])]
        standing = flags.standing_flags(session)
    for level, name in defaults:
        mend = f"exeunt edf default {shlex.quote(name)} --clear --level {level}"
        yield Finding("flags", "fault", f"the default of {name!r} is set: every {level} counts as flagged", mend)
    for flag in standing:
        if flag.place_id:
            what = f"{flag.field} is set on {flag.path}: a computer that is added there later is offboarded too"
            yield Finding(
                "flags", "warning", what, f"exeunt edf clear {shlex.quote(flag.field)} --{flag.level} id:{flag.place_id}"
            )


def work(caller: Caller) -> Iterator[Finding]:
    """Workers, overdue monitors, what waits for somebody."""
    alive = Liveness(caller.installation).any_alive()
    yield Finding("worker", "ok" if alive else "warning", "alive" if alive else "none is alive", "exeunt worker")
    now = utcnow()
    with caller.installation.database.reading() as session:
        queued = _count(session, select(func.count()).select_from(ScriptRun).where(
            col(ScriptRun.parent_id).is_(None), ScriptRun.state == RunState.QUEUED))  # fmt: skip
        held = _count(session, select(func.count()).select_from(Plan).where(Plan.state == "held"))
        status = {s.monitor: s for s in session.exec(select(MonitorStatus))}
    if queued and not alive:
        yield Finding("runs", "fault", f"{counted(queued, 'run')} queued, and no worker is alive", "exeunt worker")
    if held:
        yield Finding(
            "plans",
            "warning",
            f"{counted(held, 'plan')} held",
            "exeunt run plans --state held, then exeunt run approve",
        )
    for monitor in caller.installation.content.monitors():
        found = status.get(monitor.name)
        yield from _monitor(
            monitor.name, monitor.definition.interval, found if is_enabled(monitor, found) else None, now
        )


def _monitor(name: str, interval: timedelta, status: MonitorStatus | None, now: Any) -> Iterator[Finding]:
    if status is None:
        return
    if status.status == "ERROR":
        yield Finding("monitor", "fault", f"{name} cannot be evaluated: {status.error}", f"exeunt monitor show {name}")
    if status.last_scan is not None and now - status.last_scan > 2 * interval + timedelta(minutes=1):
        yield Finding(
            "monitor", "warning", f"{name} is overdue: last scan {status.last_scan:%Y-%m-%d %H:%M} UTC", "exeunt worker"
        )


def _count(session: Session, query: Any) -> int:
    return int(session.exec(query).one())


#: In their order; the ones behind the workspace are left out when it does not open.
FIRST: tuple[Check, ...] = (versions, optional, workspace)
LATER: tuple[Check, ...] = (database, key, content, approvers, smtp, standing_flags, work)
