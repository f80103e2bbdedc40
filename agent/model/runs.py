"""The truth about what was planned, started and found out: plans, script runs, steps (DESIGN 5.1, 5.3, 5.4)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from agent.model.base import moment, new_id


class RunState(StrEnum):
    """State of a ScriptRun."""

    PLANNED = "planned"  # stored, not yet released
    HELD = "held"  # a guardrail waits for an approval
    QUEUED = "queued"  # given to the engine
    RUNNING = "running"
    SUCCEEDED = "succeeded"  # everything was done and verified
    PARTIAL = "partial"  # something was done, something was not
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # a step's outcome could not be found out


class StepState(StrEnum):
    """State of a step."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"
    #: Done as far as possible; only a reboot can show whether it came off. Neither success nor failure (facts 14, 15).
    REBOOT_NEEDED = "reboot_needed"


ACTIVE_RUN_STATES = (RunState.PLANNED, RunState.HELD, RunState.QUEUED, RunState.RUNNING)
FINISHED_STEP_STATES = tuple(s for s in StepState if s not in (StepState.WAITING, StepState.RUNNING))
_ACTIVE = "parent_id is null and state in ('planned', 'held', 'queued', 'running')"


class ScriptRevision(SQLModel, table=True):
    """A script exactly as it ran: the definition and its bodies, found by their digest. Never changed."""

    __tablename__ = "script_revision"
    #: SHA-256 of the canonical JSON of `content`, hexadecimal.
    digest: str = Field(primary_key=True)
    name: str = Field(index=True)
    #: {"definition": {...}, "bodies": {file name: text}}
    content: dict[str, Any] = Field(sa_type=JSON)
    stored_at: datetime = moment("stored_at", now=True)


class Plan(SQLModel, table=True):
    """What one act is about to start: the runs, why, and which guardrails hold it. Executed exactly as stored."""

    __tablename__ = "plan"
    __table_args__ = (Index("plans_by_time", "created_at"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    monitor: str | None = Field(default=None, index=True)
    #: The monitor's tick, made from its meaning; a second firing of the same tick is refused by the database.
    tick: str | None = Field(default=None, unique=True)
    created_at: datetime = moment("created_at", now=True)
    created_by: str
    #: planned, held, released, cancelled
    state: str = Field(index=True)
    #: [{"guardrail": ..., "reason": ...}] that must be approved
    holds: list[Any] = Field(default_factory=list, sa_type=JSON)
    skipped: list[Any] = Field(default_factory=list, sa_type=JSON)
    approved_by: str | None = None
    approved_at: datetime | None = moment("approved_at")
    approval_reason: str | None = None
    summary_sent_at: datetime | None = moment("summary_sent_at")
    #: What all runs came to, stored when the last of them was over. JSON.
    summary: dict[str, Any] | None = Field(default=None, sa_type=JSON)


class ScriptRun(SQLModel, table=True):
    """One run of one script on one target; runs form a tree (wrapper > child)."""

    __tablename__ = "script_run"
    __table_args__ = (
        UniqueConstraint("parent_id", "position"),
        Index(
            "one_run_of_a_script_per_target", "script", "target_kind", "target_id", unique=True,
            sqlite_where=text(_ACTIVE), postgresql_where=text(_ACTIVE),
        ),
        Index(
            "one_offboarding_per_target", "target_kind", "target_id", unique=True,
            sqlite_where=text(_ACTIVE + " and exclusive"), postgresql_where=text(_ACTIVE + " and exclusive"),
        ),
        # Before a run is planned, its target's others are looked for: without reading the whole history.
        Index("runs_of_a_target", "target_kind", "target_id"),
        # A run's children; and all others counted by state at each scrape of /metrics, from the index alone.
        Index("runs_by_parent_and_state", "parent_id", "state"),
        # Webhooks tell of what ended since their last round.
        Index(
            "finished_root_runs", "finished_at",
            sqlite_where=text("parent_id is null"), postgresql_where=text("parent_id is null"),
        ),
    )  # fmt: skip
    id: str = Field(default_factory=new_id, primary_key=True)
    plan_id: str | None = Field(default=None, foreign_key="plan.id", index=True)
    parent_id: str | None = Field(default=None, foreign_key="script_run.id")
    #: Position among the parent's steps.
    position: int = 0
    script: str
    role: str
    revision: str = Field(foreign_key="script_revision.digest")
    #: computer, contact, client or location
    target_kind: str
    target_id: int
    target_name: str
    client_id: int = Field(index=True)
    #: An offboarding: only one of them per target at a time.
    exclusive: bool = False
    #: What the plan knew about the target, the client's choices and why each child was chosen. JSON.
    context: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    parameters: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    alert_id: int | None = Field(default=None, index=True)
    started_by: str
    reason: str | None = None
    state: str = Field(index=True)
    created_at: datetime = moment("created_at", now=True)
    queued_at: datetime | None = moment("queued_at")
    started_at: datetime | None = moment("started_at")
    finished_at: datetime | None = moment("finished_at")
    #: Not before this time (a wait); and given up after that one ("fizzled").
    not_before: datetime | None = moment("not_before")
    expires_at: datetime | None = moment("expires_at")
    #: Each wait ends a segment and queues the next; who works at an old one can store nothing.
    segment: int = 0
    #: How often a segment was started again because its worker was gone.
    recoveries: int = 0
    cancel_requested_at: datetime | None = moment("cancel_requested_at")
    cancelled_by: str | None = None
    retry_of: str | None = None
    #: success, failure, reboot_needed, unknown: the lists @Success@ and @Failure@ come from here. JSON.
    result: dict[str, Any] | None = Field(default=None, sa_type=JSON)


class RunStep(SQLModel, table=True):
    """One step of a run as planned, and what became of it. `root_id` and `ordinal` give the order of execution."""

    __tablename__ = "run_step"
    __table_args__ = (UniqueConstraint("root_id", "ordinal"), UniqueConstraint("run_id", "position"))
    id: str = Field(default_factory=new_id, primary_key=True)
    root_id: str = Field(foreign_key="script_run.id")
    ordinal: int
    run_id: str = Field(foreign_key="script_run.id")
    position: int
    name: str
    #: `function` names a Function; else the body of the run's own script is executed.
    function: str | None = None
    #: Digest of the revision whose body is executed.
    revision: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    #: Conditions, on_failure, retries, time limit, repeatable, verify: as written in the script. JSON.
    options: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    state: str = StepState.WAITING
    attempts: int = 0
    #: Fencing number: each start takes the next one; a result is stored only under the number it started with.
    fence: int = 0
    not_before: datetime | None = moment("not_before")
    started_at: datetime | None = moment("started_at")
    finished_at: datetime | None = moment("finished_at")
    #: {type, code, message, impact, remediation, critical}
    error: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    result: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    #: {"stdout": {text, bytes, truncated, file}, "stderr": {...}}
    output: dict[str, Any] | None = Field(default=None, sa_type=JSON)


class ScriptState(SQLModel, table=True):
    """A value that a script keeps per target between its runs (facts 11.6)."""

    __tablename__ = "script_state"
    script: str = Field(primary_key=True)
    target_kind: str = Field(primary_key=True)
    target_id: int = Field(primary_key=True)
    variable: str = Field(primary_key=True)
    value: str
    set_at: datetime = moment("set_at", now=True)
