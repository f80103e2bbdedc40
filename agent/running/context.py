"""What a function sees while it runs: one target of one client, the stored plan, and a way to run stored bodies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlmodel import col, select

from agent.content.definitions import ScriptDefinition
from agent.content.loaded import from_content
from agent.database import Database
from agent.errors import ClientMismatch, Conflict, NotFound, StepError, UsageError
from agent.failure_types import MANAGER_NOT_FOUND, PERMISSION_DENIED
from agent.functions.base import BodyResult, FinishedStep
from agent.installation import Installation
from agent.inventory.contacts import manager_address
from agent.inventory.effective import effective_values
from agent.inventory.person_values import person_value
from agent.model.administration import Credential
from agent.model.base import utcnow
from agent.model.places import Contact
from agent.model.runs import RunStep, ScriptRevision, ScriptState
from agent.running.answers import answer_of
from agent.running.drafting import language_of
from agent.running.targets import Target, load_target
from agent.running.tree import RunTree
from agent.services import credentials, properties
from agent.transports import registry
from agent.transports.base import Body, Transport
from agent.transports.output import OutputCollector

#: Bodies of one step whose output is kept; a step that runs more keeps the last ones.
KEPT_BODIES = 20


class Machine:
    """The connection to the target, opened when the first body runs and shared by the steps of one segment."""

    def __init__(
        self, installation: Installation, target: Target, credentials_of: Sequence[Credential] | None = None
    ) -> None:
        """`credentials_of`: those of the target's client that were loaded just now; None: they are asked for."""
        self.installation, self.target, self._credentials = installation, target, credentials_of
        self.masks: list[str] = []
        # No `cached_property`: before Python 3.12 its lock is one for all machines, and threads would open theirs in turn.
        self._transport: Transport | None = None

    @property
    def transport(self) -> Transport:
        """The transport. Raises StepError when the target is no computer, TransportError when it is set up wrongly."""
        if self._transport is None:
            self._transport = self._open()
        return self._transport

    def _open(self) -> Transport:
        computer = self.target.places.get("computer")
        if computer is None:
            raise StepError(f"a {self.target.kind} has no machine to run a body on", type="wrong_target")
        credential, opened = self._credential(computer), None
        if credential is not None:
            opened = (credential.settings, credentials.open_secret(self.installation, credential))
            self.masks.extend(opened[1].values())
        return registry.connect(computer, opened)

    def _credential(self, computer: Mapping[str, Any]) -> Credential | None:
        kind, place = computer["transport"], {n: computer[n] for n in ("client_id", "location_id")}
        if computer["credential_id"] is None and self._credentials is not None:
            return credentials.nearest_of(self._credentials, kind, **place)
        with self.installation.database.reading() as session:
            if computer["credential_id"] is not None:
                return credentials.by_id(session, computer["credential_id"], **place)
            return credentials.nearest(session, kind, **place)

    def close(self) -> None:
        """Let go of the connection, if there is one."""
        if self._transport is not None:
            self._transport.close()


class TargetContext:
    """What is known of one target of one client, and the credentials that it may use."""

    def __init__(
        self, installation: Installation, target_kind: str, target_id: int, client_id: int, known: Target | None = None
    ) -> None:
        """`known`: the target if it was loaded just now."""
        self.installation, self.target_kind, self._known = installation, target_kind, known
        self.target_id, self.client_id = target_id, client_id
        #: Every secret that was opened: it must not be shown.
        self.masks: list[str] = []

    @property
    def target(self) -> Target:
        """The target as it is now. Raises ClientMismatch when it was moved to another client after planning."""
        if self._known is None:
            with self.installation.database.reading() as session:
                self._known = load_target(session, self.target_kind, self.target_id)
        if self._known.client_id != self.client_id:
            raise ClientMismatch(f"{self._known.name} belongs to another client than when this was planned")
        return self._known

    @property
    def places(self) -> Mapping[str, Mapping[str, Any] | None]:
        """Columns of the target and the places around it, as they are now."""
        return self.target.places

    def system_property(self, name: str) -> str | None:
        """A system property as it is now, None if it is not set."""
        with self.installation.database.reading() as session:
            return properties.value_of(self.installation, session, name)

    def person_value(self, name: str) -> str:
        """What `{{ name }}` stands for now. Raises StepError when it is empty."""
        with self.installation.database.reading() as session:
            value = person_value(name, effective_values(session, self.places), self.places)
            contact = session.get(Contact, self.target_id) if self.target_kind == "contact" else None
            if value is None and contact is not None and name == "manager":
                value = manager_address(session, contact)
        if value is None:
            raise StepError(
                f"{{{{ {name} }}}} has no value: no extra field, id or column of that name is filled in here",
                type=MANAGER_NOT_FOUND if name in ("manager", "manager_email") else "missing_value", code="missing_value",
                remediation="fill it in, then retry the run",
            )  # fmt: skip
        return value

    def secret(self, name: str) -> str:
        """The secret of the credential of that name, if this client may use it. Raises StepError."""
        location = self.places.get("location") or {}
        with self.installation.database.reading() as session:
            try:
                credential = credentials.by_name(
                    session, name, client_id=self.client_id, location_id=location.get("location_id")
                )
            except NotFound as error:
                raise StepError(
                    str(error), type="missing_credential", remediation=f"store it: exeunt credential add {name}"
                ) from error
            opened = credentials.open_secret(self.installation, credential)
        if len(opened) != 1:
            raise StepError(
                f"the credential {name!r} holds {len(opened)} secrets; a `secret` reference needs exactly one",
                type="missing_credential",
            )
        value = next(iter(opened.values()))
        self.masks.append(value)
        return value

    def credential(self, kind: str) -> tuple[Mapping[str, Any], Mapping[str, str]] | None:
        """Settings and secrets of the nearest credential of a kind, None if there is none. Raises StepError for several."""
        location = self.places.get("location") or {}
        with self.installation.database.reading() as session:
            try:
                found = credentials.nearest(
                    session, kind, client_id=self.client_id, location_id=location.get("location_id")
                )
            except Conflict as error:
                raise StepError(
                    str(error), type=PERMISSION_DENIED, code="ambiguous_credential",
                    remediation="Remove all but one: exeunt credential list, exeunt credential remove; then retry the run",
                ) from error  # fmt: skip
            if found is None:
                return None
            opened = credentials.open_secret(self.installation, found)
        self.masks.extend(opened.values())
        return found.settings, opened


