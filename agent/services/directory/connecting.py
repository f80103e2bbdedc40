"""The directory by the way that its credential names. What a way needs is imported when it is used: both are heavy."""

from __future__ import annotations

from agent.services.directory.port import Directory
from agent.services.directory.settings import DirectorySettings


def connect(settings: DirectorySettings, password: str, *, prefer: str | None = None) -> Directory:
    """A conversation that begins on first use. `prefer`: the controller to ask first, if it is one of the settings'."""
    if settings.way == "psrp":
        from agent.services.directory.powershell import PowershellDirectory

        return PowershellDirectory(settings, password, prefer=prefer)
    from agent.services.directory.ldap import LdapDirectory

    return LdapDirectory(settings, password, prefer=prefer)
