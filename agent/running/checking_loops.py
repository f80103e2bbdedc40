"""Finding scripts that reach themselves, as each client sees them."""

from __future__ import annotations

from collections.abc import Iterator

from agent.content.definitions import Role
from agent.content.faults import Place
from agent.content.loaded import LoadedScript
from agent.content.loading import Document
from agent.content.repository import ContentRepository
from agent.errors import UsageError
from agent.running.checking_scripts import Finding


def find_loops(repository: ContentRepository) -> list[tuple[Document, Finding]]:
    """Calls by which a script reaches itself: along `script:` steps, clients' lists of children and fallbacks."""
    found: dict[tuple[str, Place], tuple[Document, Finding]] = {}
    owners: set[str | None] = {None, *repository.client_lists(), *(s.client for s in repository.scripts())}
    for owner in sorted(owners, key=lambda o: o or ""):
        search = _Loops(repository, owner)
        for script in repository.scripts():
            if script.client in (None, owner):
                search.visit(script)
        for document, finding in search.found:
            found.setdefault((str(document.file), finding.place), (document, finding))
    return list(found.values())


class _Loops:
    """A search in depth over the calls as one client sees them."""

    def __init__(self, repository: ContentRepository, owner: str | None) -> None:
        self.repository, self.owner = repository, owner
        self.done: set[str] = set()
        self.path: list[LoadedScript] = []
        self.found: list[tuple[Document, Finding]] = []

    def visit(self, script: LoadedScript) -> None:
        """Follow all calls of a script."""
        if str(script.file) in self.done:
            return
        self.path.append(script)
        for document, place, called in self._calls(script):
            if called in self.path:
                names = [s.name for s in self.path[self.path.index(called) :]] + [called.name]
                self.found.append((document, Finding(place, f"the script reaches itself: {' > '.join(names)}")))
            else:
                self.visit(called)
        self.path.pop()
        self.done.add(str(script.file))

    def _calls(self, script: LoadedScript) -> Iterator[tuple[Document, Place, LoadedScript]]:
        for position, step in enumerate(script.definition.steps):
            if step.script is not None:
                yield from self._named(script.document, ("steps", position, "script"), step.script)
            elif step.children is not None and self.owner is not None:
                listing = self.repository.client_lists().get(self.owner)
                names = listing.definition.scripts.get(step.children, ()) if listing else ()
                for index, name in enumerate(names):
                    assert listing is not None
                    yield from self._named(listing.document, ("scripts", step.children, index), name)
            elif step.fallback is not None:
                for fallback in self.repository.scripts():
                    if fallback.definition.role is Role.FALLBACK:
                        yield script.document, ("steps", position, "fallback"), fallback

    def _named(self, document: Document, place: Place, name: str) -> Iterator[tuple[Document, Place, LoadedScript]]:
        try:
            yield document, place, self.repository.script(name, self.owner)
        except UsageError:
            return  # reported where the call is checked
