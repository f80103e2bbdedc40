"""Removing ScreenConnect on both sides: a real package of the test's own making, and a portal over TLS that keeps state.

The portal is a fake, after what public clients of it send and read (AutomateAPI, the RESTful API Manager's page): it
keeps sessions and ends them, checks token, password, key and origin, and can be told to fail. It leaves out groups,
cookies, and everything that real sessions do.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import package_help
import pytest
from certificates import self_signed
from cryptography.hazmat.primitives.asymmetric import ec
from peers import require

from agent.errors import StepError
from agent.functions.screenconnect import (
    SESSION_STATE,
    EndSession,
    EndSessionParameters,
    Uninstall,
    UninstallParameters,
)
from agent.model.runs import StepState
from agent.services import screenconnect, tickets
from agent.services.screenconnect import parse_headers, portal_settings, token_of

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="installing packages needs root")
#: The integration key of the Automate extension, and the access key of another one.
KEY, ACCESS_KEY = base64.b64encode(b"key-of-the-test").decode(), "access key of the test"
PASSWORD = "pässword"
ANOTHER = "App_Extensions/another/Service.ashx/EndSessions"


class Portal:
    """State of the fake, and what it was asked."""

    def __init__(self) -> None:
        self.sessions: set[str] = set()
        self.ended: set[str] = set()
        self.requests: list[tuple[str, Any]] = []
        self.fail_times = 0
        self.ignores_end = False
        self.has_session_lookup = True
        self.address = ""
        self.ca_file = ""

    def answer(self, path: str, headers: Any, values: Any) -> tuple[int, Any]:
        self.requests.append((path, values))
        if self.fail_times:
            self.fail_times -= 1
            return 503, None
        extension, _, method = path.strip("/").removeprefix("App_Extensions/").partition("/")
        if extension == "fc234f0e-2e8e-4a1f-b977-ba41b14031f7":
            return self.automate(method, headers, values)
        if headers.get("CTRLAuthHeader") != ACCESS_KEY or headers.get("Origin") != "control.example.test":
            return 403, None
        if method == "Service.ashx/GetSessionBySessionID":
            if not self.has_session_lookup:
                return 404, None
            return 200, [{"SessionID": s} for s in values if s in self.sessions]
        if path.strip("/") == ANOTHER:
            group, guids, kind, _ = values
            if group == ["All Machines"] and kind == 21 and not self.ignores_end:
                self.sessions -= set(guids)
            return 200, None
        return 404, None

    def automate(self, method: str, headers: Any, values: Any) -> tuple[int, Any]:
        """The extension of ConnectWise Automate."""
        basic = "Basic " + base64.b64encode(f"exeunt:{PASSWORD}".encode()).decode()
        if headers.get("CWAIKToken") not in self.tokens() and headers.get("Authorization") != basic:
            return 401, {"code": "Unauthorized", "message": "Request authentication failed"}
        if method == "ReportService.ashx/GenerateReportForAutomate":
            report, _, columns, condition, _, _ = values
            assert (report, columns) == ("Session", ["SessionID", "IsEnded"])
            known = self.sessions | self.ended
            return 200, {
                "FieldNames": columns,
                "Items": [[s.upper(), s in self.ended] for s in known if condition == f"SessionID='{s}'"],
            }
        if method == "ReplicaService.ashx/PageAddEventToSessions":
            user, guids, kind, _ = values
            if not isinstance(user, str) or not isinstance(guids, list):
                return 500, {"message": "the values do not fit the method"}
            if kind == 21 and not self.ignores_end:
                self.ended |= self.sessions & set(guids)
                self.sessions -= set(guids)
            return 200, None
        return 404, None

    def tokens(self) -> set[str]:
        now = int(time.time()) // 600
        steps = (step.to_bytes(8, "big") for step in (now, now + 1))
        return {base64.b64encode(hmac.digest(base64.b64decode(KEY), step, hashlib.sha256)).decode() for step in steps}


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself, and its key, in one file."""
    file = folder / "portal.pem"
    file.write_text(self_signed(ec.generate_private_key(ec.SECP256R1())), encoding="ascii")
    return file


