"""`exeunt credential test`: each kind signs in at its service and says as whom; what is wrong is told without the secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from google_peer import GooglePeer
from jira_peer import JiraPeer
from okta_peer import OktaPeer
from psa_peers import ConnectWisePeer, HaloPeer
from scim_peer import ScimPeer
from slack_peer import SlackPeer
from task_peer import TaskPeer
from zoom_peer import ZoomPeer

from agent.access.principal import local_principal
from agent.cli.main import main
from agent.functions import probing, registry
from agent.installation import Installation
from agent.secrets import create_key
from agent.services import credentials, properties
from agent.services.rest import signing
from agent.web.api import credentials as api

if TYPE_CHECKING:
    from conftest import Places

KINDS = [
    ("zoom", ZoomPeer, lambda p: {"client_secret": p.secret}, "it reads the 3 users of the account"),
    ("jira", JiraPeer, lambda p: {"token": p.token}, "signed in as bot@contoso.test"),
    ("slack", SlackPeer, lambda p: {"token": p.token}, "signed in as admin in the workspace contoso (T00000001)"),
    ("okta", OktaPeer, lambda p: {"token": p.token}, "signed in as admin@contoso.test"),
    ("google", GooglePeer, lambda p: {"service_account": p.key_file()}, "it acts as admin@contoso.test"),
    ("scim", ScimPeer, lambda p: {"token": p.token}, "it reads 2 accounts"),
    ("scim_github", ScimPeer, lambda p: {"token": p.token}, "it reads 2 accounts"),
    ("connectwise_psa", ConnectWisePeer, lambda p: {"private_key": p.private_key}, "it reads 3 contacts"),
    ("halopsa", HaloPeer, lambda p: {"client_secret": p.secret}, "it reads 3 users"),
    ("http", TaskPeer, lambda p: {"secret": p.secret}, "GET /people was answered 200"),
    ("http_vpn", TaskPeer, lambda p: {"secret": p.secret}, "GET /people was answered 200"),
]  # fmt: skip


@pytest.fixture
def workspace(installation: Installation, two_clients: Places, monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setattr(signing, "_kept", {})
    create_key(installation.settings)
    return installation


def stored(installation: Installation, kind: str, settings: Any, secret: dict[str, str] | None) -> int:
    made = credentials.add(
        installation, kind=kind, name=f"one of {kind}", client_id=1, settings=settings, secret=secret, actor="ann"
    )
    assert made.id is not None
    return made.id


def tried(installation: Installation, *arguments: str) -> Result:
    everything = ["--workspace", str(installation.settings.workspace), "--user", "t", "credential", "test", *arguments]
    return CliRunner().invoke(main, everything)


@pytest.mark.parametrize(("kind", "peer", "secret", "says"), KINDS, ids=[k[0] for k in KINDS])
def test_a_credential_signs_in(
    workspace: Installation, start_two: Any, kind: str, peer: Any, secret: Any, says: str
) -> None:
    ours, theirs = start_two(peer)
    number = stored(workspace, kind, ours.settings(), secret(ours))
    result = tried(workspace, str(number))
    assert (result.exit_code, result.stdout.strip()) == (0, f"credential {number} works: {says}"), result.stderr
    found = api.test_credential(workspace, local_principal("ann"), number, api.Trial(computer_id=None))
    assert (found.reachable, found.detail) == (True, says)
    assert [c for c in ours.written() if "oauth" not in c and "token" not in c] == [] and theirs.requests == []
    wrong = dict.fromkeys(secret(ours), "wrong-secret-value")
    credentials.update(workspace, number, secret=wrong, actor="ann")
    result = tried(workspace, str(number))
    assert result.exit_code == 1 and "does not work" in result.stderr and "credential" in result.stderr
    found = api.test_credential(workspace, local_principal("ann"), number, api.Trial(computer_id=None))
    assert not found.reachable and found.detail and "credential" in found.detail
    assert "wrong-secret-value" not in result.stdout + result.stderr + found.detail
    ours.violations.clear()


def test_a_service_that_is_not_there(workspace: Installation) -> None:
    settings = {"url": "https://127.0.0.1:9", "email": "a@b.test", "answer_seconds": 1, "call_seconds": 1}
    result = tried(workspace, str(stored(workspace, "jira", settings, {"token": "t"})))
    assert result.exit_code == 1 and "cannot be reached" in result.stderr and "Check the network" in result.stderr


def test_the_address_of_jira_comes_from_the_property(workspace: Installation) -> None:
    number = stored(workspace, "jira", {"email": "a@b.test"}, {"token": "t"})
    assert "url: Field required" in tried(workspace, str(number)).stderr
    properties.set_value(workspace, "_sysJiraSubdomain", "contoso.evil", actor="ann")
    assert "_sysJiraSubdomain is no name" in tried(workspace, str(number)).stderr


def test_what_cannot_be_tried(workspace: Installation) -> None:
    assert "waits for its secret" in tried(workspace, str(stored(workspace, "slack", {}, None))).stderr
    number = stored(workspace, "ssh", {"username": "x"}, {"password": "y"})
    result = tried(workspace, str(number))
    assert result.exit_code == 2 and "--computer" in result.stderr
    result = tried(workspace, str(number), "--computer", "Contoso/Headquarters/CONTOSO-PC1")
    assert result.exit_code == 2 and "does not use the credential" in result.stderr
    assert tried(workspace, "999").exit_code == 2


def test_every_kind_that_a_package_describes_can_be_tried(workspace: Installation) -> None:
    kinds = {c.kind for p in workspace.content.packages() for c in p.definition.credentials}
    unknown = {kind for kind in kinds if probing.system_of(kind) is None} - set(probing._OTHERS)
    assert unknown == set() and len(kinds) > 10
    for name in registry.systems():
        assert probing.system_of(f"no_{name}") is None
