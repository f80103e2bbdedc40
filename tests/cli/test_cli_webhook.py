"""`exeunt webhook` from a terminal."""

from __future__ import annotations

import socket

import pytest
from command_line import Cli

from agent.installation import open_installation
from agent.services import tickets, webhook_sending, webhooks


@pytest.fixture
def workspace(cli: Cli) -> Cli:
    cli("inventory", "add-client", "Contoso")
    cli("inventory", "add-client", "Fabrikam")
    return cli


def test_targets_and_sources_from_the_first_to_the_last(workspace: Cli) -> None:
    cli = workspace
    added = cli(
        "webhook", "add", "psa", "https://hooks.example.invalid/x", "--client", "contoso", "--event", "ticket.created"
    )
    assert added.stdout.startswith("whsec_") and added.stdout.count("\n") == 1, "the secret alone, for a pipe"
    source = cli("webhook", "add-source", "personio", "--kind", "hr", "--client", "contoso")
    assert source.stdout.startswith("whsec_") and "/api/v1/hooks/" in source.stderr
    listed = cli.json("webhook", "list")
    assert [t["name"] for t in listed["targets"]] == ["psa"] and [s["kind"] for s in listed["sources"]] == ["hr"]
    assert "whsec_" not in cli("webhook", "list", "--json").stdout + cli("audit", "list", "--json").stdout
    for wrong in ("http://hooks.example.com/", "https://10.0.0.1/", "nonsense"):
        cli("webhook", "add", "other", wrong, expect=2)
    cli("webhook", "add", "psa", "https://hooks.example.invalid/", expect=2)
    cli("webhook", "remove", "personio")
    cli("webhook", "remove", "psa")
    assert cli.json("webhook", "list") == {"targets": [], "sources": []}
    cli("webhook", "remove", "psa", expect=2)


def test_the_log_tells_what_did_not_arrive(workspace: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # Whatever the name servers of this machine say of a name that nobody has.
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    cli = workspace
    cli("webhook", "add", "psa", "https://hooks.example.invalid/x")
    installation = open_installation(cli.workspace)
    with installation.database.session() as session:
        tickets.open_or_comment(session, key="k", client_id=1, subject="Rotten\nline", body="b", author="x")
    assert webhook_sending.deliver(installation).waiting
    found = cli.json("webhook", "log", "psa")
    assert found[0]["event"] == "ticket.created" and found[0]["attempts"] == 1 and "looked up" in found[0]["error"]
    assert "ticket.created:1" in cli("webhook", "log", "--state", "waiting").stdout
    cli("webhook", "retry", found[0]["id"], expect=2)
    with installation.database.session() as session:
        row = webhooks.deliveries(session)[0]
        row.state = "failed"
        session.add(row)
    assert "waits to be sent" in cli("webhook", "retry", found[0]["id"]).stdout
    cli("webhook", "log", "nobody", expect=2)
    installation.database.close()
