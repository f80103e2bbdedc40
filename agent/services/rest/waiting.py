"""How long one call may go on: repeated after the time that the service asks for, as long as its deadline allows."""

from __future__ import annotations

import email.utils
import random
import time
from dataclasses import dataclass, field

from agent.model.base import utcnow

#: Attempts at one request, and the waits in seconds between them where the service names none.
ATTEMPTS, FIRST_WAIT, LONGEST_WAIT = 6, 0.5, 20.0


def pause(seconds: float) -> None:
    """Wait between two attempts."""
    time.sleep(seconds)


@dataclass
class Deadline:
    """The time that one call has, with all its repetitions."""

    seconds: float
    attempt: int = 0
    began: float = field(default_factory=time.monotonic)
    #: Seconds that were waited for, as asked; counted rather than measured, so that a test need not wait.
    waited: float = 0.0

    def wait(self, asked: float | None) -> bool:
        """Wait before the next attempt, at least as long as the service asked; False when there is no time left."""
        self.attempt += 1
        backoff = min(FIRST_WAIT * 2 ** (self.attempt - 1), LONGEST_WAIT)
        seconds = max(asked or 0.0, backoff if asked is None else 0.0) * random.uniform(1.0, 1.2)
        if self.attempt >= ATTEMPTS or self.waited + seconds + time.monotonic() - self.began > self.seconds:
            return False
        self.waited += seconds
        pause(seconds)
        return True


def retry_after(value: str | None) -> float | None:
    """Seconds of a `Retry-After` header: a number, or a date (RFC 9110, 10.2.3). None when there is none."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        until = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until - utcnow()).total_seconds()) if until.tzinfo else None
