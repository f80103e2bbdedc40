"""Credentials: added, changed, tried and removed; a secret is taken and never shown."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi import Form as FormBody
from pydantic import SecretStr
from sqlmodel import col, select

from agent.access.principal import Permission
from agent.errors import UsageError
from agent.functions import probing
from agent.model.places import Client, Computer
from agent.services import credential_kinds
from agent.web.api import credentials
from agent.web.asking import Here, Who
from agent.web.forms import Form
from agent.web.reads.paging import among
from agent.web.rendering import page, redirect

router = APIRouter(prefix="/credentials")
#: Kinds that no package describes: their settings and secrets.
BUILT_IN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "ssh": (("username",), ("password", "private_key", "passphrase")), "winrm": (("username",), ("password",)),
    "psrp": (("username",), ("password",)), "secret": ((), ("secret",)),
}  # fmt: skip
_OWN = ("csrf", "kind", "name", "client")


class Nothing(Form):
    """Only the press of a button."""


class Trial(Form):
    """With which computer it is tried; none: with its service."""

    computer_id: int | None = None


async def posted(request: Request) -> dict[str, str]:
    """The form's fields: its own, `setting.NAME` and `secret.NAME`. Raises UsageError for others."""
    form = await request.form()
    found: dict[str, str] = {}
    for name, value in form.multi_items():
        if not isinstance(value, str) or not (name in _OWN or name.startswith(("setting.", "secret."))):
            raise UsageError(f"there is no field {name!r} in this form")
        found[name] = value
    return found


Raw = Annotated[dict[str, str], Depends(posted)]


@router.get("")
def list_credentials(request: Request, here: Here, who: Who) -> Response:
    """Those that one administers."""
    found = credentials.list_credentials(here, who)
    with here.database.reading() as session:
        names = dict(
            session.exec(
                select(Client.client_id, Client.name).where(col(Client.client_id).in_({c.client_id for c in found}))
            ).all()
        )
    return page(request, "credentials.html", credentials=found, names=names)


@router.get("/new")
def new(request: Request, here: Here, who: Who, kind: str | None = None) -> Response:
    """First the kind, then what it holds."""
    if not who.can_somewhere(Permission.ADMINISTER):
        who.require(Permission.ADMINISTER)
    shells = credential_kinds.kinds(here.content.packages())
    if kind is None:
        kinds = [(k, k) for k in BUILT_IN] + [
            (k, f"{k}: {s.description}" if s.description else k) for k, s in shells.items()
        ]
        return page(request, "credential_kind.html", kinds=kinds)
    with here.database.reading() as session:
        allowed = among(col(Client.client_id), who.clients(Permission.ADMINISTER))
        clients = session.exec(select(Client).where(allowed).order_by(col(Client.name)).limit(2000)).all()
    scopes = ([("", "the whole server")] if who.can(Permission.ADMINISTER) else []) + [
        (c.client_id, c.name) for c in clients
    ]
    return page(request, "credential_new.html", kind=kind, fields=_fields(here, kind), scopes=scopes)


@router.post("")
def add(request: Request, here: Here, who: Who, raw: Raw) -> Response:
    """Store it."""
    client = raw.get("client", "")
    body = credentials.CredentialIn(
        kind=raw.get("kind", "").strip() or "-", name=raw.get("name", "").strip() or "-",
        client_id=int(client) if client.isdecimal() else None, settings=_part(raw, "setting."), secret=_secrets(raw),
    )  # fmt: skip
    if "-" in (body.kind, body.name):
        raise UsageError("a credential needs a kind and a name")
    made = credentials.add_credential(here, who, body)
    return redirect(request, f"/credentials/{made.id}", "The credential is stored.")


@router.get("/{credential_id}")
def show(request: Request, here: Here, who: Who, credential_id: int) -> Response:
    """One credential without its secrets."""
    found = credentials.show_credential(here, who, credential_id)
    with here.database.reading() as session:
        query = select(Computer).where(among(col(Computer.client_id), who.clients(Permission.OPERATE)))
        query = query.where(Computer.transport == found.kind, col(Computer.retired_at).is_(None))
        if found.client_id is not None:
            query = query.where(Computer.client_id == found.client_id)
        computers = [(c.computer_id, c.name) for c in session.exec(query.order_by(col(Computer.name)).limit(200))]
    return page(
        request, "credential.html", credential=found, fields=_fields(here, found.kind), computers=computers,
        service=probing.is_service(found.kind),
    )  # fmt: skip


@router.post("/{credential_id}")
def change(request: Request, here: Here, who: Who, credential_id: int, raw: Raw) -> Response:
    """Replace settings; a secret only where a new one was typed."""
    body = credentials.CredentialChange(settings=_part(raw, "setting."), secret=_secrets(raw))
    credentials.change_credential(here, who, credential_id, body)
    return redirect(request, f"/credentials/{credential_id}", "The credential is changed.")


@router.post("/{credential_id}/remove")
def remove(
    request: Request, here: Here, who: Who, credential_id: int, form: Annotated[Nothing, FormBody()]
) -> Response:
    """Remove one that nothing uses."""
    credentials.remove_credential(here, who, credential_id)
    return redirect(request, "/credentials", "The credential is removed.")


@router.post("/{credential_id}/test")
def test(request: Request, here: Here, who: Who, credential_id: int, form: Annotated[Trial, FormBody()]) -> Response:
    """Sign in with it, at its service or on a computer, and ask something harmless; nothing is changed there."""
    found = credentials.test_credential(here, who, credential_id, credentials.Trial(computer_id=form.computer_id))
    detail = (found.detail or "no reason is known").rstrip(".")
    said = f"It works: {detail} ({found.seconds} s)." if found.reachable else f"It does not work: {detail}."
    return redirect(request, f"/credentials/{credential_id}", said)


def _fields(here: Here, kind: str) -> dict[str, list[tuple[str, str, bool]]]:
    """Settings and secrets of a kind: (name, what it is, required)."""
    shell = credential_kinds.shell_of(here.content.packages(), kind)
    if shell is not None:
        return {
            "settings": [(n, s.description, s.required) for n, s in shell.settings.items()],
            "secrets": [(n, s.description, s.required) for n, s in shell.secrets.items()],
        }
    settings, secrets = BUILT_IN.get(kind, ((), ("secret",)))
    return {"settings": [(n, "", False) for n in settings], "secrets": [(n, "", False) for n in secrets]}


def _part(raw: dict[str, str], prefix: str) -> dict[str, Any]:
    return {n.removeprefix(prefix): v.strip() for n, v in raw.items() if n.startswith(prefix) and v.strip()}


def _secrets(raw: dict[str, str]) -> dict[str, SecretStr] | None:
    given = {n.removeprefix("secret."): SecretStr(v) for n, v in raw.items() if n.startswith("secret.") and v}
    return given or None
