"""The bodies of Remove Application by themselves: hostile names in four shells, RPM, and what only shims can stand for."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from peers import require

from agent.shipped import path as shipped_path

FOLDER = shipped_path("scripts", "remove_application_on_computer")
SHELLS = {"dash": ("dash",), "bash": ("bash",), "busybox": ("busybox", "sh"), "zsh": ("zsh", "--emulate", "sh")}


@dataclass
class Answered:
    """What a body answered."""

    code: int
    answer: Mapping[str, Any]
    output: str


def run_body(
    name: str, mode: str = "detect", *, script: str = "linux.sh", shell: tuple[str, ...] = ("sh",), shims: Path | None = None,
    cwd: Path | None = None, **more: str,
) -> Answered:  # fmt: skip
    variables = {
        "EXEUNT_NAME": name,
        "EXEUNT_MODE": mode,
        **{k if k in ("HOME",) else f"EXEUNT_{k}": v for k, v in more.items()},
    }
    search = f"{shims}:{os.environ['PATH']}" if shims else os.environ["PATH"]
    done = subprocess.run(
        [*shell, str(FOLDER / script)], env={**os.environ, "PATH": search, **variables}, capture_output=True, text=True,
        errors="replace", cwd=cwd, timeout=120, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines() or ["{}"]
    return Answered(done.returncode, json.loads(lines[-1]), done.stdout + done.stderr)


class Shims:
    """Programs of our own in front of PATH. Each call is recorded, one JSON list of arguments per line."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.record = folder / "bin", folder / "calls"
        self.folder.mkdir(parents=True)

    def add(self, name: str, text: str) -> None:
        recorder = f'{{ printf "%s" {shlex.quote(name)}; for a do printf "\\037%s" "$a"; done; printf "\\036"; }} >>{shlex.quote(str(self.record))}'
        file = self.folder / name
        file.write_text(f"#!/bin/sh\n{recorder}\n{text}\n")
        file.chmod(0o755)

    def calls(self, name: str) -> list[list[str]]:
        text = self.record.read_text() if self.record.exists() else ""
        rows = [row.split("\x1f") for row in text.split("\x1e") if row]
        return [row[1:] for row in rows if row[0] == name]


@pytest.fixture
def shims(tmp_path: Path) -> Shims:
    return Shims(tmp_path / "shims")


# --- hostile names ----------------------------------------------------------------------------------------------------

PIECES = ["$(touch hole)", "`touch hole`", "'", '"', "\\", "\n", ";", "&& touch hole", "|", "*", "?", "[a-z]", "-", "--purge",
          "--", "{}", "\t", " ", "Ü", "語", "a", "0", ".", "/", "..", "bait", "!", "~", "=", "%s", "\x1b[0m", "#"]  # fmt: skip
names = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)


@pytest.fixture(params=sorted(SHELLS))
def shell(request: pytest.FixtureRequest) -> tuple[str, ...]:
    program = SHELLS[request.param]
    require(program[0], request.param)
    return program


class TestHostileNames:
    """Package managers are shims that know every name: whatever reaches them must be exactly that name."""

    @pytest.fixture
    def scene(self, shims: Shims, tmp_path: Path) -> tuple[Shims, Path]:
        shims.add("dpkg-query", r'for last do :; done; printf "ii |%s|1|no|no\n" "$last"')
        shims.add("dpkg", "exit 0")
        for tool, code in {"rpm": 1, "snap": 1, "apt-get": 1, "flatpak": 0}.items():
            shims.add(tool, f"exit {code}")
        place = tmp_path / "place"
        place.mkdir()
        (place / "bait").write_text("stays")
        return shims, place

    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(name=names)
    @example("-rf")
    @example("bait")
    @example("$(touch hole)")
    @example("a\nb")
    def test_never_execute_and_never_reach_anything_else(
        self, scene: tuple[Shims, Path], shell: tuple[str, ...], name: str
    ) -> None:
        shims, place = scene
        shims.record.write_text("")
        for mode in ("detect", "remove"):
            answered = run_body(name, mode, shell=shell, shims=shims.folder, cwd=place)
            assert answered.code in (0, 1), answered.output
        for call in shims.calls("dpkg-query") + shims.calls("dpkg"):
            assert call[-2:] == ["--", name]
            assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+_:-]*", name), "a name that dpkg would take for a pattern"
        assert sorted(p.name for p in place.iterdir()) == ["bait"]

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(words=st.lists(names.filter(lambda n: "\n" not in n), max_size=4))
    def test_words_of_a_stored_string_arrive_as_they_are(
        self, tmp_path: Path, shell: tuple[str, ...], words: list[str]
    ) -> None:
        program = tmp_path / "it's my app" / "uninstall"
        program.parent.mkdir(exist_ok=True)
        proof = tmp_path / "proof"
        program.write_text(f'#!/bin/sh\nprintf "%s\\037" "$@" >{shlex.quote(str(proof))}\nrm -- "$0"\n')
        program.chmod(0o755)
        string = shlex.join([str(program), *words])
        answered = run_body("x", "uninstall_string", shell=shell, cwd=tmp_path, UNINSTALL_STRINGS=string)
        assert answered.code == 0, answered.output
        assert proof.read_text().split("\x1f")[:-1] == (words or [""])
        assert not (tmp_path / "hole").exists() and not Path("/hole").exists()


