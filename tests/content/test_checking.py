"""`script check`: each fault is found, at its line, and sound content has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from agent.content.duplication import duplicate, use
from agent.content.repository import ContentRepository
from agent.functions import registry
from agent.functions.base import Context, Function, Outcome, Parameters
from agent.running.checking import Fault, check

Write = Callable[[str, str], Path]

FALLBACK = (
    "name: Fallback {n}\nrole: fallback\n{option}outcome: {{screenconnect: keep, agent: keep, failure_ticket: true}}\n"
)
MONITOR = "name: M\ninterval: 5 minutes\nsql: m.sql\nalert_template: {template}\n"
ALERT = "name: T\nguid: 5f0c\nfailed:\n  - {action}\n"


class SampleParameters(Parameters):
    """Parameters of the function that the checks are tried with."""

    application: str
    attempts: int = 1
    password: SecretStr | None = None


class Sample(Function[SampleParameters]):
    """A function that exists for these tests only."""

    name = "test.sample"
    summary = "does nothing"
    Parameters = SampleParameters

    def preview(self, parameters: SampleParameters) -> str:
        return f"leave {parameters.application} alone"

    def do(self, context: Context, parameters: SampleParameters) -> Outcome:
        return Outcome.skipped("there is nothing to do")


@pytest.fixture(autouse=True)
def sample_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """`test.sample` beside the built-in functions."""
    real = registry.get

    def get(name: str) -> Function[Any]:
        return Sample() if name == "test.sample" else real(name)

    monkeypatch.setattr(registry, "get", get)


@pytest.fixture
def sound(repository: ContentRepository, write: Write) -> ContentRepository:
    """Content of two clients without a fault."""
    write("monitors/m.yaml", MONITOR.format(template="T"))
    write("monitors/m.sql", "select 1")
    write("alert_templates/t.yaml", ALERT.format(action="run_script: Test Wrapper"))
    partner = duplicate(repository, "Test Scripts - Partner [Template]", "partner")
    use(repository, "partner", "Test Wrapper", partner.name)
    own = duplicate(repository, "Test Scripts - Partner [Template]", "contoso")
    use(repository, "contoso", "Test Wrapper", own.name)
    return repository


def step(text: str, rest: str = "") -> str:
    """A script with one step, whose text begins in line 3."""
    return f"name: S\nsteps:\n  - {text}\n{rest}"


def found(repository: ContentRepository, file: str) -> list[Fault]:
    """The faults of one file; the other client's files must have none."""
    repository.reload()
    faults = check(repository)
    assert all(f.file.endswith(file) for f in faults), [str(f) for f in faults]
    return faults


def test_sound_content_has_no_fault(sound: ContentRepository) -> None:
    assert check(sound) == []


