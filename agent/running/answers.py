"""The protocol of bodies: exit codes, and the JSON object on the last line (scripts/README.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agent.transports.output import OutputCollector

#: Windows Installer: ERROR_SUCCESS_REBOOT_REQUIRED and ERROR_SUCCESS_REBOOT_INITIATED.
REBOOT_CODES = frozenset({3010, 1641})


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
