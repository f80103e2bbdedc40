"""Which child scripts run in each phase of a person's offboarding at one client, where each comes from, and in which order."""

from __future__ import annotations

from dataclasses import dataclass

from agent.content.packages import PHASES, LoadedPackage, Revocation
from agent.content.repository import ContentRepository
from agent.errors import NotFound
from agent.packages.ordering import REVOKING, found_package, violations


@dataclass(frozen=True)
class PhaseScript:
    """One child script. `revokes`: the kind of system, in phases in which access is revoked; `danger`: its rank, from 1."""

    phase: int
    wrapper: str
    position: int
    script: str
    #: client (its own list) or partner (the default for clients without one).
    listed_by: str
    #: Folder of a client that has its own duplicate of the script; None: shipped, of the workspace, or of a package.
    duplicate_of: str | None
    package: str | None
    version: str | None
    revokes: str | None
    danger: int | None


@dataclass(frozen=True)
class Phase:
    """One phase. `missing`: why nothing is listed; in phase 1 and 8 that stops it, in the others it is no fault."""

    number: int
    wrapper: str
    source: str | None
    missing: str | None
    scripts: tuple[PhaseScript, ...]


@dataclass(frozen=True)
class Phases:
    """All phases of a client, and where the order is against the order of danger."""

    client: str
    phases: tuple[Phase, ...]
    violations: tuple[str, ...]


def phases_of(content: ContentRepository, slug: str) -> Phases:
    """What would run. Raises ContentError for a list or a script that does not load."""
    found: list[Phase] = []
    listed: dict[str, list[LoadedPackage | None]] = {}
    for number, wrapper in PHASES.items():
        try:
            chosen = content.children(wrapper, slug)
        except NotFound as error:
            found.append(Phase(number, wrapper, None, str(error), ()))
            continue
        rows = []
        for position, script in enumerate(chosen.scripts, 1):
            package, _ = found_package(content, slug, script.name)
            listed.setdefault(wrapper, []).append(package)
            revokes = _revokes(package) if wrapper in REVOKING else None
            rows.append(
                PhaseScript(
                    number, wrapper, position, script.name, chosen.source, script.client,
                    package.name if package else None, package.version if package else None,
                    revokes.value.replace("_", " ") if revokes else None, revokes.rank + 1 if revokes else None,
                )
            )  # fmt: skip
        found.append(Phase(number, wrapper, chosen.reason, None, tuple(rows)))
    return Phases(slug, tuple(found), tuple(violations(listed)))


def _revokes(package: LoadedPackage | None) -> Revocation | None:
    """None also for a package that keeps the ticket: it goes first."""
    if package is None or package.definition.ticketing is not None or package.definition.revocation is Revocation.NONE:
        return None
    return package.definition.revocation
