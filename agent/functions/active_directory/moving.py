"""`ad.move_to_ou`: puts the account into the OU for leavers."""

from __future__ import annotations

from pydantic import Field

from agent.errors import AnswerLost, StepError
from agent.failure_types import INTEGRATION_ERROR
from agent.functions.active_directory.base import AccountFunction, AccountParameters, Work, not_kept
from agent.functions.base import Outcome
from agent.services.directory.accounts import Account
from agent.services.directory.names import escape_filter, guid_of, split_dn
from agent.services.directory.port import Directory, Entry, Scope

#: What an account may be put into.
_PARENTS = "(|(objectClass=organizationalUnit)(objectClass=container)(objectClass=domainDNS))"


class MoveParameters(AccountParameters):
    """Where to."""

    #: Distinguished name of the OU, as the client's field ad_disabled_users_ou has it.
    ou: str = Field(min_length=1, max_length=1000)


class MoveToOu(AccountFunction[MoveParameters]):
    """Moves the account to another OU of the client."""

    name = "ad.move_to_ou"
    summary = "Move the Active Directory account to another OU, such as the one for disabled users"
    Parameters = MoveParameters
    impact = "The account stands among those that are in use, and their group policies apply to it."
    rights = "Delete user objects in the OU of the account, create user objects in the new one, write name and cn"

    def preview(self, parameters: MoveParameters) -> str:
        """What would be done."""
        return f"move the Active Directory account {parameters.account!r} to {parameters.ou}"

    def act(self, work: Work, parameters: MoveParameters) -> Outcome:
        """Move it unless it is there; then ask the new OU whether it has it."""
        parent = the_ou(work.directory, parameters.ou)
        already = stands_in(work.directory, work.account, parent)
        lost = None if already else move(work, parent)
        account = work.now()
        facts = work.facts(account, already=already, moved_from=work.account.parent)
        if not stands_in(work.directory, account, parent):
            error = (lost.typed if lost else None) or not_kept("move the account", work.directory)
            return Outcome.failed(error, **facts)
        return Outcome.succeeded(**facts, account_moved_to_ou=parent.dn)

    def is_done(self, work: Work, parameters: MoveParameters) -> bool | None:
        """It stands in the OU."""
        return stands_in(work.directory, work.account, the_ou(work.directory, parameters.ou))


def move(work: Work, parent: Entry) -> AnswerLost | None:
    """Put the account into an OU; the error when the answer was lost."""
    rdn = split_dn(work.account.dn)[0]
    return work.sent(lambda: work.directory.move(work.account.reference, rdn, parent.dn))


def the_ou(directory: Directory, ou: str) -> Entry:
    """An OU or container of the client by its distinguished name or GUID. Raises StepError when there is none."""
    guid = guid_of(ou)
    found = None if guid is None else f"<GUID={guid}>"
    entry = directory.read(found or ou, ("objectGUID",)) if "=" in ou or found else None
    inside = [] if entry is None else _inside(directory, entry)
    if not inside:
        raise StepError(
            f"there is no OU {ou!r} below {directory.base}", type=INTEGRATION_ERROR, code="ou_not_found",
            remediation="Make the OU, or correct the parameter or the client's field ad_disabled_users_ou.",
        )  # fmt: skip
    return inside[0]


def _inside(directory: Directory, entry: Entry) -> list[Entry]:
    condition = f"(&{_PARENTS}(objectGUID={escape_filter(entry.guid.bytes_le)}))"
    return directory.search(directory.base, condition, ("objectGUID",), limit=1)


def stands_in(directory: Directory, account: Account, parent: Entry) -> bool:
    """Whether the account stands directly in an OU."""
    condition = f"(objectGUID={escape_filter(account.guid.bytes_le)})"
    return bool(directory.search(parent.dn, condition, ("objectGUID",), scope=Scope.CHILDREN, limit=1))
