"""What the account owns, handed to somebody else by Google's Data Transfer API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from agent.errors import StepError
from agent.failure_types import DATA_TRANSFER_FAILED, MANAGER_NOT_FOUND
from agent.functions.accounts import Account, AccountParameters, Work
from agent.functions.base import Outcome
from agent.functions.confirming import judged
from agent.functions.systems.google.accounts import GoogleFunction, find_user
from agent.functions.systems.google.sign_in import TRANSFERS, Pages
from agent.services.rest.client import Call


class TransferParameters(AccountParameters):
    """Who takes over, and what."""

    #: Id or address of the successor, in the same Workspace.
    transfer_to: str = Field(min_length=1, max_length=320)
    #: Names of applications as Google lists them for transfers, divided by semicolons.
    applications: str = "Drive and Docs; Calendar"


class TransferData(GoogleFunction):
    """Hands files and calendars to somebody else. Google does it in the background and tells how far it is."""

    name = "google.transfer_data"
    summary = "Hand Drive, Calendar and the like to another account, and wait until Google says that it is done"
    Parameters = TransferParameters
    failure_type = DATA_TRANSFER_FAILED
    impact = "The files and calendars are still the leaver's; they go with the account when it is deleted."
    rights = "admin.datatransfer"

    def preview(self, parameters: TransferParameters) -> str:
        """The call that would be made."""
        return f"POST {TRANSFERS} from {parameters.user} to {parameters.transfer_to}: {parameters.applications}"

    def change(self, work: Work[Any]) -> Outcome:
        """Begin what was not begun, and look how far it is. Raises StepError (in_progress) while Google is at work."""
        new, wanted = self._successor(work), self._applications(work)
        begun = self._states(work, new)
        missing = [key for key in wanted if begun.get(key, "failed") == "failed"]
        if missing:
            body = {
                "oldOwnerUserId": work.account.id, "newOwnerUserId": new.id,
                "applicationDataTransfers": [{"applicationId": key, **_parameters_of(wanted[key])} for key in missing],
            }  # fmt: skip
            work.client.send(Call("POST", TRANSFERS, json=body))
        states = self._states(work, new)
        items = [
            {"id": key, "name": name, "to": new.name, **_transferred(states.get(key, "not begun"))}
            for key, name in wanted.items()
        ]
        if any(i.get("status") == "inProgress" for i in items):
            raise StepError(
                f"Google is still handing over {', '.join(i['name'] for i in items if i.get('status') == 'inProgress')}",
                type=DATA_TRANSFER_FAILED, code="in_progress", impact="Nothing is lost: Google goes on by itself.",
                remediation="Give the step `retries`, or run it again later: it asks how far it is and begins nothing twice.",
            )  # fmt: skip
        return judged(items, "transfers", new_owner={"id": new.id, "name": new.name})

    def done(self, work: Work[Any]) -> bool:
        """Whether everything that was asked for is handed over."""
        states = self._states(work, self._successor(work))
        return all(states.get(key) == "completed" for key in self._applications(work))

    def _successor(self, work: Work[Any]) -> Account:
        found = find_user(work.client, work.parameters.transfer_to)
        if found is None or found.id == work.account.id or found.body.get("suspended"):
            why = (
                "has no account here"
                if found is None
                else "is the leaver"
                if found.id == work.account.id
                else "is suspended"
            )
            raise StepError(
                f"{work.parameters.transfer_to} {why} and cannot take over", type=MANAGER_NOT_FOUND, code="successor",
                impact=self.impact, remediation="Name somebody else who takes over, then retry the run.",
            )  # fmt: skip
        return found

    def _applications(self, work: Work[Any]) -> dict[str, str]:
        """Id -> name of what is asked for."""
        call = Call("GET", "/admin/datatransfer/v1/applications", {"customerId": "my_customer"})
        known = {str(a["name"]).casefold(): a for a in work.client.all(call, Pages(entries="applications"))}
        names = [t for part in work.parameters.applications.split(";") if (t := part.strip())]
        unknown = [name for name in names if name.casefold() not in known]
        if unknown or not names:
            raise StepError(
                f"Google hands over {', '.join(str(a['name']) for a in known.values())}, not {', '.join(unknown) or 'nothing'}",
                type=DATA_TRANSFER_FAILED, code="unknown_application", remediation="Correct `applications` of the step.",
            )  # fmt: skip
        return {str(known[n.casefold()]["id"]): str(known[n.casefold()]["name"]) for n in names}

    def _states(self, work: Work[Any], new: Account) -> dict[str, str]:
        """Application -> how far the best of its transfers is."""
        call = Call("GET", TRANSFERS, {"oldOwnerUserId": work.account.id, "newOwnerUserId": new.id})
        found: dict[str, str] = {}
        for transfer in work.client.all(call, Pages(entries="dataTransfers")):
            for part in transfer.get("applicationDataTransfers") or ():
                key, status = str(part["applicationId"]), _status(transfer, part)
                found[key] = min(found.get(key, status), status, key=_ORDER.index)
        return found


#: From the best to the worst. What is asked for and not yet begun is on its way.
_ORDER = ("completed", "inProgress", "failed")


def _status(transfer: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    said = str(part.get("applicationTransferStatus") or transfer.get("overallTransferStatusCode") or "")
    return said if said in _ORDER else "inProgress"


def _parameters_of(name: str) -> dict[str, Any]:
    """Of files also those that nobody else sees; of calendars the rooms of future events are set free."""
    key, value = ("RELEASE_RESOURCES", ["TRUE"]) if name == "Calendar" else ("PRIVACY_LEVEL", ["PRIVATE", "SHARED"])
    return {"applicationTransferParams": [{"key": key, "value": value}]}


def _transferred(status: str) -> dict[str, Any]:
    if status == "completed":
        return {"outcome": "changed", "status": status}
    return {
        "outcome": "failed", "status": status, "reason": f"the transfer is {status}", "code": status,
        "error_type": DATA_TRANSFER_FAILED,
    }  # fmt: skip