@pytest.mark.parametrize(
    ("text", "line", "key", "reason"),
    [
        (step("{name: a, function: test.sampel, with: {}}"), 3, "steps.1.function", "there is no function"),
        (step("{name: a, function: test.sample}"), 3, "steps.1.with.application", "needs the parameter `application`"),
        (step("name: a\n    function: test.sample\n    with:\n      application: x\n      aplication: y"), 7,
         "steps.1.with.aplication", "did you mean `application`"),
        (step("{name: a, function: test.sample, with: {application: x, attempts: many}}"), 3,
         "steps.1.with.attempts", "integer"),
        (step("{name: a, function: test.sample, with: {application: x, password: open}}"), 3,
         "steps.1.with.password", "store a credential"),
        (step("{name: a, function: test.sample, with: {application: {secret: x}}}"), 3,
         "steps.1.with.application", "would be stored and shown"),
        (step("{name: a, function: test.sample, with: {application: [{secret: x}]}}"), 3,
         "steps.1.with.application", "only be a whole value"),
        (step("{name: a, function: test.sample, with: {application: {parameter: P}}}"), 3,
         "steps.1.with.application", "no parameter `P`"),
        (step("{name: a, function: test.sample, with: {application: 'x @P@'}}"), 3,
         "steps.1.with.application", "written `@@`"),
        (step("{name: a, function: test.sample, with: {application: {global: G}}}"), 3,
         "steps.1.with.application", "no global parameter `G`"),
        (step("{name: a, function: test.sample, with: {application: {step: b, value: x}}}"), 3,
         "steps.1.with.application", "no step before this one"),
        (step("{name: a, function: test.sample, with: {application: {step: b, value: x}}}\n"
              "  - {name: b, function: test.sample, with: {application: x}}"), 3,
         "steps.1.with.application", "no step before this one"),
        (step("{name: a, function: test.sample, with: {application: {fact: computer.nmae}}}"), 3,
         "steps.1.with.application", "did you mean `name`"),
        (step("{name: a, function: test.sample, with: {application: {parameter: P, x: y}}}"), 3,
         "steps.1.with.application", "{literal: {...}}"),
        (step("{name: a, script: Gone}"), 3, "steps.1.script", "there is no script 'Gone'"),
        (step("{name: a, script: 'Test Scripts - Partner [Template]'}"), 3, "steps.1.script", "is a template"),
        (step("{name: a, script: test_removal}"), 3, "steps.1.with", "needs the parameter `Name`"),
        (step("{name: a, script: test_removal, with: {Name: x, Nmae: y}}"), 3, "steps.1.with.Nmae", "`Name`"),
        (step("{name: a, script: test_removal, with: {Name: {secret: x}}}"), 3, "steps.1.with.Name", "must not be a secret"),
        (step("{name: a, script: S}"), 3, "steps.1.script", "reaches itself: S > S"),
        (step("{name: a, children: Test Removal}"), 3, "steps.1.children", "is no wrapper"),
        (step("{name: a, children: test_wrapper}"), 3, "steps.1.children", "write the wrapper's name"),
        (step("{name: a, fallback: Failed Uninstal Process}"), 3, "steps.1.fallback", "`Failed Uninstall Process`"),
        (step("name: a\n    script: test_removal\n    with: {Name: x}\n    when:\n      - {value: steps.a, is: b}"), 7,
         "steps.1.when.1.value", "cannot look at `steps.a`"),
        (step("{name: a, script: test_removal, with: {Name: x}, when: [{value: computer.nmae, is: b}]}"), 3,
         "steps.1.when.1.value", "has no column"),
        (step("{name: a, script: test_removal, with: {Name: x}, when: [{value: step.a.state, is: b}]}"), 3,
         "steps.1.when.1.value", "no step before"),
        (step("{name: a, script: test_removal, with: {Name: x}, when: [{value: computer.is_server, is: true}]}"), 3,
         "steps.1.when.1.is", "is never `true`"),
        (step("{name: a, script: test_removal, with: {Name: x}, when: [{value: children.state, in: [failed, bad]}]}"), 3,
         "steps.1.when.1.in.2", "is never `bad`"),
        (step("{name: a, script: test_removal, with: {Name: x}, when: [{value: computer.platform, is_not: Linux}]}"), 3,
         "steps.1.when.1.is_not", "is never `Linux`"),
        (step("{name: a, script: test_removal, with: {Name: x}}", "parameters:\n  P: {type: number, default: x}\n"), 5,
         "parameters.P.default", "must be a number"),
        (step("{name: a, script: test_removal, with: {Name: x}}", "target: contact\n"), 3, "steps.1.script",
         "is for a computer"),
        ("name: S\nbody: {windows: a.sh}\n", 2, "body.windows", "Windows has no sh"),
        ("name: S\nbody: {linux: crlf.sh}\n", 2, "body.linux", "Windows line ends"),
        ("name: S\nbody: gone.sh\n", 2, "body", "there is no file"),
        ("name: S\nbody: a.sh\nverify: {function: test.sample}\n", 3, "verify.with.application", "needs the parameter"),
    ],
)  # fmt: skip
def test_a_fault_of_a_script_is_found(
    sound: ContentRepository, write: Write, text: str, line: int, key: str, reason: str
) -> None:
    write("scripts/s/script.yaml", text)
    write("scripts/s/a.sh", "exit 0\n")
    write("scripts/s/crlf.sh", "exit 0\r\n")
    faults = found(sound, "s/script.yaml")
    matching = [f for f in faults if f.line == line and f.key == key]
    assert matching, [str(f) for f in faults]
    assert any(reason in f.reason for f in matching), [str(f) for f in faults]
    assert {f.severity for f in faults} == {"error"}


