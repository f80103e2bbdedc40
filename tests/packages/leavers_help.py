"""Who leaves, and the engine that a test plays itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.installation import Installation
from agent.inventory import places
from agent.inventory.lookup import place_id
from agent.model.places import Client
from agent.running.executor import Executor

if TYPE_CHECKING:
    from conftest import Places


@dataclass
class Hand:
    """Stands where the engine stands: `work()` executes what was queued, whatever its delay."""

    installation: Installation
    queued: list[tuple[str, int]] = field(default_factory=list)

    def enqueue(self, run_id: str, segment: int, client_id: int, *, delay_seconds: float = 0.0) -> None:
        self.queued.append((run_id, segment))

    def enqueue_all(self, runs: Iterable[tuple[str, int, int]]) -> None:
        for run in runs:
            self.enqueue(*run)

    def work(self) -> None:
        """Execute all that is queued."""
        executor = Executor(self.installation, self)  # type: ignore[arg-type]
        while self.queued:
            executor.execute(*self.queued.pop(0))


@dataclass(frozen=True)
class Leavers:
    """Ids of a leaver at each of two clients; their managers are boss@contoso.example and boss@fabrikam.example."""

    john: int
    max: int


@dataclass(frozen=True)
class TwoClients:
    """Ids of two clients."""

    contoso: int
    fabrikam: int


def add_clients(installation: Installation) -> TwoClients:
    """Contoso and Fabrikam in another workspace than that of the fixtures."""
    ids = []
    with installation.database.session() as session:
        for slug in ("contoso", "fabrikam"):
            client = Client(external_id=slug, name=slug.capitalize(), slug=slug)
            session.add(client)
            session.flush()
            ids.append(place_id(client))
    return TwoClients(*ids)


def add_leavers(installation: Installation, where: Places | TwoClients) -> Leavers:
    """Store the two and their managers."""
    ids = []
    with installation.database.session() as session:
        for name, client_id, slug in (("John", where.contoso, "contoso"), ("Max", where.fabrikam, "fabrikam")):
            boss = places.add_contact(
                session, client_id=client_id, name=f"Boss of {name}", email=f"boss@{slug}.example", actor="hr"
            )
            made = places.add_contact(
                session, client_id=client_id, name=name, email=f"{name.lower()}@{slug}.example", actor="hr",
                manager_id=place_id(boss), termination_date="2026-01-31", termination_type="voluntary",
            )  # fmt: skip
            ids.append(place_id(made))
    return Leavers(*ids)