@pytest.mark.parametrize("string", ['"/opt/x/un', "/opt/x/un \\", "'", '/opt/x/un "a'])
def test_an_open_quote_is_refused(string: str) -> None:
    answered = run_body("x", "uninstall_string", UNINSTALL_STRINGS=string)
    assert answered.code == 1 and "open quote" in answered.answer["actions"][0]["reason"]


# --- RPM: the real one, with a database and a root of its own ---------------------------------------------------------


@pytest.fixture
def rpm(tmp_path: Path) -> Iterator[Callable[..., str]]:
    require("rpmbuild", "rpm")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".rpmmacros").write_text(
        f"%_dbpath {tmp_path}/db\n%_topdir {tmp_path}/build\n%_rpmfilename %%{{NAME}}.rpm\n"
    )
    environment = {**os.environ, "HOME": str(home)}
    subprocess.run(["rpm", "--initdb"], env=environment, check=True)

    def build(name: str, more: str = "") -> str:
        spec = tmp_path / f"{name}.spec"
        payload = tmp_path / "files" / name
        spec.write_text(
            f"Name: {name}\nVersion: 2.1\nRelease: 1\nSummary: made by a test\nLicense: none\nBuildArch: noarch\n{more}\n"
            f"%description\nmade by a test\n%install\nmkdir -p %{{buildroot}}{payload.parent}\n"
            f"echo x > %{{buildroot}}{payload}\n%files\n{payload}\n"
        )
        subprocess.run(["rpmbuild", "-bb", "--quiet", str(spec)], env=environment, check=True, capture_output=True)
        subprocess.run(
            ["rpm", "-i", "--nodeps", str(tmp_path / "build/RPMS" / f"{name}.rpm")], env=environment, check=True,
            capture_output=True,
        )  # fmt: skip
        assert payload.exists()
        return str(payload)

    yield build


class TestRpm:
    def test_detects_and_removes_exactly_one(self, rpm: Callable[..., str], tmp_path: Path) -> None:
        file, other = rpm("exeunt-test-a"), rpm("exeunt-test-ab")
        home = str(tmp_path / "home")
        for looked_for, code in {
            "exeunt-test-a": 1,
            "exeunt-test": 0,
            "exeunt-test-a-2.1": 0,
            "exeunt-test*": 0,
        }.items():
            assert run_body(looked_for, HOME=home).code == code, looked_for
        found = run_body("exeunt-test-a", HOME=home).answer["found"]
        assert found == [{"kind": "rpm", "id": "exeunt-test-a-2.1-1.noarch", "version": "2.1-1"}]
        assert run_body("exeunt-test-a", "remove", HOME=home).code == 0
        assert not Path(file).exists() and Path(other).exists()
        assert run_body("exeunt-test-a", HOME=home).code == 0

    def test_refuses_what_others_need(self, rpm: Callable[..., str], tmp_path: Path) -> None:
        file = rpm("exeunt-test-lib")
        rpm("exeunt-test-user", "Requires: exeunt-test-lib")
        answered = run_body("exeunt-test-lib", "remove", HOME=str(tmp_path / "home"))
        [action] = answered.answer["actions"]
        assert answered.code == 1 and action["outcome"] == "refused" and "exeunt-test-user" in action["reason"]
        assert Path(file).exists()

    def test_a_failing_scriptlet_is_a_failure(self, rpm: Callable[..., str], tmp_path: Path) -> None:
        file = rpm("exeunt-test-no", "%preun\nexit 3")
        answered = run_body("exeunt-test-no", "remove", HOME=str(tmp_path / "home"))
        assert answered.code == 1 and answered.answer["actions"][0]["outcome"] == "failed"
        assert Path(file).exists()

    def test_parts_of_the_system_are_refused(self, rpm: Callable[..., str], tmp_path: Path) -> None:
        file = rpm("zypper")
        answered = run_body("zypper", "remove", HOME=str(tmp_path / "home"))
        assert answered.code == 1 and "protected" in answered.answer["actions"][0]["reason"]
        assert Path(file).exists()


