"""The columns of places as text: how each is read and written. Import, export and the verbs share them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from agent.content.reading import PARTNER
from agent.errors import UsageError
from agent.model.base import utcnow
from agent.model.places import (
    CONTACT_STATUSES,
    EQUIPMENT_STATES,
    TERMINATION_TYPES,
    Client,
    Computer,
    Contact,
    Equipment,
    Location,
    Software,
)
from agent.time_zones import time_zone

PLATFORMS = ("windows", "linux", "macos")
#: Empty: the computer is not reached from here.
TRANSPORTS = ("", "local", "ssh", "winrm", "psrp", "endpoint")
#: A clock may be off by this much; a later contact would keep a computer online for ever.
FUTURE_TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True)
class Column:
    """One attribute of a place. `read` takes text and raises ValueError with what was expected; `show` gives it back."""

    attribute: str
    read: Callable[[str], Any]
    show: Callable[[Any], str]


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("text cannot hold a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("text cannot hold half of a surrogate pair") from None
    return value


def _needed(value: str) -> str:
    if not value:
        raise ValueError("it must not be empty")
    return _text(value)


def _slug(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]+", value):
        raise ValueError(f"{value!r} is no slug: use lower-case letters a-z, digits and hyphens")
    if value == PARTNER:
        raise ValueError(f"{value!r} is taken: the scripts of that folder are the default of all clients")
    return value


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is none of {', '.join(w for w in words if w)}")
        return value

    return read


def _address(value: str) -> str:
    """Small letters, so that an address is found however it is written."""
    return _text(value.strip()).lower()


def _word_of(*words: str) -> Callable[[str], str]:
    """One of some words in any case, as another system writes them; empty is the first."""

    def read(value: str) -> str:
        known = {word.casefold(): word for word in words}
        found = known.get(value.strip().casefold() or words[0].casefold())
        if found is None:
            raise ValueError(f"{value!r} is none of {', '.join(w for w in words if w)}")
        return found

    return read


def _quantity(value: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", value.strip() or "1"):
        raise ValueError(f"{value!r} is no quantity: use a number from 1")
    return int(value.strip() or "1")


def _amount(value: str) -> str:
    if not re.fullmatch(r"(\d{1,12}(\.\d{1,2})?)?", value.strip(), re.ASCII):
        raise ValueError(f"{value!r} is no amount: write digits such as 1200.50")
    return value.strip()


def _timezone(value: str) -> str:
    return time_zone(value).key if value else ""


def read_date(value: str) -> str | None:
    """YYYY-MM-DD -> the same text; empty -> None. Raises ValueError."""
    text = value.strip()
    try:
        if text and date.fromisoformat(text).isoformat() != text:
            raise ValueError
    except ValueError:
        raise ValueError(f"{value!r} is no date: write it as 2026-01-31") from None
    return text or None


def read_checkbox(value: str) -> bool:
    """1, true, yes or 0, false, no, in any case -> bool. Raises ValueError."""
    word = value.strip().lower()
    if word in ("1", "true", "yes"):
        return True
    if word in ("0", "false", "no"):
        return False
    raise ValueError(f"{value!r} is neither 1 nor 0 (true, false, yes and no are understood)")


def read_time(value: str) -> datetime | None:
    """ISO 8601 with a zone -> aware UTC; empty -> None. A time without a zone is refused. Raises ValueError."""
    if not value.strip():
        return None
    try:
        time = datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError(f"{value!r} is no time: write it as 2026-01-31T17:00:00Z") from None
    if time.tzinfo is None:
        raise ValueError(f"{value!r} has no zone: add Z for UTC, or an offset such as +01:00")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value!r} is too far away") from None


def _past(value: str) -> datetime | None:
    time = read_time(value)
    if time is not None and time > utcnow() + FUTURE_TOLERANCE:
        raise ValueError(f"{value!r} lies in the future")
    return time


def _port(value: str) -> int | None:
    if not value.strip():
        return None
    if not re.fullmatch(r"\d{1,5}", value.strip()) or not 1 <= int(value) <= 65535:
        raise ValueError(f"{value!r} is no port: use a number from 1 to 65535")
    return int(value)


def _id(value: str) -> int | None:
    if not value.strip():
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}", value.strip()):
        raise ValueError(f"{value!r} is no id: use a number from 1")
    return int(value)


def _options(value: str) -> dict[str, Any]:
    if not value.strip():
        return {}
    try:
        options = json.loads(_text(value))
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from None
    if not isinstance(options, dict):
        raise ValueError("it is no JSON object: write it as {...}")
    return options


def _show(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, ensure_ascii=False) if value else ""
    return str(value)


def _columns(**readers: Callable[[str], Any]) -> dict[str, Column]:
    return {name: Column(name, read, _show) for name, read in readers.items()}


#: Model -> its columns. References to other places are not among them.
COLUMNS: dict[type, dict[str, Column]] = {
    Client: _columns(external_id=_needed, name=_needed, slug=_slug),
    Location: _columns(external_id=_needed, name=_needed),
    Computer: _columns(
        external_id=_needed, name=_needed, os=_text, platform=_one_of(PLATFORMS), domain=_text, user_name=_text,
        is_server=read_checkbox, is_probe=read_checkbox, last_contact=_past, date_added=read_time, booted_at=_past,
        retired_at=read_time, transport=_one_of(TRANSPORTS), address=_text, port=_port, credential_id=_id,
        transport_options=_options,
    ),
    Contact: _columns(
        external_id=_needed, name=_needed, first_name=_text, last_name=_text, email=_address, upn=_text, employee_id=_text,
        department=_text, job_title=_text, manager_id=_id, manager_email=_text, status=_word_of(*CONTACT_STATUSES),
        start_date=read_date, termination_date=read_date, termination_type=_word_of("", *TERMINATION_TYPES),
        last_working_day=read_date, reason_for_leaving=_text, legal_hold=read_checkbox, is_privileged=read_checkbox,
        external_ids=_options, timezone=_timezone,
    ),
    Equipment: _columns(
        external_id=_needed, name=_needed, kind=_text, serial=_text, asset_tag=_text, quantity=_quantity,
        state=_word_of(*EQUIPMENT_STATES), due=read_date, returned_at=read_time, value=_amount, note=_text,
    ),
    Software: _columns(name=_needed, version=_text, publisher=_text, uninstall_string=_text, seen_at=read_time),
}  # fmt: skip


def checked(model: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with their types: text is read, what is typed already is checked through its text.

    Raises UsageError naming the column, with near matches where there is no such column.
    """
    columns = COLUMNS[model]
    result: dict[str, Any] = {}
    for name, value in values.items():
        if name not in columns:
            raise UsageError(f"a {model.__name__.lower()} has no column {name!r}" + near(name, columns))
        try:
            result[name] = columns[name].read(value if isinstance(value, str) else columns[name].show(value))
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None
    return result


def near(word: str, known: Mapping[str, Any] | list[str]) -> str:
    """`; did you mean x or y?` for a word that is not known, else nothing."""
    found = difflib.get_close_matches(word, list(known), n=3)
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""
