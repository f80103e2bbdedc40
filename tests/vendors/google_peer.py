"""A Google Workspace: the Directory API by its contract, and beside it what the contract does not have.

Outside the contract, by Google's public manuals: the token endpoint (RFC 7523; the signature, audience, subject and scopes
of the assertion are checked) and the Data Transfer API, of which it has applications, insert and list.

Left out: paging of tokens and application passwords (Google has none), aliases in other domains, the time that Google takes
until a change shows everywhere, licences, and every property that no function reads.
"""

from __future__ import annotations

import base64
import json
import re
import time
import uuid
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from vendor_contract import Contract
from vendor_peer import Answer, Asked, Refusal, VendorPeer, route

BASE = "/admin/directory/v1"
USER = BASE + "/users/{user}"
TRANSFER = "/admin/datatransfer/v1"
NOT_IN_IT = "the contract is the Directory API's"
_KEYS = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
#: The applications that Google lists, with the ids that it gives them.
DRIVE, CALENDAR = "55656082996", "435070579839"


class GooglePeer(VendorPeer):
    """The leaver `alex` (id 100), the manager `mia` (200), both in a domain with an apostrophe in a name."""

    contract = Contract("google-offboarding.openapi.yaml", "https://admin.googleapis.com")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.key = _KEYS[0] if name == "contoso" else _KEYS[1]
        self.admin = f"admin@{name}.test"
        self.page_size = 2
        #: Looks that a transfer takes.
        self.transfer_takes = 0
        self.tokens: dict[str, str] = {}
        self.sign_ins: list[str] = []
        self.state = {
            "users": {"100": self._user("alex"), "200": self._user("mia"), "900": self._user("admin")},
            "groups": {
                f"g{n}": (f"{mail}@{name}.test", {"100": role, "200": "MEMBER"})
                for n, (mail, role) in enumerate(
                    (("sales", "OWNER"), ("all'staff", "MEMBER"), ("vpn", "MEMBER"), ("news", "MEMBER"), ("ops", "MANAGER"))
                )
            },
            "roles": {"7001": "100", "7002": "100", "7003": "200"},
            "devices": {
                "dev1": [f"alex@{name}.test", "APPROVED"], "dev2": [f"alex@{name}.test", "APPROVED"],
                "dev3": [f"mia@{name}.test", "APPROVED"],
            },
            "transfers": {},
        }  # fmt: skip

    def _user(self, short: str) -> dict[str, Any]:
        return {
            "mail": f"{short}@{self.name}.test", "suspended": False, "password": "old", "unit": "/Staff", "signed_in": True,
            "listed": True, "second_factor": True, "codes": 10, "asps": [11, 12], "recovery": "+15550100",
            "tokens": ["app-1.apps.example", "weird/client id"], "aliases": [f"{short}.old@{self.name}.test"],
        }  # fmt: skip

    def settings(self, **more: Any) -> dict[str, Any]:
        """The settings of a credential for it."""
        return {
            "admin": self.admin, "url": self.url, "sign_in_url": self.url + "/token", "ca_file": self.ca_file,
            "answer_seconds": 60, "call_seconds": 60, **more,
        }  # fmt: skip

    def key_file(self) -> str:
        """The key of the service account, as Google's console gives it out."""
        private = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return json.dumps({
            "type": "service_account", "project_id": "p", "private_key_id": "k1", "private_key": private.decode(),
            "client_email": f"exeunt@{self.name}.iam.test", "client_id": "1",
            "token_uri": "https://somewhere.else.test/token",
        })  # fmt: skip

    def allowed(self, asked: Asked) -> bool:
        scopes = self.tokens.get(str(asked.headers["Authorization"]).removeprefix("Bearer "), "")
        wanted = "admin.datatransfer" if "/datatransfer/" in asked.path else "admin.directory"
        return wanted in scopes

    def error(self, status: int, code: str, message: str) -> Any:
        if code.startswith("sign_in:"):
            return {"error": code.removeprefix("sign_in:"), "error_description": message}
        reason = {403: "forbidden", 404: "notFound", 429: "rateLimitExceeded"}.get(status, code or "backendError")
        said = {403: "Not Authorized to access this resource/API"}.get(status, message or "as the test asked for")
        return {
            "error": {
                "code": status,
                "message": said,
                "errors": [{"message": said, "domain": "global", "reason": reason}],
            }
        }

    @route("POST", "/token", outside=NOT_IN_IT, open=True)
    def token(self, asked: Asked) -> Any:
        form = asked.form
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            raise Refusal(400, "sign_in:unsupported_grant_type", "Invalid grant_type")
        head, body, signature = form["assertion"].split(".")
        claims = json.loads(_decoded(body))
        try:
            self.key.public_key().verify(
                _decoded(signature), f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            raise Refusal(400, "sign_in:invalid_grant", "Invalid JWT Signature.") from None
        header = json.loads(_decoded(head))
        assert header["alg"] == "RS256" and claims["aud"] == self.url + "/token", (header, claims)
        assert claims["iat"] <= time.time() + 1 and 0 < claims["exp"] - claims["iat"] <= 3600, claims
        self.sign_ins.append(claims["sub"])
        if claims["sub"] != self.admin:
            raise Refusal(401, "sign_in:unauthorized_client", "Client is unauthorized to retrieve access tokens")
        token = f"ya29.{uuid.uuid4().hex}"
        self.tokens[token] = claims["scope"]
        return {"access_token": token, "token_type": "Bearer", "expires_in": 3599}

    # --- accounts

    def _found(self, key: str) -> tuple[str, dict[str, Any]]:
        for user_id, user in self.state["users"].items():
            if key == user_id or key.lower() in (user["mail"], *user["aliases"]):
                return user_id, user
        raise Refusal(404, "notFound", "Resource Not Found: userKey")

    def _shown(self, user_id: str, user: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": user_id, "primaryEmail": user["mail"], "suspended": user["suspended"], "orgUnitPath": user["unit"],
            "includeInGlobalAddressList": user["listed"], "isEnrolledIn2Sv": user["second_factor"],
            "name": {"fullName": "Alex O'Neil"}, "isAdmin": user_id == "900", "aliases": user["aliases"], "kind": "admin#directory#user",
            **({"recoveryPhone": user["recovery"]} if user["recovery"] else {}),
        }  # fmt: skip

    @route("GET", USER)
    def get_user(self, asked: Asked, user: str) -> Any:
        return self._shown(*self._found(user))

    @route("PATCH", USER)
    @route("PUT", USER)
    def change_user(self, asked: Asked, user: str) -> Any:
        user_id, found = self._found(user)
        names = {
            "suspended": "suspended", "password": "password", "orgUnitPath": "unit", "recoveryPhone": "recovery",
            "includeInGlobalAddressList": "listed",
        }  # fmt: skip
        for name, value in asked.json.items():
            if name == "orgUnitPath" and value not in ("/Staff", "/Leavers & Co"):
                raise Refusal(400, "invalid", "Invalid Input: INVALID_OU_ID")
            if name == "password" and not 8 <= len(value) <= 100:
                raise Refusal(400, "invalid", "Invalid Password")
            if name in names:
                found[names[name]] = value
        return self._shown(user_id, found)

    @route("DELETE", USER)
    def delete_user(self, asked: Asked, user: str) -> Any:
        del self.state["users"][self._found(user)[0]]
        return Answer(204)

    @route("POST", USER + "/signOut")
    def sign_out(self, asked: Asked, user: str) -> Any:
        self._found(user)[1]["signed_in"] = False
        return Answer(200)

    @route("POST", USER + "/twoStepVerification/turnOff")
    def turn_off(self, asked: Asked, user: str) -> Any:
        self._found(user)[1]["second_factor"] = False
        return Answer(200)

    @route("POST", USER + "/verificationCodes/invalidate")
    def invalidate(self, asked: Asked, user: str) -> Any:
        self._found(user)[1]["codes"] = 0
        return Answer(200)

    @route("GET", USER + "/tokens")
    def list_tokens(self, asked: Asked, user: str) -> Any:
        return {"items": [{"clientId": t, "displayText": t} for t in self._found(user)[1]["tokens"]]}

    @route("DELETE", USER + "/tokens/{client}")
    def delete_token(self, asked: Asked, user: str, client: str) -> Any:
        return self._removed(self._found(user)[1]["tokens"], client)

    @route("GET", USER + "/asps")
    def list_asps(self, asked: Asked, user: str) -> Any:
        found = self._found(user)[1]["asps"]
        return {"items": [{"codeId": a, "name": f"mail {a}"} for a in found]} if found else {"kind": "asps"}

    @route("DELETE", USER + "/asps/{code}")
    def delete_asp(self, asked: Asked, user: str, code: str) -> Any:
        return self._removed(self._found(user)[1]["asps"], int(code))

    @route("GET", USER + "/aliases")
    def list_aliases(self, asked: Asked, user: str) -> Any:
        return {"aliases": [{"alias": a} for a in self._found(user)[1]["aliases"]]}

    @route("DELETE", USER + "/aliases/{alias}")
    def delete_alias(self, asked: Asked, user: str, alias: str) -> Any:
        return self._removed(self._found(user)[1]["aliases"], alias)

    def _removed(self, kept: list[Any], what: Any) -> Answer:
        if what not in kept:
            raise Refusal(404, "notFound", f"Resource Not Found: {what}")
        kept.remove(what)
        return Answer(204)

    # --- groups, roles, devices

    def _page(self, asked: Asked, name: str, entries: list[Any]) -> Any:
        start = int(asked.query.get("pageToken", "0"))
        end = start + self.page_size
        page: dict[str, Any] = {name: entries[start:end]} if entries else {}
        return page | ({"nextPageToken": str(end)} if end < len(entries) else {})

    @route("GET", BASE + "/groups")
    def groups(self, asked: Asked) -> Any:
        user_id, _ = self._found(asked.query["userKey"])
        mine = [
            {"id": i, "email": mail, "name": mail}
            for i, (mail, members) in self.state["groups"].items()
            if user_id in members
        ]
        return self._page(asked, "groups", mine)

    @route("GET", BASE + "/groups/{group}/members")
    def members(self, asked: Asked, group: str) -> Any:
        members = self.state["groups"][group][1]
        wanted = asked.query.get("roles", "").split(",")
        return {"members": [{"id": i, "role": role} for i, role in members.items() if wanted == [""] or role in wanted]}

    @route("DELETE", BASE + "/groups/{group}/members/{member}")
    def leave(self, asked: Asked, group: str, member: str) -> Any:
        if member not in self.state["groups"][group][1]:
            raise Refusal(404, "notFound", "Resource Not Found: memberKey")
        del self.state["groups"][group][1][member]
        return Answer(204)

    @route("GET", BASE + "/customer/my_customer/roleassignments")
    def role_assignments(self, asked: Asked) -> Any:
        user_id, _ = self._found(asked.query["userKey"])
        mine = [
            {"roleAssignmentId": i, "roleId": f"9{i}", "assignedTo": who}
            for i, who in self.state["roles"].items()
            if who == user_id
        ]
        return self._page(asked, "items", mine)

    @route("DELETE", BASE + "/customer/my_customer/roleassignments/{assignment}")
    def remove_role(self, asked: Asked, assignment: str) -> Any:
        if self.state["roles"].pop(assignment, None) is None:
            raise Refusal(404, "notFound", "Resource Not Found: roleAssignmentId")
        return Answer(204)

    @route("GET", BASE + "/customer/my_customer/devices/mobile")
    def devices(self, asked: Asked) -> Any:
        wanted = re.fullmatch(r"email:(\S+)", asked.query["query"])
        assert wanted, asked.query
        mine = [
            {"resourceId": i, "email": [mail], "status": status, "model": "Pixel 9", "type": "ANDROID"}
            for i, (mail, status) in self.state["devices"].items() if mail == wanted[1]
        ]  # fmt: skip
        return self._page(asked, "mobiledevices", mine)

    @route("POST", BASE + "/customer/my_customer/devices/mobile/{device}/action")
    def device_action(self, asked: Asked, device: str) -> Any:
        states = {"admin_account_wipe": "ACCOUNT_WIPING", "admin_remote_wipe": "WIPING", "block": "BLOCKED"}
        self.state["devices"][device][1] = states[asked.json["action"]]
        return Answer(200)

    # --- data transfer

    @route("GET", TRANSFER + "/applications", outside=NOT_IN_IT)
    def applications(self, asked: Asked) -> Any:
        assert asked.query["customerId"] == "my_customer"
        return {"applications": [{"id": DRIVE, "name": "Drive and Docs"}, {"id": CALENDAR, "name": "Calendar"}]}

    @route("POST", TRANSFER + "/transfers", outside=NOT_IN_IT)
    def insert(self, asked: Asked) -> Any:
        body = asked.json
        for who in (body["oldOwnerUserId"], body["newOwnerUserId"]):
            if who not in self.state["users"]:
                raise Refusal(404, "notFound", "Resource Not Found: user")
        key = f"t{len(self.state['transfers']) + 1}"
        self.state["transfers"][key] = {**body, "looks": self.transfer_takes}
        return self._shown_transfer(key)

    @route("GET", TRANSFER + "/transfers", outside=NOT_IN_IT)
    def transfers(self, asked: Asked) -> Any:
        wanted = {n: asked.query[n] for n in ("oldOwnerUserId", "newOwnerUserId") if n in asked.query}
        mine = [k for k, t in self.state["transfers"].items() if all(t[n] == v for n, v in wanted.items())]
        page: dict[str, Any] = self._page(asked, "dataTransfers", [self._shown_transfer(k) for k in mine])
        for key in mine:
            self.state["transfers"][key]["looks"] = max(self.state["transfers"][key]["looks"] - 1, 0)
        return page

    def _shown_transfer(self, key: str) -> dict[str, Any]:
        kept = self.state["transfers"][key]
        status = "completed" if kept["looks"] == 0 else "inProgress"
        done = [{**a, "applicationTransferStatus": status} for a in kept["applicationDataTransfers"]]
        return {
            "id": key, "oldOwnerUserId": kept["oldOwnerUserId"], "newOwnerUserId": kept["newOwnerUserId"],
            "applicationDataTransfers": done, "overallTransferStatusCode": status,
            "requestTime": "2026-01-01T00:00:00.000Z", "kind": "admin#datatransfer#DataTransfer",
        }  # fmt: skip


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
