"""One tenant, open for one step: Graph, Exchange and SharePoint with the tokens of one credential."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from agent.services.microsoft.exchange import ExchangeClient, MailSystem
from agent.services.microsoft.graph import GraphClient
from agent.services.microsoft.sending import Channel
from agent.services.microsoft.settings import TenantSettings, tenant_settings
from agent.services.microsoft.sharepoint import SharePointClient
from agent.services.microsoft.tokens import provider, roles_of_token
from agent.services.rest.connections import http_client, user_agent


class Tenant:
    """Use as a context manager. `run_id` is named to the services, whose logs show it."""

    def __init__(self, settings: Mapping[str, Any], secrets: Mapping[str, str], *, run_id: str) -> None:
        self.settings: TenantSettings = tenant_settings(settings)
        self._tokens = provider(self.settings, secrets)
        self._http = http_client(self.settings, user_agent(run_id))
        self._graph, self._exchange = self._channel(self.settings.graph_base, "Graph"), self._channel(
            self.settings.exchange_base, "Exchange"
        )  # fmt: skip
        self.graph = GraphClient(self._graph, self.settings.graph_base)
        self.mail: MailSystem = ExchangeClient(self._exchange, self.settings.exchange_base, self.settings.tenant_id)
        self.sharepoint = SharePointClient(
            lambda host: self._channel(host, "SharePoint"), by_certificate=self._tokens.by_certificate,
            admin_url=self.settings.sharepoint_admin_url,
        )  # fmt: skip

    @property
    def id(self) -> str:
        """The tenant's id as the credential has it."""
        return self.settings.tenant_id

    @property
    def wrote(self) -> bool:
        """Whether anything but a question was sent."""
        return self._graph.wrote or self._exchange.wrote or self.sharepoint.wrote

    def roles(self, service: Literal["graph", "exchange", "sharepoint"]) -> frozenset[str] | None:
        """Application permissions in the token for a service (`roles`); None when the token does not say. Raises StepError.

        SharePoint is asked for at its administration's address, since each of its hosts has a token of its own.
        """
        settings = self.settings
        bases = {
            "graph": settings.graph_base, "exchange": settings.exchange_base, "sharepoint": settings.sharepoint_admin_url
        }  # fmt: skip
        if not bases[service]:
            return None
        return roles_of_token(self._tokens.token(scope_of(bases[service])))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def _channel(self, base: str, service: str) -> Channel:
        return Channel(self._http, self._tokens, service, scope_of(base), self.settings.call_seconds)


def scope_of(base: str) -> str:
    """The scope of all permissions of the service at an address."""
    parts = urlsplit(base)
    return f"{parts.scheme}://{parts.netloc}/.default"
