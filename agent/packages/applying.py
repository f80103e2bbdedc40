"""Applying a package for a client, removing it, and changing the order: each planned as files and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, select

from agent.content.listing import edited_lists
from agent.content.loaded import LoadedClient
from agent.content.packages import PHASES, LoadedPackage
from agent.content.reading import PARTNER
from agent.errors import Conflict, NotFound, UsageError
from agent.installation import Installation
from agent.inventory import lookup
from agent.model.administration import Credential
from agent.model.base import utcnow
from agent.model.packages import AppliedPackage
from agent.model.places import Client
from agent.packages import ordering, wanted
from agent.packages.changes import Planned, edits_of, last_written
from agent.services import credentials


@dataclass
class _Lists:
    """A client's lists and order while they are planned."""

    slug: str
    listing: LoadedClient | None
    lists: dict[str, list[str]]
    order: list[str]

    @property
    def strict(self) -> bool:
        """Whether the client refuses an order against that of danger."""
        return self.listing is not None and self.listing.definition.strict_order


def plan_apply(
    installation: Installation, name: str, client: str, *, actor: str, phase: int | None = None, position: int | None = None,
    listed: Mapping[str, str] | None = None,
) -> Planned:  # fmt: skip
    """What applying a package for a client (a slug, name or id, or `partner`) would do.

    `phase`: its scripts of the phases 1 to 7 join that one instead; `position`: its place in the client's order, from 1;
    None: by danger, or where it is; `listed`: where its scripts were listed elsewhere. Raises NotFound, UsageError for a
    position beyond the end, ContentError.
    """
    installation.content.reload()
    package = installation.content.package(name)
    with installation.database.reading() as session:
        slug, client_id = scope_of(session, client)
        state = _lists(installation, slug)
        needs = wanted.Needs()
        wanted.fields(session, needs, package.definition.fields, actor=actor)
        wanted.shells(session, needs, package.definition.credentials, client_id=client_id, actor=actor)
        wanted.settings(session, installation, needs, package.definition.properties, actor=actor)
        files = _files(installation, session, needs, package)
        applied = session.get(AppliedPackage, (slug, package.key))
    joins = _joins(installation, package, phase, applied.listed if applied else listed or {})
    _insert(installation, state, package, position, needs)
    _list_scripts(installation, state, joins, package, needs)
    text = _settle(installation, state, needs)
    record = {"version": package.version, "digest": package.digest, "listed": joins}
    if applied is None or {"version": applied.version, "digest": applied.digest, "listed": applied.listed} != record:
        was = "" if applied is None or applied.version == package.version else f", which was {applied.version}"
        needs.lines.append(f"note that {package.name} {package.version} is applied for {slug}{was}")

    def act(session: Session) -> Mapping[str, Any]:
        made = needs.make(session)
        row = session.get(AppliedPackage, (slug, package.key)) or AppliedPackage(
            client=slug, package=package.key, version="", digest="", applied_by=actor
        )
        row.version, row.digest, row.listed = package.version, package.digest, joins
        row.applied_at, row.applied_by = utcnow(), actor
        session.add(row)
        return made

    edits = edits_of(installation.settings.workspace, {**files, **text})
    return Planned(
        "apply", package.name, tuple(needs.lines), tuple(needs.warnings), tuple(needs.refusals), edits, act, slug,
        tuple(needs.everywhere),
    )  # fmt: skip


