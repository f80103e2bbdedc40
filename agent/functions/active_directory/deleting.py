"""`ad.delete_account`, after the retention, and `ad.restore`, which takes that back where the recycle bin allows it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import Field

from agent.errors import StepError
from agent.failure_types import ACCOUNT_NOT_FOUND, INTEGRATION_ERROR, PERMISSION_DENIED
from agent.functions.active_directory.base import (
    CONTROLLER,
    AccountFunction,
    AccountParameters,
    Work,
    not_kept,
    opened,
    timestamp,
)
from agent.functions.active_directory.cloud_only import CloudOnly
from agent.functions.active_directory.moving import the_ou
from agent.functions.base import Context, Function, Outcome
from agent.functions.stored_accounts import stored_id, was_cloud_only
from agent.services.directory.accounts import Account, find
from agent.services.directory.names import guid_dn, guid_of
from agent.services.directory.port import Directory, Entry
from agent.services.directory.recycling import find_deleted, is_deleted, recycle_bin_enabled, undelete

#: Words in a description that keep an account, without regard to case.
HOLD_WORDS = ("legal hold", "litigation hold", "do not delete")
#: Columns of the contact, and of what started the run, that say that there is a hold.
HOLD_COLUMNS = ("legal_hold", "Legal Hold", "LegalHold", "legalhold")


class DeleteParameters(AccountParameters):
    """What stands in the way of a deletion."""

    #: There is a legal hold: refuse.
    hold: bool = False
    #: Delete what stands below the account too, such as its mobile devices.
    subtree: bool = False


class DeleteAccount(AccountFunction[DeleteParameters]):
    """Deletes an account that is disabled and not held."""

    name = "ad.delete_account"
    summary = "Delete the Active Directory account; refused while it is enabled or under a legal hold"
    Parameters = DeleteParameters
    repeatable = False
    deletes_account = True
    impact = "The account still exists, disabled."
    rights = "Delete user objects (and subtree), read deleted objects"

    def preview(self, parameters: DeleteParameters) -> str:
        """What would be done."""
        below = " with everything below it" if parameters.subtree else ""
        return f"delete the Active Directory account {parameters.account!r}{below}, if it is disabled and under no legal hold"

    def do(self, context: Context, parameters: DeleteParameters) -> Outcome:
        """An account that is in the recycle bin already is no failure; one that never was is."""
        refuse_held(context, parameters)
        try:
            return super().do(context, parameters)
        except StepError as error:
            if error.code != "not_found":
                raise
            guid = self.bound(context, parameters)
            with opened(context) as (directory, _):
                gone = find_deleted(directory, str(guid) if guid else parameters.account)
            if len(gone) != 1:
                raise
            return Outcome.skipped(f"{gone[0].text('sAMAccountName')} ({gone[0].guid}) is deleted already")

    def found(self, context: Context, directory: Directory, parameters: DeleteParameters) -> Account | CloudOnly:
        """Somebody who was cloud-only when the offboarding acted, and whom the directory still does not hold, has none."""
        if was_cloud_only(context, "ad"):
            try:
                find(directory, parameters.account)
            except StepError as error:
                if error.code != "not_found":
                    raise
                return CloudOnly(
                    "cloud-only: the person had no account here when the offboarding acted, and has none now"
                )
        return super().found(context, directory, parameters)

    def bound(self, context: Context, parameters: DeleteParameters) -> UUID | None:
        """The account that was offboarded. Raises StepError."""
        asked = parameters.account
        stored = stored_id(context, "ad", "", asked, is_id=guid_of(asked) is not None)
        return super().bound(context, parameters) if stored is None else guid_of(stored)

    def act(self, work: Work, parameters: DeleteParameters) -> Outcome:
        """Which object is deleted is stored first, so that it can be asked for afterwards."""
        account = work.account
        _refuse_description(account.entry)
        if not account.disabled:
            raise StepError(
                f"{account.dn} is enabled: its name may belong to somebody else by now", type=PERMISSION_DENIED,
                code="account_enabled", remediation="Name the account by its objectGUID, and disable it before deleting it.",
            )  # fmt: skip
        work.context.set_state(_key(work.context), str(account.guid))
        lost = work.sent(lambda: work.directory.delete(account.reference, subtree=parameters.subtree))
        if not is_deleted(work.directory, account.guid):
            error = (lost.typed if lost else None) or not_kept("delete the account", work.directory)
            return Outcome.failed(error, **work.facts())
        return Outcome.succeeded(**work.facts(), account_deleted=True, deleted_timestamp=timestamp())

    def verify(self, context: Context, parameters: DeleteParameters) -> bool | None:
        """Whether the object that this step was about to delete is gone."""
        guid = context.state(_key(context))
        if guid is None:
            return False
        with opened(context) as (directory, _):
            gone = is_deleted(directory, UUID(guid))
            return gone or (None if context.state(CONTROLLER) != directory.controller else False)

    def is_done(self, work: Work, parameters: DeleteParameters) -> bool | None:
        """An account that was found is not deleted."""
        return False


def _key(context: Context) -> str:
    return f"ad_deleting:{context.step_id}"


def refuse_held(context: Context, parameters: DeleteParameters) -> None:
    """Raises StepError when the parameter, the contact or what started the run says that there is a legal hold."""
    contact, columns = context.places.get("contact") or {}, context.plan.get("columns") or {}
    said = [parameters.hold, context.plan.get("hold"), *(p.get(c) for p in (contact, columns) for c in HOLD_COLUMNS)]
    if any(_is_set(value) for value in said):
        raise _held("there is a legal hold")


def _is_set(value: Any) -> bool:
    return str(value).strip().casefold() not in ("", "0", "false", "no", "none")


def _refuse_description(entry: Entry) -> None:
    description = (entry.text("description") or "").casefold()
    word = next((w for w in HOLD_WORDS if w in description), None)
    if word is not None:
        raise _held(f"its description says {word!r}")


def _held(why: str) -> StepError:
    return StepError(
        f"the account is not deleted: {why}", type=PERMISSION_DENIED, code="legal_hold",
        impact="The account still exists, disabled.", remediation="Have the hold ended, then start the deletion again.",
    )  # fmt: skip


class RestoreParameters(AccountParameters):
    """Where a deleted account goes."""

    #: Distinguished name of the OU; empty: where it stood.
    ou: str = Field("", max_length=1000)
    #: Also put back an account whose attributes and memberships are lost, since there is no recycle bin.
    lossy: bool = False


class Restore(Function[RestoreParameters]):
    """Puts a deleted account back; it stays disabled."""

    name = "ad.restore"
    summary = "Put a deleted Active Directory account back from the recycle bin; it stays as it was when it was deleted"
    Parameters = RestoreParameters
    repeatable = True

    def preview(self, parameters: RestoreParameters) -> str:
        """What would be done."""
        return f"put the deleted Active Directory account {parameters.account!r} back to {parameters.ou or 'where it stood'}"

    def do(self, context: Context, parameters: RestoreParameters) -> Outcome:
        """Restore it, unless the account exists. What is lost without a recycle bin is said."""
        with opened(context) as (directory, _):
            entry = _the_deleted(directory, parameters)
            if entry is None:
                found = find(directory, parameters.account)
                return Outcome.succeeded(object_guid=str(found.guid), account=found.dn, already=True)
            lossy = entry.flag("isRecycled") or not recycle_bin_enabled(directory)
            if lossy and not parameters.lossy:
                raise StepError(
                    f"{entry.text('sAMAccountName')} was deleted without a recycle bin: its attributes and memberships are lost",
                    type=INTEGRATION_ERROR, code="no_recycle_bin", impact="The account stays deleted.",
                    remediation="Restore the domain's backup, or set `lossy` to get the bare account with its SID back.",
                )  # fmt: skip
            parent = the_ou(directory, parameters.ou or entry.text("lastKnownParent") or "")
            context.set_state(CONTROLLER, directory.controller)
            undelete(directory, entry, parent.dn)
            account = find(directory, str(entry.guid))
            return Outcome.succeeded(
                object_guid=str(account.guid), account=account.dn, already=False, restored=True, lossy=lossy,
                account_disabled=account.disabled,
            )  # fmt: skip

    def verify(self, context: Context, parameters: RestoreParameters) -> bool | None:
        """Whether the account exists again."""
        with opened(context) as (directory, _):
            if _the_deleted(directory, parameters) is None:
                find(directory, parameters.account)
                return True
            return None if context.state(CONTROLLER) not in (None, directory.controller) else False


def _the_deleted(directory: Directory, parameters: RestoreParameters) -> Entry | None:
    """The deleted account, None when an account of that name exists. Raises StepError for none and for several."""
    guid = guid_of(parameters.account)
    if guid is not None and directory.read(guid_dn(guid), ("objectGUID",)) is not None:
        return None
    found = find_deleted(directory, parameters.account)
    if guid is None:
        try:
            find(directory, parameters.account)
        except StepError as error:
            if error.code != "not_found":
                raise
        else:
            return None
    if len(found) == 1:
        return found[0]
    what = f"several deleted accounts: {'; '.join(str(e.guid) for e in found)}" if found else "no deleted account"
    raise StepError(
        f"{parameters.account!r} names {what}", type=ACCOUNT_NOT_FOUND if not found else INTEGRATION_ERROR,
        code="not_found" if not found else "ambiguous", impact="Nothing was restored.",
        remediation="Name the account by its objectGUID; after the deleted object lifetime only a backup has it.",
    )  # fmt: skip
