"""One system that is reached by REST: its service, the settings of its credential, and how requests to it are signed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from agent.services.rest.client import RestClient
from agent.services.rest.errors import Service, wrong_credential
from agent.services.rest.settings import RestSettings, checked_settings
from agent.services.rest.signing import Signing

S = TypeVar("S", bound=RestSettings)
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


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
    #: Setting -> the system property that it comes from where the credential leaves it out, and the form of its value,
    #: in which `{}` stands for the property: letters, digits and hyphens.
    from_properties: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def completed(self, settings: Mapping[str, Any], property_of: Callable[[str], str | None]) -> dict[str, Any]:
        """The settings of a credential with what comes from system properties. Raises StepError for what cannot be."""
        found = dict(settings)
        for name, (source, form) in self.from_properties.items():
            value = None if name in found else property_of(source)
            if value and not _LABEL.fullmatch(value):
                raise wrong_credential(
                    self.service, f"the system property {source} is no name: letters, digits, hyphens"
                )
            if value:
                found[name] = form.format(value)
        return found

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
