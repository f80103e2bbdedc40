"""A WS-Man server for tests: WinRM's cmd shells and PowerShell remoting, with faults on demand.

    with Peer({"CORP\\\\agent": "password"}, tmp_path / "accounts", tls=context) as peer:
        peer.handle("Remove-Thing", lambda call: call.output(f"removed {call.parameters['name']}"))
        peer.inject("reset_after", "Command")
        ...
        assert peer.faults.fired == [("reset_after", "Command")]
        assert not peer.shells

What is not ours: PSRP is psrpcore's server side, authentication and message encryption are pyspnego's. Ours is the
WS-Man envelope [MS-WSMV], with the unmodified clients pywinrm and pypsrp against it.

A script body is emulated by a handler (`handlers.Call` says what it can do): **there is no PowerShell here**, so a test
with this peer says how a body's values, streams and end travel, and nothing about what a `.ps1` file does. Once there are
`service.handlers.cmdlets`, those are all that runs, as with a constrained session configuration. cmd shells run /bin/sh.
Missing: Connect from a second client, limits other than the number of shells and the size of an answer, checks of
`mustUnderstand`.
"""

from __future__ import annotations

from wsman_peer.faults import Fault
from wsman_peer.handlers import Call
from wsman_peer.server import Peer

__all__ = ["Call", "Fault", "Peer"]
