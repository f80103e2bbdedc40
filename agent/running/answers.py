"""The protocol of bodies: exit codes, and the JSON object on the last line (scripts/README.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from agent.errors import StepError
from agent.transports.output import OutputCollector

#: Windows Installer: ERROR_SUCCESS_REBOOT_REQUIRED and ERROR_SUCCESS_REBOOT_INITIATED.
REBOOT_CODES = frozenset({3010, 1641})
#: Characters of one value of a script's state.
STATE_LENGTH = 10_000
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


def answer_of(output: OutputCollector) -> Mapping[str, Any] | None:
    """The JSON object on the last non-empty line of standard output, None if it is something else."""
    line = output.last_line("stdout")
    if line is None or not line.lstrip().startswith("{"):
        return None
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def state_in(answer: Mapping[str, Any]) -> dict[str, str]:
    """What a body wants to be kept: `"state": {"Variable": "value"}` of its answer, as text; true and false are 1 and 0.

    Raises StepError for a name that is no identifier, and for a value that is neither text, number nor true or false.
    """
    state = answer.get("state", {})
    if not isinstance(state, dict):
        raise _refused("it is no JSON object")
    kept: dict[str, str] = {}
    for name, value in state.items():
        if not _VARIABLE.fullmatch(name):
            raise _refused(f"the name {name[:120]!r} must be at most 100 letters A to Z, digits and `_`")
        if not isinstance(value, str | int | float):
            raise _refused(f"the value of {name!r} is neither text nor a number")
        if not _storable(value):
            raise _refused(f"the value of {name!r} has more than {STATE_LENGTH} characters, or some that are no text")
        kept[name] = ("1" if value else "0") if isinstance(value, bool) else str(value)
    return kept


def _storable(value: object) -> bool:
    """Whether every database takes it: short, without NUL and without half a surrogate pair."""
    text = str(value)
    return len(text) <= STATE_LENGTH and not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text)


def _refused(why: str) -> StepError:
    return StepError(
        f"the `state` in the body's answer cannot be kept: {why}", type="invalid_state",
        impact="the body ran, and nothing of its state was kept",
        remediation='let the last line be like {"state": {"Version": "1.2"}}',
    )  # fmt: skip
