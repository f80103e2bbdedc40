"""Every PowerShell text of the product, read by its grammar: there is no engine here that could run one.

Each rule stands for a fault that Windows PowerShell 5.1 has made, or makes silently, with such a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from agent.shipped import path as shipped_path
from agent.transports.psrp import WRAPPER

if TYPE_CHECKING:
    from tree_sitter import Node

SCRIPTS = shipped_path("scripts")
TEXTS = {
    **{str(f.relative_to(SCRIPTS)): f.read_text(encoding="ascii") for f in sorted(SCRIPTS.rglob("*.ps1"))},
    "prelude": files("agent.transports").joinpath("prelude.ps1").read_text(encoding="ascii"),
    "psrp": WRAPPER,
}
[TASK] = re.findall(r"(?s)@'\n(.*?)\n'@", TEXTS["automate_agent_on_computer/windows.ps1"])
TEXTS["the task that removes the Automate agent"] = TASK

#: They take wildcards in -Path, and brackets stand in the names of files, keys and applications.
WITH_PATHS = {
    "Get-ChildItem", "Get-Content", "Get-Item", "Get-ItemProperty", "Remove-Item", "Set-Acl", "Set-Content", "Test-Path",
}  # fmt: skip
#: What a command must say: 5.1 and 7 differ in what they do without it.
NEEDED = {
    "Get-Content": {"-Encoding"},
    "Set-Content": {"-Encoding"},
    "ConvertTo-Json": {"-Compress", "-Depth", "-InputObject"},
    # By its name, a task with brackets would be another one, or none.
    "Unregister-ScheduledTask": {"-InputObject", "-Confirm"},
    # Functions of a module: $ErrorActionPreference does not reach them, and what failed would count as done.
    "Get-ScheduledTaskInfo": {"-ErrorAction"},
    "Register-ScheduledTask": {"-ErrorAction"},
    "Start-ScheduledTask": {"-ErrorAction"},
}
#: PowerShell's own variables: an assignment is refused, or changes what the next line means.
AUTOMATIC = {
    "args", "consolefilename", "error", "event", "eventargs", "eventsubscriber", "executioncontext", "false", "foreach",
    "home", "host", "input", "iscoreclr", "islinux", "ismacos", "iswindows", "matches", "myinvocation",
    "nestedpromptlevel", "null", "pid", "profile", "psboundparameters", "pscmdlet", "pscommandpath", "psculture",
    "psdebugcontext", "pshome", "psitem", "psscriptroot", "pssenderinfo", "psuiculture", "psversiontable", "pwd",
    "sender", "shellid", "stacktrace", "switch", "this", "true",
}  # fmt: skip


@pytest.fixture(params=sorted(TEXTS))
def text(request: pytest.FixtureRequest) -> str:
    """The text of one script."""
    return TEXTS[request.param]


@pytest.fixture
def tree(text: str) -> Node:
    """What the grammar, which is that of 5.1 and a little more, makes of it."""
    return parsed(text)


def parsed(text: str) -> Node:
    grammar = pytest.importorskip("tree_sitter_powershell", reason="install tree-sitter-powershell")
    from tree_sitter import Language, Parser

    return Parser(Language(grammar.language())).parse(text.encode()).root_node


def nodes(node: Node, *kinds: str) -> Iterator[Node]:
    """All nodes of these kinds in the order of the text."""
    if node.type in kinds:
        yield node
    for child in node.children:
        yield from nodes(child, *kinds)


def said(node: Node) -> str:
    return (node.text or b"").decode()


def commands(tree: Node) -> Iterator[tuple[str, set[str], str]]:
    """Name, parameters and text of each command."""
    for command in nodes(tree, "command"):
        for name in (c for c in command.children if c.type == "command_name"):
            elements = [e for c in command.children if c.type == "command_elements" for e in c.children]
            given = {said(e).partition(":")[0] for e in elements if e.type == "command_parameter"}
            yield said(name), given, said(command)


def newer(tree: Node) -> list[str]:
    """Syntax that Windows PowerShell 5.1 does not have, or that nobody has."""
    return [said(n) for n in nodes(tree, "ERROR", "pipeline_chain_tail")] + ["missing" for _ in (1,) if tree.has_error]


def test_nothing_but_syntax_of_windows_powershell(tree: Node) -> None:
    """The grammar refuses some scripts that work: write such a line in another way."""
    assert newer(tree) == []


@pytest.mark.parametrize(
    "line", ["$a ?? 1", "$a ??= 1", "$b = $a ? 1 : 2", "Get-Item x && exit", "Get-Item x || exit", "${a}?.Name"]
)
def test_newer_syntax_would_be_seen(line: str) -> None:
    assert newer(parsed(f"$a = 1\n{line}\nexit 0\n"))


def test_a_path_is_no_pattern(tree: Node) -> None:
    found = [whole for name, given, whole in commands(tree) if name in WITH_PATHS and "-LiteralPath" not in given]
    assert found == []


def test_what_the_versions_would_choose_differently_is_said(tree: Node) -> None:
    wrong = [whole for name, given, whole in commands(tree) if NEEDED.get(name, set()) - given]
    assert wrong == []


def test_no_automatic_variable_is_assigned(tree: Node) -> None:
    written = [v for n in nodes(tree, "left_assignment_expression") for v in nodes(n, "variable")]
    written += [
        c for n in nodes(tree, "foreach_statement", "script_parameter") for c in n.children if c.type == "variable"
    ]
    assert not {said(v).lstrip("$").lower() for v in written} & AUTOMATIC


def test_a_program_may_write_to_standard_error(text: str, tree: Node) -> None:
    """In a remote session that is an error record, and with `Stop` it ends the script before it has answered."""
    for operator in nodes(tree, "command_invokation_operator"):
        before = re.findall(r"\$ErrorActionPreference = '(\w+)'", text.encode()[: operator.start_byte].decode())
        assert before and before[-1] == "Continue", said(operator.parent or operator)


def test_a_reboot_hides_no_failure(text: str) -> None:
    """Of several removals the last one's 3010 was the answer, whatever the others had said."""
    for value in re.findall(r"\$worst = (.+)", text):
        assert re.match(r"\d|Select-Worst ", value), value


