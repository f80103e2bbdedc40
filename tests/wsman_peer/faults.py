"""Faults that a test asks the peer for: what goes wrong, in which operation, at which occurrence, how often."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["status", "reset_before", "reset_after", "cut", "delay", "drip", "html", "fault"]


@dataclass
class Fault:
    """What goes wrong, by `kind`:

    * `status`: an HTTP status (`code`) and no SOAP; `html`: status 200 and a page; `fault`: a WSManFault (`code`).
    * `reset_before`, `reset_after`: the connection ends as a dying host ends it, before or after the action.
    * `cut`: the answer ends in its middle; `delay`: it comes `seconds` late; `drip`: in small pieces over `seconds`.

    Only `reset_after`, `cut`, `delay` and `drip` carry the operation out.
    """

    kind: Kind
    #: Create, Command, Receive, Send, Signal, Delete, Get, Enumerate, ...; None means any of them.
    operation: str | None = None
    #: From which occurrence of the operation on, counted from 1 since the fault was asked for.
    nth: int = 1
    times: int = 1
    #: The status or the code of the fault.
    code: int = 503
    seconds: float = 0.0
    _seen: int = field(default=0, repr=False)


class Faults:
    """The faults that are waiting, and a record of those that fired."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []
        #: Kind and operation of each fault that fired, in order.
        self.fired: list[tuple[Kind, str]] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._waiting.append(fault)

    def take(self, operation: str) -> Fault | None:
        """The fault for this request, if there is one."""
        with self._lock:
            for fault in self._waiting:
                if fault.operation not in (None, operation):
                    continue
                fault._seen += 1
                if fault._seen >= fault.nth and fault.times > 0:
                    fault.times -= 1
                    self.fired.append((fault.kind, operation))
                    return fault
        return None
