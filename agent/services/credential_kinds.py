"""Kinds of credentials that packages describe: which settings and secrets one holds, checked before it is stored."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from agent.content.packages import CredentialShell, LoadedPackage
from agent.errors import UsageError


def shell_of(packages: Iterable[LoadedPackage], kind: str) -> CredentialShell | None:
    """What a credential of a kind holds; None for a kind that no package describes."""
    return next((c for p in packages for c in p.definition.credentials if c.kind == kind), None)


def kinds(packages: Iterable[LoadedPackage]) -> dict[str, CredentialShell]:
    """All kinds that packages describe, by name."""
    found: dict[str, CredentialShell] = {}
    for package in packages:
        for shell in package.definition.credentials:
            found.setdefault(shell.kind, shell)
    return dict(sorted(found.items()))


def check(
    shell: CredentialShell, settings: Mapping[str, Any], secret: Mapping[str, str] | None, *, waits: bool = False
) -> None:
    """Raises UsageError that names every setting and secret that is unknown, missing or wrong.

    `secret`: None where the secrets stay as they are. `waits`: it still waits for its secret, and may lack settings too.
    """
    faults = [*_unknown("setting", settings, shell.settings), *_unknown("secret", secret or {}, shell.secrets)]
    for name, setting in shell.settings.items():
        if name not in settings:
            if setting.required and not waits:
                faults.append(f"the setting {name} is missing: {setting.description}")
        elif setting.pattern is not None and not re.fullmatch(setting.pattern, str(settings[name])):
            faults.append(f"the setting {name} must match {setting.pattern}: {setting.description}")
    if secret is not None:
        missing = [n for n, s in shell.secrets.items() if s.required and not secret.get(n)]
        faults += [f"the secret {name} is missing: {shell.secrets[name].description}" for name in missing]
        if shell.secrets and not secret and not missing:
            faults.append(f"one of the secrets {', '.join(shell.secrets)} is needed")
    if faults:
        raise UsageError(f"a credential of the kind {shell.kind}: {'; '.join(faults)}")


def asked_for(shell: CredentialShell) -> tuple[str, ...]:
    """The secrets to ask for when none is named: those that are required, else the first one."""
    required = tuple(name for name, secret in shell.secrets.items() if secret.required)
    return required or tuple(shell.secrets)[:1]


def _unknown(what: str, given: Iterable[str], known: Mapping[str, Any]) -> Iterable[str]:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known) or 'none'}"
            yield f"there is no {what} {name}; {hint}"
