"""Which alerts are opened, given, tried again and closed after a scan. A pure function of what was found and remembered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from agent.content.alert_styles import AlertStyle, is_due

#: Id of the target and identity: what an alert is told apart by, within one monitor (CWA-33).
AlertKey = tuple[int, str]


@dataclass(frozen=True)
class OpenAlert:
    """What a decision needs to know about an open alert."""

    alerted_at: datetime | None
    #: It was given, and its script is not planned yet.
    script_pending: bool = False


@dataclass(frozen=True)
class Decision:
    """Keys by what happens to their alerts. `give` and `retry` do not overlap."""

    open: frozenset[AlertKey]
    give: frozenset[AlertKey]
    retry: frozenset[AlertKey]
    close: frozenset[AlertKey]


def decide(
    failing: Collection[AlertKey],
    skipped: Collection[AlertKey],
    remembered: Mapping[AlertKey, OpenAlert],
    last_alerted: Mapping[AlertKey, datetime],
    style: AlertStyle,
    *,
    now: datetime,
) -> Decision:
    """`failing` rows count, `skipped` ones are there and left alone; `remembered` are the open alerts.

    `last_alerted` tells when an alert that is closed by now was last given: a style with a period does not start anew
    because the row was gone in between. A skipped row neither opens nor closes anything.
    """
    new = frozenset(k for k in failing if k not in remembered)
    known = frozenset(k for k in failing if k in remembered)
    give = frozenset(
        k for k in new if style.number == 0 or is_due(style, alerted_at=last_alerted.get(k), now=now)
    ) | frozenset(k for k in known if is_due(style, alerted_at=remembered[k].alerted_at, now=now))
    return Decision(
        open=new,
        give=give,
        retry=frozenset(k for k in known - give if remembered[k].script_pending),
        close=frozenset(remembered) - frozenset(failing) - frozenset(skipped),
    )
