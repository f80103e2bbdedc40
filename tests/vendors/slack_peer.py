"""A Slack workspace: users in channels, with sessions.

Left out: other workspaces of the organisation, direct messages, and every property that no function reads. An error comes
with status 200, which the contract calls the default answer: it is held to that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vendor_contract import Contract
from vendor_peer import Answer, Asked, Refusal, VendorPeer, route

GENERAL, SALES, SECRET = "C00000001", "C00000002", "G00000003"


class SlackPeer(VendorPeer):
    """The leaver `alex` (U0ALEX001) and the manager `mia`."""

    contract = Contract("slack-offboarding.openapi.yaml", "https://slack.com", "/api", old_sign_in=True)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.token = f"xoxp-{name}"
        people = {"U0ALEX001": "alex", "U0MIA0001": "mia"}
        self.state = {
            "users": {
                key: {"mail": f"{short}@{name}.test", "deleted": False, "sessions": 2} for key, short in people.items()
            },
            "channels": {
                GENERAL: ("general", list(people)), SALES: ('sales "west"', list(people)), SECRET: ("secret", ["U0ALEX001"]),
            },
        }  # fmt: skip

    def settings(self, **more: Any) -> dict[str, Any]:
        """The settings of a credential for it."""
        return {"url": self.url, "ca_file": self.ca_file, "answer_seconds": 60, "call_seconds": 60, **more}

    def allowed(self, asked: Asked) -> bool:
        return asked.headers.get("Authorization") == f"Bearer {self.token}"

    def error(self, status: int, code: str, message: str) -> Any:
        codes = {403: "missing_scope", 401: "invalid_auth"}
        return {"ok": False, "error": codes.get(status) or code or "request_timeout"}

    def _acted(self, asked: Asked) -> Answer:
        answer = super()._acted(asked)
        return answer if answer.status == 200 else replace(answer, status=200)

    def _check(self, asked: Asked, answer: Answer, *, injected: bool) -> None:
        refused = isinstance(answer.body, dict) and answer.body.get("ok") is False
        super()._check(asked, replace(answer, status=400) if refused else answer, injected=injected)

    def _user(self, key: str) -> dict[str, Any]:
        if key not in self.state["users"]:
            raise Refusal(404, "user_not_found")
        found: dict[str, Any] = self.state["users"][key]
        return found

    def _shown(self, key: str) -> Any:
        user = self.state["users"][key]
        shown = {
            "id": key,
            "name": user["mail"].split("@")[0],
            "deleted": user["deleted"],
            "profile": {"email": user["mail"]},
        }
        return {"ok": True, "user": shown}

    @route("GET", "/auth.test")
    def who(self, asked: Asked) -> Any:
        team = {"team": self.name, "team_id": "T00000001", "user": "admin", "user_id": "U0ADMIN01"}
        return {"ok": True, "url": "https://x.slack.test/", **team}

    @route("GET", "/users.info")
    def info(self, asked: Asked) -> Any:
        self._user(asked.query["user"])
        return self._shown(asked.query["user"])

    @route("GET", "/users.lookupByEmail")
    def lookup(self, asked: Asked) -> Any:
        for key, user in self.state["users"].items():
            if user["mail"] == asked.query["email"].lower() and not user["deleted"]:
                return self._shown(key)
        raise Refusal(404, "users_not_found")

    @route("GET", "/users.conversations")
    def conversations(self, asked: Asked) -> Any:
        found = [c for c, (_, people) in self.state["channels"].items() if asked.query["user"] in people]
        start = int(asked.query.get("cursor") or 0)
        part, after = found[start : start + 2], start + 2
        return {
            "ok": True, "response_metadata": {"next_cursor": str(after) if after < len(found) else ""},
            "channels": [{"id": c, "name": self.state["channels"][c][0], "is_general": c == GENERAL} for c in part],
        }  # fmt: skip

    @route("POST", "/conversations.kick")
    def kick(self, asked: Asked) -> Any:
        people = self.state["channels"][asked.form["channel"]][1]
        if asked.form["channel"] == GENERAL:
            raise Refusal(403, "cant_kick_from_general")
        if asked.form["user"] not in people:
            raise Refusal(404, "not_in_channel")
        people.remove(asked.form["user"])
        return {"ok": True}

    @route("POST", "/admin.users.session.reset")
    def reset(self, asked: Asked) -> Any:
        self._user(asked.form["user_id"])["sessions"] = 0
        return {"ok": True}

    @route("POST", "/admin.users.remove")
    def remove(self, asked: Asked) -> Any:
        assert asked.form["team_id"] == "T00000001"
        self._user(asked.form["user_id"])["deleted"] = True
        return {"ok": True}
