"""Packages as one file, to be carried to another workspace: definitions and shells, never a secret or a setting."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sqlmodel import Session

from agent import audit
from agent.content.loaded import LoadedScript
from agent.content.packages import FieldShell, LoadedPackage
from agent.errors import NotFound, UsageError
from agent.installation import Installation
from agent.inventory import extra_fields
from agent.model.packages import AppliedPackage
from agent.packages import archive, signing
from agent.packages.applying import current_order
from agent.packages.pieces import needed
from agent.packages.wanted import existing


def product_version() -> str:
    """The version of Exeunt."""
    try:
        return version("exeunt")
    except PackageNotFoundError:
        return "0"


def export(installation: Installation, names: Sequence[str], *, actor: str, client: str | None = None) -> bytes:
    """Packages (by name or folder) as one archive, signed where the workspace has a key.

    `client`: also the order that its packages have, and the phases that they were put into; without `names` all of its
    packages. Credentials go as shells: kind and name. Raises NotFound, UsageError for nothing to export.
    """
    content = installation.content
    content.reload()
    slug, order = current_order(installation, client) if client is not None else ("", [])
    wanted = [content.package(n) for n in (names or order)]
    packages = {p.key: p for p in sorted(wanted, key=lambda p: p.key)}
    if not packages:
        raise UsageError("say which packages to export, or --client with packages applied")
    with installation.database.session() as session:
        manifest: dict[str, Any] = {
            "product": product_version(),
            "packages": [_entry(installation, session, p, slug) for p in packages.values()],
            "order": [n for n in order if n in [p.name for p in packages.values()]],
        }
        files = {key: dict(p.files) for key, p in packages.items()}
        text = archive.write(manifest, files)
        signature = signing.sign(installation.settings.workspace, text)
        for package in packages.values():
            audit.record(
                session, actor=actor, action="package.export", object_kind="package", object_id=package.name,
                details={"version": package.version, "digest": package.digest, "signed": signature is not None},
            )  # fmt: skip
    return archive.pack(text, signature, files)


def _entry(installation: Installation, session: Session, package: LoadedPackage, slug: str) -> dict[str, Any]:
    definition = package.definition
    scripts = [s.definition for s in scripts_of(installation, package)]
    applied = session.get(AppliedPackage, (slug, package.key)) if slug else None
    if slug and applied is None:
        raise NotFound(f"the package {package.name!r} is not applied for {slug}")
    return {
        "key": package.key, "name": package.name, "version": package.version, "digest": package.digest,
        "fields": [_field(session, f) for f in definition.fields],
        "credentials": [{"kind": c.kind, "name": c.name} for c in definition.credentials],
        "properties": [p.name for p in definition.properties],
        "needs": [[p.kind, p.name] for p in sorted(needed(definition, scripts))],
        "listed": dict(applied.listed) if applied else {},
    }  # fmt: skip


def scripts_of(installation: Installation, package: LoadedPackage) -> list[LoadedScript]:
    """The scripts of a package that load."""
    return [s for s in installation.content.scripts() if s.file.parent.parent == package.file.parent]


def _field(session: Session, shell: FieldShell) -> dict[str, Any]:
    """A field as it is here, with the options that it got since; as the package has it where it is not defined."""
    known = existing(session, shell)
    options = list(extra_fields.options(known)) if known is not None else list(shell.options)
    made: dict[str, Any] = {**shell.model_dump(mode="json", exclude_none=True), "options": options}
    return made
