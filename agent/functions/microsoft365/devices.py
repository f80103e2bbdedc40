"""The leaver's devices: Intune wipe and retire, the account-only wipe of Exchange, and device partnerships."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from agent.failure_types import DEVICE_WIPE_FAILED
from agent.functions.base import Outcome
from agent.functions.microsoft365.base import UserFunction, UserParameters, Work, failed_item, judged, still_there
from agent.functions.microsoft365.mailboxes import mail, no_mailbox
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.graph import Call, path_of

_SELECT = "id,deviceName,operatingSystem,model,serialNumber,imei,managedDeviceOwnerType,managementState"


class DeviceParameters(UserParameters):
    """Which of the leaver's devices."""

    #: A personal device is wiped only where that is said.
    ownership: Literal["company", "personal", "all"] = "company"


class _IntuneFunction(UserFunction[DeviceParameters]):
    """Asks Intune for an act on every device. Intune does it when the device next reports; it says `accepted`."""

    Parameters = DeviceParameters
    destructive = True
    repeatable = True
    failure_type = DEVICE_WIPE_FAILED
    action: ClassVar[str]
    body: ClassVar[Mapping[str, Any] | None]
    #: What `managementState` begins with once the act is under way or over.
    state: ClassVar[str]

    def preview(self, parameters: DeviceParameters) -> str:
        """The calls that would be made."""
        return (
            f"POST /deviceManagement/managedDevices/{{id}}/{self.action} for every device of {parameters.user} "
            f"(ownership: {parameters.ownership})"
        )

    def change(self, work: Work[DeviceParameters]) -> Outcome:
        """Ask for it once per device, and see that Intune shows it."""
        devices = self._devices(work)
        waiting = [d for d in devices if not self._under_way(d)]
        path = ("deviceManagement", "managedDevices")
        calls = [Call("POST", path_of(*path, d["id"], self.action), self.body, may_repeat=True) for d in waiting]
        replies = dict(zip((d["id"] for d in waiting), work.tenant.graph.batch(calls), strict=True)) if calls else {}
        now = {d["id"]: d for d in self._devices(work)} if calls else {d["id"]: d for d in devices}
        items = [self._item(device, replies.get(device["id"]), now.get(device["id"])) for device in devices]
        return judged(items, "devices", accepted=sum(i["outcome"] in ("accepted", "already") for i in items))

    def _item(self, device: Mapping[str, Any], reply: Any, now: Mapping[str, Any] | None) -> dict[str, Any]:
        item = {
            "id": device["id"], "name": device.get("deviceName"), "os": device.get("operatingSystem"),
            "model": device.get("model"), "serial": device.get("serialNumber"), "imei": device.get("imei"),
            "ownership": device.get("managedDeviceOwnerType"),
            "state": now.get("managementState") if now else "removed",
        }  # fmt: skip
        if reply is None:
            return {**item, "outcome": "already"}
        if now is None or self._under_way(now):
            return {**item, "outcome": "accepted"}
        if isinstance(reply, Exception):
            return {**item, **failed_item(reply)}
        # Intune shows the new state only after a while; its word is what there is.
        return {**item, "outcome": "accepted", "reason": "Intune accepted it and does not show it yet"}

    def done(self, work: Work[DeviceParameters]) -> bool:
        """Whether it is under way or over on every device."""
        return all(self._under_way(d) for d in self._devices(work))

    def _devices(self, work: Work[DeviceParameters]) -> list[Mapping[str, Any]]:
        found = work.tenant.graph.all(work.get("managedDevices", select=_SELECT))
        wanted = work.parameters.ownership
        return [d for d in found if wanted == "all" or d.get("managedDeviceOwnerType") == wanted]

    def _under_way(self, device: Mapping[str, Any]) -> bool:
        return str(device.get("managementState") or "").lower().startswith(self.state)


class WipeDevices(_IntuneFunction):
    """Sets the leaver's devices back to how they left the factory."""

    name = "m365.wipe_devices"
    summary = "Wipe the managed devices of an account (Intune); by default the company's only"
    impact = "Company data stays on the leaver's devices."
    critical = True
    action = "wipe"
    body = {"keepEnrollmentData": False, "keepUserData": False}
    state = "wipe"


