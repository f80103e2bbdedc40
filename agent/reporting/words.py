"""How reports write things: names on one line, times in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agent.functions.results import unverified
from agent.services.tickets import one_line as _flat


def one_line(text: object, *, indent: str = "") -> str:
    """Text that cannot move a terminal's cursor or begin a line of its own, behind an indent."""
    return indent + _flat(str(text))


def moment_text(value: str | datetime | None) -> str:
    """`2026-11-21 17:48:19 UTC` from ISO text or a time; empty for none."""
    if value is None:
        return ""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def stamp_text(value: str | datetime | None) -> str:
    """`2026-11-21 17:48` for tables that say elsewhere that times are UTC; empty for none."""
    return moment_text(value)[:16]


def duration_text(started: str | None, finished: str | None) -> str:
    """`1 h 02 min`, `3 min 20 s`, `1.4 s` between two ISO times; empty while one of them is missing."""
    if started is None or finished is None:
        return ""
    seconds = (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def unapplied(state: str) -> str:
    """Why a run that ended in a state followed no Failed Uninstall Process."""
    return "not applied: " + ("the run was cancelled" if state == "cancelled" else "no child script failed")


def result_titles(target_kind: str, *, verified: bool = True) -> dict[str, str]:
    """What the lists of a run's result are called, by their key, in the order in which they are shown.

    `verified`: whether all that succeeded was verified, too.
    """
    done = "Done and verified" if target_kind == "contact" else "Removed and verified"
    done = done if verified else "Done, but not all of it verified"
    return {"success": done, "failure": "Failed", "reboot_needed": "A reboot is needed", "unknown": "Outcome unknown"}


def titles_of(run: Mapping[str, Any]) -> dict[str, str]:
    """What the lists of a document of `run_report.run_document` are called."""
    verified = not any(unverified(step["state"], step["result"]) for step in run["steps"])
    return result_titles(run["target"]["kind"], verified=verified)


def state_word(state: str) -> str:
    """`reboot_needed` -> `reboot needed`."""
    return state.replace("_", " ")