class RunContext(TargetContext):
    """Implements agent.functions.base.Context for one step."""

    def __init__(
        self, installation: Installation, tree: RunTree, step: RunStep, machine: Machine, known: Target | None = None
    ) -> None:
        root = tree.root
        super().__init__(installation, root.target_kind, root.target_id, root.client_id, known)
        self.tree, self.step, self.machine, self.masks = tree, step, machine, machine.masks
        self.run_id, self.root_id, self.step_id, self.step_name = step.run_id, root.id, step.id, step.name
        self.root_script, self.started_by = root.script, root.started_by
        self.bodies: list[dict[str, Any]] = []

    @property
    def plan(self) -> Mapping[str, Any]:
        """What the plan fixed, with the outcome in force (None while every removal so far is verified)."""
        context = self.tree.root.context
        verified = self.tree.work_state(self.step) == "succeeded"
        return {**context, "outcome": None if verified else (context.get("fallback") or {}).get("outcome")}

    def run_body(
        self, script: str, parameters: Mapping[str, Any], *, body: str = "body", secrets: Mapping[str, str] | None = None,
        time_limit: float | None = None,
    ) -> BodyResult:  # fmt: skip
        """Run a body of a stored revision on the target; its output is kept with the step."""
        definition, bodies = self._revision(script)
        files = definition.body if body == "body" else definition.verify.body if definition.verify else None
        platform = (self.places.get("computer") or {}).get("platform")
        by_platform: dict[str, str] = {str(k): v for k, v in (files or {}).items()}
        file = by_platform.get(str(platform)) or by_platform.get("any")
        if file is None:
            raise StepError(f"{script!r} has no {body} for {platform}", type="no_body_for_platform")
        settings = self.installation.settings
        transport = self.machine.transport
        self.machine.masks.extend((secrets or {}).values())
        stem = f"{self.step_id}-{self.step.attempts}-{len(self.bodies)}"
        output = OutputCollector(
            self.output_folder, stem, settings.output_bytes, settings.output_file_bytes, self.machine.masks,
            live=True,
        )  # fmt: skip
        limit = time_limit or self.step.options.get("time_limit") or definition.time_limit.total_seconds()
        entry: dict[str, Any] = {"script": script, "body": file, "exit_code": None}
        self.bodies = [*self.bodies, entry][-KEPT_BODIES:]
        try:
            execution = transport.run(
                Body(bodies[file], language_of(file), parameters, secrets or {}, limit, self._tag(self.step.attempts)),
                output,
            )
            entry["exit_code"] = execution.exit_code
        finally:
            entry.update(output.finish())
        return BodyResult(execution, entry["stdout"]["text"], entry["stderr"]["text"], answer_of(output))

    def _tag(self, attempt: int) -> str:
        """Names what an attempt starts on the target, so that what it leaves over can be found."""
        return f"exeunt-{self.step_id}-{attempt}"

    def end_leftovers(self) -> None:
        """End what the attempt before this one left running on the target, where the transport can find it."""
        end = getattr(self.machine.transport, "end_leftovers", None)
        if end is not None:
            end(self._tag(self.step.attempts - 1))

    @property
    def output_folder(self) -> Path:
        """Where output that is too long for the database is kept."""
        return self.installation.settings.workspace / "output" / self.root_id

    def _revision(self, script: str) -> tuple[ScriptDefinition, dict[str, str]]:
        digest = self.step.options.get("revisions", {}).get(script)
        if digest is None:
            raise UsageError(f"the plan of step {self.step_name!r} holds no revision of the script {script!r}")
        return _stored_revision(self.installation.database, digest)

    def finished_steps(self) -> list[FinishedStep]:
        """Steps of the tree that are over, in order."""
        return self.tree.finished()

    def state(self, variable: str) -> str | None:
        """A value that this root script keeps for this target between runs."""
        with self.installation.database.reading() as session:
            return session.exec(select(ScriptState.value).where(*self._state_key(variable))).first()

    def set_state(self, variable: str, value: str) -> None:
        """Keep a value for later runs."""
        with self.installation.database.session() as session:
            row = session.exec(select(ScriptState).where(*self._state_key(variable))).first()
            if row is None:
                row = ScriptState(
                    script=self.root_script, target_kind=self.target_kind, target_id=self.target_id,
                    variable=variable, value=value,
                )  # fmt: skip
            row.value, row.set_at = value, utcnow()
            session.add(row)

    def _state_key(self, variable: str) -> tuple[Any, ...]:
        return (
            col(ScriptState.script) == self.root_script, col(ScriptState.target_kind) == self.target_kind,
            col(ScriptState.target_id) == self.target_id, col(ScriptState.variable) == variable,
        )  # fmt: skip


@lru_cache(maxsize=256)
def _stored_revision(database: Database, digest: str) -> tuple[ScriptDefinition, dict[str, str]]:
    """A revision and its bodies. It never changes: its digest is made of its content."""
    with database.reading() as session:
        revision = session.get(ScriptRevision, digest)
    assert revision is not None, digest
    return from_content(revision.content)
