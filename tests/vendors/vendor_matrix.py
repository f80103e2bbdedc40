"""What is asked of every function of every vendor: the state there, the outcome and its type, and the second run, under each
fault. A test file makes a class of `FaultMatrix` with its peer and its cases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from contact_context import ContactContext
from vendor_peer import VendorPeer

from agent.functions import registry
from agent.functions.base import Outcome
from agent.installation import Installation


@dataclass(frozen=True)
class Case:
    """One function."""

    function: str
    #: Pattern of the calls that change something.
    writes: str
    #: Whether the vendor's account is as it must be.
    done: Callable[[Any], bool]
    values: Mapping[str, Any] = field(default_factory=dict)
    #: What must be so before.
    before: Callable[[Any], object] = lambda peer: None
    #: The second run changes something although it is done.
    writes_again: bool = False
    #: The system can be asked whether it is done. False: a lost answer stays unknown.
    tells: bool = True
    #: There is a person whose account must be found; without one only what tells asks before it acts.
    finds: bool = True
    #: More of the same name.
    id: str = ""


class FaultMatrix:
    """Subclasses set `peer`, `cases`, and give settings and secrets of a credential."""

    peer: ClassVar[type[VendorPeer]]
    cases: ClassVar[list[Case]]
    #: Kind of the credential; the functions begin with it.
    kind: ClassVar[str]

    def __init_subclass__(cls) -> None:
        # Where no function looks for a person there is nobody who could be missing. A class without cases is a base.
        cases = getattr(cls, "cases", None)
        if cases is not None and not any(case.finds for case in cases):
            cls.test_not_found = None  # type: ignore[assignment]

    def credential(self, peer: Any) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        """Settings and secrets for a peer."""
        raise NotImplementedError

    #: The leaver as the steps name them, and nobody.
    leaver: ClassVar[str] = "alex@contoso.test"
    nobody: ClassVar[str] = "nobody@contoso.test"

    @pytest.fixture(autouse=True)
    def _two_customers(self, start_two: Any, any_workspace: Installation) -> Iterator[None]:
        """Whatever happens at Contoso: nobody asks anything of Fabrikam."""
        self.contoso, self.fabrikam = start_two(self.peer)
        self.context = ContactContext(any_workspace, {self.kind: self.credential(self.contoso)})
        before = self.fabrikam.snapshot()
        yield
        assert self.fabrikam.requests == [] and self.fabrikam.snapshot() == before

    def values(self, case: Case, **more: Any) -> dict[str, Any]:
        """The parameters of a step."""
        return {**({"user": self.leaver} if case.finds else {}), **case.values, **more}

    def run(self, case: Case, **more: Any) -> Outcome:
        """One attempt."""
        outcome = self.context.run(case.function, **self.values(case, **more))
        for secret in self.context.credentials[self.kind][1].values():
            assert secret not in repr(outcome) and secret not in str(outcome.error)
        return outcome

    def is_done(self, case: Case) -> bool | None:
        """What the function says of the state."""
        return self.context.verify(case.function, **self.values(case))

    def failed(self, outcome: Outcome, kind: str) -> None:
        """It failed with that type, and says what that means and what to do."""
        assert (outcome.state, outcome.error and outcome.error.type) == ("failed", kind), outcome
        assert outcome.error is not None and outcome.error.impact and outcome.error.remediation

    def test_every_function_is_here(self) -> None:
        assert {c.function for c in self.cases} == {n for n in registry.names() if n.startswith(f"{self.kind}.")}

    def test_every_function_is_described(self) -> None:
        for name in {c.function for c in self.cases}:
            function = registry.get(name)
            case = next(c for c in self.cases if c.function == name)
            assert function.rights and function.system and function.summary
            shown = function.preview(function.Parameters.model_validate(self.values(case)))
            assert shown and "\n" not in shown

    def test_it_works_and_a_second_run_changes_nothing(self, case: Case) -> None:
        case.before(self.contoso)
        assert self.is_done(case) is (False if case.tells else None)
        outcome = self.run(case)
        assert outcome.state == "succeeded", outcome
        assert case.done(self.contoso)
        assert self.is_done(case) is (True if case.tells else None)
        after = self.contoso.snapshot()
        self.contoso.calls.clear()
        again = self.run(case)
        assert again.state == "succeeded", again
        assert case.done(self.contoso)
        if not case.writes_again:
            assert [c for c in self.contoso.calls if re.search(case.writes, c)] == []
            assert self.contoso.snapshot() == after

    def test_not_found(self, case: Case) -> None:
        case.before(self.contoso)
        before = self.contoso.snapshot()
        self.failed(self.run(case, user=self.nobody), "ACCOUNT_NOT_FOUND")
        assert self.contoso.snapshot() == before

    def test_forbidden(self, case: Case) -> None:
        case.before(self.contoso)
        before = self.contoso.snapshot()
        self.contoso.fault(case.writes, 403)
        self.failed(self.run(case), "PERMISSION_DENIED")
        assert self.contoso.snapshot() == before
        self.contoso.faults.clear()
        assert self.run(case).state == "succeeded"
        assert case.done(self.contoso)

    def test_throttled(self, case: Case, waits: list[float]) -> None:
        """A throttled call is repeated after the time that the service asked for, and nothing is lost or done twice."""
        case.before(self.contoso)
        fault = self.contoso.fault(case.writes, 429, 2, retry_after=7)
        outcome = self.run(case)
        assert outcome.state == "succeeded", outcome
        assert case.done(self.contoso)
        assert fault.used == 2
        assert waits[0] >= 7

    @pytest.mark.parametrize("fault", [500, "drop"])
    def test_broken_down_before_the_change(self, case: Case, fault: Any) -> None:
        """Nothing was done, and asking says so: a failure; where nothing can be asked, not known. The next run does it."""
        case.before(self.contoso)
        before = self.contoso.snapshot()
        self.contoso.fault(case.writes, fault)
        outcome = self.run(case)
        if case.tells:
            self.failed(outcome, "INTEGRATION_ERROR")
        else:
            assert outcome.state == "unknown", outcome
        assert self.contoso.snapshot() == before
        self.contoso.faults.clear()
        outcome = self.run(case)
        assert outcome.state == "succeeded", outcome
        assert case.done(self.contoso)

    def test_the_answer_is_lost_after_the_change(self, case: Case) -> None:
        """It was done and the answer did not come, every time: asking tells. Never twice."""
        case.before(self.contoso)
        self.contoso.fault(case.writes, "lose")
        outcome = self.run(case)
        self.contoso.faults.clear()
        if not case.tells:
            assert outcome.state == "unknown", outcome
        elif not case.done(self.contoso):
            # The first of several is done; what has to come after it is not reached in one attempt.
            outcome = self.run(case)
        assert outcome.state == ("succeeded" if case.tells else "unknown"), outcome
        assert case.done(self.contoso)

    @pytest.mark.parametrize("fault", [500, "drop"])
    def test_nobody_answers_afterwards(self, case: Case, fault: Any) -> None:
        """It was sent, and from then on nothing answers: the outcome is unknown, never a success or a failure."""
        case.before(self.contoso)
        self.contoso.fault(case.writes, fault, for_good=True)
        outcome = self.run(case)
        assert outcome.state == "unknown", outcome
        assert outcome.error is not None and outcome.error.type == "INTEGRATION_ERROR"

    @pytest.mark.parametrize("fault", [500, "drop"])
    def test_nobody_answers_from_the_beginning(self, case: Case, fault: Any) -> None:
        """Only questions were sent: nothing can have been done, so that is a failure and no unknown outcome."""
        case.before(self.contoso)
        before = self.contoso.snapshot()
        self.contoso.fault("", fault)
        self.failed(self.run(case), "INTEGRATION_ERROR")
        assert self.contoso.snapshot() == before

    def test_a_time_out(self) -> None:
        """A service that is silent for too long is asked again, and then it is a failure."""
        case = self.cases[0]
        case.before(self.contoso)
        settings, secrets = self.credential(self.contoso)
        self.context.credentials[self.kind] = ({**settings, "answer_seconds": 1.5}, secrets)
        self.contoso.fault("GET", "hang", 1)
        assert self.run(case).state == "succeeded"
        assert case.done(self.contoso)

    def test_no_credential_and_a_wrong_one(self) -> None:
        case = self.cases[0]
        settings, secrets = self.context.credentials.pop(self.kind)
        self.context.credentials["x"] = ({}, {})
        function = registry.get(case.function)
        with pytest.raises(Exception, match="there is no credential of the kind") as raised:
            function.do(self.context, function.Parameters.model_validate(self.values(case)))  # type: ignore[arg-type]
        assert raised.value.type == "PERMISSION_DENIED"  # type: ignore[attr-defined]
        for wrong in ({**settings, "colour": "blue"}, {**settings, "url": "http://127.0.0.1"}):
            self.context.credentials[self.kind] = (wrong, secrets)
            self.failed(self.run(case), "PERMISSION_DENIED")
        self.context.credentials[self.kind] = (settings, {})
        self.failed(self.run(case), "PERMISSION_DENIED")
        assert self.contoso.requests == []
