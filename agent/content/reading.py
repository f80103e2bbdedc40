"""Reading all content of an installation at once: what loads, and every fault of what does not.

A file that is wrong never disappears silently: its names are kept with its fault, so that asking for it raises that
fault, and a shipped item is not used in place of the workspace's own one that has a mistake in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from agent import shipped
from agent.content import loading
from agent.content.definitions import AlertTemplateDefinition, ClientScripts, MonitorDefinition, ScriptDefinition
from agent.content.faults import Place, all_faults, one_error
from agent.content.loaded import LoadedAlertTemplate, LoadedClient, LoadedMonitor, LoadedScript
from agent.content.package_files import read_package
from agent.content.packages import LoadedPackage
from agent.errors import ContentError

Kind = Literal["scripts", "monitors", "alert_templates", "clients", "packages"]
Item = LoadedScript | LoadedMonitor | LoadedAlertTemplate | LoadedPackage
T = TypeVar("T", LoadedMonitor, LoadedAlertTemplate)

BODY_EXTENSIONS = (".ps1", ".sh", ".py")
PARTNER = "partner"
SLUG = re.compile(r"[a-z0-9-]+")
_IGNORED = ("__pycache__",)
#: How deep folders that group scripts may be nested.
_GROUPS = 3


@dataclass(frozen=True)
class Broken:
    """A file that does not load, with the names that somebody may ask for it by."""

    kind: Kind
    names: frozenset[str]
    #: Slug of the client it belongs to, None for shared content.
    client: str | None
    error: ContentError


@dataclass
class Snapshot:
    """All content as it was at one moment."""

    scripts: list[LoadedScript] = field(default_factory=list)
    monitors: list[LoadedMonitor] = field(default_factory=list)
    alert_templates: list[LoadedAlertTemplate] = field(default_factory=list)
    clients: dict[str, LoadedClient] = field(default_factory=dict)
    packages: list[LoadedPackage] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)


def own_content(workspace: Path, kind: str) -> Path:
    """The folder of a workspace's own content of a kind."""
    return workspace / "content" / kind


def clients_folder(workspace: Path) -> Path:
    """The folder that holds one folder per client, with its duplicates and its `client.yaml`."""
    return own_content(workspace, "scripts") / "clients"


def read_all(workspace: Path) -> Snapshot:
    """Read everything: shipped content first, the workspace's own after it. Raises nothing for a wrong file."""
    snapshot = Snapshot()
    reader = _Reader(snapshot)
    reader.packages(shipped.path("scripts"), own_content(workspace, "scripts"))
    for root in (shipped.path("scripts"), own_content(workspace, "scripts")):
        reader.script_folders(root)
    reader.misplaced_clients(shipped.path("scripts") / "clients")
    for folder in _folders(clients_folder(workspace)):
        reader.client(folder)
    reader.refuse_doubles()
    for root in (shipped.path("monitors"), own_content(workspace, "monitors")):
        snapshot.monitors = reader.flat("monitors", root, reader.monitor, snapshot.monitors)
    for root in (shipped.path("alert_templates"), own_content(workspace, "alert_templates")):
        snapshot.alert_templates = reader.flat("alert_templates", root, reader.alert_template, snapshot.alert_templates)
    return snapshot


def read_script(folder: Path, client: str | None) -> LoadedScript:
    """The script in a folder, with its bodies. Raises ContentError."""
    loaded = loading.load(folder / "script.yaml", ScriptDefinition)
    definition, document = loaded.definition, loaded.document
    faults: list[ContentError] = []
    bodies: dict[str, str] = {}
    for name, place in _bodies(definition):
        try:
            bodies[name] = loading.read_text(loading.beside(folder, name, BODY_EXTENSIONS), loading.BODY_BYTES)
        except ValueError as error:
            faults.append(document.fault(str(error), place))
        except ContentError as error:
            faults.append(error)
    if faults:
        raise one_error(faults)
    return LoadedScript(definition, document.file, folder.name, bodies, client, document)


