"""WinRM and PSRP against the WS-Man peer: what both must do alike. Over plain HTTP, so with message encryption."""

from __future__ import annotations

import logging
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from peers import kept_port
from transport_help import Collecting
from wsman_help import (
    PASSWORD,
    USER,
    Certificates,
    Connect,
    certificates,
    connect,
    kind,
    make_certificates,
    peer,
    starting,
)  # fmt: skip
from wsman_peer import Call, Peer

from agent.errors import (
    AccessDenied,
    AnswerLost,
    CannotConnect,
    SettingsError,
    TimeLimitReached,
    TransportError,
    UsageError,
)  # fmt: skip
from agent.transports import psrp_host, registry, winrm_messages
from agent.transports.base import Body

__all__ = ["certificates", "connect", "kind", "peer"]


def body(text: str = "Do-It", *, limit: float = 30.0, tag: str = "run-1", **parameters: Any) -> Body:
    return Body(text, "ps1", parameters, time_limit=limit, tag=tag)


def do_it(call: Call) -> None:
    call.output("done")


# How a body's values and its end travel


AWKWARD = {
    "quotes": """it's "quoted" `backticks` """,
    "code": "$(Remove-Item C:\\ -Recurse); exit 7 # %PATH% & | > <",
    "lines": "one\ntwo\r\nthree\n",
    "unicode": "Ünïcode ✓ 𐐀 \u202e end",
    "escapes": "_x0041_ &amp; <a> \\n \x01\x85",
    "empty": "",
    "numbers": [0, -1, 2**31, -(2**63), 0.1, 1e300],
    "truths": [True, False, None],
    "nested": {"Key One": ["a", {"b": [[], {}]}]},
    "date": "2026-01-02T03:04:05",
}


def test_parameters_arrive_typed_and_identical(connect: Connect, peer: Peer, output: Collecting) -> None:
    peer.handle("Do-It", do_it)
    output(connect(peer), body(**AWKWARD))
    ((script, got),) = peer.service.handlers.calls
    assert (script, got) == ("Do-It", AWKWARD)
    assert [type(v) for v in got["numbers"]] == [int, int, int, int, float, float]
    assert [type(v) for v in got["truths"]] == [bool, bool, type(None)]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufffe\uffff"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=texts, value=values, secret=texts)
def test_any_value_survives(
    connect: Connect, peer: Peer, output: Collecting, script: str, value: Any, secret: str
) -> None:
    peer.handle("", do_it)
    output(connect(peer), Body(script, "ps1", {"value": value}, {"secret": secret}))
    assert peer.service.handlers.calls[-1] == (script, {"value": value, "secret": secret})


@pytest.mark.parametrize("code", [0, 1, 2, 3010, -1])
def test_exit_code(connect: Connect, peer: Peer, output: Collecting, code: int) -> None:
    def leave(call: Call) -> None:
        call.output("before")
        call.exit(code)

    peer.handle("Do-It", leave)
    collected = output(connect(peer), body())
    assert (collected.code, collected.stdout.split()) == (code, ["before"])


def test_exit_code_of_the_last_program_counts(connect: Connect, peer: Peer, output: Collecting) -> None:
    peer.handle("Do-It", lambda call: 1603)
    assert output(connect(peer), body()).code == 1603


def test_a_body_that_throws_has_exit_code_1(connect: Connect, peer: Peer, output: Collecting) -> None:
    peer.handle("Do-It", lambda call: call.fail("It ✗ broke"))
    collected = output(connect(peer), body())
    assert collected.code == 1
    assert "It ✗ broke" in collected.stderr
    assert collected.stdout == ""


def test_an_error_record_does_not_change_the_exit_code(connect: Connect, peer: Peer, output: Collecting) -> None:
    def complain(call: Call) -> None:
        call.error("not so bad")
        call.output("went on")

    peer.handle("Do-It", complain)
    collected = output(connect(peer), body())
    assert (collected.code, collected.stdout.strip()) == (0, "went on")
    assert "not so bad" in collected.stderr
    assert "not so bad" not in collected.stdout


def test_a_long_script_and_long_parameters(connect: Connect, peer: Peer, output: Collecting) -> None:
    peer.handle("Do-It", do_it)
    text, value = "Do-It #" + "é" * 300_000, "✓" * 300_000
    assert output(connect(peer), body(text, value=value)).code == 0
    assert peer.service.handlers.calls == [(text, {"value": value})]


def test_only_powershell(connect: Connect, peer: Peer, output: Collecting) -> None:
    with pytest.raises(UsageError, match=r"\.ps1"):
        output(connect(peer), Body("echo", "sh"))


