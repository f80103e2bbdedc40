"""A client's own scripts: duplicating a shared one, listing it for a wrapper, and seeing that its origin moved on."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import yaml

from agent.content import loading
from agent.content.definitions import ClientScripts, Role, ScriptDefinition
from agent.content.faults import Place
from agent.content.listing import edited_list
from agent.content.loaded import LoadedClient, LoadedScript
from agent.content.reading import PARTNER, SLUG, clients_folder, read_script
from agent.content.repository import ContentRepository, is_template
from agent.errors import Conflict, ContentError, NotFound, StoreError, UsageError


@dataclass(frozen=True)
class Drift:
    """A duplicate whose origin is no longer what it was. `origin` is None when it is gone."""

    script: LoadedScript
    origin: LoadedScript | None
    reason: str


def duplicate(
    repository: ContentRepository, name: str, client: str, new_name: str | None = None, client_name: str | None = None
) -> LoadedScript:
    """Copy a script into a client's folder (`partner` for the partner default). It runs nowhere until it is listed.

    The new name is `new_name`, else the old one without the word Template and with the client's name (`client_name`,
    else made from the slug) for the word Partner. The text of the YAML file is kept, comments too; `copied_from` is
    written into it. All or nothing. Raises Conflict when the name or the folder is taken, NotFound, ContentError,
    UsageError for a wrong slug, StoreError when it cannot be written.
    """
    _check_slug(client)
    repository.reload()
    found = repository.script(name, client)
    # Read again: what is copied and what the digest says must be the same text.
    origin = read_script(found.file.parent, found.client)
    label = client_name or ("Partner" if client == PARTNER else client.replace("-", " ").title())
    own_name = new_name if new_name is not None else duplicate_name(origin.name, label)
    if own_name == origin.name and new_name is None:
        own_name = f"{own_name} - {label}"
    folder = clients_folder(repository.workspace) / client / _folder_name(own_name)
    text = _edited(origin, own_name)
    _refuse_taken(repository, own_name, client, folder)
    _write_folder(folder, {"script.yaml": text, **origin.bodies})
    repository.reload()
    return repository.script(own_name, client)


def duplicate_name(original: str, label: str) -> str:
    """`Offboarding Scripts - Partner [Template]`, `Contoso` -> `Offboarding Scripts - Contoso`."""
    name = re.sub(r"\[\s*template\s*\]|\btemplate\b", " ", original, flags=re.IGNORECASE)
    name = re.sub(r"\bPartner\b", lambda _: label, name)
    return re.sub(r"\s+", " ", name).strip(" -")


def _check_slug(client: str) -> None:
    if not SLUG.fullmatch(client):
        raise UsageError(f"{client!r} is no slug of a client: a to z, 0 to 9 and `-`")


def _folder_name(name: str) -> str:
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", ascii_name).strip("_")[:100] or "script"


def _refuse_taken(repository: ContentRepository, name: str, client: str, folder: Path) -> None:
    if os.path.lexists(folder):
        raise Conflict(f"{folder} exists already: nothing was overwritten; give the duplicate another name")
    if is_template(name):
        raise UsageError(f"the name {name!r} says that it is a template: a duplicate needs another one")
    try:
        taken = repository.script(name, client)
    except NotFound:
        return
    raise Conflict(f"{taken.file} has the name {name!r} already: give the duplicate another one")


def _scalar(text: str) -> str:
    """A text as a scalar of YAML on one line."""
    return yaml.safe_dump(text, allow_unicode=True, width=10_000).removesuffix("\n").removesuffix("\n...")


def _edited(origin: LoadedScript, name: str) -> str:
    """The origin's text with another name and its `copied_from`, nothing else changed. Raises ContentError."""
    document = origin.document
    copied_from = {"script": origin.name, "digest": origin.digest}
    values: dict[Place, str] = {("name",): name}
    if "copied_from" in document.data:
        values |= {("copied_from", key): value for key, value in copied_from.items()}
    text = document.text
    for place, value in sorted(values.items(), key=lambda item: document.spans[item[0]], reverse=True):
        start, end = document.spans[place]
        line_end = "\n" if text[start:end].endswith("\n") else ""
        text = text[:start] + _scalar(value) + line_end + text[end:]
    if "copied_from" not in document.data:
        after = text.find("\n", document.spans[("name",)][0]) + 1 or len(text)
        gap = "" if text[:after].endswith("\n") else "\n"
        written = f"{{script: {_scalar_in_flow(origin.name)}, digest: {origin.digest}}}"
        text = f"{text[:after]}{gap}copied_from: {written}\n{text[after:]}"
    expected = {**document.data, "name": name, "copied_from": copied_from}
    try:
        result = loading.parse(text, origin.file)
    except ContentError:
        result = None
    if result is None or result.data != expected:
        raise document.fault("cannot be copied as text: write each key of the file on a line of its own")
    loading.validate(result, ScriptDefinition)
    return text


def _scalar_in_flow(text: str) -> str:
    return yaml.safe_dump([text], allow_unicode=True, width=10_000, default_flow_style=True).strip()[1:-1]


