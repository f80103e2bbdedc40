"""The shapes of content (DESIGN 6): what a YAML file may say, coerced from text and checked.

Every scalar arrives as text (see `loading`), so nothing is guessed by YAML; these models coerce and refuse.
Unknown keys are refused everywhere.
"""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from agent.content import user_inputs
from agent.content.alert_styles import parse_style
from agent.content.durations import Duration
from agent.time_zones import time_zone

Platform = Literal["windows", "linux", "macos"]
TargetKind = Literal["computer", "location", "client", "contact"]
TimeZone = Annotated[str, AfterValidator(lambda name: time_zone(name).key)]


def _one_line(value: str) -> str:
    if value != value.strip() or not value.isprintable():
        raise ValueError(f"a name is one line of printable characters without spaces around it: {value!r}")
    return value


#: A name that people read in lists, subjects and logs: a line break in it could forge a line there.
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_one_line)]


#: What `@Name@` can refer to, and what becomes an environment variable and a PowerShell parameter.
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _variable_names(values: dict[str, Any]) -> dict[str, Any]:
    for name in values:
        if not _IDENTIFIER.fullmatch(name):
            raise ValueError(f"the name {name!r} must be letters A to Z, digits and `_`, and not begin with a digit")
        if name in ("Success", "Failure"):
            raise ValueError(f"the name {name!r} is that of a list of the run (`@{name}@`)")
    folded = [name.upper() for name in values]
    if double := [name for name in values if folded.count(name.upper()) > 1]:
        raise ValueError(f"names must differ by more than upper and lower case: {', '.join(double)}")
    return values


class Definition(BaseModel):
    """Base of all content: unknown keys are refused, values do not change once loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ParameterType(StrEnum):
    """Type of a script's parameter."""

    TEXT = "text"
    NUMBER = "number"
    CHECKBOX = "checkbox"
    DROPDOWN = "dropdown"
    DATE = "date"
    SECRET = "secret"


class ParameterDefinition(Definition):
    """A user parameter of a script."""

    type: ParameterType = ParameterType.TEXT
    required: bool = False
    default: str | None = None
    options: tuple[str, ...] = ()
    description: str = ""

    @model_validator(mode="after")
    def _agrees(self) -> ParameterDefinition:
        if self.type is ParameterType.DROPDOWN and not self.options:
            raise ValueError("a dropdown needs `options`")
        if self.type is ParameterType.DROPDOWN and self.default is not None and self.default not in self.options:
            raise ValueError(f"the default {self.default!r} is none of the options")
        if self.type is ParameterType.SECRET and self.default is not None:
            raise ValueError("a secret has no default in a file: store a credential and refer to it")
        if self.required and self.default is not None:
            raise ValueError("a required parameter has no default")
        return self


class OnFailure(StrEnum):
    """What a failed step means for its script (a step that is `unknown` or needs a reboot counts likewise)."""

    COLLECT = "collect"  # go on with the next step; the script counts as failed at its end
    STOP = "stop"  # skip the rest of this script; it counts as failed
    CONTINUE = "continue"  # go on; it is listed as a failure, and the script does not count as failed for it


class Retries(Definition):
    """Another attempt after a failure that a repetition can mend. Waiting ends the segment; no thread sleeps."""

    attempts: int = Field(3, ge=1, le=20)
    wait: Duration = timedelta(seconds=30)
    backoff: float = Field(2.0, ge=1, le=10)


class Condition(Definition):
    """`value` names what is looked at; exactly one comparison follows.

    Values: `computer.<column>`, `parameter.<name>`, `property.<name>`, `field.<EDF name>`, `step.<name>.state`,
    `children.state` (succeeded, failed, reboot_needed or unknown), `outcome.<key>` (of the fallback in force).
    """

    value: str
    is_: str | None = Field(None, alias="is")
    is_not: str | None = None
    in_: tuple[str, ...] | None = Field(None, alias="in")

    @model_validator(mode="after")
    def _one_comparison(self) -> Condition:
        if sum(c is not None for c in (self.is_, self.is_not, self.in_)) != 1:
            raise ValueError("a condition takes exactly one of `is`, `is_not`, `in`")
        return self


class Verification(Definition):
    """How a body's effect is verified: a function, or another body (exit 0 = done, 1 = not done, else unknown)."""

    function: str | None = None
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    body: dict[Literal["any", "windows", "linux", "macos"], str] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Verification:
        if (self.function is None) == (self.body is None):
            raise ValueError("a verification takes either `function` or `body`")
        return self