def plan_remove(installation: Installation, name: str, client: str, *, actor: str) -> Planned:
    """What removing a package from a client would do. Fields, properties and credentials with a secret stay.

    Raises NotFound when it is not applied there.
    """
    installation.content.reload()
    needs = wanted.Needs()
    with installation.database.reading() as session:
        slug, client_id = scope_of(session, client)
        rows = session.exec(select(AppliedPackage).where(AppliedPackage.client == slug)).all()
        package = next((p for p in installation.content.packages() if name in (p.name, p.key)), None)
        key = package.key if package else name
        row = next((r for r in rows if r.package == key), None)
        if row is None:
            raise NotFound(f"the package {name!r} is not applied for {slug}")
        others = session.exec(
            select(AppliedPackage).where(AppliedPackage.package == key, AppliedPackage.client != slug)
        ).first()
        files = {} if others or package is None else _unwritten(session, package)
        shells = _unused(session, package, client_id) if package else []
    state = _lists(installation, slug)
    title = package.name if package else key
    for wrapper, names in state.lists.items():
        mine = [n for n in names if _of(installation, slug, n) == key]
        state.lists[wrapper] = [n for n in names if n not in mine]
        needs.lines += [f"take {n!r} from the list of {wrapper!r}" for n in mine]
        if mine and not state.lists[wrapper]:
            needs.warnings.append(
                f"the list of {wrapper!r} is empty then, and stops it for {slug} where it must have one"
            )
    state.order = [n for n in state.order if n != title]
    for path in files:
        needs.for_all(f"remove {path}")
    needs.lines += [f"remove the empty credential {n!r}" for _, n in shells]
    needs.lines.append(f"note that {title} is not applied for {slug} any more; its fields and properties stay")
    text = _settle(installation, state, needs)

    def act(session: Session) -> Mapping[str, Any]:
        found = session.get(AppliedPackage, (slug, key))
        if found is None:
            raise Conflict(f"{title} was removed by somebody else at this moment")
        session.delete(found)
        for credential_id, _ in shells:
            credential = session.get(Credential, credential_id)
            if credential is not None and credential.secret is None:
                credentials.remove_in(session, credential, actor=actor)
        return {"removed": [{"version": found.version, "digest": found.digest, "listed": found.listed}]}

    edits = edits_of(installation.settings.workspace, {**dict.fromkeys(files), **text})
    everywhere = tuple(needs.everywhere)
    return Planned("remove", title, tuple(needs.lines), tuple(needs.warnings), (), edits, act, slug, everywhere)


def plan_order(installation: Installation, client: str, order: Sequence[str]) -> Planned:
    """What another order of a client's packages would change. Raises UsageError unless it names each of them once."""
    installation.content.reload()
    with installation.database.reading() as session:
        slug, _ = scope_of(session, client)
    state, needs = _lists(installation, slug), wanted.Needs()
    old = list(state.order)
    known = {n: p.name for p in installation.content.packages() for n in (p.name, p.key)}
    state.order = ordering.checked(old, [known.get(n, n) for n in order])
    moved = [f"{n}. {name}" for n, name in enumerate(state.order, 1) if old[n - 1] != name]
    needs.lines += [f"order of {slug}: {', '.join(moved)}"] if moved else []
    text = _settle(installation, state, needs)
    edits = edits_of(installation.settings.workspace, text)
    return Planned("order", slug, tuple(needs.lines), tuple(needs.warnings), tuple(needs.refusals), edits, None, slug)


def current_order(installation: Installation, client: str) -> tuple[str, list[str]]:
    """The client's slug, and the names of its packages in their order. Raises NotFound."""
    with installation.database.reading() as session:
        slug, _ = scope_of(session, client)
    return slug, _lists(installation, slug).order


def against_danger(installation: Installation, slug: str, lists: Mapping[str, Sequence[str]]) -> list[str]:
    """Where lists go against the order of danger, in words."""
    found = {
        wrapper: [ordering.found_package(installation.content, slug, n)[0] for n in names]
        for wrapper, names in lists.items()
    }
    return ordering.violations(found)


def scope_of(session: Session, client: str) -> tuple[str, int | None]:
    """Slug and id of a client given by slug, name or id; `partner` has no id. Raises NotFound."""
    if client == PARTNER:
        return PARTNER, None
    found = lookup.find(session, Client, client)
    return found.slug, found.client_id


def _lists(installation: Installation, slug: str) -> _Lists:
    listing = installation.content.client_list(slug)
    definition = listing.definition if listing else None
    lists = {w: list(names) for w, names in definition.scripts.items()} if definition else {}
    return _Lists(slug, listing, lists, list(definition.packages) if definition else [])


def _joins(
    installation: Installation, package: LoadedPackage, phase: int | None, before: Mapping[str, str]
) -> dict[str, str]:
    """Script -> the wrapper whose list it joins."""
    if phase is not None and phase not in range(1, 8):
        raise UsageError("the phase must be from 1 to 7: a deletion stays in phase 8")
    found: dict[str, str] = {}
    for script in package.definition.scripts:
        wrapper = script.joins
        if wrapper is None:
            continue
        in_phases = wrapper in list(PHASES.values())[:7]
        if in_phases and phase is not None:
            wrapper = PHASES[phase]
        elif in_phases and before.get(script.script) in PHASES.values():
            # Where somebody put it by `--phase`, there it stays.
            wrapper = before[script.script]
        found[script.script] = installation.content.script(wrapper).name
    return found


