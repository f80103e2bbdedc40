"""A connection that ends at every single message of a conversation: what is said afterwards is what is true."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from cutting_proxy import CuttingProxy, cutting_proxy

from agent.errors import AccessDenied, AnswerLost, CannotConnect, TransportError
from agent.functions.base import Outcome
from agent.model.runs import StepState
from agent.services.directory.ldap import LdapDirectory
from agent.services.directory.port import Change
from agent.services.directory.settings import directory_settings

if TYPE_CHECKING:
    from conftest import DirectoryContext, Domain

    Make = Callable[..., DirectoryContext]

LEAVERS = "OU=Leavers,OU=Contoso,DC=corp,DC=example,DC=test"


@pytest.fixture(scope="module")
def proxy(domain: Domain) -> Iterator[CuttingProxy]:
    with cutting_proxy(domain.controller.address, 636) as found:
        yield found


def attempt(context: DirectoryContext, name: str, asked: dict[str, Any]) -> Outcome | TransportError:
    try:
        return context.call(name, **asked)
    except TransportError as error:
        return error


CASES = {
    "ad.disable_account": ({}, lambda domain, user, group: user.disabled),
    "ad.reset_password": ({}, None),
    "ad.remove_from_groups": ({}, lambda domain, user, group: user.dn not in domain.members(group)),
    "ad.move_to_ou": ({"ou": LEAVERS}, lambda domain, user, group: user.dn.endswith(LEAVERS)),
}


@pytest.mark.parametrize(
    ("name", "for_good"),
    [
        ("ad.disable_account", False), ("ad.remove_from_groups", False),
        ("ad.reset_password", True), ("ad.move_to_ou", True),
    ],
)  # fmt: skip
def test_the_outcome_is_true_wherever_the_connection_ends(
    name: str, for_good: bool, context: Make, domain: Domain, proxy: CuttingProxy
) -> None:
    more, truth = CASES[name]
    reached = f"127.0.0.1:{proxy.port}"
    messages, kinds, number = 1, set(), 0
    # One message less each time, until none was left to cut after.
    while number < messages:
        number += 1
        user = domain.user(f"Fault {number}")
        group = domain.group(f"Fault group {user.sam}", user.dn)
        set_before = user["pwdLastSet"]
        made = context(controllers=[reached])
        asked = {"account": user.guid, **more}
        proxy.arm(number, for_good=for_good)
        outcome = attempt(made, name, asked)
        if not proxy.fired:
            break
        messages = max(messages, number + 1)
        done = user["pwdLastSet"] != set_before if truth is None else truth(domain, user, group)
        kinds.add(check(outcome, done, number))
        proxy.arm(None)
        # Whoever asks afterwards is told what is so, and a second run brings it about.
        assert made.verify(name, **asked) in ((done,) if truth or done else (False, None)), number
        assert made.call(name, **asked).state == StepState.SUCCEEDED
    assert number > 4, "the conversation has more messages than that"
    assert "succeeded" in kinds if not for_good else {"nothing", "unknown"} <= kinds, kinds


def check(outcome: Outcome | TransportError, done: bool, number: int) -> str:
    """What is claimed must be so. Returns the kind of the claim."""
    if isinstance(outcome, CannotConnect):
        assert not done, f"message {number}: it was carried out, and is called not sent"
        return "nothing"
    if isinstance(outcome, AnswerLost):
        assert outcome.typed is not None and outcome.typed.code == "answer_lost"
        return "unknown"
    assert isinstance(outcome, Outcome), outcome
    if outcome.state == StepState.UNKNOWN:
        return "unknown"
    assert (outcome.state == StepState.SUCCEEDED) is done, f"message {number}: {outcome}"
    return str(outcome.state)


def test_a_controller_that_hangs_is_given_up_in_time(domain: Domain, proxy: CuttingProxy, context: Make) -> None:
    user = domain.user("Hang")
    made = context(controllers=[f"127.0.0.1:{proxy.port}"], answer_seconds=1)
    proxy.arm(1, hang=True, for_good=True)
    with pytest.raises(CannotConnect) as hung:
        made.call("ad.disable_account", account=user.mail)
    assert hung.value.typed is not None and hung.value.typed.critical and not user.disabled
    proxy.arm(None)


def test_after_a_change_no_other_controller_is_believed(domain: Domain, proxy: CuttingProxy, context: Make) -> None:
    user = domain.user("Two controllers")
    both = [f"127.0.0.1:{proxy.port}", domain.controller.address]
    settings, secrets = domain.credential(controllers=both)
    directory = LdapDirectory(directory_settings(settings), secrets["password"])
    proxy.arm(None)
    assert directory.controller == both[0]
    proxy.arm(1, for_good=True)
    with pytest.raises(AnswerLost):
        directory.modify(user.dn, [Change("replace", "description", ("x",))])
    with pytest.raises(AnswerLost):
        directory.read(user.dn, ("description",))
    directory.close()
    # A verification starts over; the other controller's "no" is no proof, its "yes" is.
    made = context(controllers=both)
    made.states["ad_controller"] = both[0]
    assert made.verify("ad.disable_account", account=user.mail) is None
    domain.modify(user.dn, userAccountControl="514")
    assert made.verify("ad.disable_account", account=user.mail) is True
    proxy.arm(None)


def test_a_sign_in_that_is_refused_after_a_change_leaves_it_unknown(domain: Domain) -> None:
    user = domain.user("Locked out")
    settings, secrets = domain.credential()
    directory = LdapDirectory(directory_settings(settings), secrets["password"])
    directory.modify(user.dn, [Change("replace", "description", ("x",))])
    directory.close()
    directory._password = "Wrong.Secret.Pw1"
    with pytest.raises(AnswerLost):
        directory.read(user.dn, ("description",))
    directory.close()
    fresh = LdapDirectory(directory_settings(settings), "Wrong.Secret.Pw1")
    with pytest.raises(AccessDenied):
        fresh.read(user.dn, ("description",))
    fresh.close()
