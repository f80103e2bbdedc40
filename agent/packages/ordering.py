"""The order of a client's packages: a list, so that it has no gap and no double. Mostly pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from agent.content.packages import PHASES, LoadedPackage, Revocation
from agent.content.repository import ContentRepository
from agent.errors import NotFound, UsageError

#: In these phases access is revoked; the order within the others has other reasons.
REVOKING = (PHASES[1], PHASES[2])


def by_danger(packages: Sequence[LoadedPackage]) -> list[str]:
    """Names in the order in which access is to be revoked (REWST-165 to 170); what keeps the ticket goes first."""
    return [p.name for p in sorted(packages, key=_danger)]


def _danger(package: LoadedPackage) -> tuple[bool, int]:
    return package.definition.ticketing is None, package.definition.revocation.rank


def place_by_danger(order: Sequence[str], packages: Mapping[str, LoadedPackage], new: LoadedPackage) -> int:
    """Where (from 0) a package joins an order: after the last one that is as dangerous, or more."""
    before = [n for n, name in enumerate(order) if name in packages and _danger(packages[name]) <= _danger(new)]
    return before[-1] + 1 if before else 0


def violations(lists: Mapping[str, Sequence[LoadedPackage | None]]) -> list[str]:
    """Where a wrapper's list revokes something before what is more dangerous; each names both packages.

    `lists`: wrapper -> the package of each of its scripts, None for a script of none.
    """
    found: dict[str, None] = {}
    for wrapper in REVOKING:
        listed = [p for p in lists.get(wrapper, ()) if p is not None and _revokes(p)]
        for position, later in enumerate(listed):
            for earlier in listed[:position]:
                if earlier.definition.revocation.rank > later.definition.revocation.rank:
                    found[_violation(earlier, later, wrapper)] = None
    return list(found)


def _revokes(package: LoadedPackage) -> bool:
    """What keeps the ticket is to go first, and what revokes nothing may stand anywhere."""
    return package.definition.ticketing is None and package.definition.revocation is not Revocation.NONE


def _violation(earlier: LoadedPackage, later: LoadedPackage, wrapper: str) -> str:
    words = {p.name: p.definition.revocation.value.replace("_", " ") for p in (earlier, later)}
    return (
        f"{earlier.name} ({words[earlier.name]}) comes before {later.name} ({words[later.name]}) in {wrapper!r}, "
        "which is against the order of danger"
    )


def arranged(
    content: ContentRepository, slug: str, lists: Mapping[str, Sequence[str]], order: Sequence[str]
) -> dict[str, list[str]]:
    """Wrapper -> its list, with the scripts of the ordered packages in that order; all others stay at their places."""
    result: dict[str, list[str]] = {}
    for wrapper, names in lists.items():
        slots: list[int] = []
        keyed: list[tuple[tuple[int, int, int], str]] = []
        for index, name in enumerate(names):
            package, script = found_package(content, slug, name)
            if package is not None and package.name in order:
                scripts = [s.script for s in package.definition.scripts]
                within = scripts.index(script) if script in scripts else len(scripts)
                slots.append(index)
                keyed.append(((order.index(package.name), within, index), name))
        made = list(names)
        for slot, (_, name) in zip(slots, sorted(keyed), strict=True):
            made[slot] = name
        result[wrapper] = made
    return result


def found_package(content: ContentRepository, slug: str, name: str) -> tuple[LoadedPackage | None, str]:
    """The package of a listed script, and the folder of the script that it is or was copied from."""
    try:
        script = content.script(name, slug)
    except UsageError:
        return None, ""
    package = content.package_of(script)
    if package is not None and script.definition.copied_from is not None and script.client is not None:
        try:
            return package, content.script(script.definition.copied_from.script).key
        except UsageError:
            return package, ""
    return package, script.key


def moved(order: Sequence[str], name: str, position: int) -> list[str]:
    """An order with one package at another position, from 1. Raises NotFound, UsageError for a place beyond the end."""
    if name not in order:
        raise NotFound(f"{name!r} is not applied here; applied: {', '.join(order) or 'none'}")
    if not 1 <= position <= len(order):
        raise UsageError(f"the position must be from 1 to {len(order)}, not {position}")
    rest = [n for n in order if n != name]
    return [*rest[: position - 1], name, *rest[position - 1 :]]


def checked(order: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """A whole new order of the same packages. Raises UsageError naming what is missing, unknown or there twice."""
    double = sorted({n for n in wanted if list(wanted).count(n) > 1})
    faults = [f"twice: {', '.join(double)}"] if double else []
    faults += [f"missing: {', '.join(n)}"] if (n := [n for n in order if n not in wanted]) else []
    faults += [f"not applied here: {', '.join(n)}"] if (n := [n for n in wanted if n not in order]) else []
    if faults:
        raise UsageError(f"the order must name each applied package once; {'; '.join(faults)}")
    return list(wanted)


def from_numbers(text: str) -> list[str]:
    """The order that numbered lines give: `1 Jira`, `2, Zoom`, `3. Slack`; empty lines and `#` lines count for nothing.

    Raises UsageError that names every gap, every number and every name that is there twice, and every other line.
    """
    numbered: list[tuple[int, str]] = []
    faults = []
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        found = re.fullmatch(r"(\d{1,6})\s*[.,;:)\t ]\s*(\S.*)", stripped, re.ASCII)
        if found is None:
            faults.append(f"line {number} is no number with a package's name")
            continue
        numbered.append((int(found[1]), found[2].strip().strip('"')))
    numbers = [n for n, _ in numbered]
    names = [name for _, name in numbered]
    for n in sorted({n for n in numbers if numbers.count(n) > 1}):
        faults.append(f"the number {n} is there twice: {', '.join(name for m, name in numbered if m == n)}")
    faults += [f"{name} is there twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    gaps = (
        [n for n in range(1, max(numbers, default=0) + 1) if n not in numbers]
        if max(numbers, default=0) < 10_000
        else []
    )
    faults += [f"the number {n} is missing" for n in gaps[:20]]
    if 0 in numbers or max(numbers, default=0) >= 10_000:
        faults.append("numbers begin with 1 and have no gaps")
    if faults or not numbered:
        raise UsageError(f"the sequence cannot be taken over: {'; '.join(faults) or 'it is empty'}")
    return [name for _, name in sorted(numbered)]
