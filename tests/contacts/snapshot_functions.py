"""A directory in memory that keeps snapshots and restores them, under the names that a rollback looks for."""

from __future__ import annotations

import json

from agent.errors import StepError
from agent.functions.active_directory.cloud_only import CloudOnly
from agent.functions.base import Context, Function, Outcome, Parameters

#: Contacts whose account was restored, and contacts whose account cannot be.
RESTORED: list[int] = []
BROKEN: set[int] = set()


class TakeParameters(Parameters):
    account: str


class Take(Function[TakeParameters]):
    name = "ad.snapshot"
    summary = "Keep a snapshot"
    Parameters = TakeParameters

    def preview(self, parameters: TakeParameters) -> str:
        return "keep"

    def do(self, context: Context, parameters: TakeParameters) -> Outcome:
        kept = {"account": parameters.account, "taken_at": "2026-01-01T00:00:00Z", "contact": context.target_id}
        return Outcome.succeeded(asked=parameters.account, object_guid=f"guid-{context.target_id}", snapshot=kept)


class Absent(Take):
    """The person has no account here, as a directory proves it."""

    def do(self, context: Context, parameters: TakeParameters) -> Outcome:
        return CloudOnly("cloud-only").skipped(parameters.account)


class RestoreParameters(Parameters):
    account: str
    snapshot: str
    enable: bool = True


class Restore(Function[RestoreParameters]):
    name = "ad.restore_from_snapshot"
    summary = "Restore it"
    Parameters = RestoreParameters

    def preview(self, parameters: RestoreParameters) -> str:
        return "restore"

    def do(self, context: Context, parameters: RestoreParameters) -> Outcome:
        if context.target_id in BROKEN:
            raise StepError("the directory is away", type="test")
        RESTORED.append(json.loads(parameters.snapshot)["contact"])
        return Outcome.succeeded()
