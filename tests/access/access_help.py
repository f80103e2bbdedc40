"""What the tests of access share: the usual password, a clock that they turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.model.access import User

PASSWORD = "correct horse battery"
AddUser = Callable[..., User]


@dataclass
class Clock:
    """The present, as the package `agent.access` sees it."""

    now: datetime

    def forward(self, **time: float) -> None:
        self.now += timedelta(**time)
