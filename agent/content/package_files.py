"""Reading a package's folder: its definition, and the texts of all its files, of which its digest is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.content import loading
from agent.content.faults import Place, one_error
from agent.content.packages import LoadedPackage, PackageDefinition
from agent.errors import ContentError

#: What a package may consist of.
EXTENSIONS = (".yaml", ".md", ".ps1", ".sh", ".py", ".sql", ".j2")
#: Most files of one package, and how deep they may lie below its folder.
FILES, DEPTH = 200, 4
_IGNORED = ("__pycache__",)


def read_package(folder: Path, *, shipped: bool) -> LoadedPackage:
    """The package in a folder. Raises ContentError (ContentErrors for several faults) with file, line and key.

    Looked at: that each script, monitor, alert template and the documentation that it names is there. What stands in
    them is read by whoever uses them.
    """
    loaded = loading.load(folder / "package.yaml", PackageDefinition)
    definition, document = loaded.definition, loaded.document
    faults = []
    for name, place, extensions in _named(definition):
        try:
            loading.beside(folder, name, extensions)
        except ValueError as error:
            faults.append(document.fault(str(error), place))
    try:
        files = read_files(folder)
    except ContentError as error:
        faults.append(error)
        files = {}
    if faults:
        raise one_error(faults)
    return LoadedPackage(definition, document.file, files, shipped, document)


def read_files(folder: Path) -> dict[str, str]:
    """Path below the folder, with `/` -> text, of every file of a package, in order. Raises ContentError."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if any(part.startswith(".") or part in _IGNORED for part in inner.parts) or path.is_dir():
            continue
        if path.is_symlink():
            raise ContentError("is a symbolic link: a package holds its own files", file=path)
        if path.suffix not in EXTENSIONS:
            raise ContentError(f"has no place in a package: its files end in {', '.join(EXTENSIONS)}", file=path)
        if len(inner.parts) > DEPTH or len(found) == FILES:
            raise ContentError(f"a package has at most {FILES} files, at most {DEPTH} folders deep", file=path)
        found[inner.as_posix()] = loading.read_text(path, loading.BODY_BYTES)
    return found


def _named(definition: PackageDefinition) -> Iterator[tuple[str, Place, tuple[str, ...]]]:
    """Every file that a definition names, with its place there and how its name may end."""
    for index, script in enumerate(definition.scripts):
        yield f"{script.script}/script.yaml", ("scripts", index), (".yaml",)
    for index, name in enumerate(definition.monitors):
        yield f"monitors/{name}", ("monitors", index), (".yaml",)
    for index, name in enumerate(definition.alert_templates):
        yield f"alert_templates/{name}", ("alert_templates", index), (".yaml",)
    yield definition.documentation, ("documentation",), (".md",)
