"""Taking packages over from an archive: everything is checked first, by name; then all of it, or single objects."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlmodel import Session, select

from agent.content.definitions import ScriptDefinition
from agent.content.package_files import read_package
from agent.content.packages import FieldShell, LoadedPackage, PackageDefinition, version_key
from agent.content.reading import read_script
from agent.errors import ContentError, NotFound, UsageError
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.packages import AppliedPackage, PackageChange
from agent.packages import archive, signing, wanted
from agent.packages.applying import scope_of
from agent.packages.archive import Archive
from agent.packages.changes import FileEdit, Planned, edits_of
from agent.packages.exporting import product_version
from agent.packages.pieces import missing
from agent.services import properties

FOLDER = "content/scripts/packages"


@dataclass(frozen=True)
class Allowed:
    """What somebody allows although it is refused otherwise."""

    unsigned: bool = False
    older: bool = False
    other_version: bool = False


@dataclass(frozen=True)
class Incoming:
    """An archive as it was read here: its packages load, and its files are those of the manifest."""

    archive: Archive
    packages: tuple[LoadedPackage, ...]
    #: Key of a package -> its scripts.
    scripts: Mapping[str, tuple[ScriptDefinition, ...]]

    def entry(self, key: str) -> Mapping[str, Any]:
        """What the manifest says of a package."""
        found: Mapping[str, Any] = next(e for e in self.archive.manifest["packages"] if e["key"] == key)
        return found


def read(data: bytes) -> Incoming:
    """Read an archive and the packages in it. Raises UsageError, ContentError for a package that does not load."""
    found = archive.read(data)
    packages: list[LoadedPackage] = []
    scripts: dict[str, tuple[ScriptDefinition, ...]] = {}
    with tempfile.TemporaryDirectory(prefix="exeunt-import-") as folder:
        for key, files in found.packages.items():
            place = Path(folder) / key
            for path, text in files.items():
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                (place / path).write_text(text, encoding="utf-8", newline="")
            try:
                package = read_package(place, shipped=False)
                found_scripts = [read_script(f.parent, None) for f in sorted(place.glob("*/script.yaml"))]
            except ContentError as error:
                said = str(error).replace(folder + "/", "")
                raise UsageError(f"the package {key} of the archive does not load: {said}") from None
            entry = next(e for e in found.manifest["packages"] if e["key"] == key)
            if (package.name, package.version, package.digest) != (entry["name"], entry["version"], entry["digest"]):
                raise UsageError(f"the manifest's entry of {key} is not that of the package in the archive")
            scripts[key] = tuple(s.definition for s in found_scripts)
            packages.append(package)
    return Incoming(found, tuple(packages), scripts)


def plan_import(
    installation: Installation, incoming: Incoming, *, actor: str, client: str | None = None, only: Sequence[str] = (),
    allowed: Allowed = Allowed(),
) -> Planned:  # fmt: skip
    """What taking an archive over would do. Its refusals name all that stands in the way, not only the first.

    `only`: names of single objects (a package's, a field's, a credential's or a property's name, also as `field:NAME`).
    `client`: the credentials are made for it, else for the server. Raises NotFound, UsageError for an unknown object.
    """
    installation.content.reload()
    chosen = _chosen(incoming, only)
    needs = wanted.Needs()
    _signature(installation, incoming, needs, allowed)
    files: dict[str, str | None] = {}
    with installation.database.reading() as session:
        _, client_id = scope_of(session, client) if client is not None else ("", None)
        for package in incoming.packages:
            if ("package", package.name) in chosen:
                files |= _package(installation, incoming, package, needs, allowed)
            _objects(installation, session, incoming, package, chosen, needs, client_id, actor)
        whole = [p for p in incoming.packages if ("package", p.name) in chosen]
        if whole:
            _version(incoming, needs, allowed)
            definitions = [_taken(p, chosen) for p in whole]
            scripts = [s for p in whole for s in incoming.scripts[p.key]]
            for piece in missing(session, installation.content, definitions, scripts):
                needs.refusals.append(f"{piece} is missing here")
    edits = edits_of(installation.settings.workspace, files)
    subject = ", ".join(p.name for p in incoming.packages)
    return Planned(
        "import", subject, tuple(needs.lines), tuple(needs.warnings), tuple(dict.fromkeys(needs.refusals)), edits,
        needs.make, client or "",
    )  # fmt: skip


def _taken(package: LoadedPackage, chosen: set[tuple[str, str]]) -> PackageDefinition:
    """The definition with what is taken over of it only: a field that is left out must be here already."""
    definition = package.definition
    return definition.model_copy(
        update={
            "fields": tuple(f for f in definition.fields if ("field", f.name) in chosen),
            "credentials": tuple(c for c in definition.credentials if ("credential", c.name) in chosen),
            "properties": tuple(p for p in definition.properties if ("property", p.name) in chosen),
        }
    )


def _chosen(incoming: Incoming, only: Sequence[str]) -> set[tuple[str, str]]:
    known: set[tuple[str, str]] = set()
    for package in incoming.packages:
        known.add(("package", package.name))
        known |= {("field", f.name) for f in package.definition.fields}
        known |= {("credential", c.name) for c in package.definition.credentials}
        known |= {("property", p.name) for p in package.definition.properties}
    if not only:
        return known
    found: set[tuple[str, str]] = set()
    for name in only:
        kind, colon, rest = name.partition(":")
        fits = {k for k in known if (colon and k == (kind, rest)) or k[1] == name}
        if not fits:
            listed = ", ".join(f"{k}:{n}" for k, n in sorted(known))
            raise UsageError(f"the archive has no object {name!r}; it has {listed}")
        if len(fits) > 1:
            raise UsageError(f"several objects are called {name!r}: {', '.join(f'{k}:{n}' for k, n in sorted(fits))}")
        found |= fits
    return found


def _signature(installation: Installation, incoming: Incoming, needs: wanted.Needs, allowed: Allowed) -> None:
    with installation.database.reading() as session:
        trusted = properties.value_of(installation, session, properties.TRUSTED) or ""
    signed = signing.verify(incoming.archive.signature, incoming.archive.manifest_bytes, trusted)
    if signed is not None and signed.publisher is not None:
        needs.warnings.append(f"signed by {signed.publisher}")
        return
    what = "is not signed" if signed is None else f"is signed by a key that is not trusted here ({signed.key})"
    if allowed.unsigned:
        needs.warnings.append(f"the archive {what}: allowed")
    else:
        needs.refusals.append(
            f"the archive {what}: trust its publisher by the property {properties.TRUSTED}, or allow it explicitly"
        )


def _version(incoming: Incoming, needs: wanted.Needs, allowed: Allowed) -> None:
    theirs, ours = incoming.archive.manifest.get("product"), product_version()
    if theirs == ours:
        return
    what = f"the archive was made by Exeunt {theirs}, and this is {ours}"
    if allowed.other_version:
        needs.warnings.append(f"{what}: allowed")
    else:
        needs.refusals.append(what)


def _package(
    installation: Installation, incoming: Incoming, package: LoadedPackage, needs: wanted.Needs, allowed: Allowed
) -> dict[str, str | None]:
    """The package's files in the workspace; none where the very same package is here already."""
    content = installation.content
    here = {p.key: p for p in content.packages()}
    clash = next((p for p in here.values() if p.name == package.name and p.key != package.key), None)
    if clash is not None:
        needs.refusals.append(f"the name {package.name!r} is that of the package in the folder {clash.key} here")
    known = here.get(package.key)
    if known is not None and known.name != package.name:
        needs.refusals.append(f"the folder {package.key} is that of the package {known.name!r} here")
    own = {s.name for s in content.scripts() if known and s.file.parent.parent == known.file.parent}
    taken = {s.name for s in content.scripts()} - own
    for name in sorted(s.name for s in incoming.scripts[package.key] if s.name in taken):
        needs.refusals.append(f"the script name {name!r} of {package.name} is taken here")
    if known is None:
        needs.lines.append(f"import the package {package.name} {package.version}")
    elif known.digest == package.digest:
        return {}
    else:
        needs.lines.append(f"import the package {package.name} {package.version} in place of {known.version}")
        older = version_key(package.version) < version_key(known.version)
        if older and not allowed.older:
            needs.refusals.append(f"{package.name} {known.version} is here, and {package.version} is older")
        if package.version == known.version:
            needs.warnings.append(f"{package.name} {package.version} is here with another content")
    texts: dict[str, str | None] = {f"{FOLDER}/{package.key}/{path}": text for path, text in package.files.items()}
    gone = {} if known is None or known.shipped else {f"{FOLDER}/{package.key}/{p}": None for p in known.files}
    return {**gone, **texts}


