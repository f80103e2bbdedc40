"""An Okta organisation: accounts with groups, roles, factors, applications and sessions.

Left out: policies, provisioning into applications (they go with the account's deactivation at once), deactivation in the
background (unless a test sets `slow`), links in answers, and every property that no function reads.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from vendor_contract import Contract
from vendor_peer import Answer, Asked, Refusal, VendorPeer, route

USERS = "/api/v1/users/{user}"


class OktaPeer(VendorPeer):
    """The leaver `alex` (id 00ualex), the manager `mia`, and somebody whose login is not their address."""

    contract = Contract("okta-offboarding.openapi.yaml", "https://subdomain.okta.com")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.token = f"token-of-{name}"
        #: Looks that a deactivation takes until it shows.
        self.slow = 0
        self.state = {
            "users": {f"00u{short}": self._user(short) for short in ("alex", "mia", "sam")},
            "groups": {
                "00gevery": ("Everyone", "BUILT_IN", ["00ualex", "00umia", "00usam"]),
                "00gsales": ('Sales "west" & <east>', "OKTA_GROUP", ["00ualex", "00umia"]),
                "00gvpn": ("VPN", "OKTA_GROUP", ["00ualex"]),
                "00gad": ("From AD", "APP_GROUP", ["00ualex"]),
            },
        }
        self.state["users"]["00usam"]["login"] = f"sam.o'neil@{name}.test"

    def _user(self, short: str) -> dict[str, Any]:
        return {
            "login": f"{short}@{self.name}.test", "email": f"{short}@{self.name}.test", "status": "ACTIVE", "sessions": 2,
            "password": "old", "changed": "2025-01-01T00:00:00.000Z", "apps": ["Salesforce", "GitHub"],
            "factors": {"f1": "push", "f2": "webauthn"}, "roles": {"r1": "HELP_DESK_ADMIN", "r2": "READ_ONLY_ADMIN"},
            "role_by_group": {"r3": "APP_ADMIN"}, "left": 0, "target": None,
        }  # fmt: skip

    def settings(self, **more: Any) -> dict[str, Any]:
        """The settings of a credential for it."""
        return {"url": self.url, "ca_file": self.ca_file, "answer_seconds": 60, "call_seconds": 60, **more}

    def allowed(self, asked: Asked) -> bool:
        return asked.headers["Authorization"] == f"SSWS {self.token}"

    def error(self, status: int, code: str, message: str) -> Any:
        codes = {403: ("E0000006", "You do not have permission to perform the requested action"),
                 429: ("E0000047", "API call exceeded rate limit due to too many requests.")}  # fmt: skip
        known = codes.get(status, (code, message))
        return {"errorCode": known[0], "errorSummary": known[1], "errorLink": known[0], "errorId": "oae1",
                "errorCauses": []}  # fmt: skip

    # --- accounts

    def _found(self, key: str) -> tuple[str, dict[str, Any]]:
        for user_id, user in self.state["users"].items():
            if key == user_id or key.lower() == user["login"].lower():
                return user_id, user
        raise Refusal(404, "E0000007", f"Not found: Resource not found: {key} (User)")

    def _shown(self, user_id: str, user: dict[str, Any]) -> dict[str, Any]:
        if user["target"]:
            if user["left"] == 0:
                user["status"], user["target"] = user["target"], None
            else:
                user["left"] -= 1
        shown = {
            "id": user_id, "status": user["status"], "created": "2020-01-01T00:00:00.000Z",
            "lastUpdated": "2025-01-01T00:00:00.000Z", "passwordChanged": user["changed"], "type": {"id": "oty1"},
            "profile": {"login": user["login"], "email": user["email"], "firstName": "Alex", "lastName": "O'Neil"},
        }  # fmt: skip
        return shown | ({"transitioningToStatus": user["target"]} if user["target"] else {})

    @route("GET", "/api/v1/users")
    def list_users(self, asked: Asked) -> Any:
        if "search" not in asked.query:
            everybody = [self._shown(i, u) for i, u in self.state["users"].items()]
            return everybody[: int(asked.query["limit"])]
        wanted = re.fullmatch(r'profile\.email eq "((?:[^"\\]|\\.)+)"', asked.query["search"])
        if wanted is None:
            raise Refusal(400, "E0000031", "Invalid search criteria.")
        mail = re.sub(r"\\(.)", r"\1", wanted[1]).lower()
        return [self._shown(i, u) for i, u in self.state["users"].items() if u["email"].lower() == mail]

    @route("GET", USERS)
    def get_user(self, asked: Asked, user: str) -> Any:
        if user == "me":
            return self._shown("00uadmin", self._user("admin"))
        return self._shown(*self._found(user))

    @route("POST", USERS)
    def update_user(self, asked: Asked, user: str) -> Any:
        user_id, found = self._found(user)
        found["password"] = asked.json["credentials"]["password"]["value"]
        if not 8 <= len(found["password"]) <= 72:
            raise Refusal(400, "E0000080", "The password does not meet the complexity requirements.")
        later = max(datetime.now(UTC), datetime.fromisoformat(found["changed"])) + timedelta(seconds=1)
        found["changed"] = later.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return self._shown(user_id, found)

    @route("DELETE", USERS)
    def delete_user(self, asked: Asked, user: str) -> Any:
        user_id, found = self._found(user)
        if found["status"] == "DEPROVISIONED":
            del self.state["users"][user_id]
        else:
            self._deactivate(user_id, found)
        return Answer(204)

    def _deactivate(self, user_id: str, found: dict[str, Any]) -> None:
        found["target"], found["left"] = "DEPROVISIONED", self.slow
        found["apps"], found["sessions"] = [], 0
        for _, kind, members in self.state["groups"].values():
            if kind != "BUILT_IN" and user_id in members:
                members.remove(user_id)

    @route("POST", USERS + "/lifecycle/{act}")
    def lifecycle(self, asked: Asked, user: str, act: str) -> Any:
        user_id, found = self._found(user)
        if act == "reset_factors":
            found["factors"] = {}
        elif act == "deactivate" and found["status"] != "DEPROVISIONED":
            self._deactivate(user_id, found)
        elif act == "suspend" and found["status"] == "ACTIVE":
            found["status"], found["sessions"] = "SUSPENDED", 0
        else:
            raise Refusal(400, "E0000001", f"Cannot {act} a user with the status {found['status']}")
        return Answer(200)

    @route("DELETE", USERS + "/sessions")
    def clear_sessions(self, asked: Asked, user: str) -> Any:
        if asked.query.get("oauthTokens") != "true":
            raise Refusal(400, "E0000001", "the test wants tokens to be revoked as well")
        self._found(user)[1]["sessions"] = 0
        return Answer(204)

    # --- what the account has

    @route("GET", USERS + "/groups")
    def groups(self, asked: Asked, user: str) -> Any:
        user_id, _ = self._found(user)
        return [
            {"id": group_id, "type": kind, "profile": {"name": name, "description": "x"}}
            for group_id, (name, kind, members) in self.state["groups"].items() if user_id in members
        ]  # fmt: skip

    @route("DELETE", "/api/v1/groups/{group}/users/{user}")
    def leave_group(self, asked: Asked, group: str, user: str) -> Any:
        found = self.state["groups"].get(group)
        if found is None:
            raise Refusal(404, "E0000007", "Not found: Resource not found")
        if found[1] != "OKTA_GROUP":
            raise Refusal(403, "E0000006", "You do not have permission to perform the requested action")
        if user in found[2]:
            found[2].remove(user)
        return Answer(204)

    @route("GET", USERS + "/roles")
    def roles(self, asked: Asked, user: str) -> Any:
        found = self._found(user)[1]
        given = [("USER", *r) for r in found["roles"].items()] + [("GROUP", *r) for r in found["role_by_group"].items()]
        return [
            {"id": role, "type": kind, "label": kind.title(), "status": "ACTIVE", "assignmentType": by}
            for by, role, kind in given
        ]

    @route("DELETE", USERS + "/roles/{role}")
    def remove_role(self, asked: Asked, user: str, role: str) -> Any:
        if self._found(user)[1]["roles"].pop(role, None) is None:
            raise Refusal(404, "E0000007", "Not found: Resource not found")
        return Answer(204)

    @route("GET", USERS + "/factors")
    def factors(self, asked: Asked, user: str) -> Any:
        return [
            {"id": i, "factorType": kind, "status": "ACTIVE"} for i, kind in self._found(user)[1]["factors"].items()
        ]

    @route("GET", USERS + "/appLinks")
    def app_links(self, asked: Asked, user: str) -> Any:
        return [
            {"id": f"l{n}", "label": name, "appName": name.lower(), "appInstanceId": f"0oa{n}", "hidden": False}
            for n, name in enumerate(self._found(user)[1]["apps"])
        ]
