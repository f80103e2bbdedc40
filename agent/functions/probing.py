"""Trying a credential of a service: sign in, ask something harmless, and say as whom. Nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agent.errors import NotFound, SettingsError, StepError, TransportError, UsageError
from agent.functions import registry
from agent.functions import systems as files
from agent.installation import Installation
from agent.model.administration import Credential
from agent.services import credentials, properties
from agent.services.backup_s3 import KIND as S3
from agent.services.directory.connecting import connect
from agent.services.directory.settings import KIND as ACTIVE_DIRECTORY
from agent.services.directory.settings import directory_settings
from agent.services.microsoft.settings import KIND as MICROSOFT_365
from agent.services.rest.system import System


def probe(installation: Installation, credential_id: int) -> str:
    """What a service says to a credential, in one line.

    Raises NotFound; UsageError for a kind that is no service's; SettingsError while it waits for its secret; StepError,
    TransportError and StoreUnavailable when it does not work.
    """
    with installation.database.reading() as session:
        credential = session.get(Credential, credential_id)
        if credential is None:
            raise NotFound(f"there is no credential {credential_id}")
        system = system_of(credential.kind)
        if system is None and credential.kind not in _OTHERS:
            raise UsageError(
                f"a credential of the kind {credential.kind} is no service's: where a computer uses it, "
                f"exeunt credential test {credential_id} --computer NAME tries it"
            )
        secret = credentials.open_secret(installation, credential)
        if system is None:
            return _OTHERS[credential.kind](credential.settings, secret)
        settings = system.completed(credential.settings, lambda name: properties.value_of(installation, session, name))
    return system.test(settings, secret)


def is_service(kind: str) -> bool:
    """Whether credentials of a kind are a service's, so that they can be tried without a computer."""
    return kind in _OTHERS or system_of(kind) is not None


def works(installation: Installation, credential_id: int) -> tuple[bool, str]:
    """Whether a service takes a credential, and what it says, or why not and what to do.

    Raises NotFound, and UsageError for a kind that is no service's.
    """
    try:
        return True, probe(installation, credential_id)
    except (StepError, TransportError) as error:
        told = error.typed if isinstance(error, TransportError) else error
        hint = told.remediation if told is not None else None
        return False, f"{error}. {hint}" if hint else str(error)
    except SettingsError as error:
        # It waits for its secret, or there is no key to open it.
        return False, str(error)


def system_of(kind: str) -> System[Any] | None:
    """The system whose credentials are of a kind; None when there is none.

    A module of `agent.functions.systems` has it as SYSTEM, or makes it by `system_of` from the ending of the kind: `github`
    of `scim_github`.
    """
    for name in registry.systems():
        if kind != name and not kind.startswith(f"{name}_"):
            continue
        module = import_module(f"{files.__name__}.{name}")
        found: System[Any] | None = getattr(module, "SYSTEM", None)
        if found is not None and found.service.kind == kind:
            return found
        if hasattr(module, "system_of"):
            made: System[Any] = module.system_of(kind.removeprefix(name).removeprefix("_"))
            return made
    return None


def _microsoft365(settings: Mapping[str, Any], secrets: Mapping[str, str]) -> str:
    from agent.services.microsoft.graph import get
    from agent.services.microsoft.tenant import Tenant

    with Tenant(settings, secrets, run_id="credential-test") as tenant:
        found = tenant.graph.all(get("organization", select="id,displayName"))
    names = ", ".join(f"{o.get('displayName')} ({o.get('id')})" for o in found)
    return f"signed in to the tenant {names or tenant.id}"


def _active_directory(settings: Mapping[str, Any], secrets: Mapping[str, str]) -> str:
    checked = directory_settings(settings)
    directory = connect(checked, secrets.get("password", ""))
    try:
        return f"signed in as {checked.username} at {directory.naming_context} ({directory.controller})"
    finally:
        directory.close()


def _screenconnect(settings: Mapping[str, Any], secrets: Mapping[str, str]) -> str:
    from agent.services.screenconnect import Portal, parse_headers, portal_settings

    checked = portal_settings(settings)
    with Portal(checked, secrets.get("key", ""), parse_headers(secrets.get("headers", "")), _PORTAL_SECONDS) as portal:
        told = portal.has_session(_NO_SESSION)
    return f"{checked.base} " + (
        "takes the access key" if told is not None else "answers, and cannot tell about sessions"
    )


def _s3(settings: Mapping[str, Any], secrets: Mapping[str, str]) -> str:
    from agent.services.backup_s3 import open_s3

    bucket = str(settings.get("bucket"))
    with TemporaryDirectory() as spool:
        open_s3(settings, secrets, bucket, "", Path(spool)).look()
    return f"it may list the bucket {bucket}; whether it may write is seen at the first backup"


#: Seconds for one answer of a portal, and the id of a session that there is not.
_PORTAL_SECONDS, _NO_SESSION = 15.0, "00000000-0000-0000-0000-000000000000"
_OTHERS = {MICROSOFT_365: _microsoft365, ACTIVE_DIRECTORY: _active_directory, "screenconnect": _screenconnect, S3: _s3}