class RetireDevices(_IntuneFunction):
    """Removes the company's data and settings, and leaves what is personal."""

    name = "m365.retire_devices"
    summary = "Retire the managed devices of an account (Intune): company data goes, personal data stays"
    impact = "Company data stays on the leaver's devices."
    action = "retire"
    body = None
    state = "retire"


class RemoveMobileDevices(UserFunction[UserParameters]):
    """Removes the partnerships with the mailbox. This wipes nothing; one that a wipe waits for stays until it is done."""

    name = "m365.remove_mobile_devices"
    summary = "Remove all mobile device partnerships of the mailbox; no wipe"
    Parameters = UserParameters
    destructive = True
    repeatable = True
    impact = "A phone of the leaver may still be a partner of the mailbox."

    def preview(self, parameters: UserParameters) -> str:
        """The calls that would be made."""
        return f"Get-MobileDeviceStatistics -Mailbox {parameters.user}; Remove-MobileDevice for each that no wipe waits for"

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Remove each, and see that none is left."""
        try:
            devices = _partnerships(work)
        except ServiceRefused as error:
            return no_mailbox(error)
        going = [d for d in devices if not _waits(d)]
        cmdlets = [mail(work, "Remove-MobileDevice", Identity=str(d["Identity"]), Confirm=False) for d in going]
        replies = work.tenant.mail.invoke_all(cmdlets)
        left = {str(d["Identity"]) for d in _partnerships(work)} if going else set()
        reason = "it waits for the wipe of the account, which would not happen without it"
        items = [_shown(d, "kept", reason=reason) for d in devices if _waits(d)]
        for device, reply in zip(going, replies, strict=True):
            there = str(device["Identity"]) in left
            items.append(_shown(device, "removed") | (still_there(error=reply) if there else {}))
        return judged(items, "devices", removed=sum(i["outcome"] == "removed" for i in items))

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether none is left but those that a wipe waits for."""
        return all(_waits(d) for d in _partnerships(work))


class AccountOnlyWipe(UserFunction[UserParameters]):
    """Removes the mailbox's data from the leaver's phones and nothing else."""

    name = "m365.account_only_wipe"
    summary = "Wipe only the account's mail data from its mobile devices (Exchange)"
    Parameters = UserParameters
    destructive = True
    repeatable = True
    failure_type = DEVICE_WIPE_FAILED
    impact = "Mail stays on the leaver's phones."

    def preview(self, parameters: UserParameters) -> str:
        """The calls that would be made."""
        return f"Get-MobileDeviceStatistics -Mailbox {parameters.user}; Clear-MobileDevice -AccountOnly for each"

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Ask for it on each device, and see that Exchange shows it as pending or done."""
        try:
            devices = _partnerships(work)
        except ServiceRefused as error:
            return no_mailbox(error)
        going = [d for d in devices if not _wiped(d)]
        cmdlets = [
            mail(work, "Clear-MobileDevice", Identity=str(d["Identity"]), AccountOnly=True, Confirm=False)
            for d in going
        ]
        replies = work.tenant.mail.invoke_all(cmdlets)
        # A device that is no more has nothing of the mailbox that could be wiped.
        as_before = {str(d["Identity"]) for d in _partnerships(work) if not _wiped(d)} if going else set()
        items = [_shown(d, "already") for d in devices if _wiped(d)]
        for device, reply in zip(going, replies, strict=True):
            there = str(device["Identity"]) in as_before
            items.append(_shown(device, "accepted") | (still_there(error=reply) if there else {}))
        return judged(items, "devices", accepted=sum(i["outcome"] in ("accepted", "already") for i in items))

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether it is pending or done on every device."""
        return all(_wiped(d) for d in _partnerships(work))


def _partnerships(work: Work[Any]) -> list[Mapping[str, Any]]:
    return list(work.tenant.mail.invoke(mail(work, "Get-MobileDeviceStatistics", Mailbox=work.user.id)).entries)


def _shown(device: Mapping[str, Any], outcome: str, **more: Any) -> dict[str, Any]:
    return {"id": device.get("DeviceId"), "model": device.get("DeviceModel"), "outcome": outcome, **more}


def _wiped(device: Mapping[str, Any]) -> bool:
    return str(device.get("Status") or "").startswith("AccountOnlyDeviceWipe")


def _waits(device: Mapping[str, Any]) -> bool:
    return _wiped(device) and str(device["Status"]).endswith("Pending")
