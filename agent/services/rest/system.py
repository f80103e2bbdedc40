"""One system that is reached by REST: its service, the settings of its credential, and how requests to it are signed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agent.services.rest.client import RestClient
from agent.services.rest.errors import Service, wrong_credential
from agent.services.rest.settings import RestSettings, checked_settings
from agent.services.rest.signing import Signing

S = TypeVar("S", bound=RestSettings)


@dataclass(frozen=True)
class System(Generic[S]):
    """A module of `agent.functions.systems` has one under the name SYSTEM."""

    service: Service
    #: Settings of a credential of the kind `service.kind`.
    Settings: type[S]
    #: Names of the secrets that it must hold.
    secrets: tuple[str, ...]
    #: Signs requests, from checked settings and the secrets.
    signing: Callable[[S, Mapping[str, str]], Signing]
    #: Asks something harmless that needs the sign-in, and says as whom it is signed in: `exeunt credential test`.
    probe: Callable[[RestClient], str]

    def open(self, settings: Mapping[str, Any], secrets: Mapping[str, str], *, run_id: str) -> RestClient:
        """The service with one credential. Raises StepError when the credential cannot be used."""
        checked = checked_settings(self.service, self.Settings, settings)
        absent = [name for name in self.secrets if not secrets.get(name)]
        if absent:
            raise wrong_credential(self.service, f"it has no secret {' and no secret '.join(absent)}")
        return RestClient(self.service, checked, self.signing(checked, secrets), run_id=run_id)

    def test(self, settings: Mapping[str, Any], secrets: Mapping[str, str]) -> str:
        """Sign in and say as whom. Raises StepError, CannotConnect."""
        with self.open(settings, secrets, run_id="credential-test") as client:
            return self.probe(client)
