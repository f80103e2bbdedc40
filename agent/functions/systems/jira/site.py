"""One site of Jira: how it is reached, and how its errors read."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.services.rest.client import Call, RestClient, path_of
from agent.services.rest.errors import Service
from agent.services.rest.paging import PageToken
from agent.services.rest.settings import RestSettings
from agent.services.rest.signing import basic
from agent.services.rest.system import System

API = "/rest/api/3"
SEARCH = PageToken(entries="issues", next="nextPageToken", parameter="nextPageToken")
SERVICE = Service(
    name="Jira", kind="jira",
    remedies={"401": "Check e-mail address and API token of the credential jira; tokens end after a year."},
)  # fmt: skip
IssueKey = Annotated[str, Field(max_length=80, pattern=r"^([A-Za-z][A-Za-z0-9_]*-\d+|\d+)$")]


def issue_path(issue: str, *parts: str) -> str:
    """The path of a ticket, or of something below it."""
    return path_of("rest", "api", "3", "issue", issue, *parts)


class JiraSettings(RestSettings):
    """One site, and the account whose API token is used."""

    email: str = Field(min_length=3, max_length=320, pattern=r"^[^:\s]+@[^:\s]+$")


def _probe(client: RestClient) -> str:
    me = client.object(Call("GET", f"{API}/myself"))
    return f"signed in as {me.get('emailAddress') or me.get('displayName') or me.get('accountId')}"


SYSTEM = System(
    service=SERVICE, Settings=JiraSettings, secrets=("token",), probe=_probe,
    signing=lambda settings, given: basic(SERVICE, settings.email, given["token"]),
    from_properties={"url": ("_sysJiraSubdomain", "https://{}.atlassian.net")},
)  # fmt: skip
