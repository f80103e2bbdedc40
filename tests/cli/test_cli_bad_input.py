"""Bad input gets a clear error that says what is wrong, where and what to do; nothing is half-written."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import WRAPPER, Cli, clean_environment, write_script
from peers import free_port

from agent.secrets import generate_key

Child = Callable[..., None]

#: Names and values that people, machines or attackers may come up with.
HOSTILE = (
    "Zoë 「語」 😀", "it's \"quoted\"", "$(touch pwned)", "`touch pwned`; touch pwned", "a\nerror: forged line",
    "\x1b[31mred\x1b]0;title\x07", "‮gnp.exe", "--help", "%s {0} {{x}}", "[bold]markup[/bold]", "|~ semicolon;;",
)  # fmt: skip


def only_one_error(text: str) -> None:
    assert text.count("error: ") == 1 and text.startswith("error: ")
    assert "Traceback" not in text


class TestImports:
    @pytest.mark.parametrize(
        ("text", "where"),
        [
            ("external_id,name,slug\nC1,Contoso,contoso\nC2,,fab\n", ":3"),
            ("external_id,name,slug\nC1,Contoso,contoso\nC2,Fabrikam,NOT A SLUG\n", ":3: slug"),
            ('external_id,name,slug\nC1,"Contoso,contoso\n', ":2"),
            ("external_id,name,slug\nC1,Contoso\n", ":2"),
            ("external_id,nmae\nC1,Contoso\n", "nmae"),
            ("", "empty"),
        ],
    )
    def test_a_malformed_file_names_line_and_column(self, cli: Cli, tmp_path: Path, text: str, where: str) -> None:
        file = tmp_path / "clients.csv"
        file.write_text(text)
        result = cli("inventory", "import", str(file), expect=2)
        only_one_error(result.stderr)
        assert "clients.csv" in result.stderr and where in result.stderr
        assert cli.json("inventory", "list", "clients") == []

    def test_of_several_files_all_or_none_is_stored(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "clients.csv").write_text("external_id,name,slug\nC1,Contoso,contoso\n")
        (tmp_path / "locations.csv").write_text("external_id,client,name\nL1,C9,HQ\n")
        files = [str(tmp_path / "clients.csv"), str(tmp_path / "locations.csv")]
        assert "locations.csv:2" in cli("inventory", "import", *files, expect=2).stderr
        assert cli.json("inventory", "list", "clients") == []

    def test_a_file_that_is_no_text(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "clients.csv").write_bytes(b"external_id,name\n\xff\xfe\x00,x\n")
        assert "UTF-8" in cli("inventory", "import", str(tmp_path / "clients.csv"), expect=2).stderr


class TestContent:
    def monitor(self, cli: Cli, text: str, sql: str = "") -> None:
        folder = cli.workspace / "content" / "monitors"
        (folder / "own.yaml").write_text(text, encoding="utf-8")
        if sql:
            (folder / "own.sql").write_text(sql, encoding="utf-8")

    def test_malformed_yaml(self, cli: Cli) -> None:
        self.monitor(cli, "name: Own\ninterval: [5 minutes\n")
        result = cli("content", "check", expect=1)
        assert "own.yaml" in result.stderr
        assert "own.yaml" in cli("doctor", expect=1).stdout

    def test_a_wrong_key_is_told_with_its_line(self, cli: Cli) -> None:
        self.monitor(cli, "name: Own\ninterval: 5 minutes\nsql: own.sql\nalert_tempalte: x\n", "select 1")
        assert "own.yaml:4" in cli("content", "check", expect=1).stderr
        assert "own.yaml:4" in cli("monitor", "run", "Own", "--yes", expect=2).stderr

    def test_a_monitor_that_does_not_load_is_told_by_the_list(self, cli: Cli) -> None:
        (cli.workspace / "content" / "monitors" / "mine.yaml").write_text("name: Offboarding\ninterval: soon\n")
        result = cli("monitor", "list", "--json")
        assert "Offboarding" not in [m["name"] for m in json.loads(result.stdout)]
        assert "warning: a monitor does not run: " in result.stderr and "mine.yaml:2: interval" in result.stderr

    def test_a_monitor_without_its_alert_template(self, cli: Cli) -> None:
        text = "name: Own\ninterval: 5 minutes\nsql: own.sql\nalert_template: Missing One\n"
        self.monitor(cli, text, "SELECT 1 AS TestValue, 'x' AS IdentityField, 1 AS ComputerID")
        result = cli("monitor", "run", "Own", "--yes", expect=2)
        only_one_error(result.stderr)
        assert "own.yaml:4" in result.stderr and "Missing One" in result.stderr

    @pytest.mark.parametrize(
        "sql",
        [
            "DELETE FROM computers", "SELECT 1; DELETE FROM computers", "ATTACH 'x.db' AS x", "SELEC 1",
            "PRAGMA writable_schema = 1", "SELECT 1 AS TestValue",
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x AS TestValue, x AS IdentityField, x AS ComputerID FROM n",
        ],
    )  # fmt: skip
    def test_sql_that_may_not_run(self, fleet: Cli, sql: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EXEUNT_MONITOR_SECONDS", "0.3")
        self.monitor(fleet, "name: Own\ninterval: 5 minutes\nsql: own.sql\n", sql)
        result = fleet("monitor", "run", "Own", "--yes", expect=1)
        only_one_error(result.stderr)
        assert len(fleet.json("inventory", "list")) == 8
        assert fleet.json("monitor", "show", "Own")["status"] == "ERROR"

    def test_a_child_that_loops_to_itself(self, fleet: Cli) -> None:
        write_script(
            fleet, "clients/contoso/loop",
            "name: Loop\nrole: child\nsteps:\n  - {name: Again, script: Loop}\n",
        )  # fmt: skip
        fleet("script", "use", "Loop", "--client", "contoso", "--wrapper", WRAPPER)
        assert "Loop" in fleet("script", "check", expect=1).stderr
        fleet("edf", "set", "Offboard Computer", "1", "--computer", "con1")
        found = fleet.json("monitor", "run", "Offboarding", "--yes", "--wait")
        assert found["runs"] == [] and "Loop > Loop" in found["skipped"][0]["reason"]
        assert fleet.json("run", "list") == []

    def test_nothing_is_overwritten_by_a_duplicate(self, fleet: Cli) -> None:
        duplicate = ("script", "duplicate", "Offboarding Scripts - Partner [Template]", "--client", "contoso")
        fleet(*duplicate)
        only_one_error(fleet(*duplicate, expect=2).stderr)
        fleet("script", "duplicate", "Offboarding Scripts - Partner [Template]", "--client", "nobody", expect=2)


class TestWorkspace:
    def test_there_is_none(self, tmp_path: Path) -> None:
        result = Cli(tmp_path / "none")("inventory", "list", expect=2)
        only_one_error(result.stderr)
        assert "exeunt init" in result.stderr

    def test_a_folder_of_somebody_else_is_not_made_one(self, tmp_path: Path) -> None:
        (tmp_path / "letter.txt").write_text("mine")
        assert "not empty" in Cli(tmp_path)("init", expect=2).stderr
        assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]

    def test_init_twice_changes_nothing(self, cli: Cli) -> None:
        before = {p: p.read_bytes() for p in cli.workspace.iterdir() if p.suffix in (".key", ".env")}
        cli("init")
        assert {p: p.read_bytes() for p in before} == before
        assert cli.workspace.stat().st_mode & 0o777 == 0o700

    def test_a_database_that_does_not_work_leaves_no_workspace(self, tmp_path: Path) -> None:
        cli = Cli(tmp_path / "w")
        only_one_error(cli("init", "--database-url", "nonsense", expect=2).stderr)
        assert not (tmp_path / "w" / "exeunt.env").exists()
        cli("init")

    @pytest.mark.parametrize("url", ["mysql://x", "garbage"])
    def test_a_wrong_url_of_the_database_is_one_message(
        self, cli: Cli, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EXEUNT_DATABASE_URL", url)
        result = cli("inventory", "list", expect=2)
        only_one_error(result.stderr)
        assert "EXEUNT_DATABASE_URL" in result.stderr

    def test_a_database_server_that_is_gone_is_told_by_doctor(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EXEUNT_DATABASE_URL", f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing")
        faults = {f["check"]: f["what"] for f in cli.json("doctor", expect=1) if f["state"] == "fault"}
        assert "EXEUNT_DATABASE_URL" in faults["database"] and "EXEUNT_DATABASE_URL" in faults["work"]

    def test_a_wrong_setting_is_named(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EXEUNT_ONLINE_SECONDS", "soon")
        assert "EXEUNT_ONLINE_SECONDS" in cli("inventory", "list", expect=2).stderr

    def test_a_locked_database_is_told_by_doctor(self, cli: Cli) -> None:
        holder = sqlite3.connect(cli.workspace / "inventory.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        found = {(f["check"], f["state"]): f for f in cli.json("doctor", expect=1)}
        holder.close()
        assert "locked" in found["database", "fault"]["what"] and found["database", "fault"]["mend"]

    def test_a_file_that_is_no_database(self, cli: Cli) -> None:
        (cli.workspace / "inventory.db").write_bytes(b"this is no database" * 100)
        for other in cli.workspace.glob("inventory.db-*"):
            other.unlink()
        result = cli("inventory", "list", expect=1)
        only_one_error(result.stderr)
        assert "not a database" in result.stderr

    def test_a_wrong_key(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PASSPHRASE", "hunter2-very-secret")
        cli("credential", "add", "sentinelone", "--kind", "secret", "--secret-from", "env:PASSPHRASE")
        key = cli.workspace / "secrets.key"
        right = key.read_text()
        key.write_text(generate_key())
        result = cli("credential", "rotate-key", expect=2)
        only_one_error(result.stderr)
        assert "key" in result.stderr and "hunter2" not in result.stderr
        (fault,) = [f for f in cli.json("doctor", expect=1) if f["state"] == "fault"]
        assert fault["check"] == "key"
        key.write_text(right)
        cli("credential", "rotate-key")
        assert not [f for f in cli.json("doctor") if f["state"] == "fault"]

    def test_a_lost_key_is_not_replaced_while_secrets_need_it(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PASSPHRASE", "hunter2-very-secret")
        cli("credential", "add", "s", "--kind", "secret", "--secret-from", "env:PASSPHRASE")
        (cli.workspace / "secrets.key").unlink()
        only_one_error(cli("init", expect=2).stderr)
        assert not (cli.workspace / "secrets.key").exists()

    @pytest.mark.skipif(os.name != "posix", reason="no file permissions")
    def test_a_key_that_others_can_read(self, cli: Cli) -> None:
        (cli.workspace / "secrets.key").chmod(0o644)
        assert "chmod 600" in cli("credential", "add", "x", "--kind", "ssh", "--no-secret", expect=2).stderr

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("EXEUNT_REQUIRE_APROVAL='true'", "EXEUNT_REQUIRE_APROVAL; did you mean EXEUNT_REQUIRE_APPROVAL?"),
            ("EXEUNT_REQUIRE_APPROVAL true", "write NAME='value'"),
            ("EXEUNT_REQUIRE_APPROVAL", "write NAME='value'"),
        ],
    )
    def test_no_guardrail_is_left_out_by_a_typo_in_the_settings(self, fleet: Cli, line: str, told: str) -> None:
        with (fleet.workspace / "exeunt.env").open("a") as file:
            file.write(f"# Mine\n{line}\n")
        number = len((fleet.workspace / "exeunt.env").read_text().splitlines())
        result = fleet("monitor", "run", "Offboarding", "--yes", expect=2)
        only_one_error(result.stderr)
        assert f"exeunt.env:{number}: " in result.stderr and told in result.stderr
        assert told in {f["check"]: f["what"] for f in fleet.json("doctor", expect=1)}["workspace"]

    def test_a_mistyped_variable_is_told_by_doctor(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EXEUNT_SMPT_HOST", "mail.example.net")
        assert "EXEUNT_SMPT_HOST" in cli("doctor").stdout


class TestSecrets:
    def test_no_command_takes_a_secret_as_an_argument(self, cli: Cli) -> None:
        cli("credential", "add", "x", "--kind", "ssh", "--secret", "password=hunter2", expect=2)
        cli("credential", "add", "x", "--kind", "ssh", "--setting", "password=hunter2", "--no-secret", expect=2)
        cli("property", "set", "RMMPlus_AccessKey", "hunter2", expect=2)
        cli("edf", "define", "Passphrase", "--level", "client", "--type", "secret")
        cli("inventory", "add-client", "Contoso")
        cli("edf", "set", "Passphrase", "hunter2", "--client", "contoso", expect=2)
        everything = b"".join(p.read_bytes() for p in cli.workspace.rglob("*") if p.is_file())
        assert b"hunter2" not in everything

    def test_it_is_asked_for_and_never_shown(self, cli: Cli) -> None:
        shown = cli("credential", "add", "x", "--kind", "ssh", "--secret", "password", input="hunter2\nhunter2\n")
        cli("property", "set", "RMMPlus_AccessKey", input="hunter2\n")
        texts = [shown.output, cli("credential", "list", "--json").output, cli("property", "list", "--json").output]
        texts += [cli("audit", "list", "--json").output, cli("property", "get", "RMMPlus_AccessKey").output]
        assert not [t for t in texts if "hunter2" in t]
        everything = b"".join(p.read_bytes() for p in cli.workspace.rglob("*") if p.is_file())
        assert b"hunter2" not in everything


class TestHostileText:
    def show_everything(self, cli: Cli) -> Iterator[str]:
        for command in (
            ("inventory", "list", "clients"), ("inventory", "list"), ("inventory", "list", "contacts"), ("audit", "list"),
            ("edf", "flags"), ("inventory", "group", "list"), ("report", "leftovers"), ("credential", "list"),
        ):  # fmt: skip
            yield cli(*command).output
            yield cli(*command, "--json").output

    @pytest.mark.parametrize("text", HOSTILE)
    def test_names_are_kept_and_steer_no_terminal(self, cli: Cli, text: str, tmp_path: Path) -> None:
        cli("inventory", "add-client", "Fabrikam")
        cli("inventory", "add-client", "--slug", "hostile", "--", text)
        cli("inventory", "add-location", "--client", "hostile", "--external-id", "L1", "--", text)
        cli("inventory", "add-computer", "--location", "external:L1", "--external-id", "K1", "--", text)
        cli("inventory", "add-contact", "--client", "hostile", "--", text)
        cli("inventory", "group", "add", "--", text, "external:K1")
        cli("edf", "define", "Remark", "--level", "computer")
        cli("edf", "set", "--computer", "external:K1", "--", "Remark", text)
        cli("edf", "set", "Offboard Computer", "1", "--computer", "external:K1")
        for shown in self.show_everything(cli):
            assert not [c for c in shown if (ord(c) < 32 and c != "\n") or c in "\x7f‮"]
            assert "\nerror: forged line" not in shown
        assert cli.json("inventory", "list")[0]["name"] == text
        assert cli.json("inventory", "show", "--computer", "external:K1")["fields"]["Remark"]["value"] == text
        found = cli.json("inventory", "list", "--client", text)
        assert [c["external_id"] for c in found] == ["K1"]
        assert cli.json("inventory", "list", "--client", "fabrikam") == []
        assert not list(tmp_path.rglob("pwned")) and not Path("pwned").exists()

    @pytest.mark.parametrize("text", HOSTILE)
    def test_an_error_that_quotes_it_stays_one_message(self, cli: Cli, text: str) -> None:
        for arguments in (
            ("inventory", "show", "--computer", text),
            ("script", "show", "--", text),
            ("monitor", "show", "--", text),
        ):
            stderr = cli(*arguments, expect=2).stderr
            only_one_error(stderr.replace("error: forged line", "-"))
            assert "\n-" not in stderr.replace("error: forged line", "-") and "\x1b" not in stderr and "‮" not in stderr

    @pytest.mark.parametrize("text", HOSTILE)
    def test_a_parameter_reaches_the_body_as_it_is(self, fleet: Cli, text: str, tmp_path: Path) -> None:
        kept = tmp_path / "kept"
        write_script(
            fleet, "keep", "name: Keep\nparameters:\n  Text: {required: true}\n  File: {required: true}\nbody: keep.sh\n",
            {"keep.sh": 'printf %s "$EXEUNT_TEXT" > "$EXEUNT_FILE"\n'},
        )  # fmt: skip
        arguments = (
            "script",
            "test",
            "Keep",
            "--computer",
            "con1",
            "--param",
            f"Text={text}",
            "--param",
            f"File={kept}",
        )
        fleet(*arguments, "--dry-run")
        assert not kept.exists()
        fleet(*arguments, "--yes")
        assert kept.read_text() == text
        assert not list(tmp_path.rglob("pwned")) and not Path("pwned").exists()


def test_a_full_disk_is_told_and_leaves_the_database_whole(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        cli = Cli(disk / "workspace")
        cli("init")
        cli("inventory", "add-client", "Contoso")
        with (disk / "ballast").open("wb") as ballast, pytest.raises(OSError):
            while True:
                os.write(ballast.fileno(), b"x" * 4096)
        rows = "".join(f"C{n},{'n' * 900}-{n},c{n}\n" for n in range(2000))
        (tmp_path / "clients.csv").write_text("external_id,name,slug\n" + rows)
        result = cli("inventory", "import", str(tmp_path / "clients.csv"), expect=1)
        assert "the disk is full" in result.stderr and "Traceback" not in result.stderr
        # In a process of its own: what it has open would keep the disk busy.
        command = [sys.executable, "-m", "agent.cli", "--workspace", str(cli.workspace), "worker"]
        worker = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment())
        only_one_error(worker.stderr)
        assert "engine.db does not work: the disk is full" in worker.stderr
        (disk / "ballast").unlink()
        assert [c["name"] for c in cli.json("inventory", "list", "clients")] == ["Contoso"]
        assert cli.json("audit", "verify")["ok"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_unexpected_error_is_short_and_its_traceback_is_kept(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr("agent.cli.inventory_lists.lookup.computers", broken)
    result = cli("inventory", "list", expect=1)
    only_one_error(result.stderr)
    kept = cli.workspace / "errors.log"
    assert str(kept) in result.stderr and "ZeroDivisionError: of ours" in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
    with_traceback = cli("--log-level", "DEBUG", "inventory", "list", expect=1)
    assert isinstance(with_traceback.exception, ZeroDivisionError)


def test_a_reader_that_goes_away_is_no_error(fleet: Cli) -> None:
    command = f"{sys.executable} -m agent.cli --workspace {fleet.workspace} edf list --json | head -c 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, env=clean_environment())
    assert done.stdout == "[" and "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_a_terminal_without_unicode_gets_escapes(fleet: Cli) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli", "--workspace", str(fleet.workspace), "template", "list", "--json"],
        capture_output=True, timeout=60, env=clean_environment(PYTHONIOENCODING="ascii", PYTHONUTF8="0"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "△ Custom" in json.loads(done.stdout)[0]["name"]
