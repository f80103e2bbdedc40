"""Several people at once from a CSV or JSON file: each row has its own values, the manager is looked up per person."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sqlmodel import Session

from agent.content.user_inputs import INPUTS
from agent.errors import ImportLineError, ImportRefused, UsageError
from agent.inventory.columns import near
from agent.inventory.transfer_files import file_format, read_rows
from agent.running.user_offboardings import Request, check

#: Columns beside the inputs: `email` is the person, `date` when it begins.
OWN_COLUMNS = ("email", "client", "date", "template")
MOST_FAULTS = 100


def read_requests(session: Session, path: Path, common: Request, *, actor: str) -> list[Request]:
    """One request per row; what a cell says counts before what is said for all. Each is checked as by hand.

    Raises ImportRefused with every fault, its line and its column; nothing was planned.
    """
    faults: list[ImportLineError] = []
    requests: list[Request] = []
    seen: dict[int, int] = {}
    for number, (line, row) in enumerate(read_rows(path)):
        faults += _unknown_columns(path, line, row) if number == 0 else []
        if len(faults) >= MOST_FAULTS or (faults and number == 0):
            break
        if number == 0 and file_format(path) == "csv":
            continue
        request = _request(row, common)
        try:
            contact = check(session, request, actor=actor).contact
        except UsageError as error:
            column = _column(str(error), row)
            reason = str(error).removeprefix("given: ").removeprefix(f"{column}: ")
            faults.append(ImportLineError(reason, file=path, line=line, column=column))
            continue
        first = seen.setdefault(contact.contact_id or 0, line)
        if first != line:
            faults.append(
                ImportLineError(f"line {first} is about the same person", file=path, line=line, column="email")
            )
        requests.append(request)
    if faults:
        raise ImportRefused(faults, more=len(faults) >= MOST_FAULTS)
    if not requests:
        raise UsageError(f"{path}: nobody stands in it")
    return requests


def _unknown_columns(path: Path, line: int, row: Mapping[str, str]) -> list[ImportLineError]:
    known = [*OWN_COLUMNS, *INPUTS]
    faults = [
        ImportLineError(f"there is no such input{near(name, known)}", file=path, line=line, column=name)
        for name in row
        if name not in known
    ]
    if "email" not in row and "employee_email" not in row:
        faults.append(
            ImportLineError("a column `email` is needed: it says who leaves", file=path, line=line, column="email")
        )
    return faults


def _request(row: Mapping[str, str], common: Request) -> Request:
    given = {n: v for n, v in row.items() if n in INPUTS and n != "employee_email" and v != ""}
    return replace(
        common,
        person=(row.get("email") or row.get("employee_email") or "").strip(),
        client=row.get("client") or common.client,
        given={**(common.given or {}), **given},
        template=row.get("template") or common.template,
        at=row.get("date") or common.at,
    )


def _column(reason: str, row: Mapping[str, str]) -> str | None:
    """The column that a message is about, where it names an input."""
    for word in re.findall(r"[a-z_]+", reason):
        if word in INPUTS:
            return word if word in row else "email" if word == "employee_email" else word
    return "date" if "past" in reason or "time:" in reason else "email"
