"""A certificate for the vendors' test systems, and a way to start two of one kind: Contoso's and Fabrikam's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest
from certificates import self_signed
from cryptography.hazmat.primitives.asymmetric import ec
from vendor_peer import VendorPeer, running

from agent.installation import Installation
from agent.services.rest import waiting
from agent.settings import Settings

pytest.register_assert_rewrite("vendor_matrix")

V = TypeVar("V", bound=VendorPeer)
#: Starts the peers of Contoso and Fabrikam from a class; both stop at the end of the test.
StartTwo = Callable[[type[V]], tuple[V, V]]


@pytest.fixture(scope="session")
def vendor_certificate(tmp_path_factory: pytest.TempPathFactory, keys_read_once: None) -> Path:
    """PEM with a certificate for 127.0.0.1 that signs itself, and its key."""
    file = tmp_path_factory.mktemp("vendors") / "server.pem"
    file.write_text(self_signed(ec.generate_private_key(ec.SECP256R1())), encoding="ascii")
    return file


@pytest.fixture
def start_two(vendor_certificate: Path) -> Iterator[StartTwo[VendorPeer]]:
    """At the end: no request and no answer broke the vendor's contract."""
    started: list[VendorPeer] = []
    with ExitStack() as stack:

        def start(kind: type[VendorPeer]) -> tuple[VendorPeer, VendorPeer]:
            if kind.contract is not None:
                kind.contract.require()
            for name in ("contoso", "fabrikam"):
                started.append(kind(name))
                stack.enter_context(running(started[-1], vendor_certificate))
            return started[-2], started[-1]

        yield start
    assert [v for peer in started for v in peer.violations] == []


@pytest.fixture(scope="session")
def any_workspace(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """An installation that the functions are handed and never ask."""
    return Installation(Settings(workspace=tmp_path_factory.mktemp("workspace")))


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited for between attempts; nothing is waited for in truth."""
    found: list[float] = []
    monkeypatch.setattr(waiting, "pause", found.append)
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each case of a matrix is a test of its own."""
    cases = getattr(metafunc.cls, "cases", None)
    if "case" in metafunc.fixturenames and cases is not None:
        name = metafunc.function.__name__
        if name == "test_not_found":
            cases = [c for c in cases if c.finds]
        elif name == "test_nobody_answers_from_the_beginning":
            cases = [c for c in cases if c.finds or c.tells]
        metafunc.parametrize("case", cases, ids=[c.id or c.function for c in cases])
