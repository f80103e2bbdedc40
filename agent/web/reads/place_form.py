"""The columns of a place as a form: which inputs, with what in them, and what a posted form makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel
from sqlmodel import Session, col, or_, select

from agent.errors import UsageError
from agent.inventory.columns import COLUMNS, PLATFORMS, TRANSPORTS, checked
from agent.inventory.lookup import Place
from agent.model.administration import Credential
from agent.model.places import CONTACT_STATUSES, TERMINATION_TYPES, Client, Computer, Contact, Location

#: What machines report, and what has verbs of its own, is not typed in.
_NOT_TYPED = {"last_contact", "date_added", "booted_at", "retired_at", "manager_id"}
#: How a computer is reached: who changes it can have a credential sent elsewhere.
WAY = ("transport", "address", "port", "credential_id", "transport_options")
_CHOICES: dict[str, tuple[str, ...]] = {
    "platform": PLATFORMS, "transport": TRANSPORTS, "status": CONTACT_STATUSES, "termination_type": ("", *TERMINATION_TYPES),
}  # fmt: skip
_CHECKS = {"is_server", "is_probe", "legal_hold", "is_privileged"}
_DATES = {"start_date", "termination_date", "last_working_day"}
_LONG = {"transport_options", "external_ids", "reason_for_leaving"}
_LABELS = {
    "external_id": "External id", "os": "Operating system", "user_name": "User", "is_server": "It is a server",
    "is_probe": "It is a probe", "upn": "User principal name", "legal_hold": "Legal hold: nothing may be deleted",
    "is_privileged": "Holds administrator rights: an offboarding waits for an approval", "credential_id": "Credential",
    "external_ids": "Ids in other systems", "manager_email": "Manager's mail address",
}  # fmt: skip
_HINTS = {
    "slug": "Names the folder of the client's scripts: a-z, 0-9 and -", "timezone": "Such as Europe/Berlin; empty: UTC",
    "transport_options": 'JSON, such as {"timeout": 30}', "external_ids": 'JSON, such as {"zoom": "abc"}',
    "external_id": "Its id elsewhere, such as in your PSA", "transport": "Empty: it is not reached from here",
    "credential_id": "Else the nearest that fits", "is_server": "Offboarded only after an opt-in",
    "is_probe": "Offboarded only after an opt-in",
}  # fmt: skip


class Input(BaseModel):
    """One input of the form."""

    name: str
    label: str
    kind: Literal["text", "choice", "check", "date", "long"]
    value: str
    options: list[tuple[str, str]] = []
    hint: str | None = None
    required: bool = False
    wrong: str | None = None


def inputs(
    session: Session, model: type[Place], place: Place | None, *, way: bool, client_id: int | None = None,
    location_id: int | None = None,
) -> list[Input]:  # fmt: skip
    """The inputs for a new place (None) or one that is stored. `way`: also how a computer is reached."""
    found = []
    for name, column in COLUMNS[model].items():
        if name in _NOT_TYPED or (name in WAY and not way):
            continue
        value = column.show(getattr(place, name)) if place is not None else _start(model, name)
        kind: Any = "choice" if name in _CHOICES or name == "credential_id" else "text"
        kind = "check" if name in _CHECKS else "date" if name in _DATES else "long" if name in _LONG else kind
        options = [(o, o or "—") for o in _CHOICES.get(name, ())]
        if name == "credential_id":
            options = _credentials(session, client_id, location_id)
        found.append(
            Input(
                name=name, label=_LABELS.get(name, name.replace("_", " ").capitalize()), kind=kind, value=value,
                options=options, hint=_HINTS.get(name), required=name == "name",
            )
        )  # fmt: skip
    return found


def given(form: list[Input], posted: Mapping[str, str]) -> dict[str, str]:
    """What a posted form says of each input. Raises UsageError for an input that the form does not have."""
    known = {i.name: i for i in form}
    for name in posted:
        if name not in known:
            raise UsageError(f"the form has no input {name!r}: load the page again and repeat it")
    values = {name: posted[name] for name in known if name in posted}
    return values | {name: ("1" if name in posted else "0") for name, i in known.items() if i.kind == "check"}


def faults(model: type[Place], form: list[Input], values: Mapping[str, str]) -> bool:
    """Put the given values into the form, with what is wrong about each; whether anything is."""
    for one in form:
        one.value = values.get(one.name, one.value)
        try:
            checked(model, {one.name: one.value})
        except UsageError as error:
            one.wrong = str(error).removeprefix(f"{one.name}: ")
    return any(one.wrong for one in form)


def _start(model: type[Place], name: str) -> str:
    default = model.model_fields[name].default
    return str(default) if name in ("platform", "status") and isinstance(default, str) else ""


def _credentials(session: Session, client_id: int | None, location_id: int | None) -> list[tuple[str, str]]:
    """Credentials that the computer may use: of the server, its client or its location."""
    mine = (
        or_(col(Credential.client_id).is_(None), col(Credential.client_id) == client_id),
        or_(col(Credential.location_id).is_(None), col(Credential.location_id) == location_id),
    )
    found = session.exec(
        select(Credential.id, Credential.name, Credential.kind).where(*mine).order_by(col(Credential.name)).limit(500)
    )
    return [("", "—"), *((str(i), f"{name} ({kind})") for i, name, kind in found)]


MODELS: dict[str, type[Place]] = {"client": Client, "location": Location, "computer": Computer, "contact": Contact}
