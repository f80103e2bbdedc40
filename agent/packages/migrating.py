"""From development to production: what must be so first, and the secrets and the client's order afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from agent.content import loading
from agent.content.packages import CredentialShell
from agent.content.reading import PARTNER
from agent.errors import ContentError, ExeuntError, UsageError
from agent.installation import Installation
from agent.model.administration import Credential
from agent.packages import applying, changes
from agent.packages.applying import scope_of
from agent.packages.changes import Planned
from agent.packages.importing import Incoming
from agent.services import credential_kinds, credentials, freezing

#: Asks for one value: what it is for, its name, what it is, whether it is secret. None: it stays missing.
Ask = Callable[[str, str, str, bool], str | None]


@dataclass(frozen=True)
class Precondition:
    """One thing that should be so before a migration (OOM-29). `needed`: without it nothing is migrated."""

    name: str
    holds: bool
    detail: str
    needed: bool = True


def preconditions(source: Installation, target: Installation) -> list[Precondition]:
    """What is asked of both sides before packages are carried from one to the other. Changes nothing."""
    found = [
        Precondition(
            "two workspaces", source.settings.workspace.resolve() != target.settings.workspace.resolve(),
            "the target is another workspace than this one",
        )
    ]  # fmt: skip
    for installation, name in ((source, "source"), (target, "target")):
        faults = installation.content.faults()
        said = (
            f"{len(faults)} fault(s) in its content: `exeunt content check`" if faults else "its content has no fault"
        )
        found.append(Precondition(f"content of the {name}", not faults, said, needed=name == "source"))
    try:
        with target.database.reading() as session:
            frozen = freezing.is_frozen(session)
        _ = target.secrets
        found.append(Precondition("database and key of the target", True, "both are there"))
    except ExeuntError as error:
        found.append(Precondition("database and key of the target", False, str(error)))
        frozen = False
    said = "edits are refused there, so nothing changes beside the migration" if frozen else "edits are possible there"
    found.append(Precondition("frozen configuration of the target", frozen, said, needed=False))
    return found


def plan_applications(
    installation: Installation, incoming: Incoming, client: str, *, actor: str
) -> list[Callable[[], Planned]]:
    """After an import: applying its packages for a client in the order, and the phases, that they had. One plan each,
    made when it is asked for, since each builds on what the one before has written.
    """
    order = [n for n in incoming.archive.manifest.get("order") or [] if isinstance(n, str)]
    names = sorted((p.name for p in incoming.packages), key=lambda n: order.index(n) if n in order else len(order))
    plans: list[Callable[[], Planned]] = [
        lambda name=name: applying.plan_apply(  # type: ignore[misc]
            installation, name, client, actor=actor, listed=_listed(incoming, name)
        ) for name in names
    ]  # fmt: skip
    if order:
        plans.append(lambda: applying.plan_order(installation, client, _merged(installation, client, order)))
    return plans


def _listed(incoming: Incoming, name: str) -> dict[str, str]:
    key = next(p.key for p in incoming.packages if p.name == name)
    listed = incoming.entry(key).get("listed")
    return {k: v for k, v in listed.items() if isinstance(v, str)} if isinstance(listed, dict) else {}


def _merged(installation: Installation, client: str, order: list[str]) -> list[str]:
    """The client's order with the imported packages in the order that they had, at the places that they take up."""
    _, now = applying.current_order(installation, client)
    moved = iter([n for n in order if n in now])
    return [next(moved) if n in order else n for n in now]


def apply_all(installation: Installation, plans: list[Callable[[], Planned]], *, actor: str) -> list[Planned]:
    """Carry out the plans that follow an import, in order; what was done. Raises what the first one that fails raises."""
    done = []
    for plan in plans:
        planned = plan()
        changes.perform(installation, planned, actor=actor, moving=True)
        done.append(planned)
    return done


@dataclass(frozen=True)
class Waiting:
    """A credential that waits for its secret, and what a credential of its kind holds."""

    id: int
    name: str
    shell: CredentialShell


def waiting(installation: Installation, incoming: Incoming, client: str | None) -> list[Waiting]:
    """The empty credentials of the kinds of these packages, in the client's scope or the server's."""
    kinds = {c.kind: c for p in incoming.packages for c in p.definition.credentials}
    with installation.database.reading() as session:
        client_id = scope_of(session, client)[1] if client not in (None, PARTNER) else None
        rows = _rows(session, list(kinds), client_id)
    return [Waiting(c.id, c.name, kinds[c.kind]) for c in rows if c.id is not None]


def _rows(session: Session, kinds: list[str], client_id: int | None) -> list[Credential]:
    query = select(Credential).where(
        col(Credential.kind).in_(kinds), col(Credential.secret).is_(None), Credential.client_id == client_id
    )
    return list(session.exec(query.order_by(col(Credential.id))))


def fill(installation: Installation, shells: list[Waiting], ask: Ask, *, actor: str) -> tuple[list[str], list[str]]:
    """Ask for the settings and secrets of empty credentials: names of those that are whole now, and of those that wait on.

    A credential is stored when everything that it needs was given. Raises UsageError for a value that cannot be.
    """
    done, left = [], []
    for shell in shells:
        settings: dict[str, Any] = {}
        for name, setting in shell.shell.settings.items():
            value = ask(shell.name, name, setting.description, False) if setting.required else None
            value = value or setting.default
            if value:
                settings[name] = value
        secrets = {n: v for n in credential_kinds.asked_for(shell.shell)
                   if (v := ask(shell.name, n, shell.shell.secrets[n].description, True))}  # fmt: skip
        complete = all(n in settings for n, s in shell.shell.settings.items() if s.required)
        if complete and (secrets or not shell.shell.secrets):
            credentials.update(installation, shell.id, settings=settings, secret=secrets, actor=actor)
            done.append(shell.name)
        else:
            left.append(shell.name)
    return done, left


def from_environment(environment: Mapping[str, str]) -> Ask:
    """Answers from variables such as `EXEUNT_ZOOM_CLIENT_SECRET` for `client_secret` of the credential `zoom`."""

    def ask(credential: str, name: str, description: str, secret: bool) -> str | None:
        return environment.get(variable(credential, name))

    return ask


def variable(credential: str, name: str) -> str:
    """The variable that a value is taken from."""
    return "EXEUNT_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in f"{credential}_{name}").upper()


def from_file(text: str) -> Ask:
    """Answers from YAML: `zoom: {account_id: ..., client_secret: ...}`. Raises UsageError for another form."""
    try:
        data = loading.parse(text, Path("secrets")).data
    except ContentError as error:
        # Never the text itself: it holds secrets.
        raise UsageError(f"the file of secrets is no YAML of credentials (line {error.line})") from None
    if not isinstance(data, dict) or not all(
        isinstance(v, dict) and all(isinstance(x, str) for x in v.values()) for v in data.values()
    ):
        raise UsageError("the file of secrets must read `credential: {name: value, ...}`")
    return lambda credential, name, description, secret: data.get(credential, {}).get(name)
