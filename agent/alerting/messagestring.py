"""The string form of an alert message (facts 11.3): `success!!!failure`, each `subject~~~body`, then `|priority=1`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.content.definitions import Message

_OPTION = r"\|[A-Za-z_][A-Za-z0-9_]*=[A-Za-z0-9_.+-]*"
_OPTIONS = re.compile(rf"(?:{_OPTION})+\Z")


@dataclass(frozen=True)
class AlertMessage:
    """What is said when the monitor succeeds again and when it fails, and the options such as `priority`."""

    success: Message
    failed: Message
    options: Mapping[str, str] = field(default_factory=dict)

    def of(self, status: str) -> Message:
        """The part for FAILED or SUCCESS."""
        return self.failed if status == "FAILED" else self.success


def parse_alert_message(text: str) -> AlertMessage:
    """A message without `!!!` serves both; a part without `~~~` is subject and body at once.

    Raises ValueError when an option occurs twice.
    """
    options: dict[str, str] = {}
    found = _OPTIONS.search(text)
    if found:
        text = text[: found.start()]
        for item in found[0][1:].split("|"):
            name, _, value = item.partition("=")
            if name in options:
                raise ValueError(f"the option {name!r} of the alert message occurs twice")
            options[name] = value
    success, divider, failed = text.partition("!!!")
    return AlertMessage(_part(success), _part(failed if divider else success), options)


def format_alert_message(message: AlertMessage) -> str:
    """The string form that `parse_alert_message` reads back as the same message. Raises ValueError if there is none."""
    parts = [f"{part.subject}~~~{part.body}" for part in (message.success, message.failed)]
    text = "!!!".join(parts) + "".join(f"|{name}={value}" for name, value in message.options.items())
    if parse_alert_message(text) != message:
        raise ValueError("the message holds `~~~`, `!!!` or an option where the string form has no way to write it")
    return text


def _part(text: str) -> Message:
    subject, divider, body = text.partition("~~~")
    return Message(subject=subject, body=body if divider else subject)
