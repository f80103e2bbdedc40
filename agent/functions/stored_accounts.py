"""Which account a deletion means: the one that the person's offboarding acted on, by its id, and no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.errors import StepError
from agent.failure_types import ACCOUNT_NOT_FOUND, PERMISSION_DENIED
from agent.functions.base import Context

#: Where the plan of a deletion has the accounts, see `agent.inventory.offboarded_accounts`.
ACCOUNTS = "accounts"
#: In the result of a step that was skipped because the person has no account in its system; the account has no id then.
CLOUD_ONLY = "cloud_only"


def stored_id(context: Context, system: str, place: str, asked: str, *, is_id: bool) -> str | None:
    """The id of the account that is meant; None in a run that follows no offboarding.

    `system`: how its functions begin; `asked`: what the step names, `is_id`: that is an id. Raises StepError for an id that
    the offboarding did not act on, when it acted on none, or on several that the name does not tell apart.
    """
    known: Sequence[Mapping[str, str]] | None = context.plan.get(ACCOUNTS)
    if known is None:
        return None
    mine = [a for a in known if (a["system"], a["place"]) == (system, place) and a["id"]]
    if not mine:
        raise _refused(
            f"the offboarding of this person acted on no account there, so nobody knows whose {asked!r} is now",
            ACCOUNT_NOT_FOUND, "no_stored_account", "Look whose account it is, and delete it in the system itself.",
        )  # fmt: skip
    ids = {a["id"].lower() for a in mine}
    if is_id:
        if asked.lower() not in ids:
            raise _refused(
                f"{asked} is not the account that was offboarded: {', '.join(sorted(ids))}", PERMISSION_DENIED,
                "account_mismatch", "Take the id out of the step: the account that was offboarded is found by itself.",
            )  # fmt: skip
        return asked
    named = {a["id"] for a in mine if a["asked"].casefold() == asked.casefold()} or {a["id"] for a in mine}
    if len(named) > 1:
        raise _refused(
            f"the offboarding acted on several accounts there, and {asked!r} names none of them: {', '.join(sorted(named))}",
            PERMISSION_DENIED, "ambiguous", "Write the id of the one that is meant into the step.",
        )  # fmt: skip
    return named.pop()


def was_cloud_only(context: Context, system: str) -> bool:
    """Whether the offboarding found that the person has no account in a system, and acted on none there."""
    ids = [a["id"] for a in context.plan.get(ACCOUNTS) or () if a["system"] == system]
    return bool(ids) and not any(ids)


def _refused(message: str, kind: str, code: str, remediation: str) -> StepError:
    return StepError(message, type=kind, code=code, impact="Nothing was deleted.", remediation=remediation)