def _write_folder(folder: Path, texts: dict[str, str]) -> None:
    """Write a folder that did not exist, all or nothing: under a hidden name first, which nobody reads."""
    hidden = folder.with_name(f".new-{secrets.token_hex(8)}")
    try:
        for name, text in texts.items():
            file = hidden / name
            file.parent.mkdir(parents=True, exist_ok=True)
            _write_synced(file, text)
        # Fails when the folder has come into being in the meantime and holds something.
        hidden.rename(folder)
    except FileExistsError:
        raise Conflict(f"{folder} exists already: nothing was overwritten") from None
    except OSError as error:
        if folder.exists():
            raise Conflict(f"{folder} exists already: nothing was overwritten") from None
        raise StoreError(f"{folder} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _write_synced(file: Path, text: str) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


# --- listing


def use(
    repository: ContentRepository, client: str, wrapper: str, script: str, position: int | None = None
) -> LoadedClient:
    """List a script for a wrapper of a client (or `partner`): from now on it runs. `position` from 1, None: last.

    Raises Conflict when it is listed already, UsageError for a template or a position outside the list, NotFound.
    """
    chosen, names = _prepared(repository, client, wrapper, script)
    if chosen.name in names or chosen.key in names:
        raise Conflict(f"{chosen.name!r} is already listed for {wrapper!r} of {client}")
    if is_template(chosen.name):
        raise UsageError(f"{chosen.name!r} is a template: duplicate it first, and use the duplicate")
    if chosen.definition.role in (Role.WRAPPER, Role.FALLBACK):
        raise UsageError(f"{chosen.name!r} has the role {chosen.definition.role}: it cannot be a child")
    if chosen.definition.target != repository.script(wrapper, client).definition.target:
        raise UsageError(f"{chosen.name!r} is for a {chosen.definition.target}, and the wrapper is not")
    index = len(names) if position is None else position - 1
    if not 0 <= index <= len(names):
        raise UsageError(f"the position must be from 1 to {len(names) + 1}, not {position}")
    return _store(repository, client, wrapper, names, [*names[:index], chosen.name, *names[index:]])


def unuse(repository: ContentRepository, client: str, wrapper: str, script: str) -> LoadedClient:
    """Take a script from a client's list. An emptied list stays, and stops the wrapper for this client.

    Raises NotFound when it is not listed.
    """
    _check_slug(client)
    repository.reload()
    listing = repository.client_list(client)
    names = list(listing.definition.scripts.get(wrapper, ())) if listing else []
    found = [n for n in names if n == script] or [n for n in names if _is(repository, n, script, client)]
    if not found:
        raise NotFound(f"{script!r} is not listed for {wrapper!r} of {client}")
    return _store(repository, client, wrapper, names, [n for n in names if n != found[0]])


def _is(repository: ContentRepository, listed: str, asked: str, client: str) -> bool:
    try:
        script = repository.script(listed, client)
    except UsageError:
        return False
    return asked in (script.name, script.key)


def _prepared(repository: ContentRepository, client: str, wrapper: str, script: str) -> tuple[LoadedScript, list[str]]:
    _check_slug(client)
    repository.reload()
    outer = repository.script(wrapper, client)
    if outer.definition.role is not Role.WRAPPER or outer.name != wrapper:
        raise UsageError(f"{wrapper!r} is no name of a wrapper")
    listing = repository.client_list(client)
    return repository.script(script, client), list(listing.definition.scripts.get(wrapper, ()) if listing else ())


def _store(repository: ContentRepository, client: str, wrapper: str, old: list[str], new: list[str]) -> LoadedClient:
    file = clients_folder(repository.workspace) / client / "client.yaml"
    listing = repository.client_list(client)
    text = edited_list(listing.document if listing else None, client, wrapper, new)
    loading.validate(loading.parse(text, file), ClientScripts)
    hidden = file.with_name(f".client-{secrets.token_hex(8)}.yaml")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(hidden, text)
        if listing and loading.read_text(file, loading.YAML_BYTES) != listing.document.text:
            raise Conflict(f"{file} was changed by somebody else at this moment: nothing was written; try again")
        hidden.replace(file)
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}") from None
    finally:
        hidden.unlink(missing_ok=True)
    repository.reload()
    stored = repository.client_list(client)
    assert stored is not None and list(stored.definition.scripts[wrapper]) == new, (old, new)
    return stored


def drift(repository: ContentRepository) -> list[Drift]:
    """Duplicates whose origin changed, or is gone, since they were copied."""
    found = []
    for script in repository.scripts():
        copied = script.definition.copied_from
        if copied is None:
            continue
        try:
            origin: LoadedScript | None = repository.script(copied.script, script.client)
        except UsageError as error:
            found.append(Drift(script, None, f"the origin cannot be compared: {error}"))
            continue
        if origin is not None and origin.digest != copied.digest:
            reason = f"the origin `{origin.name}` has changed since: compare them, then write digest {origin.digest}"
            found.append(Drift(script, origin, reason))
    return found
