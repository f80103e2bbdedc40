"""How much of the inventory a monitor matched. Counting stops as soon as the limits can be judged (DESIGN 5.6)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, func, select

from agent.content.definitions import Limits
from agent.model.places import Computer
from agent.monitoring.scope import Match


@dataclass(frozen=True)
class Share:
    """`matched` of `total` computers that are not retired; when `exact` is false there are at least `total`."""

    matched: int
    total: int
    exact: bool

    @property
    def whole(self) -> bool:
        """Whether every computer matched."""
        return self.matched >= self.total

    def exceeds(self, limit: float | None) -> bool:
        """Whether the matched share is above a limit (0 to 1). Exact for the limit that it was counted for, and above it."""
        return limit is not None and self.matched > limit * self.total


def count_fleet(session: Session, matches: Sequence[Match], limits: Limits) -> tuple[Share, dict[int, Share]]:
    """The share of the whole fleet, and of each matched client by its id. Matches of other places count for nothing."""
    computers = {m.place.id: m.place.client_id for m in matches if m.place.kind == "computer" and m.skipped is None}
    per_client = Counter(computers.values())
    fleet = _share(session, len(computers), limits.share_of_fleet, None)
    return fleet, {c: _share(session, n, limits.share_of_client or 1, c) for c, n in sorted(per_client.items())}


def _share(session: Session, matched: int, limit: float, client_id: int | None) -> Share:
    enough = math.ceil(matched / limit) + 1
    some = select(Computer.computer_id).where(col(Computer.retired_at).is_(None)).limit(enough)
    if client_id is not None:
        some = some.where(Computer.client_id == client_id)
    total = session.exec(select(func.count()).select_from(some.subquery())).one()
    return Share(matched, total, exact=total < enough)
