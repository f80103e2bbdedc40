"""Finding content: shipped first, own content of the workspace after it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

from agent.content.definitions import Role
from agent.content.faults import near
from agent.content.loaded import (
    ChildSelection,
    LoadedAlertTemplate,
    LoadedClient,
    LoadedMonitor,
    LoadedScript,
    from_content,
)
from agent.content.packages import LoadedPackage
from agent.content.reading import PARTNER, Kind, Snapshot, faults_of, read_all
from agent.errors import Conflict, ContentError, NotFound

__all__ = [
    "PARTNER", "ChildSelection", "ContentRepository", "LoadedAlertTemplate", "LoadedClient", "LoadedMonitor",
    "LoadedScript", "from_content", "is_template",
]  # fmt: skip

_T = TypeVar("_T", LoadedMonitor, LoadedAlertTemplate)


def is_template(name: str) -> bool:
    """Whether a script's name says that it is there to be duplicated and must not run itself."""
    return "[template]" in name.casefold()


class ContentRepository:
    """All scripts, monitors and alert templates of an installation; read when first asked for, and again on `reload`.

    A file with a fault does not stop the others: the lists leave it out, `faults()` names it, and asking for it by
    name raises its ContentError. May be used by several threads.
    """

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self._lock = threading.Lock()
        self._read: Snapshot | None = None

    def reload(self) -> None:
        """Forget what was read: the next question reads the files again."""
        with self._lock:
            self._read = None

    @property
    def _content(self) -> Snapshot:
        with self._lock:
            if self._read is None:
                self._read = read_all(self.workspace)
            return self._read

    def faults(self) -> list[ContentError]:
        """Everything that is wrong in all files, each with file, line and key where they are known."""
        return faults_of(self._content)

    # --- scripts

    def scripts(self) -> list[LoadedScript]:
        """All scripts that load, shared ones first, then each client's, by name."""
        return list(self._content.scripts)

    def script(self, name_or_key: str, client: str | None = None) -> LoadedScript:
        """A script by its name or its folder's name.

        With a client's slug its own duplicates are looked at first, then the partner's, then the shared scripts;
        without one only the shared scripts. Raises NotFound with the names that come nearest, Conflict when several
        folders have that name, ContentError when the script is there and does not load.
        """
        content = self._content
        owners: list[str | None] = [None] if client is None else [*dict.fromkeys((client, PARTNER)), None]
        for owner in owners:
            self._refuse_broken("scripts", name_or_key, owner)
            for script in content.scripts:
                if script.client == owner and script.name == name_or_key:
                    return script
            found = [s for s in content.scripts if s.client == owner and s.key == name_or_key]
            if len(found) > 1:
                raise Conflict(f"several scripts have the folder {name_or_key!r}: ask for one of {_names(found)}")
            if found:
                return found[0]
        known = [n for s in content.scripts if s.client in owners for n in (s.name, s.key)]
        elsewhere = [s.client for s in content.scripts if s.client and name_or_key in (s.name, s.key)]
        hint = f"; it is a script of the client {elsewhere[0]!r}" if elsewhere else near(name_or_key, known)
        raise NotFound(f"there is no script {name_or_key!r}{hint}{self._unreadable('scripts')}")

    def fallback(self, option: str | None) -> LoadedScript:
        """The fallback script of an option of `Failed Uninstall Process`; None: nothing is selected.

        Raises NotFound when no fallback has that option, ContentError when several have it.
        """
        found = [s for s in self._content.scripts if s.client is None and _answers(s, option)]
        if not found:
            what = "when nothing is selected" if option is None else f"for the option {option!r}"
            known = [s.definition.option for s in self._content.scripts if s.definition.option]
            raise NotFound(
                f"there is no fallback script {what}{near(option or '', known)}{self._unreadable('scripts')}"
            )
        if len(found) > 1:
            raise found[1].document.fault(f"the option is also that of {found[0].file}", ("option",))
        return found[0]

    # --- children

    def client_lists(self) -> dict[str, LoadedClient]:
        """Slug -> which scripts this client's wrappers run."""
        return dict(self._content.clients)

    def client_list(self, client: str) -> LoadedClient | None:
        """A client's `client.yaml`, None if there is none. Raises ContentError when it does not load."""
        self._refuse_broken("clients", client, client)
        return self._content.clients.get(client)

    def children(self, wrapper: str, client: str) -> ChildSelection:
        """The child scripts that a wrapper runs for a client: its own list, else the partner default.

        Raises NotFound when neither exists, when the list is empty or when a listed script does not exist, and
        ContentError when a list or a script of it does not load.
        """
        sources: tuple[tuple[str, Literal["client", "partner"]], ...] = ((client, "client"), (PARTNER, "partner"))
        for slug, source in sources:
            found = self.client_list(slug)
            if found is None or wrapper not in found.definition.scripts:
                continue
            scripts = tuple(
                self._child(found, wrapper, position) for position in range(len(found.definition.scripts[wrapper]))
            )
            if not scripts:
                raise NotFound(f"{found.file} lists no script for {wrapper!r}: {self._what_to_run(wrapper, slug)}")
            why = (
                "its own list" if source == "client" else f"the partner default, since {client} has no list of its own"
            )
            return ChildSelection(scripts, source, f"{why} ({found.file.name} of {slug})")
        raise NotFound(
            f"neither the client {client!r} nor the partner has child scripts for {wrapper!r}: "
            + self._what_to_run(wrapper, client)
        )

    def _what_to_run(self, wrapper: str, client: str) -> str:
        use = f'`exeunt script use "<its name>" --wrapper "{wrapper}" --client {client}`'
        wrappers = [s for s in self._content.scripts if s.name == wrapper]
        if not wrappers or wrappers[0].definition.target == "computer":
            template = "Offboarding Scripts - Partner [Template]"
            return f'run `exeunt script duplicate "{template}" --client {client}`, edit the duplicate, then run {use}'
        target = wrappers[0].definition.target
        fitting = [
            s.name for s in self._content.scripts
            if s.client is None and s.definition.role is Role.CHILD and s.definition.target == target
        ]  # fmt: skip
        named = sorted(fitting)[:6]
        more = f" and {len(fitting) - len(named)} more, see `exeunt script list`" if len(fitting) > len(named) else ""
        return f"list the scripts it shall run by {use}; shipped for a {target}: {', '.join(named)}{more}"

    def _child(self, listing: LoadedClient, wrapper: str, position: int) -> LoadedScript:
        name, place = listing.definition.scripts[wrapper][position], ("scripts", wrapper, position)
        try:
            script = self.script(name, listing.slug)
        except NotFound as error:
            raise listing.document.fault(str(error), place) from None
        if is_template(script.name):
            raise listing.document.fault(f"`{script.name}` is a template: duplicate it and list the duplicate", place)
        return script

    # --- packages

    def packages(self) -> list[LoadedPackage]:
        """All packages that load, by name. A workspace's own replaces the shipped one of its folder's name."""
        return list(self._content.packages)

    def package(self, name_or_key: str) -> LoadedPackage:
        """A package by its name or its folder's name. Raises NotFound with near names, ContentError."""
        content = self._content
        for package in content.packages:
            if name_or_key in (package.name, package.key):
                return package
        self._refuse_broken("packages", name_or_key, None)
        hint = near(name_or_key, [n for p in content.packages for n in (p.name, p.key)])
        raise NotFound(f"there is no package {name_or_key!r}{hint}; `exeunt package list` shows them")

    def package_of(self, script: LoadedScript) -> LoadedPackage | None:
        """The package that a script belongs to, or that it is a client's duplicate of; None if there is none."""
        origin = script.definition.copied_from
        if script.client is not None:
            shared = [s for s in self._content.scripts if s.client is None and origin and s.name == origin.script]
            return self.package_of(shared[0]) if shared else None
        folder = script.file.parent.parent
        return next((p for p in self._content.packages if p.file.parent == folder), None)

    # --- monitors and alert templates

    def monitors(self) -> list[LoadedMonitor]:
        """All monitors that load, by name. A workspace's own replaces the shipped one of its name."""
        return list(self._content.monitors)

    def unreadable_monitors(self) -> list[ContentError]:
        """Why files of monitors do not load: none of these monitors runs, nor the shipped one that it would replace."""
        return [broken.error for broken in self._content.broken if broken.kind == "monitors"]

    def monitor(self, name: str) -> LoadedMonitor:
        """A monitor by its name. Raises NotFound or ContentError."""
        return self._by_name("monitors", "monitor", name, self._content.monitors)

    def alert_templates(self) -> list[LoadedAlertTemplate]:
        """All alert templates that load, by name. A workspace's own replaces the shipped one of its name."""
        return list(self._content.alert_templates)

    def alert_template(self, name: str) -> LoadedAlertTemplate:
        """An alert template by its name. Raises NotFound or ContentError."""
        return self._by_name("alert_templates", "alert template", name, self._content.alert_templates)

    def _by_name(self, kind: Kind, word: str, name: str, items: Sequence[_T]) -> _T:
        for item in items:
            if item.name == name:
                return item
        self._refuse_broken(kind, name, None)
        hint = near(name, [item.name for item in items])
        raise NotFound(f"there is no {word} {name!r}{hint}{self._unreadable(kind)}")

    def _refuse_broken(self, kind: Kind, name: str, client: str | None) -> None:
        for broken in self._content.broken:
            if broken.kind == kind and broken.client == client and name in broken.names:
                raise broken.error

    def _unreadable(self, kind: Kind) -> str:
        files = {b.error.file for b in self._content.broken if b.kind == kind}
        return f"; {len(files)} file(s) do not load: run `exeunt script check`" if files else ""


def _answers(script: LoadedScript, option: str | None) -> bool:
    definition = script.definition
    if definition.role is not Role.FALLBACK:
        return False
    return definition.option is None if option is None else option in (definition.option, *definition.aliases)


def _names(scripts: Sequence[LoadedScript]) -> str:
    return ", ".join(repr(s.name) for s in scripts)
