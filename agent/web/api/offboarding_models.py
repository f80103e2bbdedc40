"""What the routes of offboardings take and answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, model_validator

from agent.web.api.common import MOST_ID, Answer, Body
from agent.web.api.offboarding_inputs import OffboardingInputs
from agent.web.api.plans import Draft
from agent.web.api.runs import Started

_WHEN = "2030-01-31 (the termination date) or 2030-01-31T17:00 (exact time). Default: the contact's date, else now"


class Person(Body):
    """Somebody who leaves, by id or by address, with what differs for this person."""

    contact_id: int | None = Field(None, ge=1, le=MOST_ID)
    email: str | None = Field(None, min_length=3, max_length=320, pattern="@", examples=["john@contoso.example"])
    inputs: OffboardingInputs | None = None
    at: str | None = Field(None, max_length=40, description=_WHEN)
    template: str | None = Field(None, max_length=200)

    @model_validator(mode="after")
    def _one_way(self) -> Person:
        if (self.contact_id is None) == (self.email is None):
            raise ValueError("a person is named by either contact_id or email")
        return self


class OffboardingIn(Body):
    """Whom to offboard, and how. What a person's own `inputs` say counts before what is said for all."""

    client_id: int = Field(ge=1, le=MOST_ID)
    people: list[Person] = Field(min_length=1, max_length=200)
    inputs: OffboardingInputs | None = None
    at: str | None = Field(None, max_length=40, description=_WHEN)
    template: str | None = Field(None, max_length=200, description="Name of a template of options")
    replace: bool = Field(False, description="Replace an offboarding that is planned already")


class PreflightIn(Person):
    """Whose offboarding is looked at."""

    client_id: int = Field(ge=1, le=MOST_ID)


class InputOut(Answer):
    """One input of an offboarding."""

    name: str
    type: str
    options: list[str]
    required: bool
    default: str
    client_field: str | None = Field(description="Extra field of the client that sets it")
    wizard: str | None = Field(description="The Offboarding Wizard's word for it")
    description: str


class ValueFrom(Answer):
    """A value and where it comes from."""

    value: str
    source: str


class PersonPreview(Answer):
    """What offboarding a person would do."""

    contact_id: int
    name: str
    email: str
    scheduled_for: datetime | None
    begins_now: bool
    inputs: dict[str, ValueFrom]
    warnings: list[str]
    draft: Draft


class PlannedOut(Answer):
    """A planned offboarding."""

    id: str
    contact_id: int
    email: str
    scheduled_for: datetime | None
    reference: str | None
    inputs: dict[str, ValueFrom]
    warnings: list[str]


class StartedFor(Started):
    """A plan that was started for an offboarding."""

    offboarding_id: str


class NotStarted(Answer):
    """An offboarding that is planned and could not be started now."""

    offboarding_id: str
    reason: str


class Planned(Answer):
    """What became of the request: all are planned; those that begin now are started, unless they are many."""

    planned: list[PlannedOut]
    started: list[StartedFor]
    security: list[StartedFor] = Field(description="Security phases of high risk, started at once")
    errors: list[NotStarted]


class FindingOut(Answer):
    """Something that a preflight found."""

    severity: str
    subject: str
    message: str
    remediation: str | None


class PreflightOut(Answer):
    """What would hinder it, errors first."""

    person: str
    email: str
    client: str
    errors: int
    findings: list[FindingOut]


class Chosen(Body):
    """Offboardings by their ids."""

    ids: list[Annotated[str, Field(pattern="^[0-9a-f]{16}$")]] = Field(min_length=1, max_length=500)


class RunNow(Chosen):
    """Offboardings to be started now."""

    reason: str | None = Field(None, max_length=2000, description="Why; kept in the audit trail")


class Written(Answer):
    """Where a report was written, by format, and the SHA-256 of each file as the audit trail holds it."""

    files: dict[str, str]
    digests: dict[str, str]