# --- shims: they keep one list of names and leave out everything else that snap, flatpak and macOS do -----------------


class TestSnap:
    """The shim knows `list <name>` and `remove <name>`: no daemon, no revisions, no confinement."""

    @pytest.fixture
    def snap(self, shims: Shims) -> Shims:
        state = shims.folder.parent / "snap-hello"
        state.touch()
        shims.add(
            "snap",
            f'case $1:$2 in list:hello) [ -e {state} ] && printf "Name Version Rev Tracking Publisher Notes\\nhello 2.10 42 stable x -\\n" '
            f'&& exit 0;; list:core22) printf "Name Version Rev Tracking Publisher Notes\\ncore22 1 1 stable x base\\n"; exit 0;; '
            f"remove:hello) rm {state}; exit 0;; esac\necho 'error: no matching snaps installed' >&2; exit 1",
        )
        return shims

    def test_removes_and_is_gone(self, snap: Shims) -> None:
        assert run_body("hello", shims=snap.folder).answer["found"] == [
            {"kind": "snap", "id": "hello", "version": "2.10"}
        ]
        assert run_body("hello", "remove", shims=snap.folder).code == 0
        assert run_body("hello", shims=snap.folder).code == 0
        assert ["remove", "hello"] in snap.calls("snap")

    def test_refuses_a_base(self, snap: Shims) -> None:
        answered = run_body("core22", "remove", shims=snap.folder)
        assert answered.answer["actions"][0]["outcome"] == "refused"
        assert ["remove", "core22"] not in snap.calls("snap")


class TestFlatpak:
    """The shim keeps two rows and knows `list` and `uninstall`: no remotes, no runtimes, one user."""

    @pytest.fixture
    def flatpak(self, shims: Shims) -> Shims:
        rows = shims.folder.parent / "rows"
        rows.write_text(
            "system\torg.x.Hello\t1.0\tHello\nuser\torg.x.Hello\t1.1\tHello\nsystem\torg.x.HelloTwo\t1\tHello Two\n"
        )
        shims.add(
            "flatpak",
            f"case $1 in list) cat {rows}; exit 0;; uninstall) for a do id=$a; case $a in --system|--user) w=${{a#--}};; esac; done; "
            f'grep -v "^$w	$id	" {rows} >{rows}.new; mv {rows}.new {rows}; exit 0;; esac; exit 1',
        )
        return shims

    @pytest.mark.parametrize("name", ["Hello", "org.x.Hello"])
    def test_removes_both_installations_by_name_or_identifier(self, flatpak: Shims, name: str) -> None:
        assert len(run_body(name, shims=flatpak.folder).answer["found"]) == 2
        assert run_body(name, "remove", shims=flatpak.folder).code == 0
        assert run_body(name, shims=flatpak.folder).code == 0
        assert run_body("Hello Two", shims=flatpak.folder).code == 1, "another application went with it"

    def test_a_list_that_fails_is_not_taken_for_absence(self, shims: Shims) -> None:
        shims.add("flatpak", "exit 1")
        answered = run_body("Hello", shims=shims.folder)
        assert answered.code == 2 and "flatpak" in answered.answer["trouble"]


