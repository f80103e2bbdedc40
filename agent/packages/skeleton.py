"""The skeleton of a package that works as it stands: a definition, a script, a README, and a test that runs it."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from agent import audit
from agent.content.packages import snake
from agent.errors import Conflict, StoreError, UsageError
from agent.installation import Installation
from agent.services.freezing import refuse_when_frozen

_PACKAGE = """# What each key means stands in the manual of packages (scripts/packages/README.md).
name: {name}
version: 0.1.0
description: Closes the leaver's account in {name}.
fields:
  - {{level: contact, name: {name} Id, section: {name}, tooltip: Id of the person in {name}}}
{credentials}scripts:
  - {{script: {key}_offboarding, phase: {phase}}}
revocation: business
criteria:
  - {{field: {name} Id, not_empty: true}}
notify: {{on: failure, recipients: ["{{{{ manager }}}}"]}}
"""
_CREDENTIALS = """credentials:
  - kind: {key}
    name: {key}
    settings: {{base_url: {{description: Address of the API, pattern: "https://.+"}}}}
    secrets: {{token: Token of an account that may close accounts}}
"""
_SCRIPT = """name: {name} - Offboarding
description: Closes the leaver's account in {name}.
role: child
target: contact
inputs: user_offboarding
steps:
{step}"""
_TASK = """  # Nothing of {name} is automated yet: a person is asked. Put a function in its place, such as http.request.
  - name: Close {name} Account
    function: task.create
    with:
      title: "Close the account {{{{ {key}_id }}}} of %contactname% in {name}"
      matter: other
      owner: IT
"""
_STEP = """  - name: Close {name} Account
    function: {key}.close_account
    with: {{user: "{{{{ {key}_id }}}}"}}
"""
_README = """# {name}

Closes the leaver's account in {name}.

    exeunt package apply {key} --client contoso

## What must be granted at the vendor