def _objects(
    installation: Installation, session: Session, incoming: Incoming, package: LoadedPackage, chosen: set[tuple[str, str]],
    needs: wanted.Needs, client_id: int | None, actor: str,
) -> None:  # fmt: skip
    definition = package.definition
    fields = [f for f in _fields(incoming.entry(package.key), definition.fields) if ("field", f.name) in chosen]
    wanted.fields(session, needs, fields, actor=actor)
    shells = [c for c in definition.credentials if ("credential", c.name) in chosen]
    wanted.shells(session, needs, shells, client_id=client_id, actor=actor)
    kept = [p for p in definition.properties if ("property", p.name) in chosen]
    wanted.settings(session, installation, needs, kept, actor=actor)


def _fields(entry: Mapping[str, Any], own: Sequence[FieldShell]) -> list[FieldShell]:
    """The fields as they were where the archive was made; what is no field of the package is not taken."""
    known = {(f.level, f.name): f for f in own}
    found = []
    for raw in entry.get("fields") or ():
        try:
            shell = FieldShell.model_validate(raw)
        except ValidationError:
            raise UsageError("the manifest describes a field that cannot be") from None
        if (shell.level, shell.name) in known:
            found.append(shell)
    return found or list(own)


# --- undo


def plan_undo(installation: Installation, *, actor: str) -> Planned:
    """What taking the last import back would do. Raises NotFound when there is none.

    Refused where a file was edited since, or a package that the import brought is applied.
    """
    installation.content.reload()
    with installation.database.reading() as session:
        row = last_import(session)
        applied = session.exec(select(AppliedPackage)).all()
    edits, needs = [], wanted.Needs()
    workspace = installation.settings.workspace
    now = {e.path: e.before for e in edits_of(workspace, dict.fromkeys(row.files, "\0"))}
    for path, (before, after) in row.files.items():
        if now[path] != after:
            needs.refusals.append(f"{path} was edited since the import")
        edits.append(FileEdit(path, after, before))
        needs.lines.append(f"{'remove' if before is None else 'put back'} {path}")
    brought = {
        p.split("/")[3] for p, (before, _) in row.files.items() if p.endswith("/package.yaml") and before is None
    }
    for use in applied:
        if use.package in brought:
            needs.refusals.append(f"{use.package} is applied for {use.client}: remove it there first")
    for kind, made in row.made.items():
        needs.lines += [f"take back the {kind[:-1] if kind.endswith('s') else kind} {_shown(what)}" for what in made]
    change = row.id

    def act(session: Session) -> Mapping[str, Any]:
        stays = list(wanted.unmake(session, row.made, actor=actor))
        found = session.get(PackageChange, change)
        if found is None or found.state != "done":
            raise UsageError("the import was undone by somebody else at this moment")
        found.state, found.undone_by = "undone", actor
        found.undone_at = utcnow()
        session.add(found)
        return {"of": [change], "stays": stays}

    return Planned("undo", row.subject, tuple(needs.lines), (), tuple(needs.refusals), tuple(edits), act, row.client)


def last_import(session: Session) -> PackageChange:
    """The last import that is done and not undone. Raises NotFound."""
    query = select(PackageChange).where(PackageChange.kind == "import", PackageChange.state == "done")
    rows = sorted(session.exec(query), key=lambda r: r.started_at)
    if not rows:
        raise NotFound("there is no import to undo")
    return rows[-1]


def _shown(what: Any) -> str:
    return " ".join(str(w) for w in what) if isinstance(what, list) else str(what)
