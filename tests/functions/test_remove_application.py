"""Removing applications for real: packages and programs that the test made, on this machine."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import package_help
import pytest
from peers import require
from pydantic import ValidationError

from agent.errors import CannotConnect, TimeLimitReached
from agent.functions.applications import RemoveApplication, RemoveApplicationParameters
from agent.installation import Installation
from agent.model.places import Software
from agent.model.runs import StepState
from agent.services import tickets

FUNCTION = RemoveApplication()
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="installing packages needs root")


def run(context: Any, application: str, **more: Any) -> Any:
    return FUNCTION.do(context, RemoveApplicationParameters(application=application, **more))


def applications(outcome: Any) -> list[dict[str, Any]]:
    return list(outcome.result["applications"])


class Packages:
    """Builds and installs Debian packages with names that nobody else has, and takes the rest of them away again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = f"exeunt-test-{secrets.token_hex(4)}"
        self.names: list[str] = []

    def install(self, suffix: str, *, control: str = "", scripts: dict[str, str] | None = None) -> str:
        name = f"{self.mark}-{suffix}"
        tree = self.folder / name
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "usr/share" / name).mkdir(parents=True)
        (tree / "usr/share" / name / "file").write_text("x")
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: 1.2\nArchitecture: all\nMaintainer: Tests <tests@example.test>\n"
            f"Description: made by a test\n{control.format(mark=self.mark)}"
        )
        for script, text in (scripts or {}).items():
            (tree / "DEBIAN" / script).write_text(text)
            (tree / "DEBIAN" / script).chmod(0o755)
        self.names.append(name)
        package_help.dpkg("--install", package_help.build(tree))
        return name

    def installed(self, name: str) -> bool:
        done = subprocess.run(["dpkg-query", "-W", "-f=${db:Status-Status}", name], capture_output=True, text=True)
        return done.stdout == "installed"

    def clean(self) -> None:
        for name in reversed(self.names):
            package_help.purge(name)


@pytest.fixture
def packages(tmp_path: Path) -> Iterator[Packages]:
    require("dpkg-deb", "dpkg")
    made = Packages(tmp_path)
    yield made
    made.clean()


@root_only
class TestDebian:
    def test_removes_verifies_and_skips_the_second_time(self, packages: Packages, local_context: Any) -> None:
        name, other = packages.install("app"), packages.install("app-two")
        outcome = run(local_context(), name)
        assert outcome.state is StepState.SUCCEEDED
        [app] = applications(outcome)
        assert (app["outcome"], app["method"], app["version"]) == ("removed", "dpkg", "1.2")
        assert not packages.installed(name)
        assert packages.installed(other), "a name that only begins the same was removed"
        context = local_context()
        [app] = applications(run(context, name))
        assert app["outcome"] == "already_absent"
        assert [c[1] for c in context.calls] == ["verify"], "a removal was tried although nothing was there"

    def test_configuration_files_do_not_count_as_installed(self, packages: Packages, local_context: Any) -> None:
        script = {"postrm": "#!/bin/sh\nexit 0\n"}
        name = packages.install("conf", scripts=script)
        assert run(local_context(), name).state is StepState.SUCCEEDED
        assert FUNCTION.verify(local_context(), RemoveApplicationParameters(application=name)) is True

    def test_failing_prerm_is_a_failure_with_its_words(self, packages: Packages, local_context: Any) -> None:
        name = packages.install("stubborn", scripts={"prerm": "#!/bin/sh\necho will not go >&2\nexit 7\n"})
        outcome = run(local_context(), name)
        assert outcome.state is StepState.FAILED and outcome.error.type == "application_not_removed"
        [app] = applications(outcome)
        assert "will not go" in app["log"] and "exit status 7" in app["log"]
        assert packages.installed(name)
        assert outcome.error.impact and outcome.error.remediation
        assert FUNCTION.verify(local_context(), RemoveApplicationParameters(application=name)) is False

    def test_one_failure_does_not_stop_the_others(self, packages: Packages, local_context: Any) -> None:
        bad = packages.install("bad", scripts={"prerm": "#!/bin/sh\nexit 1\n"})
        good = packages.install("good")
        outcome = run(local_context(), f"{bad};;{good};;{packages.mark}-never")
        assert [a["outcome"] for a in applications(outcome)] == ["failed", "removed", "already_absent"]
        assert outcome.state is StepState.FAILED and bad in str(outcome.error) and good not in str(outcome.error)

    def test_refuses_what_others_depend_on_unless_allowed(self, packages: Packages, local_context: Any) -> None:
        name = packages.install("library")
        user = packages.install("user", control="Depends: {mark}-library\n")
        outcome = run(local_context(), name)
        assert outcome.state is StepState.FAILED and outcome.error.code == "dependents"
        assert user in str(outcome.error)
        assert packages.installed(name) and packages.installed(user)
        outcome = run(local_context(), name, allow_dependents=True)
        assert outcome.state is StepState.SUCCEEDED
        assert not packages.installed(name) and not packages.installed(user)

    @pytest.mark.parametrize("kind", ["Essential", "Protected"])
    def test_refuses_parts_of_the_system(self, packages: Packages, local_context: Any, kind: str) -> None:
        name = packages.install(kind.lower(), control=f"{kind}: yes\n")
        outcome = run(local_context(), name)
        assert outcome.state is StepState.FAILED and kind.lower() in str(outcome.error)
        assert packages.installed(name)

    def test_removes_a_package_that_is_half_installed(self, packages: Packages, local_context: Any) -> None:
        name = packages.install("half")
        again = packages.folder / name / "DEBIAN/preinst"
        again.write_text("#!/bin/sh\nexit 1\n")
        again.chmod(0o755)
        (packages.folder / name / "DEBIAN/postrm").write_text('#!/bin/sh\n[ "$1" != abort-upgrade ]\n')
        (packages.folder / name / "DEBIAN/postrm").chmod(0o755)
        file = package_help.build(packages.folder / name)
        assert package_help.dpkg("--install", file, check=False).returncode != 0
        state = subprocess.run(["dpkg-query", "-W", "-f=${db:Status-Abbrev}", name], capture_output=True, text=True)
        assert state.stdout[1] in "HUF" or "R" in state.stdout, state.stdout
        assert run(local_context(), name).state is StepState.SUCCEEDED

    def test_waits_for_a_busy_package_manager(self, packages: Packages, local_context: Any, tmp_path: Path) -> None:
        import fcntl

        name = packages.install("busy")
        context = local_context()
        with Path("/var/lib/dpkg/lock-frontend").open("w") as frontend, Path("/var/lib/dpkg/lock").open("w") as lock:
            fcntl.lockf(frontend, fcntl.LOCK_EX)
            fcntl.lockf(lock, fcntl.LOCK_EX)
            removing = subprocess.Popen(
                ["sh", "-c", script_text()],
                env={**os.environ, "EXEUNT_NAME": name, "EXEUNT_MODE": "remove", "EXEUNT_LOCK_SECONDS": "240"},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert removing.stderr is not None
            assert "lock" in removing.stderr.readline()
            assert packages.installed(name)
        removing.communicate(timeout=240)
        assert removing.returncode == 0
        assert not packages.installed(name)
        assert context.calls == []


def script_text() -> str:
    from agent.shipped import text

    return text("scripts", "remove_application_on_computer", "linux.sh")


@pytest.fixture
def program(tmp_path: Path, installation: Installation) -> Callable[..., Path]:
    """Makes an application folder with its own uninstaller and puts it in the inventory of a computer."""

    def make(name: str, computer_id: int, *, script: str = 'rm -r -- "$(dirname "$0")"', arguments: str = "") -> Path:
        folder = tmp_path / f"applications {secrets.token_hex(3)}" / "app"
        folder.mkdir(parents=True)
        uninstaller = folder / "uninstall.sh"
        uninstaller.write_text(f"#!/bin/sh\n{script}\n")
        uninstaller.chmod(0o755)
        with installation.database.session() as session:
            string = f'"{uninstaller}"{arguments}'
            session.add(Software(computer_id=computer_id, name=name, version="3.4", uninstall_string=string))
        return folder

    return make


class TestStoredUninstallString:
    def test_runs_it_and_proves_that_it_is_gone(self, program: Any, local_context: Any, two_clients: Any) -> None:
        folder = program("Demo App", two_clients.contoso_computers[0])
        theirs = program("Demo App", two_clients.fabrikam_computers[0])
        outcome = run(local_context(), "Demo App")
        assert outcome.state is StepState.SUCCEEDED
        [app] = applications(outcome)
        assert (app["outcome"], app["method"]) == ("removed", "stored")
        assert not folder.exists()
        assert theirs.exists(), "the other client's application was removed"
        assert applications(run(local_context(), "Demo App"))[0]["outcome"] == "already_absent"

    def test_an_uninstaller_that_lies_is_a_failure(self, program: Any, local_context: Any, two_clients: Any) -> None:
        folder = program("Liar", two_clients.contoso_computers[0], script="echo done; exit 0")
        outcome = run(local_context(), "Liar")
        assert outcome.state is StepState.FAILED and "still installed" in str(outcome.error)
        assert folder.exists()

    def test_an_uninstaller_that_refuses_is_a_failure(self, program: Any, local_context: Any, two_clients: Any) -> None:
        program("Refuser", two_clients.contoso_computers[0], script="echo I stay >&2; exit 9")
        outcome = run(local_context(), "Refuser")
        assert outcome.state is StepState.FAILED and "exit code 9" in str(outcome.error)

    def test_arguments_arrive_as_written_and_nothing_is_expanded(
        self, program: Any, local_context: Any, two_clients: Any, tmp_path: Path
    ) -> None:
        proof, hole = tmp_path / "arguments", tmp_path / "hole"
        program(
            "Words", two_clients.contoso_computers[0], script=f'printf "<%s>" "$@" > "{proof}"; rm -r -- "$(dirname "$0")"',
            arguments=f" --log='a  b' \"$(touch {hole})\" '`touch {hole}`' * ; touch\\ {hole} ''",
        )  # fmt: skip
        assert run(local_context(), "Words").state is StepState.SUCCEEDED
        assert proof.read_text() == f"<--log=a  b><$(touch {hole})><`touch {hole}`><*><;><touch {hole}><>"
        assert not hole.exists()

    @pytest.mark.parametrize(
        ("string", "reason"),
        [("uninstall.sh --now", "absolute path"), ("/usr/bin/true", "names no file of the application")],
    )
    def test_strings_that_prove_nothing_never_run(
        self, local_context: Any, two_clients: Any, installation: Installation, string: str, reason: str
    ) -> None:
        with installation.database.session() as session:
            session.add(Software(computer_id=two_clients.contoso_computers[0], name="Odd", uninstall_string=string))
        # What the package managers do not know and no string of its own can show counts as absent.
        context = local_context()
        assert applications(run(context, "Odd"))[0]["outcome"] == "already_absent"
        result = context.run_body(
            "Remove Application - On The Computer",
            {"Name": "Odd", "Mode": "uninstall_string", "Uninstall_Strings": string},
        )
        assert result.execution.exit_code == 1 and reason in result.answer["actions"][0]["reason"]

    def test_a_hint_is_given_for_a_name_in_other_case(self, program: Any, local_context: Any, two_clients: Any) -> None:
        folder = program("Demo App", two_clients.contoso_computers[0])
        [app] = applications(run(local_context(), "demo app"))
        assert (app["outcome"], app["similar"]) == ("already_absent", ["Demo App"])
        assert folder.exists()


class TestTicket:
    def test_lists_what_was_found_and_failed_and_carries_the_log(
        self, program: Any, local_context: Any, two_clients: Any, installation: Installation
    ) -> None:
        program("Refuser", two_clients.contoso_computers[0], script="echo I stay >&2; exit 9")
        for step in ("s1", "s1", "s2"):  # the same step twice is one result
            context = local_context()
            context.step_id = step
            run(context, "Refuser;;Nothing Here", enable_ticketing=True)
        with installation.database.reading() as session:
            [ticket] = tickets.list_tickets(session)
            comments = tickets.show(session, ticket.id or 0).comments
        assert ticket.subject == "Application Removal - Failed - CONTOSO-PC1"
        assert ticket.client_id == two_clients.contoso and ticket.computer_id == two_clients.contoso_computers[0]
        assert (
            "uninstall.sh" in ticket.body and "- Refuser: stored: the uninstaller ended with exit code 9" in ticket.body
        )
        assert "Nothing Here" not in ticket.body
        assert "I stay" in comments[0].text
        assert len(comments) == 3, "the second step adds its result and its log; the repeated one adds nothing"

    def test_none_without_the_switch_and_none_on_success(
        self, program: Any, local_context: Any, two_clients: Any, installation: Installation
    ) -> None:
        program("Refuser", two_clients.contoso_computers[0], script="exit 9")
        run(local_context(), "Refuser")
        run(local_context(), "Nothing Here", enable_ticketing=True)
        with installation.database.reading() as session:
            assert tickets.list_tickets(session) == []


class TestTransport:
    def test_a_method_over_its_time_is_followed_by_a_look(
        self, program: Any, local_context: Any, two_clients: Any
    ) -> None:
        folder = program("Slow", two_clients.contoso_computers[0])

        def ended(parameters: Any) -> None:
            if parameters["Mode"] == "uninstall_string":
                shutil.rmtree(folder)
                raise TimeLimitReached("ended after 1800 seconds")

        context = local_context()
        context.before = ended
        assert applications(run(context, "Slow"))[0]["outcome"] == "removed"

    def test_an_unreachable_computer_is_no_result(self, local_context: Any) -> None:
        def refused(parameters: Any) -> None:
            raise CannotConnect("refused")

        context = local_context()
        context.before = refused
        with pytest.raises(CannotConnect):
            run(context, "Anything")


@pytest.mark.parametrize("application", ["", ";;", "a;;", ";;a", "a;;;;b", "a;; ;;b", "a\0b"])
def test_refuses_lists_with_holes(application: str) -> None:
    with pytest.raises(ValidationError):
        RemoveApplicationParameters(application=application)


def test_preview_and_label_name_each_application() -> None:
    parameters = RemoveApplicationParameters(application="A;;B;;A")
    assert parameters.names == ["A", "B"]
    assert "'A', 'B'" in FUNCTION.preview(parameters)
    assert FUNCTION.label(parameters, "App1") == "A, B"