def test_a_name_with_brackets_stays_whole(text: str) -> None:
    """`Trim` takes the brackets of the name with those of the section: the connection stayed, and was called gone."""
    assert not re.search(r"\.Trim(Start|End)?\('[\[\]]", text)


class TestRemoveApplication:
    @pytest.fixture
    def functions(self) -> dict[str, str]:
        tree = parsed(TEXTS["remove_application_on_computer/windows.ps1"])
        return {said(n.children[1]): said(n) for n in nodes(tree, "function_statement")}

    def test_quotation_marks_in_a_stored_string_end_nothing(self, functions: dict[str, str]) -> None:
        """`C:\\a\\un.exe -f"C:\\a\\log"`: Test-Path of 5.1 fails for illegal characters, and the script with it."""
        assert (
            "Test-Path -" not in functions["Test-RootedFile"]
            and "[System.IO.File]::Exists" in functions["Test-RootedFile"]
        )

    def test_one_place_chooses_whose_rights_are_used(self, functions: dict[str, str]) -> None:
        """What another user has written would run with the rights of an administrator."""
        text = TEXTS["remove_application_on_computer/windows.ps1"]
        chosen = functions["Invoke-Uninstaller"]
        assert [line.strip() for line in chosen.splitlines()[2:-1]] == [
            "if ($User -ceq $Ours) { return Start-Uninstaller $Program $Tail }",
            "return Start-AsUser $User $Program $Tail",
        ]
        calls = [(name, whole) for name, _, whole in commands(parsed(text)) if name in functions]
        assert [whole for name, whole in calls if name in ("Start-Uninstaller", "Start-AsUser", "New-UserTask")] == [
            "New-UserTask $Sid $Program $Tail", "Start-Uninstaller $Program $Tail", "Start-AsUser $User $Program $Tail",
        ]  # fmt: skip
        starts = re.findall(r"Process\]::Start\(|Start-Process|\bInvoke-(?:Item|CimMethod|WmiMethod)|-ComObject", text)
        assert starts == ["Process]::Start("] and "Process]::Start(" in functions["Start-Uninstaller"]

    def test_each_entry_says_whose_it_is(self, functions: dict[str, str]) -> None:
        text = TEXTS["remove_application_on_computer/windows.ps1"]
        found = functions["Find-RegistryEntry"]
        assert re.findall(r"(Read-UninstallKey \S+) .*? (\$\w+)(?= \}|\n)", found) == [
            ('Read-UninstallKey "HKLM($view)"', "$Ours"), ('Read-UninstallKey "HKU"', "$user"),
            ('Read-UninstallKey "HKU"', "$user"),
        ]  # fmt: skip
        assert re.findall(r"\$user = .*|if \(.*\$Ours.*", found) == [
            "$user = $sid",
            "if ($sid -eq $me) { $user = $Ours }",
        ]
        assert "User = $User\n" in functions["Read-UninstallKey"]
        calls = [w for name, _, w in commands(parsed(text)) if name in ("Invoke-Uninstaller", "Invoke-Msi")]
        assert len(calls) == 4
        for call in calls:
            assert call.split()[1] in ("$User", "$user", "$Entry.User"), call
        # Only the strings of the inventory have no entry.
        by_string = functions["Remove-ByString"]
        assert re.findall(r"(?m)^ +(.*\$user = .*)$", by_string) == [
            "$user = $Ours",
            "if ($null -ne $Entry) { $user = $Entry.User }",
        ]

    def test_the_task_of_a_user_has_that_user_s_rights_alone(self, functions: dict[str, str]) -> None:
        made = functions["New-UserTask"]
        [principal] = re.findall(r"New-ScheduledTaskPrincipal (.*)", made)
        assert principal.split() == [
            "-UserId", "$Sid", "-LogonType", "Interactive", "-RunLevel", "Limited", "-ErrorAction", "Stop",
        ]  # fmt: skip
        assert made.splitlines()[4].strip() == """if ($Sid -notmatch $SidPattern) { throw "no user's SID: $Sid" }"""
        assert re.findall(r"@\{(.*)\}|\$what\.(.*) \}", made) == [
            (" Execute = $Program; WorkingDirectory = [Environment]::SystemDirectory; ErrorAction = 'Stop' ", ""),
            ("", "Argument = $Tail"),
        ]
        [registered] = [given for n, given, _ in commands(parsed(made)) if n == "Register-ScheduledTask"]
        assert registered == {"-TaskName", "-Action", "-Settings", "-Principal", "-ErrorAction"}
        assert "-ExecutionTimeLimit" in made and "[guid]::NewGuid()" in made

    def test_the_task_of_a_user_goes_whatever_happens(self, functions: dict[str, str]) -> None:
        tree = parsed(functions["Start-AsUser"])
        outer = next(nodes(tree, "try_statement"))
        [last] = [c for c in outer.children if c.type == "finally_clause"]
        assert "Unregister-ScheduledTask -InputObject $task -Confirm:$false" in said(last)
        before = functions["Start-AsUser"].encode()[: outer.start_byte].decode()
        assert before.rstrip().endswith("$task = New-UserTask $Sid $Program $Tail")
        # And what a killed run has left goes with the next one, whatever that is asked for.
        text = TEXTS["remove_application_on_computer/windows.ps1"]
        assert text.index("\nRemove-LeftTask\n") < text.index("if ($Mode -eq 'detect')")
        assert '-TaskName "$TaskPrefix*"' in functions["Remove-LeftTask"]
        assert '-TaskName "$TaskPrefix$unique"' in functions["New-UserTask"]

    def test_no_variable_of_ours_leads_another_user_s_entry(self, functions: dict[str, str]) -> None:
        """`%LOCALAPPDATA%` of an administrator is another folder than that of the user whose entry it is."""
        assert "DoNotExpandEnvironmentNames" in functions["Get-Text"]
        text = TEXTS["remove_application_on_computer/windows.ps1"]
        assert text.count("ExpandEnvironmentVariables(") == 1
        assert "HKEY_USERS\\$User\\Volatile Environment" in functions["Expand-Text"]


def test_the_agents_removal_counts_as_planted_only_when_its_task_is_registered() -> None:
    text = (SCRIPTS / "automate_agent_on_computer" / "windows.ps1").read_text(encoding="utf-8")
    body = text[text.index("function Start-Removal") : text.index("$code = 0")]
    assert body.rindex("Register-Task ") < body.index("-Value 'planted'")
