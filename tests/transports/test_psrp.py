"""PSRP's own ways: six streams, objects, how a pipeline ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from psrpcore.types import PSCustomObject
from pypsrp.complex_objects import GenericComplexObject, PSInvocationState
from transport_help import Collecting
from wsman_help import Connect, connect, peer
from wsman_peer import Call, Peer
from wsman_peer.handlers import Stopped

from agent.errors import AnswerLost, UsageError
from agent.transports import psrp, wsman_http
from agent.transports.base import Body
from agent.transports.psrp_values import line_of, typed

__all__ = ["connect", "peer"]


@pytest.fixture
def kind() -> str:
    return "psrp"


def test_streams_are_kept_apart(connect: Connect, peer: Peer, output: Collecting) -> None:
    def talk(call: Call) -> None:
        call.output("out ✓")
        call.error("err ✓\nsecond line")
        call.warning("careful")
        call.wait(0.1)  # so that they come in several answers
        call.verbose("by the way")
        call.debug("inside")
        call.information("note")
        call.progress("43 %")
        call.output("end")

    peer.handle("Do-It", talk)
    collected = output(connect(peer), Body("Do-It", "ps1"))
    assert collected.stdout.splitlines() == ["out ✓", "end"]
    assert sorted(collected.stderr.splitlines()) == [
        "DEBUG: inside",
        "ERROR: err ✓",
        "ERROR: second line [PeerError]",
        "INFORMATION: note",
        "VERBOSE: by the way",
        "WARNING: careful",
    ]


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("text", "text"),
        (7, "7"),
        (True, "True"),
        (["a", 1], '["a", 1]'),
        ({"Name": "Zoom ✓"}, '{"Name": "Zoom ✓"}'),
        (PSCustomObject(Name="Zoom", Parts=[1, None]), '{"Name": "Zoom", "Parts": [1, null]}'),
        ("_x000A_", "_x000A_"),
    ],
)
def test_an_object_is_one_line(connect: Connect, peer: Peer, output: Collecting, value: Any, line: str) -> None:
    peer.handle("Do-It", lambda call: call.output(value))
    assert output(connect(peer), Body("Do-It", "ps1")).stdout == line + "\n"


def test_a_script_that_somebody_stopped_on_the_host_is_unknown(
    connect: Connect, peer: Peer, output: Collecting
) -> None:
    def stop(call: Call) -> None:
        raise Stopped

    peer.handle("Do-It", stop)
    with pytest.raises(AnswerLost, match="stopped on the host"):
        output(connect(peer), Body("Do-It", "ps1"))


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [
        (PSInvocationState.COMPLETED, 0, 0),
        (PSInvocationState.COMPLETED, 3010, 3010),
        (PSInvocationState.FAILED, None, 1),
        (PSInvocationState.FAILED, 0, 1),
        (PSInvocationState.STOPPED, 3010, 3010),
        (PSInvocationState.STOPPED, None, None),
        (PSInvocationState.COMPLETED, None, None),
        (PSInvocationState.DISCONNECTED, 0, None),
    ],
)
def test_how_a_pipeline_ends(state: int, code: int | None, expected: int | None) -> None:
    pipeline: Any = SimpleNamespace(state=state)
    host: Any = SimpleNamespace(rc=code)
    if expected is None:
        with pytest.raises(AnswerLost):
            psrp._exit_code(pipeline, host, "https://pc1")
    else:
        assert psrp._exit_code(pipeline, host, "https://pc1") == expected


def test_what_write_host_sends_is_its_message() -> None:
    message = GenericComplexObject()
    message.to_string, message.types = "note ✓", ["System.Management.Automation.HostInformationMessage"]
    message.adapted_properties = {"Message": "note ✓", "ForegroundColor": "Red"}
    assert line_of(message) == "note ✓"


def test_numbers_are_as_wide_as_they_are() -> None:
    assert (typed(0.1).tag, typed(2**31).tag, typed(7), typed([True])) == ("Db", "I64", 7, [True])


@pytest.mark.parametrize("value", [2**63, "a\ufffeb", {"\uffff": 1}])
def test_what_psrp_cannot_carry_is_refused(connect: Connect, peer: Peer, output: Collecting, value: Any) -> None:
    with pytest.raises(UsageError):
        output(connect(peer), Body("Do-It", "ps1", {"value": value}))
    assert not peer.service.requests


def test_an_endless_answer_is_cut_off(
    connect: Connect, peer: Peer, output: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wsman_http, "MAX_ANSWER", 100_000)
    peer.handle("Do-It", lambda call: call.output("x" * 300_000))
    with pytest.raises(AnswerLost, match="100000 bytes"):
        output(connect(peer), Body("Do-It", "ps1"))
