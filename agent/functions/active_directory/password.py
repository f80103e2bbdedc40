"""`ad.reset_password`: a random password that nobody ever sees, unless it is handed over to the leaver's manager."""

from __future__ import annotations

import secrets
import string

from agent.errors import StepError, TransportError
from agent.functions import handing_over
from agent.functions.active_directory.base import SYSTEM, AccountFunction, AccountParameters, Work, not_kept
from agent.functions.base import Finding, Outcome, PreflightContext
from agent.functions.handing_over import HandingOver, HandOverParameters

#: Characters of the password: more than 600 bits; of one that somebody has to type, more than 140.
LENGTH, TYPED_LENGTH = 100, 24
_KINDS = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "!#%()*+-./:=?@_")


class ResetPasswordParameters(HandOverParameters, AccountParameters):
    """Whose password, and whether somebody gets to know it."""


class ResetPassword(AccountFunction[ResetPasswordParameters]):
    """Sets the password to a random one, which is neither kept, shown nor returned; a one-time link can hand it over."""

    name = "ad.reset_password"
    summary = (
        "Reset the password of the Active Directory account to a random one that is kept nowhere; `hand_over` sends the "
        "manager a link that shows it once"
    )
    Parameters = ResetPasswordParameters
    impact = "The old password is still valid."
    critical = True
    rights = "Reset password"

    def preview(self, parameters: ResetPasswordParameters) -> str:
        """What would be done."""
        over = "; the manager gets a one-time link to it" if parameters.hand_over else ", kept nowhere"
        return f"reset the password of the Active Directory account {parameters.account!r} to a random one{over}"

    def preflight(self, context: PreflightContext, parameters: ResetPasswordParameters) -> list[Finding]:
        """The account, and what would keep the password from being handed over."""
        return [*super().preflight(context, parameters), *handing_over.findings(context, parameters, SYSTEM)]

    def act(self, work: Work, parameters: ResetPasswordParameters) -> Outcome:
        """Reset it, and see that the directory counts it as set anew. A second run sets another one."""
        before = _last_set(work)
        work.context.set_state(_key(work), before)
        password = _random(TYPED_LENGTH) if parameters.hand_over else _random()
        handing = HandingOver.begin(work.context, parameters, password)
        try:
            lost = work.sent(lambda: work.directory.set_password(work.account.reference, password))
            account = work.now()
        except (StepError, TransportError):
            # In doubt as well: a password that may not be in force is not handed over.
            handing.give_up()
            raise
        after = account.entry.text("pwdLastSet") or "0"
        if after == before:
            handing.give_up()
            error = (lost.typed if lost else None) or not_kept("reset the password", work.directory)
            return Outcome.failed(error, **work.facts())
        more = {"verified_after": "answer_lost"} if lost else {}
        handed = handing.finish(what=f"The Active Directory account {account.entry.text('sAMAccountName')}")
        return Outcome.succeeded(**work.facts(account), password_reset=True, **handed, **more)

    def is_done(self, work: Work, parameters: ResetPasswordParameters) -> bool | None:
        """Whether the password was set since this step began; None when the step never got so far."""
        before = work.context.state(_key(work))
        return None if before is None else _last_set(work) != before


def _last_set(work: Work) -> str:
    return work.account.entry.text("pwdLastSet") or "0"


def _key(work: Work) -> str:
    return f"ad_password_before:{work.context.step_id}"


def _random(length: int = LENGTH) -> str:
    """Random characters, with each kind that a domain's policy may ask for."""
    alphabet = "".join(_KINDS)
    while True:
        password = "".join(secrets.choice(alphabet) for _ in range(length))
        if all(any(c in kind for c in password) for kind in _KINDS):
            return password
