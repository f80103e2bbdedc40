"""Packages that tests make, and what is asked of them."""

from __future__ import annotations

from pathlib import Path

from agent.installation import Installation

#: A package with one field, one credential, one property and one child script in phase 2.
PACKAGE = """name: {name}
version: {version}
description: Closes accounts in {name}.
fields:
  - {{level: contact, name: {name} Id, section: {name}, tooltip: Id of the person there}}
credentials:
  - kind: {key}
    name: {key}
    settings: {{account: Number of the account}}
    secrets: {{token: Token of the app}}
properties:
  - {{name: _sys{name}Mode, value: gentle, tooltip: How it is done}}
scripts:
  - {{script: {key}_offboarding, phase: {phase}}}
revocation: {revocation}
{more}"""
SCRIPT = """name: {name} - Offboarding
role: child
target: contact
inputs: user_offboarding
steps:
  - name: Close {name}
    function: demo.close
    with: {{folder: "{folder}", act: {key}, user: "{user}", fail: "{fail}"}}
"""
CRITERIA = "criteria:\n  - {{field: {name} Id, not_empty: true}}\n"


def write_package(
    installation: Installation, key: str, *, folder: Path | None = None, more: str = "", version: str = "1.0.0",
    phase: int = 2, user: str | None = None, fail: str = "", revocation: str = "business", script: str | None = None,
    root: Path | None = None,
) -> Path:  # fmt: skip
    """Write a package into the workspace (or another folder of packages); its folder."""
    name = key.capitalize()
    place = (root or installation.settings.workspace / "content" / "scripts" / "packages") / key
    given = {
        "name": name, "key": key, "version": version, "phase": phase, "revocation": revocation, "folder": folder or "",
        "more": more, "fail": fail, "user": "{{ " + key + "_id }}" if user is None else user,
    }  # fmt: skip
    (place / f"{key}_offboarding").mkdir(parents=True, exist_ok=True)
    (place / "package.yaml").write_text(PACKAGE.format(**given), encoding="utf-8")
    (place / "README.md").write_text(f"# {name}\n", encoding="utf-8")
    (place / f"{key}_offboarding" / "script.yaml").write_text(script or SCRIPT.format(**given), encoding="utf-8")
    installation.content.reload()
    return place


def list_children(installation: Installation, client: str, lists: dict[str, list[str]]) -> None:
    """A client's `client.yaml`."""
    folder = installation.settings.workspace / "content" / "scripts" / "clients" / client
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"  {wrapper}:\n" + "".join(f"    - {n}\n" for n in names) for wrapper, names in lists.items())
    (folder / "client.yaml").write_text(f"client: {client}\nscripts:\n{lines}", encoding="utf-8")
    installation.content.reload()