def _insert(
    installation: Installation, state: _Lists, package: LoadedPackage, position: int | None, needs: wanted.Needs
) -> None:
    known = {p.name: p for p in installation.content.packages()}
    if package.name in state.order:
        if position is not None:
            state.order = ordering.moved(state.order, package.name, position)
        return
    at = ordering.place_by_danger(state.order, known, package) if position is None else position - 1
    if not 0 <= at <= len(state.order):
        raise UsageError(f"the position must be from 1 to {len(state.order) + 1}, not {position}")
    state.order.insert(at, package.name)
    needs.lines.append(f"put it into the order of {state.slug} as number {at + 1} of {len(state.order)}")


def _list_scripts(
    installation: Installation, state: _Lists, joins: Mapping[str, str], package: LoadedPackage, needs: wanted.Needs
) -> None:
    by_key = {s.key: s.name for s in installation.content.scripts() if s.file.parent.parent == package.file.parent}
    partner = installation.content.client_list(PARTNER)
    for key, wrapper in joins.items():
        for other, names in state.lists.items():
            if other != wrapper:
                gone = [
                    n for n in names if ordering.found_package(installation.content, state.slug, n) == (package, key)
                ]
                state.lists[other] = [n for n in names if n not in gone]
                needs.lines += [f"take {n!r} from the list of {other!r}" for n in gone]
        if wrapper not in state.lists:
            begun = list(partner.definition.scripts.get(wrapper, ())) if partner and state.slug != PARTNER else []
            state.lists[wrapper] = begun
            if begun:
                needs.lines.append(f"begin the list of {wrapper!r} with the partner's: {', '.join(begun)}")
        listed = state.lists[wrapper]
        there = [n for n in listed if ordering.found_package(installation.content, state.slug, n) == (package, key)]
        if not there:
            listed.append(by_key[key])
            needs.lines.append(f"list {by_key[key]!r} for {wrapper!r}")


def _settle(installation: Installation, state: _Lists, needs: wanted.Needs) -> dict[str, str | None]:
    """Arrange the lists by the order, look for what is against danger, and give the file's new text."""
    content = installation.content
    before = against_danger(installation, state.slug, state.listing.definition.scripts if state.listing else {})
    state.lists = ordering.arranged(content, state.slug, state.lists, state.order)
    found = against_danger(installation, state.slug, state.lists)
    if state.strict:
        needs.refusals += [f for f in found if f not in before]
    needs.warnings += [f for f in found if not state.strict or f in before]
    text = edited_lists(state.listing.document if state.listing else None, state.slug, state.lists, state.order)
    path = f"content/scripts/clients/{state.slug}/client.yaml"
    if state.listing is None and not state.lists and not state.order:
        return {}
    changed = state.listing is None or text != state.listing.document.text
    if changed and not needs.lines:
        needs.lines.append(f"put the lists of {state.slug} into the order of its packages")
    return {path: text}


def _files(
    installation: Installation, session: Session, needs: wanted.Needs, package: LoadedPackage
) -> dict[str, str | None]:
    """Monitors and alert templates, which count for the whole installation once they stand in the workspace."""
    files = _package_files(package)
    edits = edits_of(installation.settings.workspace, files)
    known = last_written(session, files)
    for edit in edits:
        if edit.before is not None and known.get(edit.path) != edit.before:
            needs.refusals.append(f"{edit.path} is there and was not written by a package: move it away")
        needs.for_all(f"{'write' if edit.before is None else 'renew'} {edit.path}")
    return files


def _package_files(package: LoadedPackage) -> dict[str, str | None]:
    named = {f"monitors/{n}" for n in package.definition.monitors}
    named |= {f"alert_templates/{n}" for n in package.definition.alert_templates}
    beside = {p for p in package.files if p.startswith(("monitors/", "alert_templates/")) and not p.endswith(".yaml")}
    return {f"content/{path}": package.files[path] for path in sorted(named | beside)}


def _unwritten(session: Session, package: LoadedPackage) -> list[str]:
    """Files in the workspace that this package wrote."""
    return list(last_written(session, _package_files(package)))


def _unused(session: Session, package: LoadedPackage, client_id: int | None) -> list[tuple[int, str]]:
    """Credentials of its kinds in this scope that still wait for their secret."""
    kinds = [c.kind for c in package.definition.credentials]
    query = select(Credential).where(Credential.client_id == client_id)
    rows = [c for c in session.exec(query) if c.kind in kinds and c.secret is None]
    return [(c.id, c.name) for c in rows if c.id is not None]


def _of(installation: Installation, slug: str, name: str) -> str | None:
    package, _ = ordering.found_package(installation.content, slug, name)
    return package.key if package else None
