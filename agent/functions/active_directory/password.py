"""`ad.reset_password`: a random password that nobody ever sees."""

from __future__ import annotations

import secrets
import string

from agent.functions.active_directory.base import AccountFunction, AccountParameters, Work, not_kept
from agent.functions.base import Outcome

#: Characters of the password: more than 600 bits.
LENGTH = 100
_KINDS = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "!#%()*+-./:=?@_")


class ResetPassword(AccountFunction[AccountParameters]):
    """Sets the password to a random one, which is neither kept, shown nor returned."""

    name = "ad.reset_password"
    summary = "Reset the password of the Active Directory account to a random one that nobody can know"
    Parameters = AccountParameters
    impact = "The old password is still valid."
    critical = True
    rights = "Reset password"

    def preview(self, parameters: AccountParameters) -> str:
        """What would be done."""
        return (
            f"reset the password of the Active Directory account {parameters.account!r} to a random one, kept nowhere"
        )

    def act(self, work: Work, parameters: AccountParameters) -> Outcome:
        """Reset it, and see that the directory counts it as set anew. A second run sets another one."""
        before = _last_set(work)
        work.context.set_state(_key(work), before)
        password = _random()
        lost = work.sent(lambda: work.directory.set_password(work.account.reference, password))
        account = work.now()
        after = account.entry.text("pwdLastSet") or "0"
        if after == before:
            error = (lost.typed if lost else None) or not_kept("reset the password", work.directory)
            return Outcome.failed(error, **work.facts())
        more = {"verified_after": "answer_lost"} if lost else {}
        return Outcome.succeeded(**work.facts(account), password_reset=True, **more)

    def is_done(self, work: Work, parameters: AccountParameters) -> bool | None:
        """Whether the password was set since this step began; None when the step never got so far."""
        before = work.context.state(_key(work))
        return None if before is None else _last_set(work) != before


def _last_set(work: Work) -> str:
    return work.account.entry.text("pwdLastSet") or "0"


def _key(work: Work) -> str:
    return f"ad_password_before:{work.context.step_id}"


def _random() -> str:
    """Random characters, with each kind that a domain's policy may ask for."""
    alphabet = "".join(_KINDS)
    while True:
        password = "".join(secrets.choice(alphabet) for _ in range(LENGTH))
        if all(any(c in kind for c in password) for kind in _KINDS):
            return password
