"""The peer against the unmodified clients pywinrm and pypsrp, and against MS-WSMV where they do not look."""

from __future__ import annotations

import base64
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypsrp.client
import pypsrp.exceptions
import pytest
import requests
import winrm
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.serializer import TaggedValue
from pypsrp.shell import SignalCode, WinRS
from pypsrp.wsman import SelectorSet, WSMan

from wsman_peer import Call, Peer
from wsman_peer.envelope import NS, seconds

USER, PASSWORD = "CORP\\agent", "pass-word 1!"
CMD = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/cmd"


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    with Peer({USER: PASSWORD}, tmp_path / "accounts") as peer:
        yield peer
        assert not peer.shells


def session(peer: Peer, **details: Any) -> winrm.Session:
    return winrm.Session(
        f"http://127.0.0.1:{peer.port}/wsman",
        auth=(USER, PASSWORD),
        transport="ntlm",
        proxy=None,
        ca_trust_path=None,
        **details,
    )


@pytest.fixture
def connection(peer: Peer) -> Iterator[WSMan]:
    with WSMan(
        "127.0.0.1", port=peer.port, ssl=False, auth="negotiate", username=USER, password=PASSWORD, no_proxy=True
    ) as made:
        yield made


def test_pywinrm_runs_a_command(peer: Peer) -> None:
    result = session(peer).run_cmd("printf '%s' \"out ✓\"; echo err >&2; exit 3")
    assert (result.std_out.decode(), result.std_err, result.status_code) == ("out ✓", b"err\n", 3)


def test_pywinrm_runs_powershell_and_reads_its_clixml(peer: Peer) -> None:
    def talk(call: Call) -> None:
        call.output(call.script)
        call.error("bad_x\nnews")

    peer.handle("Get-Thing", talk)
    result = session(peer).run_ps("Get-Thing 1")
    assert result.std_out == b"Get-Thing 1\r\n"
    assert b"CLIXML" not in result.std_err and b"news" in result.std_err


def test_pypsrp_runs_a_command_and_powershell(peer: Peer) -> None:
    peer.handle("Get-Thing", lambda call: call.output("thing"))
    with pypsrp.client.Client(
        "127.0.0.1", port=peer.port, ssl=False, username=USER, password=PASSWORD, no_proxy=True
    ) as client:
        assert client.execute_cmd("echo one; exit 2") == ("one\n", "", 2)
        output, _, had_errors = client.execute_ps("Get-Thing")
    assert (output, had_errors) == ("thing", False)


def test_commands_keep_their_parameters(peer: Peer, connection: WSMan) -> None:
    peer.handle("Get-Thing", lambda call: call.output(call.parameters))
    with RunspacePool(connection) as pool, PowerShell(pool) as pipeline:
        pipeline.add_cmdlet("Get-Thing").add_parameter("Name", "a b").add_parameter("Count", 3)
        assert pipeline.invoke() == [{"Name": "a b", "Count": 3}]


def test_where_only_cmdlets_are_shown_nothing_else_runs(peer: Peer, connection: WSMan) -> None:
    taken: list[Any] = []

    def get(call: Call) -> None:
        taken.append((call.user, call.cmdlet, {n: type(v).__name__ for n, v in call.arguments.items()}))

    peer.service.handlers.cmdlets["Get-Thing"] = get
    with RunspacePool(connection) as pool:
        cmdlet = PowerShell(pool)
        cmdlet.add_cmdlet("Get-Thing").add_parameters({"One": 1, "Big": TaggedValue("I64", 1), "Raw": b"\0"})
        assert cmdlet.invoke() == [] and not cmdlet.streams.error
        assert taken == [(USER, "Get-Thing", {"One": "PSInt", "Big": "PSInt64", "Raw": "PSByteArray"})]
        for refused in (PowerShell(pool).add_cmdlet("Get-Other"), PowerShell(pool).add_script("Get-Thing")):
            refused.invoke()
            assert refused.had_errors and refused.streams.error[0].fq_error == "CommandNotFoundException"
    assert len(taken) == 1


def test_an_unknown_script_fails(peer: Peer, connection: WSMan) -> None:
    with RunspacePool(connection) as pool, PowerShell(pool) as pipeline:
        pipeline.add_script("Get-Unknown").invoke()
        assert pipeline.had_errors and "no handler" in str(pipeline.streams.error[0])


def test_secure_strings_and_numbers_of_runspaces(peer: Peer, connection: WSMan) -> None:
    with RunspacePool(connection) as pool:
        pool.exchange_keys()
        pool.max_runspaces = 3
        pool.min_runspaces = 2
        assert pool.get_available_runspaces() == 1


def test_a_stopped_pipeline(peer: Peer, connection: WSMan) -> None:
    peer.handle("Wait", Call.wait)
    with RunspacePool(connection) as pool:
        pipeline = PowerShell(pool).add_script("Wait")
        pipeline.begin_invoke()
        pipeline.stop()


