"""Which value of each input counts, and where it comes from. Pure: layers in, values with their sources out.

A layer is one place that may say something, such as what somebody gave, a template, a client's fields. The first layer that
has a value wins; the shipped default comes last. Of two values that cannot go together the one from the higher layer wins
and turns the other off; within one layer they are refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from agent.content.user_inputs import INPUTS, Input, UserInputs, parameter
from agent.errors import UsageError

DEFAULT = "default"
#: Names of the inputs that hold addresses of people who get something.
RECEIVERS = (
    "mailbox_delegate", "forward_to", "onedrive_transfer_to", "transfer_groups_to", "transfer_meetings_to",
    "full_access_automap", "full_access_no_automap", "send_as", "send_on_behalf", "onedrive_full_access",
)  # fmt: skip
#: Names of the inputs without which an offboarding had better go on than not begin.
LEFT_OUT = (
    "manager_email", *RECEIVERS, "security_notification_recipients", "asset_reminder_recipients", "out_of_office",
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One place that says something. `values` may be text or typed; None says nothing."""

    source: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Resolved:
    """All inputs, each with its source, and what somebody should know about them."""

    values: UserInputs
    sources: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def parameters(self) -> dict[str, str]:
        """The values as parameters of scripts."""
        return {name: parameter(getattr(self.values, name)) for name in INPUTS}

    def document(self) -> dict[str, dict[str, str]]:
        """The values with their sources, as plans and records keep them."""
        return {n: {"value": v, "source": self.sources[n]} for n, v in self.parameters().items()}


@dataclass(frozen=True)
class _Switch:
    """An input that is on with certain values, and what it is when it is turned off."""

    name: str
    off: Any
    #: The value that means on; None: any that differs from `off`.
    on: Any = None

    def is_on(self, value: Any) -> bool:
        return bool(value == self.on if self.on is not None else value != self.off)


def _off(item: Input) -> Any:
    by_kind: dict[str, Any] = {"checkbox": False, "addresses": (), "items": (), "dropdown": "none"}
    return by_kind.get(item.kind, "")


_FORWARDING = _Switch("maintain_email_forwarding", False)
#: Pairs that cannot both be on.
CONFLICTS: tuple[tuple[_Switch, _Switch], ...] = (
    (_Switch("disable_forwarding", False), _FORWARDING),
    (_Switch("disable_forwarding", False), _Switch("forward_to", "")),
    (_Switch("maintain_email_forwarding", True, on=False), _Switch("forward_to", "")),
    (
        _Switch("mailbox_conversion_method", "shared_mailbox", on="forward_only"),
        _Switch("convert_mailbox_to_shared", False),
    ),
    (_Switch("transfer_meetings_to", ""), _Switch("cancel_calendar_invites", False)),
    (_Switch("backup_user_data", True, on=False), _Switch("backup_location", "")),
    (_Switch("delete_user", False), _Switch("immediate_disable", False)),
    # Deleting an account undoes what else is done to it, so it is asked for alone.
    *((_Switch("delete_user", False), _Switch(i.name, _off(i))) for i in INPUTS.values() if i.act),
)


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    info = UserInputs.model_fields[name]
    annotation: Any = info.annotation
    for piece in info.metadata:
        annotation = Annotated[annotation, piece]
    return TypeAdapter(annotation)


def read(layer: Layer) -> dict[str, Any]:
    """The layer's values with their types. Raises UsageError that names the source, the input and what was expected."""
    found: dict[str, Any] = {}
    for name, value in layer.values.items():
        if name not in INPUTS:
            near = difflib.get_close_matches(name, INPUTS, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"{layer.source}: there is no input {name!r}{hint}")
        if value is None or (value == "" and INPUTS[name].kind not in ("text", "address", "addresses", "items")):
            continue
        try:
            found[name] = _adapter(name).validate_python(value)
        except ValidationError as error:
            reasons = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())
            raise UsageError(f"{layer.source}: {name}: {reasons}") from None
    return found


def without_unusable(layers: Sequence[Layer]) -> tuple[list[Layer], list[str]]:
    """The layers without receivers and messages that cannot be used, and what was left out of which, and why.

    For what a monitor starts: an account that stays open is worse than a mailbox without a delegate. Every other wrong
    value stays, and is refused: in place of a retention, for one, no default may stand.
    """
    leaver = next((str(v).lower() for layer in layers if (v := layer.values.get("employee_email"))), "")
    kept, told = [], []
    for layer in layers:
        values = dict(layer.values)
        for name in [n for n in values if n in LEFT_OUT]:
            try:
                found = read(Layer(layer.source, {name: values[name]})).get(name)
            except UsageError as error:
                told.append(f"{error}: left out")
                del values[name]
                continue
            if (
                leaver
                and leaver in (found if isinstance(found, tuple) else (found,))
                and name in ("manager_email", *RECEIVERS)
            ):
                told.append(f"{layer.source}: {name}: {leaver} is the person who leaves: left out")
                values[name] = tuple(a for a in found if a != leaver) if isinstance(found, tuple) else None
        kept.append(Layer(layer.source, values))
    return kept, told


@dataclass
class _Chosen:
    """Values under way, with the rank of the layer that each came from (0 is the highest)."""

    layers: Sequence[str]
    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)

    def set(self, name: str, value: Any, source: str) -> None:
        self.values[name], self.sources[name] = value, source

    @property
    def lowest(self) -> int:
        return len(self.layers)


def combine(layers: Sequence[Layer], *, contractor_days: int | None = None) -> Resolved:
    """The values that count. `layers`: the highest first. `contractor_days`: retention of people whose contract ends.

    Raises UsageError for a value that cannot be, or for two that contradict each other within one layer.
    """
    chosen = _Chosen([layer.source for layer in layers])
    texts = [read(layer) for layer in layers]
    for name, item in INPUTS.items():
        rank = next((n for n, values in enumerate(texts) if name in values), len(layers))
        chosen.ranks[name] = rank
        value = texts[rank][name] if rank < len(layers) else item.default
        chosen.set(name, value, layers[rank].source if rank < len(layers) else DEFAULT)
    for one, other in CONFLICTS:
        _settle(chosen, one, other)
    _derive(chosen, contractor_days)
    _check(chosen.values)
    return Resolved(UserInputs.model_validate(chosen.values), chosen.sources)


def _settle(chosen: _Chosen, one: _Switch, other: _Switch) -> None:
    """Turn off the weaker of two that are both on."""
    if not (one.is_on(chosen.values[one.name]) and other.is_on(chosen.values[other.name])):
        return
    rank, against = chosen.ranks[one.name], chosen.ranks[other.name]
    if rank == against and rank < chosen.lowest:
        shown = " and ".join(f"{s.name}={parameter(chosen.values[s.name])}" for s in (one, other))
        raise UsageError(f"{chosen.layers[rank]}: {shown} contradict each other: give only one of them")
    weaker, stronger = (other, one) if rank < against else (one, other)
    # Of a pair such as `forward_to` without forwarding the weaker is turned on.
    word = "on" if weaker.off is True else "off"
    reason = f"{word} because of {stronger.name} ({chosen.sources[stronger.name]})"
    chosen.set(weaker.name, weaker.off, reason)


def _derive(chosen: _Chosen, contractor_days: int | None) -> None:
    """Values that follow from others where nobody said anything."""
    values = chosen.values

    def follow(name: str, other: str) -> None:
        if values[name] in ("", None) and chosen.sources[name] == DEFAULT and values[other]:
            chosen.set(name, values[other], f"{other} ({chosen.sources[other]})")

    follow("last_working_day", "termination_date")
    follow("mailbox_delegate", "manager_email")
    follow("transfer_groups_to", "manager_email")
    if values["maintain_email_forwarding"]:
        follow("forward_to", "mailbox_delegate")
    if values["immediate_disable"] and chosen.sources["mobile_device_action"] == DEFAULT:
        chosen.set("mobile_device_action", "wipe", f"immediate_disable ({chosen.sources['immediate_disable']})")
    ends = values["termination_type"] == "contract_end"
    own = chosen.sources["offboarding_retention_days"]
    if ends and contractor_days is not None and (own == DEFAULT or own.startswith("client field")):
        chosen.set("offboarding_retention_days", contractor_days, "client field contractor_retention_days")
    # The OneDrive goes with the account. Nobody's default makes the retention of an account longer.
    files = chosen.sources["onedrive_retention_days"]
    if files != DEFAULT and values["onedrive_retention_days"] > values["offboarding_retention_days"]:
        chosen.set(
            "offboarding_retention_days", values["onedrive_retention_days"], f"onedrive_retention_days ({files})"
        )
    # Mail to an account that is deleted is forwarded no more: nobody is promised a longer time.
    kept = values["offboarding_retention_days"]
    if values["delete_after_retention"] and values["forwarding_duration_days"] > kept:
        chosen.set(
            "forwarding_duration_days",
            kept,
            f"offboarding_retention_days ({chosen.sources['offboarding_retention_days']})",
        )


def _check(values: Mapping[str, Any]) -> None:
    last, end = values["last_working_day"], values["termination_date"]
    if last and end and last > end:
        raise UsageError(f"last_working_day: {last} lies after the termination date {end}")
    leaver = values["employee_email"]
    for name in ("manager_email", *RECEIVERS):
        given = values[name] if isinstance(values[name], tuple) else (values[name],)
        if leaver and leaver in given:
            raise UsageError(f"{name}: {leaver} is the person who leaves")
