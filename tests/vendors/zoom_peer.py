"""A Zoom account: users with groups, meetings, webinars, recordings and scheduling privileges.

Left out: sub-accounts, licences, Zoom Phone, and every property that no function reads. The grant of tokens is our reading
of "Server-to-Server OAuth", which no contract describes.
"""

from __future__ import annotations

import base64
from typing import Any

from vendor_contract import Contract
from vendor_peer import Answer, Asked, Refusal, VendorPeer, route

USER = "/v2/users/{user}"


class ZoomPeer(VendorPeer):
    """The leaver `alex` (id u-alex), the manager `mia`, and `sam`, who never accepted the invitation."""

    contract = Contract("zoom-offboarding.openapi.yaml", "https://api.zoom.us", old_sign_in=True)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.secret = f"secret-of-{name}"
        self.tokens: list[str] = []
        #: What a transfer loses on its way.
        self.loses: set[str] = set()
        self.state = {
            "users": {f"u-{short}": self._user(short) for short in ("alex", "mia", "sam")},
            "deleted": {},
            "grants": 0,
        }
        alex, mia = self.state["users"]["u-alex"], self.state["users"]["u-mia"]
        alex["meetings"], mia["meetings"] = [str(n) for n in range(101, 106)], ["201"]
        alex["webinars"], alex["recordings"] = ["301"], ["401", "402"]
        alex["groups"], mia["groups"] = ["g-sales", "g-all"], ["g-all"]
        alex["assistants"], alex["schedulers"], mia["schedulers"] = ["mia"], ["boss"], ["alex"]
        self.state["users"]["u-sam"]["status"] = "pending"

    def _user(self, short: str) -> dict[str, Any]:
        lists = ("meetings", "webinars", "recordings", "groups", "assistants", "schedulers")
        mail = f"{short}@{self.name}.test"
        return {"email": mail, "status": "active", "signed_in": True, **{kind: [] for kind in lists}}

    def settings(self, **more: Any) -> dict[str, Any]:
        """The settings of a credential for it."""
        return {
            "url": self.url + "/v2", "oauth_url": self.url + "/oauth/token", "account_id": f"account-{self.name}",
            "client_id": "client", "ca_file": self.ca_file, "answer_seconds": 60, "call_seconds": 60, **more,
        }  # fmt: skip

    def allowed(self, asked: Asked) -> bool:
        return asked.headers.get("Authorization") in [f"Bearer {token}" for token in self.tokens]

    def error(self, status: int, code: str, message: str) -> Any:
        codes = {403: (4711, "Invalid access token, does not contain scopes"), 429: (429, "You have reached the limit")}
        known = codes.get(status, (int(code) if code.isdigit() else 124 if status == 401 else status, message))
        return {"code": known[0], "message": known[1]}

    @route("POST", "/oauth/token", outside="a service of its own", open=True)
    def token(self, asked: Asked) -> Any:
        expected = "Basic " + base64.b64encode(f"client:{self.secret}".encode()).decode()
        if asked.headers.get("Authorization") != expected:
            return Answer(400, {"reason": "Invalid client_id or client_secret", "error": "invalid_client"})
        if asked.form != {"grant_type": "account_credentials", "account_id": f"account-{self.name}"}:
            return Answer(400, {"reason": "unsupported grant type", "error": "unsupported_grant_type"})
        self.tokens.append(f"token-{self.name}-{len(self.tokens)}")
        return {"access_token": self.tokens[-1], "token_type": "bearer", "expires_in": 3599, "scope": "user:read:admin"}

    # --- users

    def _found(self, key: str) -> tuple[str, dict[str, Any]]:
        for user_id, user in self.state["users"].items():
            if key == user_id or key.lower() == user["email"].lower():
                return user_id, user
        raise Refusal(404, "1001", f"User does not exist: {key}.")

    @route("GET", "/v2/users")
    def users(self, asked: Asked) -> Any:
        found = [self._shown(i, u) for i, u in self.state["users"].items()]
        size = int(asked.query.get("page_size", 30))
        return {
            "page_count": 3,
            "page_number": 1,
            "page_size": size,
            "total_records": len(found),
            "users": found[:size],
        }

    @route("GET", USER)
    def user(self, asked: Asked, user: str) -> Any:
        return self._shown(*self._found(user))

    def _shown(self, user_id: str, user: dict[str, Any]) -> dict[str, Any]:
        shown = {"id": user_id, "email": user["email"], "type": 2, "status": user["status"], "first_name": "O'Neil"}
        return {**shown, "group_ids": user["groups"]} if user["groups"] else shown

    @route("PUT", USER + "/status")
    def status(self, asked: Asked, user: str) -> Any:
        self._found(user)[1]["status"] = "inactive" if asked.json["action"] == "deactivate" else "active"
        return Answer(204)

    @route("DELETE", USER + "/token")
    def sign_out(self, asked: Asked, user: str) -> Any:
        self._found(user)[1]["signed_in"] = False
        return Answer(204)

    @route("GET", USER + "/assistants")
    def assistants(self, asked: Asked, user: str) -> Any:
        return {"assistants": [{"id": a, "email": f"{a}@x.test"} for a in self._found(user)[1]["assistants"]]}

    @route("DELETE", USER + "/assistants")
    def no_assistants(self, asked: Asked, user: str) -> Any:
        self._found(user)[1]["assistants"] = []
        return Answer(204)

    @route("GET", USER + "/schedulers")
    def schedulers(self, asked: Asked, user: str) -> Any:
        return {"schedulers": [{"id": a, "email": f"{a}@x.test"} for a in self._found(user)[1]["schedulers"]]}

    @route("DELETE", USER + "/schedulers")
    def no_schedulers(self, asked: Asked, user: str) -> Any:
        self._found(user)[1]["schedulers"] = []
        return Answer(204)

    @route("GET", USER + "/meetings")
    def meetings(self, asked: Asked, user: str) -> Any:
        found = self._found(user)[1]["meetings"] if asked.query["type"] == "upcoming" else []
        number, size = int(asked.query.get("page_number", 1)), 2
        part = found[(number - 1) * size : number * size]
        return {
            "page_count": -(-len(found) // size), "page_number": number, "page_size": size, "total_records": len(found),
            "meetings": [{"id": m, "uuid": f"{m}==", "topic": "a\nb", "type": 2} for m in part],
        }  # fmt: skip

    @route("DELETE", "/v2/groups/{group}/members/{member}")
    def leave(self, asked: Asked, group: str, member: str) -> Any:
        user = self._found(member)[1]
        if group not in user["groups"]:
            raise Refusal(404, "4130", f"A group with this {group} does not exist.")
        user["groups"].remove(group)
        return Answer(204)

    @route("DELETE", USER)
    def delete(self, asked: Asked, user: str) -> Any:
        user_id, found = self._found(user)
        heir = asked.query.get("transfer_email")
        if found["status"] == "pending" and asked.query["action"] == "delete":
            raise Refusal(400, "300", "A pending user cannot be deleted.")
        if heir:
            target_id, target = self._found(heir)
            if target_id == user_id:
                raise Refusal(400, "300", "The transfer-to email address cannot be the same")
            for kind in ("meeting", "webinar", "recording"):
                if asked.query.get(f"transfer_{kind}") == "true":
                    target[f"{kind}s"] += [each for each in found[f"{kind}s"] if each not in self.loses]
        del self.state["users"][user_id]
        self.state["deleted"][user_id] = asked.query["action"]
        return Answer(204)
