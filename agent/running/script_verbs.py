"""What one can do with the scripts of a client: duplicate, use, take off the list. Console, API and command line call these."""

from __future__ import annotations

from typing import Any

from agent import audit
from agent.content import duplication
from agent.content.loaded import LoadedClient, LoadedScript
from agent.content.reading import PARTNER
from agent.installation import Installation
from agent.inventory.lookup import place_id
from agent.model.places import Client
from agent.services.freezing import refuse_when_frozen


def duplicate(
    installation: Installation, name: str, client: Client | None, *, actor: str, new_name: str | None = None
) -> LoadedScript:
    """Copy a script for a client, or (None) for the partner default. It runs nowhere until `use`; nothing is overwritten.

    Raises NotFound, UsageError, Conflict.
    """
    _refuse_frozen(installation, f"duplicating {name!r} for {_slug(client)}")
    made = duplication.duplicate(
        installation.content, name, _slug(client), new_name, client.name if client is not None else None
    )
    details = {"script": made.name, "copied_from": name, "digest": made.digest}
    _record(installation, "script.duplicate", client, actor, details)
    return made


def use(
    installation: Installation,
    name: str,
    client: Client | None,
    wrapper: str,
    *,
    actor: str,
    position: int | None = None,
) -> LoadedClient:
    """List a script for a client's wrapper: from now on it runs. `position` from 1, None: last.

    Raises NotFound, UsageError, Conflict when it is listed already.
    """
    _refuse_frozen(installation, f"listing {name!r} for {wrapper!r} of {_slug(client)}")
    listing = duplication.use(installation.content, _slug(client), wrapper, name, position)
    _record(installation, "script.use", client, actor, {"script": name, "wrapper": wrapper})
    return listing


def unuse(installation: Installation, name: str, client: Client | None, wrapper: str, *, actor: str) -> LoadedClient:
    """Take a script from a client's list. An emptied list stops the wrapper for this client. Raises NotFound."""
    _refuse_frozen(installation, f"taking {name!r} from the list of {wrapper!r} of {_slug(client)}")
    listing = duplication.unuse(installation.content, _slug(client), wrapper, name)
    _record(installation, "script.unuse", client, actor, {"script": name, "wrapper": wrapper})
    return listing


def _refuse_frozen(installation: Installation, edit: str) -> None:
    with installation.database.reading() as session:
        refuse_when_frozen(session, edit)


def _slug(client: Client | None) -> str:
    return PARTNER if client is None else client.slug


def _record(
    installation: Installation, action: str, client: Client | None, actor: str, details: dict[str, Any]
) -> None:
    with installation.database.session() as session:
        audit.record(
            session, actor=actor, action=action, object_kind="script", object_id=str(details["script"]),
            client_id=None if client is None else place_id(client), details={"client": _slug(client), **details},
        )  # fmt: skip
