"""What packages there are, where they are applied, and what has drifted since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, select

from agent.content import loading
from agent.content.definitions import AlertTemplateDefinition, Definition, MonitorDefinition
from agent.content.packages import LoadedPackage, version_key
from agent.content.repository import ContentRepository
from agent.errors import UsageError
from agent.functions import registry
from agent.installation import Installation
from agent.model.packages import AppliedPackage
from agent.packages import ordering
from agent.packages.applying import against_danger
from agent.packages.changes import edits_of
from agent.services import credential_kinds


@dataclass(frozen=True)
class InStore:
    """A package that can be applied. `applied`: slugs of the clients that it is applied for."""

    name: str
    key: str
    version: str
    description: str
    publisher: str
    revocation: str
    digest: str
    shipped: bool
    applied: tuple[str, ...]


@dataclass(frozen=True)
class Applied:
    """A package as it is applied for a client. `drift`: what is otherwise now than when it was applied."""

    number: int | None
    name: str
    key: str
    version: str
    digest: str
    listed: Mapping[str, str]
    applied_at: datetime
    applied_by: str
    drift: tuple[str, ...]


def in_store(installation: Installation) -> list[InStore]:
    """All packages, by name."""
    with installation.database.reading() as session:
        rows = session.exec(select(AppliedPackage).order_by(AppliedPackage.client)).all()
    return [
        InStore(
            p.name, p.key, p.version, p.definition.description, p.definition.publisher, p.definition.revocation.value,
            p.digest, p.shipped, tuple(r.client for r in rows if r.package == p.key),
        )
        for p in installation.content.packages()
    ]  # fmt: skip


def applied(installation: Installation, slug: str) -> list[Applied]:
    """A client's packages in its order, with their drift."""
    content = installation.content
    with installation.database.reading() as session:
        rows = {r.package: r for r in session.exec(select(AppliedPackage).where(AppliedPackage.client == slug))}
    listing = content.client_list(slug)
    order = list(listing.definition.packages) if listing else []
    known = {p.key: p for p in content.packages()}
    found = []
    for key, row in rows.items():
        package = known.get(key)
        name = package.name if package else key
        drift = tuple(_drift(installation, slug, row, package, order))
        number = order.index(name) + 1 if name in order else None
        found.append(
            Applied(number, name, key, row.version, row.digest, row.listed, row.applied_at, row.applied_by, drift)
        )
    return sorted(found, key=lambda a: (a.number is None, a.number or 0, a.name))


def order_faults(installation: Installation, slug: str) -> list[str]:
    """What is wrong with a client's order: doubles, names that are not applied, lists that do not follow, danger."""
    listing = installation.content.client_list(slug)
    if listing is None:
        return []
    order, lists = listing.definition.packages, listing.definition.scripts
    names = [a.name for a in applied(installation, slug)]
    faults = [f"{n} stands in the order twice" for n in dict.fromkeys(order) if order.count(n) > 1]
    faults += [f"{n} stands in the order and is not applied" for n in order if n not in names]
    faults += [f"{n} is applied and stands not in the order" for n in names if n not in order]
    arranged = ordering.arranged(installation.content, slug, lists, list(dict.fromkeys(order)))
    faults += [
        f"the list of {w!r} does not follow the order of the packages" for w, made in arranged.items()
        if made != list(lists[w])
    ]  # fmt: skip
    return faults + against_danger(installation, slug, lists)


def _drift(
    installation: Installation, slug: str, row: AppliedPackage, package: LoadedPackage | None, order: Sequence[str]
) -> Iterator[str]:
    if package is None:
        yield "the package is not here any more"
        return
    if version_key(package.version) > version_key(row.version):
        yield f"{package.version} is here: apply it again"
    elif package.version != row.version:
        yield f"only {package.version} is here"
    elif package.digest != row.digest:
        yield "its content has changed since"
    if package.name not in order:
        yield "it stands not in the client's order"
    listing = installation.content.client_list(slug)
    lists = listing.definition.scripts if listing else {}
    for script, wrapper in row.listed.items():
        names = lists.get(wrapper, ())
        if not any(ordering.found_package(installation.content, slug, n) == (package, script) for n in names):
            yield f"{script} is not listed for {wrapper!r} any more"
    texts = {f"content/monitors/{n}": package.files[f"monitors/{n}"] for n in package.definition.monitors}
    for edit in edits_of(installation.settings.workspace, dict(texts)):
        yield f"{edit.path} is {'gone' if edit.before is None else 'another than the package has'}"


def check(content: ContentRepository, package: LoadedPackage) -> list[str]:
    """What is wrong with a package that its file alone does not show; empty when it can be applied."""
    return list(_faults(content, package))


def _faults(content: ContentRepository, package: LoadedPackage) -> Iterator[str]:
    definition, folder = package.definition, package.file.parent
    scripts = {s.key: s for s in content.scripts() if s.file.parent.parent == folder}
    on_disk = {p.split("/")[0] for p in package.files if p.endswith("/script.yaml")}
    named = {s.script for s in definition.scripts}
    yield from (
        f"the script {key} does not load: `exeunt script check` says why" for key in sorted(on_disk - set(scripts))
    )
    yield from (f"the folder {key} has a script that package.yaml does not name" for key in sorted(on_disk - named))
    for script in definition.scripts:
        try:
            if script.joins is not None:
                wrapper = content.script(script.joins)
                found = scripts.get(script.script)
                if found is not None and found.definition.target != wrapper.definition.target:
                    yield f"{script.script} is for a {found.definition.target}, and {wrapper.name!r} is not"
        except UsageError as error:
            yield f"{script.script}: {error}"
    for used in sorted(_functions(scripts.values(), definition.ticketing)):
        try:
            registry.get(used)
        except UsageError as error:
            yield str(error)
    files: tuple[tuple[str, tuple[str, ...], type[Definition]], ...] = (
        ("monitors", definition.monitors, MonitorDefinition),
        ("alert_templates", definition.alert_templates, AlertTemplateDefinition),
    )
    for kind, names, model in files:
        yield from (str(fault) for n in names for fault in loading.faults(folder / kind / n, model))
    for shell in definition.credentials:
        other = credential_kinds.shell_of((p for p in content.packages() if p.key != package.key), shell.kind)
        if other is not None and other.model_dump(exclude={"name", "optional"}) != shell.model_dump(
            exclude={"name", "optional"}
        ):
            yield f"the kind {shell.kind} is described otherwise by another package"


def _functions(scripts: Any, ticketing: Any) -> set[str]:
    used = {step.function for s in scripts for step in s.definition.steps if step.function}
    return used | ({ticketing.function} if ticketing else set())


def review(content: ContentRepository, package: LoadedPackage) -> list[dict[str, Any]]:
    """The steps of its scripts, in order, so that they can be read before use (OOM-27)."""
    joins = {s.script: s.joins for s in package.definition.scripts}
    scripts = {s.key: s for s in content.scripts() if s.file.parent.parent == package.file.parent}
    return [
        {"script": scripts[key].name, "wrapper": wrapper, "step": step.name,
         "does": step.function or step.script or step.children or step.fallback, "with": dict(step.with_)}
        for key, wrapper in joins.items() if key in scripts for step in scripts[key].definition.steps
    ]  # fmt: skip


def rows_of(session: Session) -> Sequence[AppliedPackage]:
    """Everything that is applied, by client and package."""
    return session.exec(select(AppliedPackage).order_by(AppliedPackage.client, AppliedPackage.package)).all()
