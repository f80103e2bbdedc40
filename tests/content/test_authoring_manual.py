"""scripts/README.md names every key of every definition, and its examples load and pass the check."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from agent import shipped
from agent.content import definitions
from agent.content.definitions import Definition, OnFailure, ParameterType, Role
from agent.content.references import MAPPING_KINDS, OUTCOME_KEYS, PLACES, RUN_LISTS
from agent.content.repository import ContentRepository
from agent.functions.manual import renewed
from agent.running.checking import check

MANUAL = shipped.text("scripts", "README.md")
MODELS = {
    name: model
    for name, model in vars(definitions).items()
    if inspect.isclass(model) and issubclass(model, Definition) and model is not Definition
}
TABLES = {
    name: re.findall(r"^\| `(\w+)` \| \S", rows, re.M)
    for name, rows in re.findall(r"<!-- keys: (\w+) -->\n((?:\|.*\n)+)", MANUAL)
}
EXAMPLES: dict[str, str] = dict(
    re.findall(r"^```\w+\n(?:#|--) file: (\S+)\n(.*?)^```", MANUAL, re.M | re.S),
)


def test_every_definition_has_its_table() -> None:
    assert sorted(TABLES) == sorted(MODELS)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_table_has_exactly_the_keys_of_its_definition(name: str) -> None:
    fields = MODELS[name].model_fields
    assert sorted(TABLES[name]) == sorted(f.alias or n for n, f in fields.items())


@pytest.mark.parametrize(
    "word",
    [
        *(f"`{w}`" for kinds in (ParameterType, OnFailure, Role) for w in kinds),
        *(f"`{{{kind}:" for kind in MAPPING_KINDS),
        *(f"`{place}." for place in PLACES),
        *(f"`@{name}@`" for name in RUN_LISTS),
        *(f"`{key}`" for key in OUTCOME_KEYS),
    ],
)
def test_every_word_of_the_grammar_is_explained(word: str) -> None:
    assert word in MANUAL


def test_the_table_of_functions_is_up_to_date() -> None:
    assert renewed(MANUAL) == MANUAL, "run: python -m agent.functions.manual scripts/README.md"


def test_the_examples_load_and_pass_the_check(tmp_path: Path) -> None:
    assert len(EXAMPLES) >= 10
    for name, text in EXAMPLES.items():
        file = tmp_path / "content" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    repository = ContentRepository(tmp_path)
    assert [str(f) for f in check(repository) if str(tmp_path) in f.file] == []
    assert repository.script("uninstall_acme_agent").bodies["verify.sh"] == "[ ! -e /opt/acme ]\n"
    assert repository.fallback("Ticket - Keep Agent").definition.outcome is not None
    assert "software" in (repository.monitor("Acme Agent seen").sql or "")
    assert [s.name for s in repository.children("Offboarding Wrapper", "contoso").scripts] == [
        "Offboarding Scripts - Contoso"
    ]


def test_every_yaml_example_is_one_that_is_tried() -> None:
    assert MANUAL.count("```yaml") == sum(name.endswith(".yaml") for name in EXAMPLES)
