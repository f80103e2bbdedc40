"""The log: on standard error, for people on a terminal, else one JSON object per line. Secrets are masked."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from agent.audit import mask
from agent.cli.output import clean

#: Libraries that tell too much below this level, such as addresses with tokens in them.
QUIET = (
    "httpx",
    "httpcore",
    "paramiko",
    "urllib3",
    "apscheduler",
    "dbos",
    "sqlalchemy",
    "alembic",
    "spnego",
    "fontTools",
    "pypsrp",
)


class _Stderr(logging.StreamHandler[Any]):
    """Writes to what `sys.stderr` is at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


def configure(level: str) -> None:
    """Send structlog's and the libraries' records to standard error. `level` is DEBUG, INFO, WARNING or ERROR."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _safe,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    on_terminal = sys.stderr.isatty()
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=True)
        if on_terminal
        else structlog.processors.JSONRenderer(ensure_ascii=True)
    )
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(level if level in ("DEBUG", "ERROR") else logging.WARNING)


def _safe(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask what is called like a secret, and show control characters as escapes."""
    kept = {name: event[name] for name in ("_record", "_from_structlog") if name in event}
    told = {name: value if _is_plain(value) else str(value) for name, value in event.items() if name not in kept}
    return {**_cleaned(mask(told)), **kept}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | list | tuple | dict | set | frozenset)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {name: _cleaned(v) for name, v in value.items()}
    return [_cleaned(v) for v in value] if isinstance(value, list) else value