class StepDefinition(Definition):
    """One step of a script. Exactly one of `function`, `script`, `children`, `fallback` says what it does."""

    name: Name
    function: str | None = None
    #: Another script, by its name or its folder's name.
    script: str | None = None
    #: `children: Offboarding Wrapper`: the client's list of child scripts for that wrapper.
    children: str | None = None
    #: `children` only: a client without such a list has nothing to do here, instead of being refused.
    optional: bool = False
    #: `fallback: Failed Uninstall Process`: the fallback script that the client's dropdown of that name selects.
    fallback: str | None = None
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    when: tuple[Condition, ...] = ()
    on_failure: OnFailure = OnFailure.COLLECT
    retries: Retries | None = None
    time_limit: Duration | None = None
    repeatable: bool | None = None

    @model_validator(mode="after")
    def _one_action(self) -> StepDefinition:
        if sum(a is not None for a in (self.function, self.script, self.children, self.fallback)) != 1:
            raise ValueError("a step takes exactly one of `function`, `script`, `children`, `fallback`")
        if self.optional and self.children is None:
            raise ValueError("`optional` belongs to `children`")
        return self


class Role(StrEnum):
    """What part a script plays; it is the same kind of thing in each."""

    SCRIPT = "script"
    WRAPPER = "wrapper"
    CHILD = "child"
    FALLBACK = "fallback"
    FUNCTION = "function"  # can only be called by another script (facts 11.6)


class Outcome(Definition):
    """What a fallback permits after a failed child (facts 4.1)."""

    screenconnect: Literal["keep", "remove"]
    agent: Literal["keep", "remove"]
    failure_ticket: bool


class CopiedFrom(Definition):
    """The origin of a duplicate, with the origin's digest at that time."""

    script: str
    digest: str


class ScriptDefinition(Definition):
    """A script: parameters and either one body or steps."""

    name: Name
    description: str = ""
    role: Role = Role.SCRIPT
    target: TargetKind = "computer"
    parameters: Annotated[dict[str, ParameterDefinition], AfterValidator(_variable_names)] = Field(default_factory=dict)
    #: `user_offboarding`: it also has every input of a user offboarding as a parameter, filled in by the planner, and
    #: hands them on to the scripts that it calls.
    inputs: Literal["user_offboarding"] | None = None
    #: It deletes an account: refused while a legal hold, a missing backup or an unfinished retention stands.
    deletes_account: bool = False
    #: Global parameters: set in the script, used in steps as `@Name@` or `{global: Name}`.
    globals: Annotated[dict[str, str], AfterValidator(_variable_names)] = Field(default_factory=dict)
    #: File name of the body per platform; `any` where one body serves all.
    body: dict[Literal["any", "windows", "linux", "macos"], str] | None = None
    verify: Verification | None = None
    steps: tuple[StepDefinition, ...] = ()
    time_limit: Duration = timedelta(minutes=10)
    retries: Retries | None = None
    #: Whether an interrupted run may simply be done again when `verify` cannot tell.
    repeatable: bool = False
    #: False: only a monitor may start it (facts 11.6).
    manual: bool = True
    #: Only one exclusive run per target at a time.
    exclusive: bool = False
    copied_from: CopiedFrom | None = None
    #: Fallbacks only: the dropdown's option (null for "nothing selected"), and what it permits.
    option: str | None = None
    aliases: tuple[str, ...] = ()
    outcome: Outcome | None = None
    #: The outcome by the literal text of the source, used when the property `_sysOffboardingLiteralOutcomes` is 1.
    literal_outcome: Outcome | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_body(cls, data: Any) -> Any:
        data = user_inputs.with_parameters(data)
        if isinstance(data, dict) and isinstance(data.get("body"), str):
            data = {**data, "body": {"any": data["body"]}}
        if (
            isinstance(data, dict)
            and isinstance(data.get("verify"), dict)
            and isinstance(data["verify"].get("body"), str)
        ):
            data = {**data, "verify": {**data["verify"], "body": {"any": data["verify"]["body"]}}}
        return data

    @model_validator(mode="after")
    def _agrees(self) -> ScriptDefinition:
        if self.role is not Role.FALLBACK and bool(self.body) == bool(self.steps):
            raise ValueError("a script has either a `body` or `steps`")
        if (self.inputs or self.deletes_account) and self.target != "contact":
            raise ValueError("`inputs` and `deletes_account` belong to a script whose target is a contact")
        if self.verify and not self.body:
            raise ValueError("`verify` belongs to a script with a body; a step's function verifies itself")
        if (self.outcome is not None) != (self.role is Role.FALLBACK):
            raise ValueError("a fallback needs an `outcome`, and only a fallback has one")
        if self.role is not Role.FALLBACK and (self.option is not None or self.aliases or self.literal_outcome):
            raise ValueError("`option`, `aliases` and `literal_outcome` belong to a fallback")
        if self.option in ("", "null", "~"):
            raise ValueError("leave `option` out for the fallback of `nothing selected`")
        if self.body and self.role is Role.FALLBACK and self.steps:
            raise ValueError("a script has either a `body` or `steps`")
        names = [s.name for s in self.steps]
        if len(set(names)) != len(names):
            raise ValueError(f"step names must differ: {sorted({n for n in names if names.count(n) > 1})}")
        return self


