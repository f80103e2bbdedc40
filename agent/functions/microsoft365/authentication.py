"""The leaver's authentication methods: everything but the password."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.errors import AnswerLost, StepError
from agent.failure_types import INTEGRATION_ERROR
from agent.functions.base import Outcome
from agent.functions.microsoft365.base import UserFunction, UserParameters, Work, failed_item, judged, still_there
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.graph import Call, get

#: Type of a method -> the collection that deletes it. Those without one cannot be deleted by v1.0.
_COLLECTIONS: Mapping[str, str] = {
    "emailAuthenticationMethod": "emailMethods",
    "fido2AuthenticationMethod": "fido2Methods",
    "microsoftAuthenticatorAuthenticationMethod": "microsoftAuthenticatorMethods",
    "phoneAuthenticationMethod": "phoneMethods",
    "platformCredentialAuthenticationMethod": "platformCredentialMethods",
    "softwareOathAuthenticationMethod": "softwareOathMethods",
    "temporaryAccessPassAuthenticationMethod": "temporaryAccessPassMethods",
    "windowsHelloForBusinessAuthenticationMethod": "windowsHelloForBusinessMethods",
}
_PASSWORD = "passwordAuthenticationMethod"
#: The default method can only go when it is the last; the main phone only after the alternate one.
_MOBILE = "mobile"


class RemoveMfaMethods(UserFunction[UserParameters]):
    """Removes every method of the second factor, so that no device of the leaver can confirm a sign-in."""

    name = "m365.remove_mfa_methods"
    summary = "Remove all authentication methods but the password; the default one last"
    Parameters = UserParameters
    destructive = True
    repeatable = True
    impact = "A device of the leaver can still confirm a sign-in."

    def preview(self, parameters: UserParameters) -> str:
        """The calls that would be made."""
        return (
            f"DELETE /users/{parameters.user}/authentication/{{type}}Methods/{{id}} for every method but the password"
        )

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Delete one by one (a batch of these is known to fail silently); what is refused first is tried again."""
        methods = sorted(_methods(work), key=lambda m: m.get("phoneType") == _MOBILE)
        errors: dict[str, Exception] = {}
        waiting = methods
        while waiting:
            refused = [m for m in waiting if self._delete(work, m, errors)]
            if len(refused) == len(waiting):
                break
            waiting = refused
        left = {m["id"] for m in _methods(work)} if methods else set()
        items = []
        for method in methods:
            item: dict[str, Any] = {"id": method["id"], "type": _type(method), "outcome": "removed"}
            if method["id"] in left:
                item |= failed_item(errors[method["id"]]) if method["id"] in errors else still_there("the directory")
            items.append(item)
        return judged(items, "methods", removed=sum(i["outcome"] == "removed" for i in items))

    def _delete(self, work: Work[UserParameters], method: Mapping[str, Any], errors: dict[str, Exception]) -> bool:
        """Delete a method; True when it was refused and may work once others are gone."""
        collection = _COLLECTIONS.get(_type(method))
        errors.pop(method["id"], None)
        if collection is None:
            errors[method["id"]] = StepError(
                f"Graph v1.0 cannot delete a {_type(method)}: remove it in the Entra admin centre",
                type=INTEGRATION_ERROR, code="method_unknown",
            )  # fmt: skip
            return False
        try:
            work.tenant.graph.call(Call("DELETE", work.path("authentication", collection, method["id"])))
        except (ServiceRefused, AnswerLost) as error:
            errors[method["id"]] = error
            return isinstance(error, ServiceRefused) and error.status == 400
        return False

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether only the password is left."""
        return not _methods(work)


def _methods(work: Work[UserParameters]) -> list[Mapping[str, Any]]:
    found = work.tenant.graph.all(get("users", work.user.id, "authentication", "methods"))
    return [m for m in found if _type(m) != _PASSWORD]


def _type(method: Mapping[str, Any]) -> str:
    return str(method.get("@odata.type", "")).removeprefix("#microsoft.graph.")
