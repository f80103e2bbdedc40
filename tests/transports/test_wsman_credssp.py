"""CredSSP: WinRM and PSRP hand the password over to the host through TLS of its own; against pyspnego's acceptor."""

from __future__ import annotations

from pathlib import Path

import pytest
from peers import require_extra
from transport_help import Collecting
from wsman_help import PASSWORD, USER, Certificates, Connect, certificates, connect, kind
from wsman_peer import Peer

from agent.errors import AccessDenied
from agent.transports.base import Body

__all__ = ["certificates", "connect", "kind"]


@pytest.fixture(autouse=True)
def extra() -> None:
    require_extra("credssp", "requests_credssp")


BIG = "x" * 60_000


@pytest.mark.parametrize("tls", [False, True])
def test_a_body_runs(
    connect: Connect, certificates: Certificates, tmp_path: Path, output: Collecting, tls: bool
) -> None:
    options = {"tls": True, "ca_file": str(certificates.ca_file)} if tls else {}
    context = certificates.server_context() if tls else None
    with Peer({USER: PASSWORD}, tmp_path / "accounts2", ways=("credssp",), tls=context) as peer:
        peer.handle("Do-It", lambda call: call.output(call.parameters["big"]))
        transport = connect(peer, auth="credssp", **options)
        collected = output(transport, Body("Do-It", "ps1", {"big": BIG}))
        assert (collected.code, collected.stdout.strip()) == (0, BIG)
        peer.inject("reset_after", "Receive", nth=2)
        assert output(transport, Body("Do-It", "ps1", {"big": "small"})).stdout.strip() == "small"
        made = {(s.user, s.way, s.by, s.delegated) for s in peer.sign_ins}
        assert made == {(USER, "credssp", "ntlm", ("agent", PASSWORD))}
        # Messages above 16 KiB go in parts; over HTTPS none is encrypted a second time.
        assert (peer.most_parts > 3) is not tls
        assert not peer.shells


def test_a_wrong_password_is_refused(connect: Connect, tmp_path: Path, output: Collecting) -> None:
    with Peer({USER: PASSWORD}, tmp_path / "accounts2", ways=("credssp",)) as peer:
        with pytest.raises(AccessDenied, match="check the username and the password") as refused:
            output(connect(peer, auth="credssp", password="wrong-word"), Body("Do-It", "ps1"))
        assert refused.value.permanent and "wrong-word" not in str(refused.value)
        assert not peer.sign_ins and not peer.service.requests


def test_a_host_that_does_not_offer_it(connect: Connect, tmp_path: Path, output: Collecting) -> None:
    with Peer({USER: PASSWORD}, tmp_path / "accounts2", ways=("ntlm",)) as peer:
        with pytest.raises(AccessDenied, match=r"(?i)credssp"):
            output(connect(peer, auth="credssp"), Body("Do-It", "ps1"))
        assert not peer.sign_ins


def test_an_old_host_gets_no_password(
    connect: Connect, tmp_path: Path, output: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions below 5 are open to CVE-2018-0886: who relays the exchange gets the session."""
    monkeypatch.setattr("spnego._credssp._CREDSSP_VERSION", 4)
    with Peer({USER: PASSWORD}, tmp_path / "accounts2", ways=("credssp",)) as peer:
        with pytest.raises(AccessDenied, match="protocol version was 4"):
            output(connect(peer, auth="credssp"), Body("Do-It", "ps1"))
        assert not peer.sign_ins