class Limits(Definition):
    """Above these a run is held for approval (DESIGN 5.6)."""

    computers_per_run: int = Field(25, ge=1)
    #: Share of the client's computers, 0 to 1.
    share_of_client: float | None = Field(None, gt=0, le=1)
    #: Share of all computers, 0 to 1.
    share_of_fleet: float = Field(0.3, gt=0, le=1)


class TableCondition(Definition):
    """One more condition of the table/field/condition form."""

    field: str
    condition: Literal["equals", "not equals", "less than", "greater than", "contains", "is null", "is not null"]
    result: str | None = None


class TableCheck(Definition):
    """The table/field/condition form of a monitor (facts 11.1). `also` is a further condition in the same form."""

    table: str
    field: str
    condition: Literal["equals", "not equals", "less than", "greater than", "contains", "is null", "is not null"]
    result: str | None = None
    identity: str
    also: tuple[TableCondition, ...] = ()


class MonitorDefinition(Definition):
    """An internal monitor: an interval, a query over the inventory, an alert style, an alert template."""

    name: Name
    description: str = ""
    interval: Duration
    alert_style: Annotated[str, BeforeValidator(lambda value: str(parse_style(value)))] = "send fail after success"
    target: TargetKind = "computer"
    sql: str | None = None
    check: TableCheck | None = None
    target_groups: tuple[str, ...] = ()
    enabled: bool = True
    alert_template: str | None = None
    #: Alert templates per target group; a group's template comes before the monitor's own.
    group_alert_templates: dict[str, str] = Field(default_factory=dict)
    alert_message: str | None = None
    ticket_category: str | None = None
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _one_query(self) -> MonitorDefinition:
        if (self.sql is None) == (self.check is None):
            raise ValueError("a monitor takes either `sql` or `check`")
        if self.interval < timedelta(seconds=1):
            raise ValueError("the interval is at least 1 second")
        return self


class Window(Definition):
    """Days and hours, by the clock on the wall of a time zone, in which an action is carried out."""

    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ()
    from_: str | None = Field(None, alias="from", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    until: str | None = Field(None, pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    #: IANA name; none: the installation's (`EXEUNT_TIME_ZONE`).
    time_zone: TimeZone | None = None


class Message(Definition):
    """Subject and body in Jinja2, with the CWA variables also as `%NAME%`."""

    subject: str
    body: str = ""


class AlertAction(Definition):
    """One action of an alert template. Exactly one of the four says what is done."""

    run_script: str | None = None
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    create_ticket: Message | None = None
    send_email: Message | None = None
    #: Recipients of `send_email`; empty means the property `_sysOffboardingDefaultEmailAddress`.
    to: tuple[str, ...] = ()
    raise_alert: Message | None = None
    window: Window | None = None

    @model_validator(mode="after")
    def _one_action(self) -> AlertAction:
        if sum(a is not None for a in (self.run_script, self.create_ticket, self.send_email, self.raise_alert)) != 1:
            raise ValueError(
                "an action takes exactly one of `run_script`, `create_ticket`, `send_email`, `raise_alert`"
            )
        return self


class AlertTemplateDefinition(Definition):
    """What to do when a monitor fails (finds a row) and when it succeeds again."""

    name: Name
    guid: str
    description: str = ""
    failed: tuple[AlertAction, ...] = ()
    success: tuple[AlertAction, ...] = ()
    #: Actions for both, with %STATUS% telling which.
    both: tuple[AlertAction, ...] = ()


class ClientScripts(Definition):
    """`scripts/clients/<slug>/client.yaml`: which scripts of the client's own a wrapper runs, in their order."""

    client: str
    scripts: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    #: Names of the applied packages in the client's order, which the lists above follow.
    packages: tuple[str, ...] = ()
    #: An order that goes against the order of danger is refused, and not only warned of.
    strict_order: bool = False
