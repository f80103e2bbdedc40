"""Settings of a credential of the kind `microsoft365`: one tenant, one app registration, the addresses of its cloud.

Secrets: `client_secret`, or `certificate` (PEM: the private key and its certificate in one text). SharePoint takes
certificates only, so what needs it says so where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agent.errors import StepError
from agent.failure_types import PERMISSION_DENIED

#: The kind of the credential.
KIND = "microsoft365"
Cloud = Literal["global", "us_government", "us_defense", "china"]
#: Sign-in, Graph and Exchange of each national cloud, as Microsoft publishes them.
CLOUDS: Mapping[Cloud, tuple[str, str, str]] = {
    "global": ("https://login.microsoftonline.com", "https://graph.microsoft.com", "https://outlook.office365.com"),
    "us_government": ("https://login.microsoftonline.us", "https://graph.microsoft.us", "https://outlook.office365.us"),
    "us_defense": (
        "https://login.microsoftonline.us", "https://dod-graph.microsoft.us", "https://webmail.apps.mil"
    ),
    "china": (
        "https://login.chinacloudapi.cn", "https://microsoftgraph.chinacloudapi.cn", "https://partner.outlook.cn"
    ),
}  # fmt: skip
_ID = r"^[0-9A-Za-z]([0-9A-Za-z.-]*[0-9A-Za-z])?$"


class TenantSettings(BaseModel):
    """How to reach one tenant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Id (GUID) of the tenant, or one of its domains.
    tenant_id: str = Field(pattern=_ID)
    #: Application (client) id of the app registration.
    client_id: str = Field(pattern=_ID)
    cloud: Cloud = "global"
    #: Sign-in address without the tenant; empty: that of the cloud. Likewise the two addresses after it.
    authority: str = ""
    graph_url: str = ""
    exchange_url: str = ""
    #: `https://<name>-admin.sharepoint.com`; needed to change sharing of a OneDrive.
    sharepoint_admin_url: str = ""
    #: Further certificate authority, for a network that inspects TLS.
    ca_file: str | None = None
    #: Seconds for one answer, and for one call with all its repetitions.
    answer_seconds: float = Field(100.0, gt=0, le=600)
    call_seconds: float = Field(90.0, gt=0, le=900)

    @field_validator("authority", "graph_url", "exchange_url", "sharepoint_admin_url")
    @classmethod
    def _https(cls, value: str) -> str:
        return https_address(value) if value else value

    @property
    def authority_base(self) -> str:
        """Sign-in address without the tenant."""
        return self.authority or CLOUDS[self.cloud][0]

    @property
    def graph_base(self) -> str:
        """Address of Graph without the version."""
        return self.graph_url or CLOUDS[self.cloud][1]

    @property
    def exchange_base(self) -> str:
        """Address of Exchange."""
        return self.exchange_url or CLOUDS[self.cloud][2]


def https_address(value: str) -> str:
    """An address without its last slash. Raises ValueError unless it is https, without user, query and fragment."""
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("write the address as https://host[:port][/path]")
    return value.rstrip("/")


def tenant_settings(settings: Mapping[str, Any]) -> TenantSettings:
    """Checked settings of a credential. Raises StepError that names what is wrong."""
    try:
        return TenantSettings.model_validate(dict(settings))
    except ValidationError as error:
        details = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise StepError(
            f"the settings of the credential {KIND} are wrong: {details}", type=PERMISSION_DENIED,
            code="wrong_credential", impact="Nothing was changed in Microsoft 365.",
            remediation="Correct them: exeunt credential update",
        ) from None  # fmt: skip