def test_several_bodies_one_after_the_other(connect: Connect, peer: Peer, output: Collecting) -> None:
    peer.handle("Do-It", lambda call: call.output(call.parameters["n"]))
    transport = connect(peer)
    assert [output(transport, body(n=n)).stdout.strip() for n in range(3)] == ["0", "1", "2"]


def test_bodies_at_once_are_kept_apart(connect: Connect, peer: Peer, tmp_path: Path) -> None:
    """Ten computers at once: each gets its own values and gives its own output."""
    together = threading.Barrier(10)

    def answer(call: Call) -> None:
        together.wait(100)
        for _ in range(50):
            call.output(f"{call.parameters['who']}!")

    peer.handle("Do-It", answer)
    found: dict[int, set[str]] = {}

    def one(n: int) -> None:
        collected = Collecting(tmp_path / str(n))(connect(peer), body(limit=120, who=n))
        found[n] = set(collected.stdout.split())

    threads = [threading.Thread(target=one, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: {f"{n}!"} for n in range(10)}


def test_much_output_is_never_held_in_memory(connect: Connect, peer: Peer, output: Collecting) -> None:
    line, count = "x" * 9_999, 2_000

    def talk(call: Call) -> None:
        for _ in range(count):
            call.output(line)

    peer.handle("Do-It", talk)
    transport = connect(peer)
    tracemalloc.start()
    try:
        collected = output(transport, body(limit=120))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert collected.code == 0
    assert collected.result["stdout"]["bytes"] >= count * 10_000
    assert peak < 12_000_000


def test_secrets_stay_secret(
    connect: Connect, peer: Peer, output: Collecting, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "Sw0rdfish-✓"
    # Of its own too: the command line, in another test, may have made it quieter.
    for logger in (None, "urllib3"):
        caplog.set_level(logging.DEBUG, logger=logger)
    peer.handle("Do-It", lambda call: call.output(f"I was given {call.parameters['key']}"))
    collected = output(connect(peer), Body("Do-It", "ps1", secrets={"key": secret}))
    assert collected.stdout.strip() == "I was given ***"
    assert not any(secret in line for line in peer.service.command_lines)
    # psrpcore is the peer's own.
    ours = [record for record in caplog.records if record.name.split(".")[0] != "psrpcore"]
    assert {record.name for record in ours if record.levelno < logging.INFO} == {"urllib3.connectionpool"}
    for hidden in (secret, PASSWORD):
        assert not any(hidden in record.getMessage() for record in ours)


# Time limits


def test_time_limit(connect: Connect, peer: Peer, output: Collecting) -> None:
    ended = threading.Event()

    def hang(call: Call) -> None:
        call.output("started")
        try:
            call.wait()
        finally:
            ended.set()

    peer.handle("Do-It", hang)
    with pytest.raises(TimeLimitReached) as caught:
        output(connect(peer), body(limit=3))
    assert caught.value.outcome_unknown
    assert output.last.stdout.strip() == "started"
    assert ended.wait(60), "the script went on"
    assert ("Signal" in {operation for operation, _ in peer.service.requests}) and not peer.shells


def test_time_limit_of_a_body_that_talks_without_end(connect: Connect, peer: Peer, output: Collecting) -> None:
    def talk(call: Call) -> None:
        while True:
            call.output("and")
            call.wait(0.01)

    peer.handle("Do-It", talk)
    with pytest.raises(TimeLimitReached):
        output(connect(peer), body(limit=3))
    assert output.last.stdout.startswith("and")


def test_time_limit_that_the_host_does_not_confirm(connect: Connect, peer: Peer, output: Collecting) -> None:
    peer.handle("Do-It", Call.wait)
    peer.inject("status", "Signal", code=500)
    with pytest.raises(AnswerLost, match="time limit"):
        output(connect(peer), body(limit=1))


def test_a_silent_host_holds_nobody_for_ever(connect: Connect, output: Collecting) -> None:
    """A listener that accepts and says nothing."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        mute = type("Mute", (), {"port": listener.getsockname()[1]})
        before = time.monotonic()
        with pytest.raises(CannotConnect):
            output(connect(mute, open_seconds=1, grace_seconds=1), body())
        assert time.monotonic() - before < 15


def test_an_answer_that_drips_holds_nobody_up(connect: Connect, peer: Peer, output: Collecting) -> None:
    """Each piece comes in time, the whole does not."""
    peer.inject("drip", "Create", seconds=30)
    before = time.monotonic()
    error = fails(connect(peer, open_seconds=1), output)
    assert isinstance(error, CannotConnect) and time.monotonic() - before < 15


def test_time_limit_in_the_middle_of_an_answer(connect: Connect, peer: Peer, output: Collecting) -> None:
    """What broke off leaves a connection that is of no use for ending the script."""

    def hang(call: Call) -> None:
        peer.inject("drip", "Receive", seconds=30)
        call.output("now")
        call.wait(0.5)
        call.output("x" * 10_000)
        call.wait()

    peer.handle("Do-It", hang)
    error = fails(connect(peer), output, limit=5)
    assert isinstance(error, TimeLimitReached) and peer.faults.fired == [("drip", "Receive")]


# Faults, by the operation in which they come

LOST = [("reset_before", {}), ("reset_after", {}), ("cut", {}), ("html", {}), ("status", {"code": 500})]
ALWAYS = {"times": 1000}
#: The Receive that belongs to the body: those before open the pool.
FIRST_RECEIVE = {"psrp": 2, "winrm": 1}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts to get a lost answer."""
    monkeypatch.setattr(psrp_host, "BACKOFF", 0.01)
    monkeypatch.setattr(winrm_messages, "PAUSE", 0.01)


def fails(transport: Any, output: Collecting, **details: Any) -> TransportError:
    with pytest.raises(TransportError) as caught:
        output(transport, body(**details))
    assert PASSWORD not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(("fault", "details"), LOST)
def test_lost_while_opening_is_repeatable(
    connect: Connect, peer: Peer, output: Collecting, fault: Any, details: dict[str, Any]
) -> None:
    peer.inject(fault, "Create", **details)
    error = fails(connect(peer), output)
    assert isinstance(error, CannotConnect) and not error.permanent and not error.outcome_unknown
    assert peer.faults.fired == [(fault, "Create")] and not peer.service.handlers.calls


@pytest.mark.parametrize(("fault", "details"), LOST)
def test_lost_while_starting_is_unknown(
    connect: Connect, peer: Peer, output: Collecting, kind: str, fault: Any, details: dict[str, Any]
) -> None:
    peer.handle("Do-It", do_it)
    peer.inject(fault, starting(kind), **details)
    error = fails(connect(peer), output)
    assert isinstance(error, AnswerLost) and error.outcome_unknown
    assert peer.faults.fired == [(fault, starting(kind))]
    # Before and after the action look alike from outside: that is why the outcome is unknown.
    assert len(peer.service.handlers.calls) == (1 if fault in ("reset_after", "cut") else 0)


@pytest.mark.parametrize("operation", ["Create", "starting"])
@pytest.mark.parametrize(
    ("fault", "details", "expected", "permanent"),
    [
        ("status", {"code": 401, **ALWAYS}, AccessDenied, True),
        ("status", {"code": 403}, AccessDenied, True),
        ("status", {"code": 413}, CannotConnect, True),
        ("status", {"code": 503}, CannotConnect, False),
        ("fault", {"code": 5}, AccessDenied, True),
        ("fault", {"code": 995}, CannotConnect, True),
        ("fault", {"code": 2150859173}, CannotConnect, False),
    ],
)
def test_refused(
    connect: Connect, peer: Peer, output: Collecting, kind: str, operation: str, fault: Any, details: dict[str, Any],
    expected: type[TransportError], permanent: bool,
) -> None:  # fmt: skip
    peer.inject(fault, starting(kind) if operation == "starting" else operation, **details)
    error = fails(connect(peer), output)
    assert type(error) is expected and error.permanent is permanent and not error.outcome_unknown
    assert not peer.service.handlers.calls


@pytest.mark.parametrize("fault", ["reset_before", "reset_after", "cut"])
def test_a_lost_receive_is_asked_for_again(connect: Connect, peer: Peer, output: Collecting, fault: Any) -> None:
    """The shell outlives its connections, and nothing of the output is missing or doubled."""

    said: list[str] = []

    def talk(call: Call) -> None:
        # A client that is slow asks seldom, and takes much at once: it goes on until two answers were lost.
        while len(said) < 20 or len(peer.faults.fired) < 2:
            said.append(str(len(said)))
            call.output(said[-1])
            call.wait(0.02)
        call.exit(3010)

    peer.handle("Do-It", talk)
    peer.inject(fault, "Receive", nth=3, times=2)
    collected = output(connect(peer), body())
    assert len(peer.faults.fired) == 2
    assert (collected.code, collected.stdout.split()) == (3010, said)


def test_a_slow_receive_is_asked_for_again(
    connect: Connect, peer: Peer, output: Collecting, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psrp_host, "POLL", 1)
    monkeypatch.setattr(winrm_messages, "READ_MARGIN", 1)
    monkeypatch.setattr("agent.transports.winrm.POLL", 1)
    peer.handle("Do-It", do_it)
    peer.inject("delay", "Receive", nth=FIRST_RECEIVE[kind], seconds=4)
    collected = output(connect(peer), body())
    assert (collected.code, collected.stdout.strip()) == (0, "done")
    assert peer.faults.fired == [("delay", "Receive")]


@pytest.mark.parametrize(
    ("fault", "details"),
    [
        ("reset_before", ALWAYS),
        ("html", {}),
        ("status", {"code": 500}),
        ("status", {"code": 401, **ALWAYS}),
        ("fault", {"code": 995}),
        ("fault", {"code": 2150858843}),
    ],
)
def test_lost_while_running_is_unknown(
    connect: Connect, peer: Peer, output: Collecting, fault: Any, details: dict[str, Any]
) -> None:
    ended = threading.Event()

    def hang(call: Call) -> None:
        peer.inject(fault, "Receive", **details)
        call.output("now")
        try:
            call.wait()
        finally:
            ended.set()

    peer.handle("Do-It", hang)
    error = fails(connect(peer), output, limit=60)
    assert isinstance(error, AnswerLost) and error.outcome_unknown
    assert peer.faults.fired and ended.is_set()


@pytest.mark.parametrize(("fault", "details"), [*LOST, ("fault", {"code": 995}), ("status", {"code": 503})])
def test_a_failing_clean_up_keeps_the_result(
    connect: Connect, peer: Peer, output: Collecting, fault: Any, details: dict[str, Any]
) -> None:
    peer.handle("Do-It", lambda call: call.exit(3010))
    peer.inject(fault, "Delete", **details)
    assert output(connect(peer), body()).code == 3010
    assert peer.faults.fired == [(fault, "Delete")]


def test_left_over_shells_are_found_by_their_tag(
    connect: Connect, peer: Peer, output: Collecting, caplog: pytest.LogCaptureFixture
) -> None:
    peer.handle("Do-It", lambda call: call.output("done"))
    transport: Any = connect(peer)
    for tag in ("run-1", "run-10", "run-2"):
        peer.inject("fault", "Delete", code=995, times=2)
        assert output(transport, body(tag=tag)).code == 0
    assert len(peer.shells) == 3 and "a shell may be left" in caplog.text
    assert transport.end_leftovers("run-1") == 1
    assert sorted(shell.name.split(":")[1] for shell in peer.shells.values()) == ["run-10", "run-2"]
    assert transport.end_leftovers("run-10") + transport.end_leftovers("run-2") == 2
    assert transport.end_leftovers("run-1") == 0


def test_quota(connect: Connect, tmp_path: Path, output: Collecting) -> None:
    with Peer({USER: PASSWORD}, tmp_path / "accounts2", quota=0) as peer:
        error = fails(connect(peer), output)
    assert isinstance(error, CannotConnect) and not error.permanent


# Who we are, and whom we talk to


def test_wrong_password(connect: Connect, peer: Peer, output: Collecting) -> None:
    error = fails(connect(peer, password="wrong"), output)
    assert isinstance(error, AccessDenied) and error.permanent


def test_nobody_listens(connect: Connect, output: Collecting) -> None:
    with kept_port() as port:
        error = fails(connect(type("Nobody", (), {"port": port})), output)
    assert isinstance(error, CannotConnect) and not error.permanent


@pytest.mark.parametrize("auth", ["ntlm", "basic", "negotiate"])
def test_tls(connect: Connect, certificates: Certificates, tmp_path: Path, output: Collecting, auth: str) -> None:
    with Peer({USER: PASSWORD}, tmp_path / "accounts2", tls=certificates.server_context()) as peer:
        peer.handle("Do-It", do_it)
        transport = connect(peer, tls=True, auth=auth, ca_file=str(certificates.ca_file))
        assert output(transport, body()).stdout.strip() == "done"
        peer.inject("reset_after", "Receive", nth=2)
        assert output(transport, body()).stdout.strip() == "done"
        assert not peer.shells


def test_client_certificate(connect: Connect, certificates: Certificates, tmp_path: Path, output: Collecting) -> None:
    """For this test the server's certificate serves as the client's too."""
    files = {"certificate_file": str(certificates.chain_file), "certificate_key_file": str(certificates.key_file)}
    options = {"tls": True, "auth": "certificate", "ca_file": str(certificates.ca_file), **files}
    with Peer({USER: PASSWORD}, tmp_path / "accounts2", tls=certificates.server_context()) as peer:
        peer.handle("Do-It", do_it)
        assert output(connect(peer, **options), body()).code == 0
        assert not peer.shells
    other = make_certificates(tmp_path / "other")
    with Peer({USER: PASSWORD}, tmp_path / "accounts2", tls=certificates.server_context()) as peer:
        files = {"certificate_file": str(other.chain_file), "certificate_key_file": str(other.key_file)}
        error = fails(connect(peer, **{**options, **files}), output)
        assert isinstance(error, AccessDenied | CannotConnect) and not peer.service.requests


def test_a_page_is_not_an_answer(
    connect: Connect, certificates: Certificates, tmp_path: Path, output: Collecting
) -> None:
    """Over TLS nothing else protects against a proxy's page. A Receive must not take it for "no output yet"."""
    with Peer({USER: PASSWORD}, tmp_path / "accounts2", tls=certificates.server_context()) as peer:

        def hang(call: Call) -> None:
            peer.inject("html", "Receive")
            call.output("now")
            call.wait()

        peer.handle("Do-It", hang)
        error = fails(connect(peer, tls=True, ca_file=str(certificates.ca_file)), output)
        assert isinstance(error, AnswerLost) and not peer.shells


def test_tls_is_verified(connect: Connect, certificates: Certificates, tmp_path: Path, output: Collecting) -> None:
    other = make_certificates(tmp_path / "other")
    with Peer({USER: PASSWORD}, tmp_path / "accounts2", tls=certificates.server_context()) as peer:
        peer.handle("Do-It", do_it)
        for options in ({}, {"ca_file": str(other.ca_file)}):
            error = fails(connect(peer, tls=True, **options), output)
            assert isinstance(error, AccessDenied) and "certificate" in str(error)
        assert not peer.service.requests
        assert output(connect(peer, tls=True, verify=False), body()).code == 0


def test_basic_in_clear_only_when_it_is_allowed(connect: Connect, tmp_path: Path, output: Collecting) -> None:
    with Peer({USER: PASSWORD}, tmp_path / "accounts2", in_clear=True) as peer:
        peer.handle("Do-It", do_it)
        with pytest.raises(SettingsError, match="in clear"):
            connect(peer, auth="basic")
        assert output(connect(peer, auth="basic", allow_unencrypted=True), body()).code == 0


def test_an_answer_in_clear_is_not_believed(connect: Connect, peer: Peer, output: Collecting) -> None:
    """Whoever sits on the line could have written it."""
    peer.handle("Do-It", do_it)
    peer.encrypts = False
    error = fails(connect(peer), output)
    assert isinstance(error, CannotConnect) and "not encrypted" in str(error)
    peer.encrypts = True
    peer.service.close()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"auth": "magic"}, "auth"),
        ({"auth": "certificate", "tls": True}, "certificate_file"),
        ({"ca_file": "/does/not/exist.pem", "tls": True}, "there is no file"),
        ({"colour": "green"}, "colour"),
        ({"username": ""}, "username"),
        ({"auth": "kerberos"}, "user@REALM"),
        (
            {"auth": "kerberos", "username": "a@B.TEST", "keytab_file": "/does/not/exist"},
            "keytab_file: there is no file",
        ),
        (
            {"auth": "kerberos", "username": "a@B.TEST", "ticket_file": "/does/not/exist"},
            "ticket_file: there is no file",
        ),
        ({"auth": "ntlm", "keytab_file": "/dev/null"}, "keytab_file and ticket_file are for auth kerberos"),
    ],
)
def test_wrong_options(connect: Connect, peer: Peer, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        connect(peer, **options)


@pytest.mark.parametrize(("auth", "library"), [("kerberos", "gssapi"), ("credssp", "requests_credssp")])
def test_a_missing_library_is_named(
    connect: Connect, peer: Peer, monkeypatch: pytest.MonkeyPatch, auth: str, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SettingsError, match=rf"exeunt\[{auth}\]"):
        connect(peer, auth=auth, username="agent@CONTOSO.TEST")


def test_kerberos_needs_a_key_of_its_own(kind: str) -> None:
    """No password, no keytab, no ticket: what tickets the worker has may be another client's."""
    computer = {
        "name": "PC1",
        "transport": kind,
        "address": "pc1.contoso.test",
        "transport_options": {"auth": "kerberos"},
    }
    with pytest.raises(SettingsError, match="tickets of the worker itself are not used"):
        registry.connect(computer, ({"username": "agent@CONTOSO.TEST"}, {}))


def test_an_address_is_needed(kind: str) -> None:
    with pytest.raises(SettingsError, match="address"):
        registry.connect({"name": "PC1", "transport": kind}, ({"username": USER}, {"password": PASSWORD}))
