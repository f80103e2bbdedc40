"""Faults at every single message of a conversation over PSRP: what is said afterwards is what is true."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from test_ad_faults import CASES, attempt, check

from agent.errors import AnswerLost, CannotConnect, TransportError
from agent.model.runs import StepState
from agent.services.directory.connecting import connect
from agent.services.directory.port import Change
from agent.services.directory.settings import directory_settings
from agent.transports import psrp_host

if TYPE_CHECKING:
    from conftest import DirectoryContext, Domain, Remoting

    Make = Callable[..., DirectoryContext]

pytestmark = pytest.mark.usefixtures("on_way")
FOR_GOOD = 10**6
#: More messages than the longest conversation has.
MANY = 200


@pytest.fixture
def way() -> str:
    return "psrp"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psrp_host, "BACKOFF", 0.001)


#: Function, fault, how often it comes, and the kinds of claims that must have been seen.
MATRIX: list[tuple[str, dict[str, Any], int, set[str]]] = [
    ("ad.disable_account", {"kind": "reset_before"}, 1, {"succeeded"}),
    ("ad.disable_account", {"kind": "reset_after", "operation": "Command"}, 1, {"succeeded"}),
    ("ad.disable_account", {"kind": "status", "code": 500, "operation": "Command"}, FOR_GOOD, {"nothing", "unknown"}),
    ("ad.disable_account", {"kind": "status", "code": 401, "operation": "Command"}, 1, {"succeeded"}),
    ("ad.remove_from_groups", {"kind": "reset_after", "operation": "Command"}, FOR_GOOD, {"nothing", "unknown"}),
    ("ad.reset_password", {"kind": "cut", "operation": "Receive"}, 1, {"succeeded"}),
    ("ad.reset_password", {"kind": "reset_before", "operation": "Send"}, 1, {"succeeded"}),
    ("ad.move_to_ou", {"kind": "status", "code": 503, "operation": "Command"}, FOR_GOOD, {"nothing", "unknown"}),
    ("ad.move_to_ou", {"kind": "html", "operation": "Receive"}, 1, {"succeeded"}),
]


@pytest.mark.parametrize(
    ("name", "fault", "times", "wanted"), MATRIX, ids=[f"{m[0]}-{m[1]['kind']}-{n}" for n, m in enumerate(MATRIX)]
)
def test_the_outcome_is_true_wherever_the_conversation_breaks(
    name: str, fault: dict[str, Any], times: int, wanted: set[str], context: Make, domain: Domain, remoting: Remoting
) -> None:
    more, truth = CASES[name]
    faults, kinds = remoting.peer.faults, set()
    for number in range(1, MANY):
        user = domain.user(f"Fault {number}")
        group = domain.group(f"Fault group {user.sam}", user.dn)
        set_before = user["pwdLastSet"]
        made, asked = context(connect_seconds=60, answer_seconds=60), {"account": user.guid, **more}
        faults.fired.clear()
        remoting.peer.inject(**fault, nth=number, times=times)
        outcome = attempt(made, name, asked)
        faults._waiting.clear()
        if not faults.fired:
            break
        done = user["pwdLastSet"] != set_before if truth is None else truth(domain, user, group)
        kinds.add(check(outcome, done, number))
        if number % 3 != 1:
            continue
        # Whoever asks afterwards is told what is so, and a second run brings it about.
        assert made.verify(name, **asked) in ((done,) if truth or done else (False, None)), number
        assert made.call(name, **asked).state == StepState.SUCCEEDED
    assert 1 < number < MANY, "the fault never came, or never stopped coming"
    assert wanted <= kinds, kinds


def test_a_host_that_hangs_is_given_up_in_time(domain: Domain, remoting: Remoting, context: Make) -> None:
    """The cmdlet itself hangs; the shell with it is ended."""
    user, before = domain.user("Hang"), set(remoting.peer.shells)
    cmdlets = remoting.peer.service.handlers.cmdlets
    real = cmdlets["Get-ADObject"]
    cmdlets["Get-ADObject"] = lambda call: call.wait() or None
    try:
        with pytest.raises(CannotConnect) as hung:
            context(answer_seconds=5).call("ad.disable_account", account=user.mail)
    finally:
        cmdlets["Get-ADObject"] = real
    assert hung.value.typed is not None and hung.value.typed.critical and not user.disabled
    assert set(remoting.peer.shells) == before


def test_after_a_change_no_other_host_is_believed(domain: Domain, remoting: Remoting, context: Make) -> None:
    user = domain.user("Two hosts")
    settings, secrets = domain.credential()
    one = settings["controllers"][0]
    both = [one.replace("127.0.0.1", "localhost"), one]
    directory = connect(directory_settings({**settings, "controllers": both, "verify": False}), secrets["password"])
    assert directory.controller == both[0]
    remoting.peer.inject("reset_after", times=FOR_GOOD)
    for ask in (
        lambda: directory.modify(user.dn, [Change("replace", "description", ("x",))]),
        lambda: directory.read(user.dn, ("description",)),
    ):
        with pytest.raises(AnswerLost):
            ask()
    remoting.peer.faults._waiting.clear()
    directory.close()
    assert user["description"] == b"x"


def test_a_change_whose_answer_was_lost_is_not_sent_again(domain: Domain, remoting: Remoting) -> None:
    user = domain.user("Once")
    settings, secrets = domain.credential()
    for fault in ({"kind": "reset_after", "operation": "Command"}, {"kind": "html", "operation": "Receive"}):
        directory = connect(directory_settings(settings), secrets["password"])
        assert directory.read(user.dn, ("cn",)) is not None
        count = len(remoting.module.ran)
        remoting.peer.inject(**fault)
        with pytest.raises(AnswerLost):
            directory.modify(user.dn, [Change("replace", "description", (str(count),))])
        assert directory.read(user.dn, ("cn",)) is not None, "the conversation goes on"
        directory.close()
        assert [name for name, _ in remoting.module.ran[count:]].count("Set-ADObject") == 1


def test_what_was_never_sent_is_called_so(domain: Domain, remoting: Remoting) -> None:
    """A shell that the host has ended meanwhile: the change goes to a new one, once."""
    user = domain.user("Idle")
    settings, secrets = domain.credential()
    directory = connect(directory_settings(settings), secrets["password"])
    assert directory.read(user.dn, ("cn",)) is not None
    for shell in list(remoting.peer.shells.values()):
        remoting.peer.shells.pop(shell.id)
        shell.close()
    count = len(remoting.module.ran)
    directory.modify(user.dn, [Change("replace", "description", ("x",))])
    directory.close()
    assert user["description"] == b"x"
    assert [name for name, _ in remoting.module.ran[count:]] == ["Set-ADObject"]


def test_a_sign_in_that_is_refused_after_a_change_leaves_it_unknown(domain: Domain, remoting: Remoting) -> None:
    user = domain.user("Locked out")
    settings, secrets = domain.credential(psrp_auth="basic")
    directory = connect(directory_settings(settings), secrets["password"])
    directory.modify(user.dn, [Change("replace", "description", ("x",))])
    remoting.peer.inject("status", code=401, times=FOR_GOOD)
    with pytest.raises(TransportError) as lost:
        directory.read(user.dn, ("description",))
    remoting.peer.faults._waiting.clear()
    directory.close()
    assert isinstance(lost.value, AnswerLost), "what was changed before is not called undone"
