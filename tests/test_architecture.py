"""The plan of the house, held by reading the sources: floors, no import cycles, sizes, and what no module may do.

Imports inside functions count, those under `TYPE_CHECKING` do not; neither is executed here.
"""

from __future__ import annotations

import ast
import configparser
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from agent.functions import registry

ROOT = Path(__file__).parent.parent
#: A package or module of `agent` and its floor: it imports lower floors and itself only. The longest name counts.
FLOORS = {
    "errors": 0, "failure_types": 0, "settings": 0, "time_zones": 0, "model": 0,
    "shipped": 1, "field_views": 1, "database": 1, "content": 1, "secrets": 1, "audit": 1, "audit_caller": 0, "audit_text": 1,
    "kerberos": 1, "krb5_conf": 0,
    "installation": 1, "migrations": 1,
    # a tool for whoever changes a table; nothing imports it
    "migrations.generate": 2,
    "inventory": 2, "transports": 2, "services": 2, "access": 2,
    # what a role is, which properties name; and the tokens of links, which services make too
    "access.principal": 1, "access.digests": 1,
    "functions": 3,
    "running": 4, "packages": 4,
    "reporting": 5, "alerting": 5,
    "monitoring": 6,
    "cli": 7, "web": 7,
}  # fmt: skip
#: Imports within one floor, each with its reason. Two of them in opposite directions would be a cycle.
NEIGHBOURS = {
    ("settings", "errors"): "wrong settings are an error of ours",
    ("settings", "time_zones"): "the installation's time zone is a setting",
    ("database", "shipped"): "the database is made from the shipped edf_schema.sql",
    ("database", "field_views"): "the views of the extra fields are made with the database",
    ("database", "migrations"): "the records' tables are brought up to date when the database is made",
    ("migrations", "field_views"): "extra fields that a migration adds get their columns in the views",
    ("audit", "audit_text"): "the canonical text that the digests are made of",
    ("audit", "field_views"): "which table a level of extra fields belongs to",
    ("content", "shipped"): "content is read from what is shipped and from the workspace",
    ("installation", "content"): "an installation is all of these, opened on first use",
    ("installation", "database"): "an installation is all of these, opened on first use",
    ("installation", "secrets"): "an installation is all of these, opened on first use",
    ("cli", "web"): "`exeunt serve` serves the console",
    ("access", "services"): "which groups of an identity provider have which roles is a system property",
    ("inventory", "transports"): "the contact probe asks the transport of a computer whether it answers",
    ("inventory", "services"): "the contact probe reaches a computer with its credential",
    ("services", "transports"): "a directory over PSRP is asked in the same conversation with a host as a computer",
}
MODULE_LINES = 400
FUNCTION_LINES = 60
#: Where an `except Exception` may stand; elsewhere the reason is written beside it.
BROAD_EXCEPT = {"running/acting.py": 1}


def sources(package: Path) -> dict[str, ast.Module]:
    """Every module of a package by its dotted name; a package goes by the name of its folder."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(file.read_text(encoding="utf-8"), str(file))
    return found


def imports(name: str, tree: ast.AST, modules: set[str]) -> set[str]:
    """Modules of the package that a module imports, wherever in it; `from a import b` is `a.b` when that is a module."""
    found: set[str] = set()
    for node in nodes_at_run_time(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            origin = node.module or ""
            found |= {f"{origin}.{a.name}" if f"{origin}.{a.name}" in modules else origin for a in node.names}
    return (found & modules) - {name}


def nodes_at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (found for other in node.orelse for found in (other, *nodes_at_run_time(other)))
            continue
        yield node
        yield from nodes_at_run_time(node)


def late_imports(tree: ast.AST, modules: set[str]) -> set[str]:
    """Modules that are named in a string, as registries do: `agent.functions.tickets:MailSend`."""
    strings = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return {s.partition(":")[0] for s in strings} & modules


def part_of(module: str) -> str:
    """The part of the house that a module stands in: the longest name with a floor, else the second one of its path."""
    names = module.removeprefix("agent.").split(".")
    parts = (".".join(names[:n]) for n in range(len(names), 0, -1))
    return next((p for p in parts if p in FLOORS), names[0])


def wrong_floors(graph: dict[str, set[str]]) -> list[str]:
    """Imports that go up, or sideways without a reason."""
    found = []
    for module, imported in graph.items():
        for other in sorted(i for i in imported if i != "agent"):
            mine, theirs = part_of(module), part_of(other)
            allowed = mine == theirs or (mine, theirs) in NEIGHBOURS
            if FLOORS[theirs] > FLOORS[mine] or (FLOORS[theirs] == FLOORS[mine] and not allowed):
                found.append(f"{module} (floor {FLOORS[mine]}) imports {other} (floor {FLOORS[theirs]})")
    return found


def cycle_in(graph: dict[str, set[str]]) -> list[str] | None:
    """A cycle of modules, or None."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return None


@pytest.fixture(scope="module")
def house() -> dict[str, ast.Module]:
    return {name: tree for name, tree in sources(ROOT / "agent").items() if name != "agent"}


@pytest.fixture(scope="module")
def graph(house: dict[str, ast.Module]) -> dict[str, set[str]]:
    return {name: imports(name, tree, set(house)) for name, tree in house.items()}


def test_every_part_of_the_package_has_a_floor(house: dict[str, ast.Module]) -> None:
    assert {part_of(name) for name in house} <= set(FLOORS)


