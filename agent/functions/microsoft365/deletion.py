"""Deletion of the account, and its restoration within thirty days."""

from __future__ import annotations

from datetime import timedelta

from agent.errors import StepError
from agent.failure_types import ACCOUNT_NOT_FOUND
from agent.functions.base import Context, Finding, Outcome, PreflightContext
from agent.functions.microsoft365.base import (
    Account,
    UserFunction,
    UserParameters,
    Work,
    account_of,
    deleted_account,
    find_account,
    is_object_id,
    remember_deleted,
    settled,
)
from agent.functions.stored_accounts import stored_id
from agent.model.base import utcnow
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.graph import Call, get, path_of
from agent.services.microsoft.tenant import Tenant

#: Days for which the directory keeps a deleted account.
KEPT_DAYS = 30


def restore_call(object_id: str) -> Call:
    """The call that brings a deleted account back."""
    return Call("POST", path_of("directory", "deletedItems", object_id, "restore"), {}, may_repeat=True)


def is_deleted(tenant: Tenant, object_id: str) -> bool:
    """Whether the account is among the deleted ones."""
    try:
        tenant.graph.call(get("directory", "deletedItems", object_id))
    except ServiceRefused as error:
        if error.missing:
            return False
        raise
    return True


def exists(tenant: Tenant, object_id: str) -> bool:
    """Whether the account is among the accounts."""
    try:
        tenant.graph.call(get("users", object_id, select="id"))
    except ServiceRefused as error:
        if error.missing:
            return False
        raise
    return True


class _DeletionFunction(UserFunction[UserParameters]):
    """Finds the account among the deleted ones as well."""

    Parameters = UserParameters
    repeatable = True

    def account(self, tenant: Tenant, context: Context, parameters: UserParameters) -> Account:
        """The account, be it there or deleted by us. Raises StepError."""
        asked = self.meant(tenant, context, parameters)
        try:
            return find_account(tenant, asked)
        except StepError as error:
            gone = deleted_account(context, asked, tenant.id) if error.type == ACCOUNT_NOT_FOUND else None
            if gone is None or not is_deleted(tenant, gone):
                raise
        return account_of(tenant.graph.call(get("directory", "deletedItems", gone)))

    def meant(self, tenant: Tenant, context: Context, parameters: UserParameters) -> str:
        """The name or object id that is looked for."""
        return parameters.user


class DeleteUser(_DeletionFunction):
    """Deletes the account. The directory keeps it for thirty days, in which it can be restored."""

    name = "m365.delete_user"
    summary = "Delete an account; the directory keeps it for 30 days"
    destructive = True
    deletes_account = True

    def preview(self, parameters: UserParameters) -> str:
        """The call that would be made."""
        return f"DELETE /users/{parameters.user}"

    def meant(self, tenant: Tenant, context: Context, parameters: UserParameters) -> str:
        """The account that was offboarded. Raises StepError."""
        user = parameters.user
        return stored_id(context, "m365", tenant.id, user, is_id=is_object_id(user)) or user

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Delete, and see it among the deleted ones."""
        if is_deleted(work.tenant, work.user.id):
            return Outcome.succeeded(outcome="already")
        # Recorded first: afterwards the name finds nothing.
        remember_deleted(work)
        try:
            work.tenant.graph.call(Call("DELETE", work.path()))
        except ServiceRefused as error:
            if not error.missing:
                raise
        settled(lambda: is_deleted(work.tenant, work.user.id), lambda deleted: deleted)
        now = utcnow()
        return Outcome.succeeded(
            outcome="removed",
            deleted_at=now.isoformat(),
            restorable_until=(now + timedelta(days=KEPT_DAYS)).isoformat(),
        )

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether it is among the deleted ones."""
        return is_deleted(work.tenant, work.user.id)


class RestoreUser(_DeletionFunction):
    """Brings a deleted account back, with its mailbox and its licences' data."""

    name = "m365.restore_user"
    summary = "Restore a deleted account within 30 days, by its object id or after a deletion by us"
    impact = "The account stays deleted."

    def preview(self, parameters: UserParameters) -> str:
        """The call that would be made."""
        return f"POST /directory/deletedItems/{{id of {parameters.user}}}/restore"

    def preflight(self, context: PreflightContext, parameters: UserParameters) -> list[Finding]:
        """A deleted account is not among the accounts: nothing is asked."""
        return []

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Restore, and see it among the accounts."""
        if exists(work.tenant, work.user.id):
            return Outcome.succeeded(outcome="already")
        work.tenant.graph.call(restore_call(work.user.id))
        settled(lambda: exists(work.tenant, work.user.id), lambda exists: exists)
        return Outcome.succeeded(outcome="changed")

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether it is among the accounts."""
        return exists(work.tenant, work.user.id)
