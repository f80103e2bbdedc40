"""Values on their way to PowerShell and back: typed parameters in, lines of text out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pypsrp.complex_objects import ComplexObject, GenericComplexObject
from pypsrp.powershell import PowerShell
from pypsrp.serializer import TaggedValue

from agent.errors import UsageError
from agent.transports.output import OutputCollector

#: Objects within objects deeper than this are given as their own text; PowerShell itself stops earlier.
MAX_DEPTH = 8


def typed(value: Any) -> Any:
    """A value of `binding.merged` as pypsrp must get it: by itself it makes every number 32 bits wide.

    Lists arrive as arrays, mappings as hash tables. Raises UsageError for a number beyond 64 bits and as `text`.
    """
    if isinstance(value, float):
        return TaggedValue("Db", repr(value))
    if isinstance(value, int) and not isinstance(value, bool):
        if -(2**31) <= value < 2**31:
            return value
        if -(2**63) <= value < 2**63:
            return TaggedValue("I64", value)
        raise UsageError(f"the parameter value {value} does not fit into 64 bits")
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {text(name): typed(part) for name, part in value.items()}
    if isinstance(value, list):
        return [typed(part) for part in value]
    return value


def text(value: str) -> str:
    """The text itself. Raises UsageError for the two characters that pypsrp does not escape and XML forbids."""
    if "\ufffe" in value or "\uffff" in value:
        raise UsageError("a text holds U+FFFE or U+FFFF, which PSRP cannot carry")
    return value


def drain(pipeline: PowerShell, output: OutputCollector) -> None:
    """Write what has come since the last time, and forget it, so that memory stays small however long a body talks."""
    for value in pipeline.output:
        if value is not None:
            output.write("stdout", _encoded(line_of(value)))
    streams = pipeline.streams
    for prefix, records in (
        ("ERROR", [_error_text(entry) for entry in streams.error]),
        ("WARNING", [str(entry.message) for entry in streams.warning]),
        ("VERBOSE", [str(entry.message) for entry in streams.verbose]),
        ("DEBUG", [str(entry.message) for entry in streams.debug]),
        ("INFORMATION", [line_of(entry.message_data) for entry in streams.information]),
    ):
        for record in records:
            for line in record.splitlines() or [""]:
                output.write("stderr", _encoded(f"{prefix}: {line}"))
    pipeline.clear_streams()


def line_of(value: Any) -> str:
    """One value of an output stream as text: itself, or JSON when it has parts."""
    if isinstance(value, str):
        return value
    value = _plain(value, 0)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _plain(value: Any, depth: int) -> Any:
    """The value in terms of JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, GenericComplexObject):
        parts = {**value.adapted_properties, **value.extended_properties}
        if not parts or depth >= MAX_DEPTH or _is_message(value):
            return str(value.to_string or "")
        return {str(name): _plain(part, depth + 1) for name, part in parts.items()}
    if isinstance(value, ComplexObject) or depth >= MAX_DEPTH:
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, depth + 1) for entry in value]
    return str(value)


def _is_message(value: GenericComplexObject) -> bool:
    """What Write-Host sends: an object whose text is the message and whose parts are colours."""
    return any(name.endswith("HostInformationMessage") for name in value.types)


def _error_text(record: Any) -> str:
    """What failed, and where in the script. PowerShell's text of the record, its id, the line."""
    shown = str(record) or "(no message)"
    if record.fq_error:
        shown += f" [{record.fq_error}]"
    line = getattr(record, "invocation_script_line_number", None)
    return f"{shown} (line {line})" if line else shown


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "replace") + b"\n"
