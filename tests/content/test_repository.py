"""Finding content: whose it is, what replaces what, and that nothing wrong disappears silently."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.content.repository import ContentRepository, from_content
from agent.errors import Conflict, ContentError, NotFound

Write = Callable[[str, str], Path]

MONITOR = "name: {name}\ninterval: 5 minutes\nsql: {sql}\nalert_template: {template}\n"
TEMPLATE = "name: {name}\nguid: {guid}\nfailed:\n  - run_script: {script}\n"
FALLBACK = "name: {name}\nrole: fallback\n{option}outcome: {{screenconnect: keep, agent: keep, failure_ticket: true}}\n"


@pytest.fixture
def shipped_monitor(nothing_shipped: None, tmp_path: Path) -> Path:
    """A shipped monitor, which the workspace may replace."""
    folder = tmp_path / "shipped" / "monitors"
    folder.mkdir(parents=True)
    (folder / "offboarding.yaml").write_text(MONITOR.format(name="Offboarding", sql="o.sql", template="T"))
    (folder / "o.sql").write_text("select 'shipped'")
    return folder


def test_names_and_folders_find_scripts(repository: ContentRepository) -> None:
    assert repository.faults() == []
    assert [s.key for s in repository.scripts()] == ["test_removal", "test_scripts_partner_template", "test_wrapper"]
    assert repository.script("Test Removal") == repository.script("test_removal")
    with pytest.raises(NotFound, match="did you mean `Test Removal`"):
        repository.script("Test Removl")


def test_a_revision_is_rebuilt_without_loss(repository: ContentRepository, write: Write) -> None:
    write(
        "scripts/full/script.yaml",
        "name: Full\ntime_limit: 1.5 seconds\nparameters: {P: {type: dropdown, options: [a, b], default: a}}\n"
        "globals: {G: ''}\nsteps:\n  - name: s\n    function: f\n    with: {a: ['@P@', {b: {parameter: P}}], n: '1.10'}\n"
        "    when: [{value: computer.name, is: x}, {value: parameter.P, in: [a, b]}]\n    retries: {wait: 0.25}\n",
    )
    for key in ("full", "test_removal"):
        script = repository.script(key)
        stored = json.loads(json.dumps(script.content()))
        definition, bodies = from_content(stored)
        assert definition == script.definition
        assert bodies == script.bodies
        assert stored == script.content()
    assert repository.script("test_removal").bodies["remove.sh"] == "echo removing\nexit 0\n"


def test_the_digest_changes_with_every_body_and_with_nothing_else(repository: ContentRepository, write: Write) -> None:
    digest = repository.script("test_removal").digest
    assert len(digest) == 64
    write("scripts/test_removal/notes.txt", "not part of it")
    repository.reload()
    assert repository.script("test_removal").digest == digest
    write("scripts/test_removal/verify.sh", "exit 1\n")
    assert repository.script("test_removal").digest == digest, "what was read stays until reload"
    repository.reload()
    assert repository.script("test_removal").digest != digest


def test_one_name_twice_is_refused_naming_both_files(repository: ContentRepository, write: Write) -> None:
    other = write("scripts/packages/zoom/other/script.yaml", "name: Test Wrapper\nsteps: [{name: a, function: f}]\n")
    with pytest.raises(ContentError) as caught:
        repository.script("Test Wrapper")
    assert str(other) in str(caught.value)
    assert "test_wrapper/script.yaml" in str(caught.value)
    assert caught.value.key == "name"
    assert "Test Wrapper" not in [s.name for s in repository.scripts()]
    assert repository.script("Test Removal").name == "Test Removal", "the others still work"


def test_a_client_cannot_shadow_a_shared_script(repository: ContentRepository, write: Write) -> None:
    write("scripts/clients/contoso/mine/script.yaml", "name: Test Removal\nsteps: [{name: a, function: f}]\n")
    with pytest.raises(ContentError, match="also that of"):
        repository.script("Test Removal", "contoso")
    assert repository.script("Test Removal").client is None
    assert repository.script("Test Removal", "fabrikam").client is None


def test_two_clients_may_use_the_same_name(repository: ContentRepository, write: Write) -> None:
    for slug in ("contoso", "fabrikam"):
        write(
            f"scripts/clients/{slug}/vpn/script.yaml",
            f"name: VPN\ndescription: {slug}\nsteps: [{{name: a, function: f}}]\n",
        )
    assert repository.faults() == []
    for slug in ("contoso", "fabrikam"):
        assert repository.script("VPN", slug).definition.description == slug
    with pytest.raises(NotFound):
        repository.script("VPN", "partner")


def test_the_same_folder_name_twice_needs_the_name(repository: ContentRepository, write: Write) -> None:
    for package in ("zoom", "jira"):
        write(
            f"scripts/packages/{package}/remove/script.yaml",
            f"name: Remove {package}\nsteps: [{{name: a, function: f}}]\n",
        )
    assert repository.script("Remove zoom").key == "remove"
    with pytest.raises(Conflict, match="Remove jira"):
        repository.script("remove")


@pytest.mark.parametrize("text", ["name: Test Removal\nsteps: [", "name: Test Removal\nstpes: []\n"])
def test_a_broken_file_is_told_and_stops_nobody_else(repository: ContentRepository, write: Write, text: str) -> None:
    file = write("scripts/test_removal/script.yaml", text)
    assert [s.name for s in repository.scripts()] == ["Test Scripts - Partner [Template]", "Test Wrapper"]
    for name in ("test_removal", "Test Removal"):
        with pytest.raises(ContentError) as caught:
            repository.script(name)
        assert caught.value.file == str(file)
    assert {f.file for f in repository.faults()} == {str(file)}


def test_a_folder_without_a_script_is_told(repository: ContentRepository, write: Write) -> None:
    write("scripts/half/script.yml", "name: Half\n")
    (fault,) = repository.faults()
    assert "half/script.yaml" in fault.file
    assert "does not exist" in fault.reason


def test_a_linked_folder_is_read_and_a_link_to_nothing_is_not(
    repository: ContentRepository, write: Write, tmp_path: Path
) -> None:
    scripts = tmp_path / "workspace" / "content" / "scripts"
    file = write("../elsewhere/linked/script.yaml", "name: Linked\nbody: run.sh\n")
    (file.parent / "run.sh").write_text("exit 0\n")
    (scripts / "linked").symlink_to(file.parent, target_is_directory=True)
    (scripts / "loop").symlink_to("loop")
    (scripts / "nowhere").symlink_to("gone")
    repository.reload()
    assert repository.script("Linked").key == "linked"
    assert repository.faults() == []


def test_a_workspace_replaces_a_shipped_monitor(shipped_monitor: Path, write: Write, tmp_path: Path) -> None:
    repository = ContentRepository(tmp_path / "workspace")
    assert repository.monitor("Offboarding").sql == "select 'shipped'"
    write("monitors/mine.yaml", MONITOR.format(name="Offboarding", sql="m.sql", template="T"))
    write("monitors/m.sql", "select 'mine'")
    write("monitors/more.yaml", MONITOR.format(name="More", sql="m.sql", template="T"))
    repository.reload()
    assert {m.name: m.sql for m in repository.monitors()} == {"Offboarding": "select 'mine'", "More": "select 'mine'"}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("mine.yaml", MONITOR.format(name="Offboarding", sql="none.sql", template="T")),
        ("mine.yaml", "limits: {computers_per_run: 1}\nname: 'Offboarding'  # only one\ninterval: [\n"),
        ("offboarding.yaml", "{"),
    ],
)
def test_a_mistake_in_an_own_monitor_never_brings_the_shipped_one_back(
    shipped_monitor: Path, write: Write, tmp_path: Path, file: str, text: str
) -> None:
    """Somebody narrowed the monitor and mistyped: the wide one that is shipped must not run in its place."""
    written = write(f"monitors/{file}", text)
    repository = ContentRepository(tmp_path / "workspace")
    assert repository.monitors() == []
    with pytest.raises(ContentError) as caught:
        repository.monitor("Offboarding")
    assert caught.value.file in (str(written), str(written.parent / "none.sql"))


@pytest.mark.parametrize("sql", ["../secret.sql", "/etc/passwd", "link.sql", "offboarding.txt"])
def test_sql_cannot_lead_out_of_the_folder(nothing_shipped: None, write: Write, tmp_path: Path, sql: str) -> None:
    write("secret.sql", "select 'secret'")
    file = write("monitors/m.yaml", MONITOR.format(name="M", sql=sql, template="T"))
    (file.parent / "link.sql").symlink_to("../secret.sql")
    (file.parent / "offboarding.txt").write_text("select 1")
    repository = ContentRepository(tmp_path / "workspace")
    with pytest.raises(ContentError) as caught:
        repository.monitor("M")
    assert (caught.value.line, caught.value.key) == (3, "sql")
    assert repository.monitors() == []


@pytest.mark.parametrize("body", ["../../secret.sh", "/bin/sh", "link.sh", "missing.sh"])
def test_a_body_cannot_lead_out_of_the_folder(repository: ContentRepository, write: Write, body: str) -> None:
    write("secret.sh", "echo secret")
    file = write("scripts/bad/script.yaml", f"name: Bad\nbody:\n  linux: {body}\n")
    (file.parent / "link.sh").symlink_to("../../secret.sh")
    with pytest.raises(ContentError) as caught:
        repository.script("Bad")
    assert (caught.value.line, caught.value.key) == (3, "body.linux")


def test_fallbacks_by_option_alias_and_nothing_selected(repository: ContentRepository, write: Write) -> None:
    write("scripts/f1/script.yaml", FALLBACK.format(name="F1", option="option: Ticket + Go\naliases: [Ticket+Go]\n"))
    write("scripts/f0/script.yaml", FALLBACK.format(name="F0", option=""))
    assert repository.fallback("Ticket + Go").name == repository.fallback("Ticket+Go").name == "F1"
    assert repository.fallback(None).name == "F0"
    with pytest.raises(NotFound, match="did you mean `Ticket \\+ Go`"):
        repository.fallback("Ticket + Goo")
    write("scripts/f2/script.yaml", FALLBACK.format(name="F2", option="option: Ticket+Go\n"))
    repository.reload()
    with pytest.raises(ContentError, match="also that of"):
        repository.fallback("Ticket+Go")


def client_yaml(slug: str, *names: str) -> str:
    """A client's list for the test wrapper."""
    return f"client: {slug}\nscripts:\n  Test Wrapper:\n" + "".join(f"    - {n}\n" for n in names)