@pytest.mark.parametrize(
    "text",
    [
        step("{name: a, function: test.sample, with: {application: '@P@', attempts: '3'}}", "parameters: {P: {required: true}}\n"),
        step("{name: a, function: test.sample, with: {application: '%computername%', password: {secret: x}}}"),
        step("{name: a, function: test.sample, with: {application: a@@b, attempts: {property: _sysX}}}"),
        step("{name: a, function: test.sample, with: {application: '@Success@'}}"),
        step(
            "{name: a, function: test.sample, with: {application: x}}\n"
            "  - {name: b, function: test.sample, with: {application: {step: a, value: k}}, when: [{value: step.a.state, is: failed}]}"
        ),
        step("{name: a, function: test.sample, with: {application: x, password: '@P@'}}", "parameters: {P: {type: secret, required: true}}\n"),
    ],
)  # fmt: skip
def test_what_is_known_only_later_is_no_fault(sound: ContentRepository, write: Write, text: str) -> None:
    write("scripts/s/script.yaml", text)
    assert found(sound, "s/script.yaml") == []


def test_a_parameter_that_may_be_missing_is_a_warning(sound: ContentRepository, write: Write) -> None:
    write(
        "scripts/s/script.yaml",
        step("{name: a, function: test.sample, with: {application: '@P@'}}", "parameters: {P: {}}\n"),
    )
    (fault,) = found(sound, "s/script.yaml")
    assert fault.severity == "warning"


def test_a_loop_over_several_scripts_is_found_once(sound: ContentRepository, write: Write) -> None:
    write("scripts/a/script.yaml", "name: A\nsteps: [{name: x, script: B}]\n")
    write("scripts/b/script.yaml", "name: B\nsteps: [{name: x, script: C}]\n")
    write("scripts/c/script.yaml", "name: C\nsteps: [{name: x, script: A}]\n")
    (fault,) = found(sound, "c/script.yaml")
    assert fault.reason.endswith("A > B > C > A")


def test_a_child_that_calls_its_wrapper_is_found_for_its_client(sound: ContentRepository, write: Write) -> None:
    write("scripts/clients/contoso/loop/script.yaml", "name: Loop\nsteps: [{name: x, script: Test Wrapper}]\n")
    use(sound, "contoso", "Test Wrapper", "Loop")
    faults = check(sound)
    assert [f.reason for f in faults] == ["the script reaches itself: Test Wrapper > Loop > Test Wrapper"]
    assert "contoso" in faults[0].file


def test_each_option_needs_its_fallback(sound: ContentRepository, write: Write) -> None:
    write("scripts/s/script.yaml", step("{name: a, fallback: Failed Uninstall Process}"))
    for n, option in enumerate(["Ticket + Halt", "Ticket - Leave ScreenConnect", "Best Effort - Continue"]):
        write(f"scripts/f{n}/script.yaml", FALLBACK.format(n=n, option=f"option: {option}\n"))
    reasons = [f.reason for f in found(sound, "s/script.yaml")]
    assert len(reasons) == 2
    assert any("'Ticket + Continue'" in r for r in reasons)
    assert any("nothing is selected" in r for r in reasons)
    write(
        "scripts/f3/script.yaml", FALLBACK.format(n=3, option="option: Ticket+Continue\naliases: [Ticket + Continue]\n")
    )
    write("scripts/f4/script.yaml", FALLBACK.format(n=4, option=""))
    assert found(sound, "s/script.yaml") == []