@pytest.fixture
def portal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Portal]:
    monkeypatch.setattr(screenconnect, "LOOKS", 2)
    state = Portal()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            values = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = state.answer(self.path, self.headers, values)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    file = certificate(tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    state.address, state.ca_file = f"https://127.0.0.1:{server.server_port}", str(file)
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def context(local_context: Any, portal: Portal) -> Any:
    made = local_context()
    made.credentials["screenconnect"] = ({"url": portal.address, "ca_file": portal.ca_file}, {"key": KEY})
    made.properties |= {"RMMPlus_Headers": "Origin: control.example.test", "RMMPlus_Timeout": "5000"}
    return made


def by(context: Any, way: str) -> None:
    """Reach the portal by a `user`, or by `another` extension with the access key of RMM+."""
    settings = context.credentials["screenconnect"][0]
    if way == "user":
        context.credentials["screenconnect"] = ({**settings, "username": "exeunt"}, {"key": PASSWORD})
    if way == "another":
        context.credentials["screenconnect"] = ({**settings, "end_session_path": ANOTHER}, {})
        context.properties["RMMPlus_AccessKey"] = ACCESS_KEY


def end(context: Any, **more: Any) -> Any:
    return EndSession().do(context, EndSessionParameters(**more))


class TestEndSession:
    @pytest.mark.parametrize("way", ["key", "user", "another"])
    def test_ends_this_session_and_no_other_and_verifies(self, context: Any, portal: Portal, way: str) -> None:
        by(context, way)
        mine, theirs = str(uuid.uuid4()), str(uuid.uuid4())
        portal.sessions = {mine, theirs}
        outcome = end(context, session=mine)
        assert outcome.state is StepState.SUCCEEDED and outcome.result["verified"] is True
        assert portal.sessions == {theirs}
        asked = len(portal.requests)
        assert end(context, session=mine).state is StepState.SUCCEEDED
        assert len(portal.requests) == asked + 1, "ended twice"

    def test_without_the_lookup_it_is_done_and_not_verified(self, context: Any, portal: Portal) -> None:
        by(context, "another")
        portal.has_session_lookup = False
        assert end(context, session=str(uuid.uuid4())).result["verified"] is False

    def test_a_passing_error_is_tried_again(self, context: Any, portal: Portal) -> None:
        portal.fail_times = 2
        portal.sessions = {session := str(uuid.uuid4())}
        assert end(context, session=session).state is StepState.SUCCEEDED

    @pytest.mark.parametrize(
        ("what", "type"),
        [
            ("down", "portal_unavailable"), ("ignores", "session_not_ended"), ("key", "portal_access_denied"),
            ("origin", "portal_access_denied"), ("none", "missing_credential"), ("guid", "wrong_session"),
            ("url", "wrong_credential"), ("closed", "portal_unreachable"), ("ca", "portal_unreachable"),
            ("no base64", "wrong_credential"), ("only RMM+", "missing_credential"),
        ],
    )  # fmt: skip
    def test_a_failure_is_typed_and_opens_one_ticket(
        self, context: Any, portal: Portal, two_clients: Any, what: str, type: str
    ) -> None:
        portal.sessions = {session := str(uuid.uuid4())}
        settings = dict(context.credentials["screenconnect"][0])
        key = {"key": "d3Jvbmc=", "no base64": "wrong key", "only RMM+": ""}.get(what, KEY)
        portal.fail_times = 99 if what == "down" else 0
        portal.ignores_end = what == "ignores"
        changes = {
            "url": {"url": "http://127.0.0.1"},
            "closed": {"url": "https://127.0.0.1:9"},
            "ca": {"ca_file": None},
        }
        context.credentials["screenconnect"] = ({**settings, **changes.get(what, {})}, {"key": key})
        if what == "origin":
            by(context, "another")
            context.properties["RMMPlus_Headers"] = "Origin: elsewhere"
        if what == "only RMM+":
            context.properties["RMMPlus_AccessKey"] = ACCESS_KEY
        if what == "none":
            context.credentials.clear()
        for _ in range(2):
            outcome = end(context, session="../../x" if what == "guid" else session)
        assert outcome.state is StepState.FAILED and outcome.error.type == type
        assert outcome.error.impact and outcome.error.remediation
        assert KEY not in str(outcome) and ACCESS_KEY not in str(outcome)
        assert portal.sessions == {session}
        with context.installation.database.reading() as db:
            [ticket] = tickets.list_tickets(db)
        assert ticket.subject == "ScreenConnect Session Removal - Failed - CONTOSO-PC1"
        assert ticket.client_id == two_clients.contoso and KEY not in ticket.body

    def test_nothing_known_is_nothing_to_do(self, context: Any, portal: Portal) -> None:
        assert end(context).state is StepState.SKIPPED
        assert portal.requests == []


class Agents:
    """Packages that look like the vendor's on Linux: a folder below /opt with the launch parameters."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.names = folder, []  # type: ignore[var-annotated]

    def install(self, *, prerm: str = "") -> tuple[str, str]:
        instance, session = secrets.token_hex(8), str(uuid.uuid4())
        name = f"connectwisecontrol-{instance}"
        tree = self.folder / name
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "opt" / name).mkdir(parents=True)
        (tree / "opt" / name / "ClientLaunchParameters.txt").write_text(
            f"?e=Access&y=Guest&h=relay.example.test&p=443&s={session}&k=BgIAAACkAABSU0Ex"
        )
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: 9.1\nArchitecture: all\nMaintainer: Tests <t@example.test>\nDescription: made by a test\n"
        )
        if prerm:
            (tree / "DEBIAN/prerm").write_text(prerm)
            (tree / "DEBIAN/prerm").chmod(0o755)
        self.names.append(name)
        package_help.dpkg("--install", package_help.build(tree))
        return instance, session

    def clean(self) -> None:
        for name in self.names:
            package_help.purge(name)
            subprocess.run(["rm", "-rf", f"/opt/{name}"], check=True)


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    require("dpkg-deb", "dpkg")
    with package_help.alone("screenconnect"):
        if list(Path("/opt").glob("connectwisecontrol-*")):
            pytest.skip("a ScreenConnect agent is installed on this machine: the test leaves it alone")
        made = Agents(tmp_path)
        yield made
        made.clean()


def uninstall(context: Any, **more: Any) -> Any:
    return Uninstall().do(context, UninstallParameters(**more))


@root_only
class TestUninstall:
    def test_removes_by_the_first_method_and_keeps_the_session(
        self, context: Any, agents: Agents, portal: Portal
    ) -> None:
        instance, session = agents.install()
        portal.sessions = {session}
        outcome = uninstall(context)
        assert outcome.state is StepState.SUCCEEDED
        assert (outcome.result["tried"], outcome.result["session"]) == (["package"], session)
        assert not Path(f"/opt/connectwisecontrol-{instance}").exists()
        assert Uninstall().verify(context, UninstallParameters()) is True
        assert uninstall(context).result["outcome"] == "already_absent"
        assert end(context).state is StepState.SUCCEEDED and portal.sessions == set()

    def test_the_next_method_follows_a_failed_one(self, context: Any, agents: Agents) -> None:
        # Installed by its script instead of a package: the first method finds nothing to remove.
        agents.install()
        name = agents.names[0]
        folder = Path(f"/opt/{name}")
        copy = agents.folder / "copy"
        folder.rename(copy)
        package_help.dpkg("--purge", name)
        copy.rename(folder)
        outcome = uninstall(context)
        assert outcome.state is StepState.SUCCEEDED and outcome.result["tried"] == ["package", "folder"]
        assert not folder.exists()

    def test_all_methods_failed_opens_a_ticket(self, context: Any, agents: Agents, two_clients: Any) -> None:
        instance, session = agents.install(prerm="#!/bin/sh\necho protected >&2\nexit 1\n")
        outcome = uninstall(context)
        assert outcome.state is StepState.FAILED and outcome.result["tried"] == ["package", "folder"]
        assert context.states[SESSION_STATE] == session, "a retry could not end the session any more"
        with context.installation.database.reading() as db:
            [ticket] = tickets.list_tickets(db)
            comments = tickets.show(db, ticket.id or 0).comments
        assert ticket.subject == "ScreenConnect Removal - Failed - CONTOSO-PC1" and instance in ticket.body
        assert "protected" in comments[0].text and ticket.client_id == two_clients.contoso

    def test_agents_of_several_instances_are_not_guessed_between(self, context: Any, agents: Agents) -> None:
        (mine, _), (theirs, _) = agents.install(), agents.install()
        with pytest.raises(StepError, match="several instances"):
            uninstall(context)
        assert uninstall(context, instance=mine).state is StepState.SUCCEEDED
        assert not Path(f"/opt/connectwisecontrol-{mine}").exists()
        assert Path(f"/opt/connectwisecontrol-{theirs}").exists()


def test_absent_is_a_success_and_asks_no_portal(context: Any, portal: Portal) -> None:
    outcome = uninstall(context, instance="0123456789abcdef")
    assert outcome.state is StepState.SUCCEEDED and outcome.result["outcome"] == "already_absent"
    assert portal.requests == []


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("Origin: control.example.test", {"Origin": "control.example.test"}),
        ("origin:control.example.test", {"Origin": "control.example.test"}),
        ("control.example.test", {"Origin": "control.example.test"}),
        ("https://control.example.test", {"Origin": "https://control.example.test"}),
        ("Origin: a\nX-More: b", {"Origin": "a", "X-More": "b"}),
        ("", {}),
    ],
)
def test_headers(text: str, headers: dict[str, str]) -> None:
    assert parse_headers(text) == headers


@pytest.mark.parametrize(
    "url", ["http://x.test", "https://", "https://u:p@x.test", "https://x.test?a", "x.test", "file:///etc/passwd"]
)
def test_only_https_addresses(url: str) -> None:
    with pytest.raises(StepError, match="https"):
        portal_settings({"url": url})


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ({"url": "https://x.test/"}, "https://x.test"),
        ({"url": "https://x.test:8040", "port": 443}, "https://x.test:443"),
        ({"url": "https://[::1]/sc", "port": 8443}, "https://[::1]:8443/sc"),
    ],
)
def test_address_and_port(given: dict[str, Any], base: str) -> None:
    assert portal_settings(given).base == base


def test_the_token_is_that_of_the_public_client() -> None:
    r"""HMAC-SHA256 over the number of ten minutes since 1970, rounded to the nearest, as eight bytes.

    Made by `printf '\0\0\0\0\0\050\212\213' | openssl dgst -sha256 -hmac secret -binary | base64`.
    """
    expected = "oNjJ403MIekUSUgnmXHG7aU5NX9Q0yFZcCr5d/rgHZQ="
    assert token_of(b"secret", 2_656_907 * 600 - 299) == expected
    assert token_of(b"secret", 2_656_907 * 600 + 299) == expected
    assert token_of(b"secret", 2_656_907 * 600 + 301) != expected