@pytest.mark.parametrize(
    ("names", "line", "reason"),
    [
        (["Test Removal", "Gone"], 5, "there is no script 'Gone'"),
        (["test_scripts_partner_template"], 4, "is a template"),
        (["Theirs"], 4, "it is a script of the client 'fabrikam'"),
    ],
)
def test_a_listed_script_is_never_skipped(
    repository: ContentRepository, write: Write, names: list[str], line: int, reason: str
) -> None:
    write("scripts/clients/fabrikam/theirs/script.yaml", "name: Theirs\nsteps: [{name: a, function: f}]\n")
    file = write("scripts/clients/contoso/client.yaml", client_yaml("contoso", *names))
    write("scripts/clients/partner/client.yaml", client_yaml("partner", "Test Removal"))
    with pytest.raises(ContentError) as caught:
        repository.children("Test Wrapper", "contoso")
    assert (caught.value.file, caught.value.line) == (str(file), line)
    assert reason in caught.value.reason
    assert repository.children("Test Wrapper", "fabrikam").source == "partner"


@pytest.mark.parametrize("text", ["client: other\n", "scripts: [", "client: contoso\nscripts: Test Removal\n"])
def test_a_broken_list_never_means_the_partner_default(repository: ContentRepository, write: Write, text: str) -> None:
    write("scripts/clients/contoso/client.yaml", text)
    write("scripts/clients/partner/client.yaml", client_yaml("partner", "Test Removal"))
    with pytest.raises(ContentError, match=r"contoso/client\.yaml"):
        repository.children("Test Wrapper", "contoso")
    assert [s.name for s in repository.children("Test Wrapper", "fabrikam").scripts] == ["Test Removal"]


def test_many_threads_read_once(repository: ContentRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.content import repository as module

    calls: list[int] = []
    real = module.read_all
    monkeypatch.setattr(module, "read_all", lambda workspace: calls.append(1) or real(workspace))
    start = threading.Barrier(8)
    found: list[int] = []

    def ask() -> None:
        start.wait()
        found.append(len(repository.scripts()))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [3] * 8
    assert len(calls) == 1
