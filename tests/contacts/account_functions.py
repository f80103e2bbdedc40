"""Functions of the tests' own: accounts in memory that can be disabled, backed up and deleted, and asked about it."""

from __future__ import annotations

from typing import ClassVar, Literal

from agent.errors import StepError
from agent.functions.base import Context, Function, Outcome, Parameters

#: (client id, contact id) -> what was done, in order.
DONE: dict[tuple[int, int], list[str]] = {}
#: Acts that fail for everybody.
BROKEN: set[str] = set()


class AccountParameters(Parameters):
    """What is done. `note` is kept with it."""

    act: Literal["disable", "revoke", "backup", "forward", "end_forwarding", "delete"]
    note: str = ""


class Account(Function[AccountParameters]):
    """Does something to the account of the person."""

    name = "test.account"
    summary = "Do something to an account in memory"
    Parameters = AccountParameters
    destructive = True
    acts: ClassVar[tuple[str, ...]] = ("disable", "revoke", "forward", "end_forwarding")

    def preview(self, parameters: AccountParameters) -> str:
        return f"{parameters.act} the account"

    def do(self, context: Context, parameters: AccountParameters) -> Outcome:
        assert context.target_kind == "contact"
        if parameters.act in BROKEN:
            raise StepError(f"{parameters.act} does not work", type="test")
        note = f"{parameters.act} {parameters.note}".strip()
        DONE.setdefault((context.client_id, context.target_id), []).append(note)
        return Outcome.succeeded(act=parameters.act)

    def verify(self, context: Context, parameters: AccountParameters) -> bool | None:
        return parameters.act in " ".join(DONE.get((context.client_id, context.target_id), []))


class Backup(Account):
    """Backs up."""

    name = "test.backup"
    backs_up = True
    destructive = False


class Delete(Account):
    """Deletes."""

    name = "test.delete"
    deletes_account = True