def test_a_module_imports_lower_floors_only(house: dict[str, ast.Module], graph: dict[str, set[str]]) -> None:
    late = {name: late_imports(tree, set(house)) for name, tree in house.items()}
    assert wrong_floors(graph) + wrong_floors(late) == []


def test_no_module_reaches_itself_by_imports(graph: dict[str, set[str]]) -> None:
    assert cycle_in(graph) is None


def test_no_package_reaches_itself_by_imports(graph: dict[str, set[str]]) -> None:
    parts: dict[str, set[str]] = {}
    for module, imported in graph.items():
        parts.setdefault(part_of(module), set()).update(part_of(i) for i in imported if part_of(i) != part_of(module))
    assert cycle_in(parts) is None


def test_the_checks_see_what_they_are_for(tmp_path: Path) -> None:
    """An import upwards and a cycle are found when they hide in a function; one for types only is none."""
    for file, text in {
        "agent/model/a.py": "def f():\n    from agent.cli import c\n",
        "agent/cli/c.py": "from agent.model import a\n",
        "agent/cli/t.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import agent.cli.c\n",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    found = sources(tmp_path / "agent")
    graph = {name: imports(name, tree, set(found)) for name, tree in found.items()}
    assert wrong_floors(graph) == ["agent.model.a (floor 0) imports agent.cli.c (floor 7)"]
    assert cycle_in(graph) is not None
    assert graph["agent.cli.t"] == set()
    assert late_imports(ast.parse("x = 'agent.cli.c:C'"), set(found)) == {"agent.cli.c"}


def test_modules_and_functions_are_of_a_size_to_read() -> None:
    long = []
    for file in sorted((ROOT / "agent").rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        where = file.relative_to(ROOT)
        if text.count("\n") > MODULE_LINES and "versions" not in where.parts:
            long.append(f"{where}: {text.count(chr(10))} lines")
        # What Alembic wrote is a list of statements and is not read like code.
        tree = ast.parse("" if "versions" in where.parts else text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    long.append(f"{where}:{node.lineno}: {node.name} has {lines} lines")
    assert long == []


def test_setup_cfg_names_every_package() -> None:
    """`packages` is kept by hand, because mapped names and `find:` cannot be mixed."""
    declared = set(setup()["options"]["packages"].split())
    on_disk = {".".join(f.parent.relative_to(ROOT).parts) for f in (ROOT / "agent").rglob("*.py")}
    mapped = {f"agent._shipped.{folder}" for folder in ("monitors", "alert_templates", "scripts")}
    assert declared == on_disk | mapped


def test_every_system_keeps_to_the_form() -> None:
    """A module of `functions.systems` names its functions after itself, and imports no other system."""
    for system in registry.systems():
        assert registry.of_system(system), system
        folder = ROOT / "agent" / "functions" / "systems"
        others = {f"agent.functions.systems.{other}" for other in registry.systems() if other != system}
        files = [folder / f"{system}.py"] if (folder / f"{system}.py").exists() else [*(folder / system).rglob("*.py")]
        assert files, system
        for file in files:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            assert imports(f"agent.functions.systems.{system}", tree, others) == set()


def test_every_dependency_has_its_reason() -> None:
    """The line before a dependency, or before the first of a group, is a comment."""
    lines = (ROOT / "setup.cfg").read_text(encoding="utf-8").split("install_requires =\n")[1].split("packages =")[0]
    assert lines.splitlines()[0].strip().startswith("#")


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_errors_are_caught_broadly_in_one_place_only() -> None:
    """One broad `except` stores what it caught; any other has its reason beside it (`# noqa: BLE001 - reason`)."""
    wrong, allowed = [], dict.fromkeys(BROAD_EXCEPT, 0)
    for file in sorted((ROOT / "agent").rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.ExceptHandler) or not _is_broad(node):
                continue
            place = file.relative_to(ROOT / "agent").as_posix()
            if place in allowed:
                allowed[place] += 1
            elif "BLE001 - " not in text.splitlines()[node.lineno - 1]:
                wrong.append(f"{place}:{node.lineno}")
    assert wrong == []
    assert allowed == BROAD_EXCEPT


def _is_broad(handler: ast.ExceptHandler) -> bool:
    """It catches everything, and does not end by raising it again."""
    names = {n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)} if handler.type else {"Exception"}
    last = handler.body[-1]
    return bool(names & {"Exception", "BaseException"}) and not (isinstance(last, ast.Raise) and last.exc is None)


def test_no_shell_no_unverified_tls_no_print(house: dict[str, ast.Module]) -> None:
    wrong = []
    for name, tree in house.items():
        for node in ast.walk(tree):
            keywords = node.keywords if isinstance(node, ast.Call) else []
            for keyword in keywords:
                if ast.unparse(keyword) in ("shell=True", "verify=False", "check_hostname=False"):
                    wrong.append(f"{name}:{node.lineno}: {ast.unparse(keyword)}")  # type: ignore[attr-defined]
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "os.system", "eval", "exec"):
                wrong.append(f"{name}:{node.lineno}: {ast.unparse(node.func)}")
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                wrong += [f"{name}:{node.lineno}: {d} is a default" for d in _unverified_defaults(node)]
    assert wrong == []


def _unverified_defaults(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = [
        *zip(reversed(positional), reversed(arguments.defaults), strict=False),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return [f"{a.arg}=False" for a, d in pairs if a.arg.startswith("verify") and d and ast.unparse(d) == "False"]