def test_disconnect_and_reconnect(peer: Peer, connection: WSMan) -> None:
    peer.handle("Get-Thing", lambda call: call.output("thing"))
    with RunspacePool(connection) as pool:
        pool.disconnect()
        assert [shell.state for shell in peer.shells.values()] == ["Disconnected"]
        pool.connect()
        assert PowerShell(pool).add_script("Get-Thing").invoke() == ["thing"]


def test_standard_input_and_signals(peer: Peer, connection: WSMan) -> None:
    with WinRS(connection) as shell:
        command = shell.command("cat; sleep 300", None).findtext(".//rsp:CommandId", namespaces=NS) or ""
        shell.send("stdin", b"typed", command, end=True)
        assert shell.receive(command_id=command)[2]["stdout"] == b"typed"
        shell.signal(SignalCode.TERMINATE, command)
        with pytest.raises(pypsrp.exceptions.WSManFaultError) as caught:
            shell.receive(command_id=command)
        assert caught.value.code == 2150858843


def test_receive_waits_and_then_says_that_it_timed_out(peer: Peer, connection: WSMan) -> None:
    with WinRS(connection) as shell:
        command = shell.command("sleep 300", None).findtext(".//rsp:CommandId", namespaces=NS)
        before = time.monotonic()
        with pytest.raises(pypsrp.exceptions.WSManFaultError) as caught:
            shell.receive(command_id=command, timeout=1)
        assert caught.value.code == 2150858793 and time.monotonic() - before >= 1


def test_the_same_message_gets_the_same_answer(peer: Peer, connection: WSMan) -> None:
    with WinRS(connection) as shell:
        command = shell.command("echo once", None).findtext(".//rsp:CommandId", namespaces=NS) or ""
        desired = ET.Element(f"{{{NS['rsp']}}}Receive")
        ET.SubElement(desired, f"{{{NS['rsp']}}}DesiredStream", CommandId=command).text = "stdout stderr"
        selectors = SelectorSet()
        selectors.add_option("ShellId", shell.id or "")
        _, header = connection._create_header(f"{NS['rsp']}/Receive", CMD, None, selectors)
        envelope = ET.Element(f"{{{NS['s']}}}Envelope")
        envelope.append(header)
        ET.SubElement(envelope, f"{{{NS['s']}}}Body").append(desired)
        message = ET.tostring(envelope)
        first, second = connection.transport.send(message), connection.transport.send(message)
        assert first == second and base64.b64encode(b"once\n") in first


def test_an_answer_is_no_larger_than_asked_for(peer: Peer, connection: WSMan) -> None:
    with WinRS(connection) as shell:
        command = shell.command("head -c 400000 /dev/zero", None).findtext(".//rsp:CommandId", namespaces=NS)
        sizes, state = [], ""
        while not state.endswith("Done"):
            state, _, streams = shell.receive(command_id=command)
            sizes.append(len(streams["stdout"]))
    assert sum(sizes) == 400_000 and max(sizes) * 4 // 3 < connection.max_envelope_size


def test_shells_are_listed_and_unknown_ones_refused(peer: Peer, connection: WSMan) -> None:
    with WinRS(connection, name="mine") as shell:
        answer = connection.enumerate(NS["rsp"], ET.Element(f"{{{NS['n']}}}Enumerate"))
        assert [s.findtext("rsp:Name", namespaces=NS) for s in answer.iter(f"{{{NS['rsp']}}}Shell")] == ["mine"]
        assert shell._get_shell()["ShellId"] == shell.id
    selectors = SelectorSet()
    selectors.add_option("ShellId", "NONE")
    with pytest.raises(pypsrp.exceptions.WSManFaultError) as caught:
        connection.delete(CMD, selector_set=selectors)
    assert caught.value.code == 2150858843


def test_what_is_not_supported_says_so(peer: Peer, connection: WSMan) -> None:
    with WinRS(connection) as shell, pytest.raises(pypsrp.exceptions.WSManFaultError, match="Not supported"):
        connection.put(CMD, selector_set=shell._selector_set)


def test_only_encrypted_messages_over_plain_http(peer: Peer) -> None:
    with pytest.raises(winrm.exceptions.WinRMTransportError) as caught:
        session(peer, message_encryption="never").run_cmd("echo x")
    assert caught.value.code == 403


def test_nobody_without_a_password(peer: Peer) -> None:
    answer = requests.post(f"http://127.0.0.1:{peer.port}/wsman", data=b"<x/>", timeout=60)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Negotiate, NTLM, Basic realm="WSMAN"')


def test_faults_fire_where_and_as_often_as_asked(peer: Peer) -> None:
    peer.inject("status", "Command", nth=2, times=2, code=503)
    asked = session(peer)
    assert asked.run_cmd("true").status_code == 0
    for _ in range(2):
        with pytest.raises(winrm.exceptions.WinRMTransportError):
            asked.run_cmd("true")
    assert asked.run_cmd("true").status_code == 0
    assert peer.faults.fired == [("status", "Command")] * 2
    # pywinrm leaves its shell when a command cannot be started.
    assert len(peer.shells) == 2
    peer.service.close()


@pytest.mark.parametrize(
    ("text", "expected"), [("PT20S", 20.0), ("PT1M", 60.0), ("PT1H2M3.5S", 3723.5), ("PT0.000S", 0.0)]
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected
