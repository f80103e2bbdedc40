"""WinRM's own ways: powershell.exe by a constant command line, its two streams, a host without PowerShell."""

from __future__ import annotations

from pathlib import Path

import pytest
from transport_help import Collecting
from wsman_help import PASSWORD, USER, Connect, connect, peer
from wsman_peer import Call, Peer

from agent.errors import CannotConnect, CannotRun, UsageError
from agent.transports.base import Body
from agent.transports.binding import POWERSHELL_ARGUMENTS, powershell_prelude

__all__ = ["connect", "peer"]


@pytest.fixture
def kind() -> str:
    return "winrm"


def test_the_command_line_is_constant(connect: Connect, peer: Peer, output: Collecting) -> None:
    peer.handle("", lambda call: call.output("x"))
    for script, value in (("Do-It", "a"), ("Do-That", '"; calc.exe')):
        output(connect(peer), Body(script, "ps1", {"value": value}, {"key": "secret"}, tag="run-1"))
    line = " ".join(("powershell", *POWERSHELL_ARGUMENTS, powershell_prelude()))
    assert peer.service.command_lines == [line, line]


def test_the_command_line_fits_into_cmd() -> None:
    """cmd.exe takes 8191 characters."""
    assert len(" ".join(("powershell", *POWERSHELL_ARGUMENTS, powershell_prelude()))) < 8000


def test_streams_are_kept_apart(connect: Connect, peer: Peer, output: Collecting) -> None:
    def talk(call: Call) -> None:
        call.output("out ✓")
        call.error("err ✓")
        call.warning("careful")
        call.progress("43 %")
        call.output("end")

    peer.handle("Do-It", talk)
    collected = output(connect(peer), Body("Do-It", "ps1"))
    assert collected.stdout.splitlines() == ["out ✓", "WARNING: careful", "end"]
    assert collected.stderr.splitlines() == ["err ✓"]


@pytest.mark.parametrize("nth", [1, 2])
def test_a_body_that_was_not_handed_over_whole_did_not_start(
    connect: Connect, peer: Peer, output: Collecting, nth: int
) -> None:
    """Its input takes several messages; only the last one lets it start."""
    peer.handle("Do-It", lambda call: call.output("x"))
    peer.inject("reset_after", "Send" if nth == 2 else "Command", nth=nth if nth == 2 else 1)
    with pytest.raises(CannotConnect):
        output(connect(peer), Body("Do-It #" + "x" * 200_000, "ps1"))
    assert peer.faults.fired and not peer.service.handlers.calls


def test_a_host_without_powershell(connect: Connect, output: Collecting, tmp_path: Path) -> None:
    with Peer({USER: PASSWORD}, tmp_path / "accounts2", has_powershell=False) as peer:
        transport = connect(peer, powershell="no-such-powershell")
        with pytest.raises(CannotRun, match="exit code 127"):
            output(transport, Body("Do-It", "ps1"))
        assert "not found" in output.last.stderr
        assert not peer.shells


def test_an_empty_success_is_not_a_success(connect: Connect, output: Collecting, tmp_path: Path) -> None:
    """A program of that name that does nothing and says 0, as some stubs do."""
    with Peer({USER: PASSWORD}, tmp_path / "accounts2", has_powershell=False) as peer:
        with pytest.raises(CannotRun, match="exit code 0"):
            output(connect(peer, powershell="true"), Body("Do-It", "ps1"))
        assert not peer.shells


def test_a_program_that_reads_nothing_hands_over_its_output(
    connect: Connect, output: Collecting, tmp_path: Path
) -> None:
    """A program that ends before it has read what it was sent: what it says is kept."""
    with Peer({USER: PASSWORD}, tmp_path / "accounts2", has_powershell=False) as peer:
        with pytest.raises(CannotRun):
            output(connect(peer, powershell="echo"), Body("Do-It", "ps1", {"long": "x" * 500_000}))
        assert output.last.stdout.startswith("-NoLogo")


def test_a_body_that_cannot_be_bound(connect: Connect, peer: Peer, output: Collecting) -> None:
    with pytest.raises(UsageError):
        output(connect(peer), Body("Do-It", "ps1", {"a": object()}))
    assert not peer.service.requests