class TestMac:
    """Bundles are real folders. `pkgutil`, `launchctl`, `plutil` and `ps` are shims: a receipt is a list of files, an agent
    is known by its property list, and there are no volumes, no system protection and no running processes.
    """

    @pytest.fixture
    def mac(self, shims: Shims, tmp_path: Path) -> Callable[..., Answered]:
        home, receipts = tmp_path / "home", tmp_path / "receipts"
        (home / "Applications").mkdir(parents=True)
        (home / "Library/LaunchAgents").mkdir(parents=True)
        receipts.mkdir()
        shims.add("plutil", '[ "$2" = ProgramArguments.0 ] && exit 1; sed -n "s/^$2=//p" "$6" | grep .')
        shims.add("launchctl", "exit 0")
        shims.add("ps", "exit 0")
        shims.add(
            "pkgutil",
            f'cd {receipts} || exit 1; case $1 in --pkgs) ls | sed "s/\\.[fd]$//" | sort -u;; '
            f'--pkg-info) printf "package-id: %s\\nversion: 5.6\\nvolume: /\\nlocation: %s\\n" "$2" "{str(tmp_path)[1:]}";; '
            f'--only-files) cat "$3.f";; --only-dirs) cat "$3.d";; --forget) rm "$2.f" "$2.d";; '
            f'--file-info) for r in *.f; do while read -r f; do [ "{tmp_path}/$f" = "$2" ] && echo "pkgid: ${{r%.f}}"; done <"$r"; done; true;; esac',
        )
        return lambda name, mode="detect": run_body(name, mode, script="macos.sh", shims=shims.folder, HOME=str(home))

    def test_a_bundle_goes_with_its_own_agents(
        self, mac: Callable[..., Answered], shims: Shims, tmp_path: Path
    ) -> None:
        home = tmp_path / "home"
        app, other = home / "Applications/My App.app", home / "Applications/My App 2.app"
        for bundle in (app, other):
            (bundle / "Contents/MacOS").mkdir(parents=True)
        (app / "Contents/Info.plist").write_text("CFBundleShortVersionString=7.0\n")
        mine, theirs = (home / "Library/LaunchAgents" / f"{n}.plist" for n in ("mine", "theirs"))
        mine.write_text(f"Program={app}/Contents/MacOS/helper\nLabel=com.example.mine\n")
        theirs.write_text(f"Program={other}/Contents/MacOS/helper\nLabel=com.example.theirs\n")
        assert mac("My App").answer["found"] == [{"kind": "bundle", "id": str(app), "version": "7.0"}]
        assert mac("My App", "remove").code == 0
        assert mac("My App").code == 0
        assert not app.exists() and other.exists() and not mine.exists() and theirs.exists()
        assert all("theirs" not in " ".join(call) for call in shims.calls("launchctl"))

    @pytest.mark.parametrize("name", ["../Applications/My App", "*", "My App*", "My", ".."])
    def test_no_other_name_finds_a_bundle(self, mac: Callable[..., Answered], tmp_path: Path, name: str) -> None:
        (tmp_path / "home/Applications/My App.app").mkdir()
        assert mac(name).code == 0
        assert mac(name, "remove").code == 0
        assert (tmp_path / "home/Applications/My App.app").exists()

    def test_a_receipt_leaves_what_others_own(self, mac: Callable[..., Answered], tmp_path: Path) -> None:
        for file in ("opt/tool/bin", "opt/tool/shared"):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        receipts = tmp_path / "receipts"
        (receipts / "com.x.tool.f").write_text("opt/tool/bin\nopt/tool/shared\n")
        (receipts / "com.x.tool.d").write_text("opt\nopt/tool\n")
        (receipts / "com.x.other.f").write_text("opt/tool/shared\n")
        (receipts / "com.x.other.d").write_text("")
        assert mac("com.x.tool").answer["found"][0]["version"] == "5.6"
        assert mac("com.x.tool", "remove").code == 0
        assert not (tmp_path / "opt/tool/bin").exists() and (tmp_path / "opt/tool/shared").exists()
        assert mac("com.x.tool").code == 0 and mac("com.x.other").code == 1

    def test_parts_of_macos_are_refused(self, mac: Callable[..., Answered], tmp_path: Path) -> None:
        (tmp_path / "receipts/com.apple.pkg.Core.f").write_text("")
        (tmp_path / "receipts/com.apple.pkg.Core.d").write_text("")
        assert mac("com.apple.pkg.Core", "remove").answer["actions"][0]["outcome"] == "refused"


def test_the_bodies_pass_shellcheck() -> None:
    program = require("shellcheck", "shellcheck")
    bodies = sorted(shipped_path("scripts").rglob("*.sh"))
    done = subprocess.run([program, "-s", "sh", *map(str, bodies)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
