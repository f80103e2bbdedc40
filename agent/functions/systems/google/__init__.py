"""Functions `google.*`: an account of Google Workspace is suspended, signed out, stripped of what opens it, handed over, deleted.

Google's Admin SDK: Directory API (directory_v1) and Data Transfer API (datatransfer_v1).
"""

from __future__ import annotations

from typing import Any

from agent.functions.base import Function
from agent.functions.systems.google import accounts, lists, transfer
from agent.functions.systems.google.sign_in import SYSTEM

__all__ = ["FUNCTIONS", "SYSTEM"]

FUNCTIONS: dict[str, type[Function[Any]]] = {
    f.name: f
    for f in (
        accounts.Suspend, accounts.SignOut, accounts.ResetPassword, lists.RevokeTokens, lists.RemoveAppPasswords,
        accounts.InvalidateBackupCodes, accounts.TurnOffSecondFactor, lists.WipeDevices, lists.RemoveGroups,
        lists.RemoveRoles, lists.RemoveAliases, accounts.HideFromDirectory, accounts.MoveToOrgUnit, transfer.TransferData,
        accounts.Delete,
    )
}  # fmt: skip
