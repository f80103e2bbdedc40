"""Slack's functions against a workspace that is held to Slack's own contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from slack_peer import GENERAL, SlackPeer
from vendor_matrix import Case, FaultMatrix

from agent.errors import StepError
from agent.functions import registry
from agent.functions.systems.slack import SYSTEM

ALEX, MIA = "U0ALEX001", "U0MIA0001"


def _in(slack: SlackPeer, user: str) -> int:
    return sum(user in people for _, people in slack.state["channels"].values())


CASES = [
    Case("slack.reset_sessions", "session.reset", lambda s: s.state["users"][ALEX]["sessions"] == 0, writes_again=True, tells=False),
    Case("slack.remove_from_channels", "kick", lambda s: (_in(s, ALEX), _in(s, MIA)) == (1, 2)),
    Case(
        "slack.remove_from_workspace", "admin.users.remove",
        lambda s: [u["deleted"] for u in s.state["users"].values()] == [True, False],
    ),
]  # fmt: skip


class TestSlack(FaultMatrix):
    """The matrix."""

    peer, cases, kind = SlackPeer, CASES, "slack"
    contoso: SlackPeer

    def credential(self, peer: Any) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        return peer.settings(), {"token": peer.token}

    def test_the_credential_is_tested(self) -> None:
        assert SYSTEM.test(*self.credential(self.contoso)) == "signed in as admin in the workspace contoso (T00000001)"
        with pytest.raises(StepError, match="invalid_auth") as raised:
            SYSTEM.test(self.contoso.settings(), {"token": "wrong"})
        assert raised.value.type == "PERMISSION_DENIED" and "wrong" not in str(raised.value)

    def test_a_refusal_with_status_200_is_no_success(self) -> None:
        self.contoso.error = lambda status, code, message: {"ok": False, "error": "cannot_modify_user"}  # type: ignore[method-assign]
        self.contoso.fault("session.reset", 200)
        self.failed(self.run(CASES[0]), "PERMISSION_DENIED")

    def test_what_is_busy_is_tried_again(self, waits: list[float]) -> None:
        self.contoso.error = lambda status, code, message: {"ok": False, "error": "ratelimited"}  # type: ignore[method-assign]
        self.contoso.fault("admin.users.remove", 200, 2, retry_after=3)
        assert self.run(CASES[2]).state == "succeeded"
        assert len(waits) == 2 and min(waits) >= 3

    def test_the_channel_of_everybody_stays(self) -> None:
        channels = {c["id"]: c["outcome"] for c in self.run(CASES[1]).result["channels"]}
        assert channels.pop(GENERAL) == "kept" and set(channels.values()) == {"removed"}

    def test_who_is_deactivated_already_is_done_with(self) -> None:
        self.contoso.state["users"][ALEX]["deleted"] = True
        outcome = self.run(CASES[2], user=ALEX)
        assert outcome.result["outcome"] == "already" and self.contoso.written() == []
        # By the address Slack finds nobody who is deactivated, so nothing can be told.
        self.failed(self.run(CASES[2]), "ACCOUNT_NOT_FOUND")

    def test_the_workspace_of_the_credential_counts(self) -> None:
        self.context.credentials["slack"] = (self.contoso.settings(team_id="T00000001"), {"token": self.contoso.token})
        assert self.run(CASES[2]).state == "succeeded"
        assert "GET /auth.test" not in self.contoso.calls

    def test_nothing_is_held_by_retention(self) -> None:
        assert not any(registry.get(c.function).deletes_account for c in CASES)
