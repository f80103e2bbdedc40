"""The offboarding wizard's form: which inputs it shows, what each is by default at this client, and what somebody changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlmodel import Session, col, func, or_, select

from agent.content.user_inputs import INPUTS, Input, parameter
from agent.errors import UsageError
from agent.model.places import Client, Contact
from agent.running.input_layers import DEFAULT, Resolved
from agent.running.user_inputs import Asked, without_person
from agent.running.user_offboardings import Request

PREFIX = "input."
#: The groups of seed 003, in its order, and what Exeunt has beside them.
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Offboarding settings",
        (
            "disable_sign_in", "revoke_sessions", "reset_password", "remove_mfa_devices", "remove_groups",
            "hide_from_gal", "remove_licenses", "reclaim_licenses_immediately", "convert_mailbox_to_shared", "cancel_calendar_invites",
            "remove_mailbox_permissions", "remove_calendar_permissions", "remove_rules", "remove_mobile_devices",
            "mobile_device_action", "clear_immutable_id", "immediate_disable",
        ),
    ),
    (
        "Permissions and forwarding",
        (
            "manager_email", "mailbox_delegate", "full_access_no_automap", "full_access_automap", "send_as", "send_on_behalf",
            "onedrive_transfer_to", "onedrive_full_access", "maintain_email_forwarding", "forward_to", "keep_copy",
            "forwarding_duration_days", "disable_forwarding", "out_of_office",
        ),
    ),
    ("Notifications", ("notify_email", "notify_webhook", "notify_psa", "notify_security_team", "reference")),
)  # fmt: skip
#: Asked apart, or known from the person.
_ELSEWHERE = ("employee_email", "employee_id", "termination_date", "company_name", "delete_user", "termination_type")
_PEOPLE = 20


@dataclass(frozen=True)
class FormField:
    """One input as the form shows it."""

    input: Input
    value: str
    default: str
    #: Where the default comes from: `default`, a template, a client's field.
    source: str

    @property
    def name(self) -> str:
        return PREFIX + self.input.name

    @property
    def label(self) -> str:
        """Seed 003's name where it has one."""
        return self.input.cipp or self.input.description.partition(";")[0]

    @property
    def from_client(self) -> bool:
        """Somebody has chosen this default, for the client or for everybody."""
        return self.source != DEFAULT


@dataclass(frozen=True)
class Wanted:
    """What the form said."""

    client: Client
    people: tuple[str, ...]
    given: dict[str, str]
    template: str | None
    at: str | None
    raw: Mapping[str, list[str]] = field(repr=False)

    def requests(self) -> list[Request]:
        """One for each person."""
        return [Request(p, self.client.slug, self.given, self.template, self.at) for p in self.people]


def groups(defaults: Resolved, raw: Mapping[str, list[str]]) -> list[tuple[str, list[FormField]]]:
    """The form's groups with their fields; what was typed is shown again."""
    shown = {name for _, names in GROUPS for name in names}
    rest = tuple(n for n in INPUTS if n not in shown and n not in _ELSEWHERE)
    return [
        (title, [_field(INPUTS[n], defaults, raw) for n in names if n in INPUTS])
        for title, names in (*GROUPS, ("More", rest))
    ]


def defaults_of(session: Session, client: Client, template: str | None, actor: str) -> Resolved:
    """The inputs at this client when nobody says anything."""
    return without_person(session, client, Asked({}, template, actor))


def wanted(session: Session, client: Client, raw: Mapping[str, list[str]], actor: str) -> Wanted:
    """What a posted form says. An input counts as given when it differs from the client's default.

    Raises UsageError for a field that is none of the form's, for a date that is half, for nobody.
    """
    template = _one(raw, "template") or None
    defaults = defaults_of(session, client, template, actor)
    given = dict(_typed(raw, defaults))
    people = [*raw.get("person", ()), *_lines(_one(raw, "people"))]
    if kind := _one(raw, "termination_type"):
        given["termination_type"] = kind
    return Wanted(client, tuple(dict.fromkeys(p for p in people if p)), given, template, _moment(raw), raw)


def explained(session: Session, found: Wanted, actor: str) -> tuple[list[str], list[str]]:
    """What is wrong with the options, and what one option turns off in another, before anybody is named."""
    try:
        resolved = without_person(session, found.client, Asked(found.given, found.template, actor))
    except UsageError as error:
        return [str(error).removeprefix("given: ")], []
    off = [f"{INPUTS[n].description}: {s}" for n, s in resolved.sources.items() if s.startswith(("off because of", "on because of"))]
    return [], off


def person(session: Session, client: Client, reference: str) -> Contact | None:
    """The client's contact with that id or address. Whether another client has such a one is not told."""
    if not reference:
        return None
    query = select(Contact).where(Contact.client_id == client.client_id)
    if reference.isdecimal():
        query = query.where(Contact.contact_id == int(reference[:15]))
    else:
        given = reference.lower()
        query = query.where(or_(func.lower(Contact.email) == given, func.lower(Contact.upn) == given))
    return session.exec(query.limit(1)).first()


def people(session: Session, client_id: int, text: str) -> list[Contact]:
    """Contacts of the client whose name or address holds the text, at most 20."""
    query = select(Contact).where(Contact.client_id == client_id).order_by(col(Contact.name)).limit(_PEOPLE)
    if text.strip():
        part = text.strip()
        query = query.where(
            or_(col(Contact.name).icontains(part, autoescape=True), col(Contact.email).icontains(part, autoescape=True))
        )
    return list(session.exec(query))


def _field(item: Input, defaults: Resolved, raw: Mapping[str, list[str]]) -> FormField:
    default = parameter(getattr(defaults.values, item.name))
    return FormField(item, _typed_value(item, raw, default), default, defaults.sources[item.name])


def _typed(raw: Mapping[str, list[str]], defaults: Resolved) -> Iterator[tuple[str, str]]:
    for key in raw:
        if key.startswith(PREFIX) and key.removeprefix(PREFIX) not in INPUTS:
            raise UsageError(f"there is no input {key.removeprefix(PREFIX)!r}")
    if "shown" not in raw:
        return
    shown = {n for _, names in GROUPS for n in names} | {n for n in INPUTS if n not in _ELSEWHERE}
    for name, item in INPUTS.items():
        default = parameter(getattr(defaults.values, name))
        if name in shown and name not in _ELSEWHERE and (value := _typed_value(item, raw, default)) != default:
            yield name, value


def _typed_value(item: Input, raw: Mapping[str, list[str]], default: str) -> str:
    """A checkbox that is not set sends nothing: `shown` tells that the form was there."""
    if "shown" not in raw:
        return default
    value = _one(raw, PREFIX + item.name)
    if item.kind == "checkbox":
        return "1" if value else "0"
    return value.replace("\r\n", "\n") if value is not None else default


def _moment(raw: Mapping[str, list[str]]) -> str | None:
    if _one(raw, "when") != "date":
        return None
    day, time = _one(raw, "date"), _one(raw, "time")
    if not day:
        raise UsageError("the date is missing: give one, or choose the termination date on record")
    return f"{day}T{time}" if time else day


def _lines(text: str | None) -> list[str]:
    return [line.strip() for line in (text or "").replace(",", "\n").splitlines() if line.strip()]


def _one(raw: Mapping[str, list[str]], name: str) -> str | None:
    values = raw.get(name)
    return values[-1].strip() if values else None
