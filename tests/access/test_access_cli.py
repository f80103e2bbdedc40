"""`exeunt user` and `exeunt token`, from the first administrator to the last."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.access import links, sessions, sign_in, tokens
from agent.access.principal import Permission
from agent.cli.main import main
from agent.errors import NotSignedIn
from agent.installation import Installation, open_installation


@pytest.fixture
def server(tmp_path: Path) -> Installation:
    run(tmp_path, "init")
    (tmp_path / "clients.csv").write_text("external_id,name,slug\nC1,Contoso,contoso\nC2,Fabrikam,fabrikam\n")
    run(tmp_path, "inventory", "import", str(tmp_path / "clients.csv"))
    return open_installation(tmp_path / "workspace")


def run(folder: Path, *arguments: str, expect: int = 0) -> Result:
    result = CliRunner().invoke(main, ["--workspace", str(folder / "workspace"), "--user", "tester", *arguments])
    assert result.exit_code == expect, result.output
    return result


def link_in(result: Result) -> str:
    found = re.search(r"/welcome/([\w-]{43})", result.output)
    assert found, result.output
    return found[1]


def test_from_the_first_user_to_the_last(server: Installation, tmp_path: Path) -> None:
    added = run(tmp_path, "user", "add", "ana", "--role", "administrator")
    links.use_link(server, link_in(added), password="correct horse battery")
    run(tmp_path, "user", "add", "ben", "--role", "technician", "--client", "contoso", "--email", "ben@example.com")
    run(tmp_path, "user", "grant", "ben", "viewer")
    shown = run(tmp_path, "user", "list").stdout
    assert "technician at contoso" in shown and "argon2" not in shown
    run(tmp_path, "user", "grant", "ben", "viewer", expect=2)
    run(tmp_path, "user", "revoke", "ben", "viewer")
    run(tmp_path, "user", "revoke", "ben", "viewer", expect=2)
    assert "last administrator" in run(tmp_path, "user", "disable", "ana", expect=2).output
    assert "last administrator" in run(tmp_path, "user", "revoke", "ana", "administrator", expect=2).output
    run(tmp_path, "user", "disable", "ben")
    assert "disabled" in run(tmp_path, "user", "list").stdout
    run(tmp_path, "user", "password-link", "ben", expect=2)
    run(tmp_path, "user", "enable", "ben")
    run(tmp_path, "user", "rename", "ben", "benjamin")
    run(tmp_path, "user", "add", "Ben", expect=2)
    run(tmp_path, "user", "reset-totp", "benjamin")


def test_sessions_are_shown_and_ended(server: Installation, tmp_path: Path) -> None:
    links.use_link(server, link_in(run(tmp_path, "user", "add", "ana")), password="correct horse battery")
    cookie = sign_in.sign_in(server, "ana", "correct horse battery", None, "127.0.0.1")
    shown = run(tmp_path, "user", "sessions", "ana", "--json").stdout
    assert "last_used_at" in shown and cookie not in shown
    run(tmp_path, "user", "sessions", "ana", "--end")
    with pytest.raises(NotSignedIn):
        sessions.principal_of_session(server, cookie)
    assert "no sessions" in run(tmp_path, "user", "sessions", "ana").stdout


def test_a_token_is_printed_once(server: Installation, tmp_path: Path) -> None:
    run(tmp_path, "user", "add", "ana", "--role", "approver")
    text = run(tmp_path, "token", "add", "ana", "report", "--scope", "see", "--days", "3").stdout.strip()
    assert re.fullmatch(r"exeunt_[\w-]{43}", text)
    principal = tokens.principal_of_token(server, text)
    assert principal.can(Permission.SEE) and not principal.can(Permission.APPROVE)
    listed = run(tmp_path, "token", "list", "--user", "ana")
    assert text[:11] in listed.stdout and text not in listed.stdout
    number = re.search(r"^([0-9a-f]{16}) ", listed.stdout, re.M)
    assert number
    run(tmp_path, "token", "revoke", number[1])
    assert "revoked" in run(tmp_path, "token", "list").stdout
    run(tmp_path, "token", "add", "nobody", "x", expect=2)
    run(tmp_path, "token", "add", "ana", "x", "--days", "400", expect=2)