| For | Permission |
|---|---|
| closing an account | (name it here) |
"""
_MODULE = '''"""Functions of {name}, which come in by the entry point group `exeunt.functions`."""

from __future__ import annotations

from pydantic import Field

from agent.errors import StepError
from agent.functions.base import Context, Function, Outcome, Parameters


class CloseParameters(Parameters):
    """Whose account it is."""

    user: str = Field(min_length=1)


class CloseAccount(Function[CloseParameters]):
    """Closes an account in {name}."""

    name = "{key}.close_account"
    summary = "Close an account in {name}"
    Parameters = CloseParameters
    destructive = True
    system = "{name}"

    def preview(self, parameters: CloseParameters) -> str:
        """What would be done."""
        return f"close the account {{parameters.user}} in {name}"

    def do(self, context: Context, parameters: CloseParameters) -> Outcome:
        """Call the vendor here, look at the answer, and say what came of it."""
        found = context.credential("{key}")
        if found is None:
            raise StepError("there is no credential of the kind {key}", type="missing_credential")
        raise StepError("closing accounts in {name} is not written yet", type="not_written")

    def verify(self, context: Context, parameters: CloseParameters) -> bool | None:
        """Ask the vendor whether the account is closed; None when that cannot be told."""
        return None
'''
_PROJECT = """[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "exeunt-{dashed}"
version = "0.1.0"
dependencies = ["exeunt"]

[project.entry-points."exeunt.functions"]
"{key}.close_account" = "exeunt_{key}:CloseAccount"

[tool.setuptools]
py-modules = ["exeunt_{key}"]
"""
_TEST = '''"""The package {name}, applied for one of two clients and run for a leaver."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from sqlmodel import select

from agent.functions import registry
from agent.installation import Installation
from agent.inventory import field_values, places
from agent.inventory.lookup import place_id
from agent.model.fields import Form
from agent.model.places import Client
from agent.model.runs import RunStep, ScriptRun
from agent.packages import applying, changes, store
from agent.running import verbs
from agent.running.engine import EnginePort
from agent.running.planning import draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.worker import Worker
from agent.secrets import create_key
from agent.settings import Settings

PACKAGE = Path(__file__).parent.parent


def test_{key}_is_applied_and_runs(tmp_path: Path{arguments}) -> None:
{patch}    workspace = tmp_path / "workspace"
    shutil.copytree(PACKAGE, workspace / "content" / "scripts" / "packages" / PACKAGE.name)
    installation = Installation(Settings(workspace=workspace))
    installation.database.initialise()
    create_key(installation.settings)
    people = []
    with installation.database.session() as session:
        for slug in ("contoso", "fabrikam"):
            client = Client(external_id=slug, name=slug.capitalize(), slug=slug)
            session.add(client)
            session.flush()
            made = places.add_contact(session, client_id=place_id(client), name=slug, email=f"x@{{slug}}.example", actor="test")
            people.append(place_id(made))
    assert store.check(installation.content, installation.content.package("{key}")) == []
    planned = applying.plan_apply(installation, "{key}", "contoso", actor="test")
    assert changes.perform(installation, planned, actor="test")
    with installation.database.session() as session:
        field_values.set_value(session, Form.CONTACT, people[0], "{name} Id", "id-1", actor="test")
    request = RunRequest("{name} - Offboarding", "contact", people[0])
    stored = store_plan(installation, draft_plan(installation, [request], PlanOrigin("test")))
    port = EnginePort(installation.settings)
    verbs.release(installation, port, stored.id, actor="test")
    port.close()
    with Worker(installation):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with installation.database.reading() as session:
                run = session.get(ScriptRun, stored.run_ids[0])
            if run is not None and run.finished_at is not None:
                break
            time.sleep(0.05)
    with installation.database.reading() as session:
        states = {{s.name: s.state for s in session.exec(select(RunStep))}}
        assert states["Close {name} Account"] == "{state}"
        assert {{r.target_id for r in session.exec(select(ScriptRun))}} == {{people[0]}}
    installation.database.close()
'''
_PATCH = """    # As the entry point does it once the module is installed.
    monkeypatch.syspath_prepend(PACKAGE.parents[3] / "modules" / "{key}")
    monkeypatch.setitem(registry.BUILT_IN, "{key}.close_account", "exeunt_{key}:CloseAccount")
"""


def make(
    installation: Installation, name: str, *, actor: str, phase: int = 2, with_function: bool = False
) -> list[Path]:
    """Write the skeleton into the workspace; the files that were made, `package.yaml` first.

    Raises Conflict when the name or the folder is taken, or the configuration is frozen; UsageError for a name that can
    be none; StoreError.
    """
    key = snake(name)
    if not name.isascii() or not name.replace(" ", "").isalnum() or not key[:1].isalpha() or len(key) > 40:
        raise UsageError(f"{name!r} is no name for a package: letters, digits and blanks, a letter first")
    with installation.database.reading() as session:
        refuse_when_frozen(session, f"a new package {name!r}")
    workspace = installation.settings.workspace
    installation.content.reload()
    folder = workspace / "content" / "scripts" / "packages" / key
    if folder.exists() or any(name == p.name or key == p.key for p in installation.content.packages()):
        raise Conflict(f"there is a package {name!r}, or a folder {key}, already: nothing was overwritten")
    given = {"name": name, "key": key, "phase": phase, "dashed": key.replace("_", "-")}
    texts = {folder / path: text for path, text in _texts(given, with_function).items()}
    module = workspace / "modules" / key
    if with_function:
        if module.exists():
            raise Conflict(f"{module} is there already: nothing was overwritten")
        texts[module / f"exeunt_{key}.py"] = _MODULE.format(**given)
        texts[module / "pyproject.toml"] = _PROJECT.format(**given)
    _write(texts, [folder, module] if with_function else [folder])
    installation.content.reload()
    with installation.database.session() as session:
        audit.record(
            session, actor=actor, action="package.new", object_kind="package", object_id=name, details={"folder": key}
        )
    return list(texts)


def _texts(given: dict[str, object], with_function: bool) -> dict[str, str]:
    key = given["key"]
    given = {
        **given, "credentials": _CREDENTIALS.format(**given) if with_function else "",
        "step": (_STEP if with_function else _TASK).format(**given), "state": "failed" if with_function else "succeeded",
        "patch": _PATCH.format(**given) if with_function else "",
        "arguments": ", monkeypatch: pytest.MonkeyPatch" if with_function else "",
    }  # fmt: skip
    test = _TEST.format(**given)
    if with_function:
        test = test.replace("from sqlmodel import select", "import pytest\nfrom sqlmodel import select")
    else:
        test = test.replace("from agent.functions import registry\n", "")
    return {
        "package.yaml": _PACKAGE.format(**given), f"{key}_offboarding/script.yaml": _SCRIPT.format(**given),
        "README.md": _README.format(**given), f"tests/test_{key}.py": test,
    }  # fmt: skip


def _write(texts: dict[Path, str], folders: list[Path]) -> None:
    """All files or none: what was begun is taken away again."""
    try:
        for file, text in texts.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8", newline="") as stream:
                stream.write(text)
    except OSError as error:
        for folder in folders:
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)
        raise StoreError(f"{error.filename} cannot be written: {error.strerror}") from None