@pytest.mark.parametrize(
    ("file", "text", "line", "key", "reason"),
    [
        ("monitors/m.yaml", MONITOR.format(template="Gone"), 4, "alert_template", "there is no alert template 'Gone'"),
        ("monitors/m.yaml", MONITOR.format(template="T") + "target: contact\n", 4, "alert_template", "is for a computer"),
        ("monitors/m.yaml", MONITOR.format(template="T") + "group_alert_templates: {G: Gone}\n", 5,
         "group_alert_templates.G", "there is no alert template"),
        ("monitors/m.yaml", MONITOR.format(template="T").replace("m.sql", "x.sql"), 3, "sql", "there is no file"),
        ("alert_templates/t.yaml", ALERT.format(action="run_script: Gone"), 4, "failed.1.run_script", "there is no script"),
        ("alert_templates/t.yaml", ALERT.format(action="{run_script: Test Wrapper, with: {X: y}}"), 4,
         "failed.1.with.X", "no such parameter"),
        ("alert_templates/t.yaml", ALERT.format(action="run_script: 'Test Scripts - Partner [Template]'"), 4,
         "failed.1.run_script", "is a template"),
        ("alert_templates/t.yaml", ALERT.format(action="run_script: Function"), 4, "failed.1.run_script", "role function"),
        ("alert_templates/t.yaml", ALERT.format(action="create_ticket: {subject: '{{ x'}"), 4,
         "failed.1.create_ticket.subject", "Jinja2"),
        ("alert_templates/t.yaml", ALERT.format(action="{run_script: Test Wrapper, window: {time_zone: Europe/Berln}}"), 4,
         "failed.1.window.time_zone", "did you mean Europe/Berlin?"),
        ("alert_templates/u.yaml", ALERT.format(action="run_script: Test Wrapper").replace("name: T", "name: U"), None, "guid",
         "also that of"),
    ],
)  # fmt: skip
def test_a_fault_of_a_monitor_or_alert_template_is_found(
    sound: ContentRepository, write: Write, file: str, text: str, line: int | None, key: str, reason: str
) -> None:
    write("scripts/fn/script.yaml", "name: Function\nrole: function\nbody: a.sh\n")
    write("scripts/fn/a.sh", "exit 0\n")
    written = write(file, text)
    sound.reload()
    faults = [f for f in check(sound) if f.file == str(written) and f.key == key]
    assert faults, [str(f) for f in check(sound)]
    assert reason in faults[0].reason
    assert line is None or faults[0].line == line


def test_a_monitor_that_nothing_answers_is_a_warning(sound: ContentRepository, write: Write) -> None:
    write("monitors/m.yaml", "name: M\ninterval: 5 minutes\nsql: m.sql\n")
    (fault,) = found(sound, "m.yaml")
    assert fault.severity == "warning"


def test_a_listed_child_must_get_its_parameters(sound: ContentRepository) -> None:
    use(sound, "contoso", "Test Wrapper", "Test Removal")
    (fault,) = found(sound, "contoso/client.yaml")
    assert (fault.key, "needs the parameter `Name`" in fault.reason) == ("scripts.Test Wrapper.2", True)


def test_a_listed_script_that_is_gone_is_found(sound: ContentRepository, write: Write) -> None:
    write(
        "scripts/clients/contoso/client.yaml", "client: contoso\nscripts:\n  Test Wrapper: [Gone]\n  Gone Wrapper: []\n"
    )
    faults = found(sound, "contoso/client.yaml")
    assert [(f.line, f.key) for f in faults] == [(3, "scripts.Test Wrapper.1"), (4, "scripts.Gone Wrapper")]


def test_a_duplicate_whose_origin_moved_on_is_a_warning(sound: ContentRepository, write: Write) -> None:
    made = duplicate(sound, "Test Removal", "contoso")
    write("scripts/test_removal/remove.sh", "echo removing better\n")
    (fault,) = found(sound, str(made.file))
    assert (fault.severity, fault.key) == ("warning", "copied_from")
    assert fault.line == 2


def test_the_other_client_has_no_fault_of_a_broken_script(sound: ContentRepository, write: Write) -> None:
    write("scripts/clients/contoso/bad/script.yaml", "name: Bad\nsteps: [{name: a, script: Gone}]\n")
    (fault,) = found(sound, "contoso/bad/script.yaml")
    assert fault.line == 2
    assert sound.children("Test Wrapper", "fabrikam").source == "partner"
