"""Whatever a user can name is explained in a page, and no page names what is not there."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from agent.cli.main import main
from agent.cli.reference import leaves, reference
from agent.content import packages
from agent.errors import ExeuntError
from agent.functions import registry as functions
from agent.functions.manual import renewed
from agent.running import guardrails
from agent.services.properties import CATALOGUE
from agent.settings import Settings
from agent.transports import registry as transports

ROOT = Path(__file__).parent.parent
PACKAGES = sorted(ROOT.glob("scripts/packages/*/README.md"))
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "scripts" / "README.md", ROOT / "scripts/packages/README.md",
     ROOT / "benchmarks" / "README.md", *ROOT.glob("docs/*.md"), *PACKAGES]
)  # fmt: skip
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
COMMANDS = [context.command_path for _, context in leaves(main, click.Context(main, info_name="exeunt"))]
NAMES = {
    "setting": [f"EXEUNT_{name.upper()}" for name in Settings.model_fields],
    "function": functions.names(),
    "transport": sorted(transports.BUILT_IN),
    "command": COMMANDS,
    "system property": list(CATALOGUE),
    "guardrail": [*guardrails.REFUSING, *guardrails.HOLDING, *guardrails.APPROVING, *guardrails.OPT_INS.values()],
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in NAMES.items() for name in names])
def test_it_is_explained(kind: str, name: str) -> None:
    assert f"`{name}`" in TEXT, f"the {kind} {name} stands on no page; {RENEW}"


RENEW = "run: python -m agent.cli.reference docs/reference.md"


def test_the_reference_is_up_to_date() -> None:
    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == reference(), RENEW


def test_the_reference_says_nothing_of_this_machine() -> None:
    assert str(ROOT) not in reference()


def test_every_exit_code_is_explained() -> None:
    """Those of the errors; 0 and 4 are no errors."""

    def codes(kind: type[ExeuntError]) -> set[int]:
        return {kind.exit_code}.union(*(codes(k) for k in kind.__subclasses__()))

    explained = {int(code) for code in re.findall(r"^  (\d)  \S", reference(), re.M)}
    assert explained == codes(ExeuntError) | {0, 4}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_points_at_exists(page: Path) -> None:
    """Links within the repository, and paths of its folders in backquotes."""
    text = page.read_text(encoding="utf-8")
    links = [t for t in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in t]
    missing = [link for link in links if not (page.parent / link).exists()]
    paths = re.findall(r"`((?:agent|tests|benchmarks|docs|monitors|alert_templates)/[\w./-]+)`", text)
    missing += [path for path in paths if not (ROOT / path).exists()]
    assert missing == []


def test_a_page_names_no_command_that_is_not_there() -> None:
    assert unknown_commands(TEXT) == set()
    said = "`exeunt monitor run X`, `exeunt monitor`, `exeunt -w x init`, `exeunt monitor walk`\n    exeunt fly --now"
    assert unknown_commands(said) == {"monitor walk", "fly"}


def unknown_commands(text: str) -> set[str]:
    """What stands for a command in code, `exeunt x` or `exeunt x y`, and is none."""
    groups = {path.split()[1] for path in COMMANDS if len(path.split()) > 2}
    known = {" ".join(path.split()[1:3]) for path in COMMANDS} | groups
    found = set()
    for line in code_lines(text):
        # Options of exeunt itself, each with a value, stand before the command.
        words = re.match(r"exeunt(?: --?[a-z-]+[ =]\S+)*((?: [a-z][a-z-]*){1,2})", line)
        if words:
            first, *rest = words[1].split()
            found.add(f"{first} {rest[0]}" if first in groups and rest else first)
    return found - known


def code_lines(text: str) -> list[str]:
    """What stands in backquotes, and lines of code that begin with the command."""
    quoted = re.findall(r"`([^`\n]+)`", text)
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines()]
    return [c for c in (*quoted, *lines) if c.startswith("exeunt ")]


@pytest.mark.parametrize("page", PACKAGES, ids=lambda page: page.parent.name)
def test_a_package_has_its_page(page: Path) -> None:
    """What to grant at the vendor; and where it has a table of functions, that is up to date."""
    text = page.read_text(encoding="utf-8")
    assert "|" in text and "exeunt package apply" in text
    if "<!-- functions of " in text:
        assert renewed(text) == text, f"run: python -m agent.functions.manual {page.relative_to(ROOT)}"


def test_every_package_and_every_key_of_one_is_explained() -> None:
    assert {p.parent.name for p in PACKAGES} == {p.parent.name for p in ROOT.glob("scripts/packages/*/package.yaml")}
    manual = (ROOT / "scripts/packages/README.md").read_text(encoding="utf-8")
    models: list[type[BaseModel]] = [
        packages.PackageDefinition, packages.FieldShell, packages.SettingShell, packages.CredentialShell,
        packages.PropertyShell, packages.PackageScript, packages.Criterion, packages.Notify, packages.Ticketing,
    ]  # fmt: skip
    keys = {field.alias or name for model in models for name, field in model.model_fields.items()}
    assert {k for k in keys if f"`{k}`" not in manual and f"`{k}:" not in manual} == set()
    assert {r.value for r in packages.Revocation if f"`{r.value}`" not in manual} == set()


def test_the_settings_have_each_a_description() -> None:
    assert [n for n, f in Settings.model_fields.items() if not f.description] == []


def test_every_benchmark_is_listed() -> None:
    text = (ROOT / "benchmarks" / "run.py").read_text(encoding="utf-8")
    named = re.findall(r'^    "([\w-]+)": \w+\.\w+,$', text, re.M)
    listed = re.findall(r"^\| `([\w-]+)` \|", (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8"), re.M)
    assert named and listed == named