def _bodies(definition: ScriptDefinition) -> Iterator[tuple[str, Place]]:
    for platform, name in (definition.body or {}).items():
        yield name, ("body", platform)
    for platform, name in ((definition.verify and definition.verify.body) or {}).items():
        yield name, ("verify", "body", platform)


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    # The listing itself tells what is a folder: only where a link leads has to be asked.
    with os.scandir(root) as entries:
        names = sorted(
            e.name for e in entries if e.is_dir(follow_symlinks=False) or (e.is_symlink() and (root / e.name).is_dir())
        )
    return [root / name for name in names if not name.startswith(".") and name not in _IGNORED]


def _is_group(folder: Path) -> bool:
    """Whether a folder holds folders of scripts, such as `packages/zoom`, and no script of its own."""
    return not (folder / "script.yaml").exists() and bool(_folders(folder) or not any(folder.iterdir()))


class _Reader:
    """Fills a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        #: Shipped packages that the workspace has its own of.
        self.replaced: set[Path] = set()

    def packages(self, *roots: Path) -> None:
        """Read every package. One of the workspace takes the place of the shipped one whose folder has its name."""
        own = {folder.name for folder in _folders(roots[-1] / "packages")}
        for root in roots:
            for folder in _folders(root / "packages"):
                if root != roots[-1] and folder.name in own:
                    self.replaced.add(folder)
                elif (folder / "package.yaml").exists():
                    self.package(folder, is_shipped=root != roots[-1])
        found: dict[str, LoadedPackage] = {}
        for package in list(self.snapshot.packages):
            other = found.setdefault(package.name, package)
            if other is not package:
                self.snapshot.packages.remove(package)
                self.fails("packages", package.file, _double(package, other), package.key)
        self.snapshot.packages.sort(key=lambda p: p.name)

    def package(self, folder: Path, *, is_shipped: bool) -> None:
        """Read one package."""
        try:
            self.snapshot.packages.append(read_package(folder, shipped=is_shipped))
        except ContentError as error:
            self.fails("packages", folder / "package.yaml", error, folder.name)

    def script_folders(self, root: Path, client: str | None = None, depth: int = 0) -> None:
        """Read every folder with a `script.yaml`, also in folders that only group others, such as `packages/zoom/`."""
        for folder in _folders(root):
            if (client is None and depth == 0 and folder.name == "clients") or folder in self.replaced:
                continue
            if (folder.parent / "package.yaml").exists() and not any(folder.glob("script.y*ml")):
                # Monitors and alert templates of a package, which count only where it is applied.
                continue
            groups = not any(folder.glob("script.y*ml")) and depth < _GROUPS and _folders(folder)
            if groups or folder.name == "packages":
                self.script_folders(folder, client, depth + 1)
            else:
                self.script(folder, client)

    def script(self, folder: Path, client: str | None) -> None:
        """Read one script."""
        try:
            self.snapshot.scripts.append(read_script(folder, client))
        except ContentError as error:
            self.fails("scripts", folder / "script.yaml", error, folder.name, client)

    def client(self, folder: Path) -> None:
        """Read a client's list and its scripts."""
        file = folder / "client.yaml"
        if not SLUG.fullmatch(folder.name):
            error = ContentError("the folder of a client is named by its slug: a to z, 0 to 9 and `-`", file=folder)
            self.fails("clients", file, error, folder.name, folder.name)
            return
        self.script_folders(folder, folder.name)
        if not file.exists() and not file.is_symlink():
            return
        try:
            loaded = loading.load(file, ClientScripts)
            if loaded.definition.client != folder.name:
                raise loaded.document.fault(f"must be `{folder.name}`, as the folder is named", ("client",))
            self.snapshot.clients[folder.name] = LoadedClient(loaded.definition, file, folder.name, loaded.document)
        except ContentError as error:
            self.fails("clients", file, error, folder.name, folder.name)

    def misplaced_clients(self, folder: Path) -> None:
        """Per-client scripts belong to the workspace; beside the shipped ones they would be read by nobody."""
        for client in _folders(folder):
            reason = "scripts of a client belong into the workspace, under content/scripts/clients"
            self.fails("clients", client, ContentError(reason, file=client), client.name, client.name)

    def monitor(self, file: Path) -> LoadedMonitor:
        """Read one monitor. Raises ContentError."""
        loaded = loading.load(file, MonitorDefinition)
        definition, document = loaded.definition, loaded.document
        sql = None
        if definition.sql is not None:
            try:
                sql = loading.read_text(loading.beside(file.parent, definition.sql, (".sql",)), loading.YAML_BYTES)
            except ValueError as error:
                raise document.fault(str(error), ("sql",)) from None
        return LoadedMonitor(definition, file, sql, document)

    def alert_template(self, file: Path) -> LoadedAlertTemplate:
        """Read one alert template. Raises ContentError."""
        loaded = loading.load(file, AlertTemplateDefinition)
        return LoadedAlertTemplate(loaded.definition, file, loaded.document)

    def flat(self, kind: Kind, root: Path, read: Callable[[Path], T], below: list[T]) -> list[T]:
        """Items of one folder's YAML files, over those of the folder below it, which they replace by name."""
        found: dict[str, T] = {}
        refused: dict[str, ContentError] = {}
        for file in sorted(root.glob("*.y*ml")) if root.is_dir() else []:
            try:
                if file.suffix != ".yaml":
                    raise ContentError("must end in `.yaml` to be read", file=file)
                item = read(file)
                if item.name in found:
                    raise _double(item, found[item.name])
                found[item.name] = item
            except ContentError as error:
                refused |= dict.fromkeys(self.fails(kind, file, error, file.stem), error)
        kept: list[T] = [item for item in below if item.name not in found]
        kept += found.values()
        for item in list(kept):
            if cause := refused.get(item.name) or refused.get(item.file.stem):
                kept.remove(item)
                self.snapshot.broken.append(Broken(kind, frozenset({item.name}), None, cause))
        kept.sort(key=lambda item: item.name)
        return kept

    def refuse_doubles(self) -> None:
        """Take out scripts whose name another one of the same client, or a shared one, has as well."""
        by_name: dict[tuple[str | None, str], list[LoadedScript]] = {}
        for script in self.snapshot.scripts:
            by_name.setdefault((script.client, script.name), []).append(script)
        good = []
        for script in self.snapshot.scripts:
            own = by_name[(script.client, script.name)]
            shared = by_name.get((None, script.name), []) if script.client else []
            other = next((s for s in own + shared if s is not script), None)
            if other is None:
                good.append(script)
            else:
                self.fails("scripts", script.file, _double(script, other), script.key, script.client)
        self.snapshot.scripts = sorted(good, key=lambda s: (s.client or "", s.name))

    def fails(self, kind: Kind, file: Path, error: ContentError, key: str, client: str | None = None) -> set[str]:
        """Keep a fault with every name that the file may be asked for by; gives the names back."""
        names = {key, *_written_names(file)}
        self.snapshot.broken.append(Broken(kind, frozenset(names), client, error))
        return names


def _double(item: Item, other: Item) -> ContentError:
    reason = f"the name `{item.name}` is also that of {other.file}: give one of them another name"
    return item.document.fault(reason, ("name",))


def _written_names(file: Path) -> set[str]:
    """The name that a wrong file most likely has: what stands after `name:` at the beginning of a line."""
    try:
        text = loading.read_text(file, loading.YAML_BYTES)
    except ContentError:
        return set()
    names = set()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.rstrip().strip("\"'") == "name":
            names.add(value.partition(" #")[0].strip().strip("\"'"))
    return names


def faults_of(snapshot: Snapshot) -> list[ContentError]:
    """Every single fault of every file, by file and line."""
    # One error may stand under several names.
    errors = {id(broken.error): broken.error for broken in snapshot.broken}.values()
    faults = [fault for error in errors for fault in all_faults(error)]
    return sorted(faults, key=lambda f: (f.file, f.line or 0, f.key or ""))
