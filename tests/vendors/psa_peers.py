"""ConnectWise PSA and HaloPSA as their public clients describe them: our own reading, for neither vendor publishes a contract.

Checked are the sign-in, the shape of every body that is sent, and the conditions and searches that are asked. Left out: every
other path and property, workflow rules, required custom fields, the rights of members and agents (a fault stands for a missing
one), the time a search lags behind unless a test sets `lag`, and Halo's sites.
"""

from __future__ import annotations

import base64
import re
import uuid
from typing import Any

from vendor_peer import Answer, Asked, Refusal, VendorPeer, route


class ConnectWisePeer(VendorPeer):
    """The companies Contoso and Fabrikam in one PSA; both have a contact with the address of alex."""

    prefix = "/v4_6_release/apis/3.0"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.private_key = f"private-of-{name}"
        self.lag = 0
        self.state = {
            "contacts": {
                10: self._contact("Alex", "contoso", "alex@contoso.test"), 11: self._contact("Mia", "contoso", "mia@contoso.test"),
                20: self._contact("Alex", "fabrikam", "alex@contoso.test"),
            },
            "tickets": {7: {"summary": "old", "status": "New", "externalXRef": None, "notes": []}},
            "times": {},
        }  # fmt: skip

    def _contact(self, first: str, company: str, mail: str) -> dict[str, Any]:
        return {
            "firstName": first, "lastName": "O'Neil", "company": company, "inactiveFlag": False, "types": ["Approver"],
            "mail": mail,
        }  # fmt: skip

    def settings(self, **more: Any) -> dict[str, Any]:
        """The settings of a credential for it."""
        return {
            "url": self.url + self.prefix, "company": "msp", "public_key": "public", "client_id": "0000-1111",
            "ca_file": self.ca_file, "answer_seconds": 60, "call_seconds": 60, **more,
        }  # fmt: skip

    def allowed(self, asked: Asked) -> bool:
        signed = base64.b64encode(f"msp+public:{self.private_key}".encode()).decode()
        return asked.headers["Authorization"] == f"Basic {signed}" and asked.headers["clientId"] == "0000-1111"

    def error(self, status: int, code: str, message: str) -> Any:
        codes = {401: "Unauthorized", 403: "SecurityNotAuthorized", 404: "NotFound"}
        return {"code": code or codes.get(status, "Error"), "message": message or "as the test asked for", "errors": []}

    def _page(self, asked: Asked, entries: list[Any]) -> list[Any]:
        size = int(asked.query["pageSize"])
        start = (int(asked.query.get("page", "1")) - 1) * size
        return entries[start : start + size]

    def _shown(self, key: int, contact: dict[str, Any]) -> dict[str, Any]:
        items = [{"id": 1, "type": {"name": "Direct"}, "value": "+15550100", "communicationType": "Phone"},
                 {"id": 2, "type": {"name": "Email"}, "value": contact["mail"], "communicationType": "Email"}]  # fmt: skip
        return {
            "id": key, "firstName": contact["firstName"], "lastName": contact["lastName"], "communicationItems": items,
            "company": {"id": 1, "identifier": contact["company"]}, "inactiveFlag": contact["inactiveFlag"],
            "types": [{"id": 1, "name": t} for t in contact["types"]],
        }  # fmt: skip

    @route("GET", prefix + "/company/contacts/count")
    def count(self, asked: Asked) -> Any:
        return {"count": len(self.state["contacts"])}

    @route("GET", prefix + "/company/contacts")
    def contacts(self, asked: Asked) -> Any:
        company = re.fullmatch(r'company/identifier="([^"]+)"', asked.query["conditions"])
        mail = re.fullmatch(
            r'communicationItems/value="([^"]+)" and communicationItems/communicationType="Email"',
            asked.query["childConditions"],
        )
        assert company and mail, asked.query
        return self._page(asked, [
            self._shown(k, c) for k, c in self.state["contacts"].items()
            if c["company"] == company[1] and c["mail"].lower() == mail[1].lower()
        ])  # fmt: skip

    def _of(self, kind: str, key: str) -> dict[str, Any]:
        if int(key) not in self.state[kind]:
            raise Refusal(404, "NotFound", f"{kind} {key} not found")
        found: dict[str, Any] = self.state[kind][int(key)]
        return found

    @route("GET", prefix + "/company/contacts/{key}")
    def contact(self, asked: Asked, key: str) -> Any:
        return self._shown(int(key), self._of("contacts", key))

    @route("PATCH", prefix + "/company/contacts/{key}")
    def patch_contact(self, asked: Asked, key: str) -> Any:
        found = self._of("contacts", key)
        for operation in asked.json:
            assert operation["op"] == "replace", operation
            if operation["path"] == "types":
                names = [t["name"] for t in operation["value"]]
                if not set(names) <= {"Approver", "Former Employee"}:
                    raise Refusal(400, "InvalidObject", "contactType object is invalid")
                found["types"] = names
            else:
                assert operation == {"op": "replace", "path": "inactiveFlag", "value": True}, operation
                found["inactiveFlag"] = True
        return self._shown(int(key), found)

    @route("GET", prefix + "/service/tickets")
    def tickets(self, asked: Asked) -> Any:
        wanted = re.fullmatch(r'externalXRef="([^"]+)"', asked.query["conditions"])
        assert wanted, asked.query
        found = [
            {"id": k, "externalXRef": t["externalXRef"]}
            for k, t in self.state["tickets"].items()
            if t["externalXRef"] == wanted[1]
        ]
        self.lag -= bool(found and self.lag)
        return [] if self.lag else found

    @route("POST", prefix + "/service/tickets")
    def create(self, asked: Asked) -> Any:
        body = asked.json
        assert set(body) <= {"summary", "board", "company", "externalXRef", "initialDescription", "contact"}, body
        assert len(body["summary"]) <= 100 and "\n" not in body["summary"], body
        if body["board"]["name"] != "Help Desk":
            raise Refusal(400, "InvalidObject", "board object is invalid")
        key = max(self.state["tickets"]) + 1
        self.state["tickets"][key] = {**body, "status": "New", "notes": []}
        return Answer(201, {"id": key, "summary": body["summary"]})

    @route("GET", prefix + "/service/tickets/{key}")
    def ticket(self, asked: Asked, key: str) -> Any:
        found = self._of("tickets", key)
        return {"id": int(key), "summary": found["summary"], "status": {"id": 1, "name": found["status"]}}

    @route("PATCH", prefix + "/service/tickets/{key}")
    def patch_ticket(self, asked: Asked, key: str) -> Any:
        [operation] = asked.json
        assert (operation["op"], operation["path"]) == ("replace", "status"), operation
        if operation["value"]["name"] not in ("New", "Completed"):
            raise Refusal(400, "InvalidObject", "status object is invalid")
        self._of("tickets", key)["status"] = operation["value"]["name"]
        return {"id": int(key)}

    @route("GET", prefix + "/service/tickets/{key}/notes")
    def notes(self, asked: Asked, key: str) -> Any:
        return self._page(asked, [{"id": n, **note} for n, note in enumerate(self._of("tickets", key)["notes"])])

    @route("POST", prefix + "/service/tickets/{key}/notes")
    def add_note(self, asked: Asked, key: str) -> Any:
        assert set(asked.json) == {"text", "detailDescriptionFlag", "internalAnalysisFlag"}, asked.json
        self._of("tickets", key)["notes"].append(asked.json)
        return Answer(201, {"id": len(self._of("tickets", key)["notes"]), "text": asked.json["text"]})

    @route("GET", prefix + "/time/entries")
    def times(self, asked: Asked) -> Any:
        wanted = re.fullmatch(r'chargeToType="ServiceTicket" and chargeToId=(\d+)', asked.query["conditions"])
        assert wanted, asked.query
        return self._page(
            asked, [{"id": k, **t} for k, t in self.state["times"].items() if t["chargeToId"] == int(wanted[1])]
        )

    @route("POST", prefix + "/time/entries")
    def add_time(self, asked: Asked) -> Any:
        body = asked.json
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["timeStart"]), body
        assert body["chargeToType"] == "ServiceTicket" and 0 < body["actualHours"] <= 24, body
        self._of("tickets", str(body["chargeToId"]))
        key = len(self.state["times"]) + 1
        self.state["times"][key] = body
        return Answer(201, {"id": key})


class HaloPeer(VendorPeer):
    """Halo's clients 1 (Contoso) and 2 (Fabrikam); both have a user with the address of alex."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.secret = f"secret-of-{name}"
        self.lag = 0
        self.tokens: set[str] = set()
        self.state = {
            "users": {
                10: {"name": "Alex O'Neil", "emailaddress": "alex@contoso.test", "client_id": 1, "inactive": False},
                11: {"name": "Alexandra", "emailaddress": "xalex@contoso.test", "client_id": 1, "inactive": False},
                20: {"name": "Alex O'Neil", "emailaddress": "alex@contoso.test", "client_id": 2, "inactive": False},
            },
            "tickets": {7: {"summary": "old", "client_id": 1, "status_id": 1}},
            "actions": {},
        }  # fmt: skip

    def settings(self, **more: Any) -> dict[str, Any]:
        """The settings of a credential for it."""
        return {
            "url": self.url, "client_id": "app-1", "tenant": "contoso", "ca_file": self.ca_file, "answer_seconds": 60,
            "call_seconds": 60, **more,
        }  # fmt: skip

    def allowed(self, asked: Asked) -> bool:
        return str(asked.headers["Authorization"]).removeprefix("Bearer ") in self.tokens

    def error(self, status: int, code: str, message: str) -> Any:
        if code.startswith("invalid_"):
            return {"error": code, "error_description": message}
        return {"ClassName": "HaloException", "message": message or "as the test asked for"}

    @route("POST", "/auth/token", open=True)
    def token(self, asked: Asked) -> Any:
        form = asked.form
        assert asked.query == {"tenant": "contoso"} and form["grant_type"] == "client_credentials", (asked.query, form)
        if (form["client_id"], form["client_secret"]) != ("app-1", self.secret):
            raise Refusal(400, "invalid_client", "The specified client credentials are invalid")
        self.tokens.add(token := uuid.uuid4().hex)
        return {"access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": form["scope"]}

    def _page(self, asked: Asked, name: str, entries: list[Any]) -> Any:
        size = int(asked.query.get("page_size", asked.query.get("count", "50")))
        start = (int(asked.query.get("page_no", "1")) - 1) * size
        return {"record_count": len(entries), name: entries[start : start + size]}

    @route("GET", "/api/Users")
    def users(self, asked: Asked) -> Any:
        wanted, client = asked.query.get("search", "").lower(), asked.query.get("client_id")
        return self._page(asked, "users", [
            {"id": k, **u} for k, u in self.state["users"].items()
            if wanted in u["emailaddress"].lower() and client in (None, str(u["client_id"]))
            and (asked.query.get("includeinactive") == "true" or not u["inactive"])
        ])  # fmt: skip

    def _of(self, kind: str, key: Any) -> dict[str, Any]:
        if int(key) not in self.state[kind]:
            raise Refusal(404, "", f"no {kind} {key}")
        found: dict[str, Any] = self.state[kind][int(key)]
        return found

    @route("GET", "/api/Users/{key}")
    def user(self, asked: Asked, key: str) -> Any:
        return {"id": int(key), **self._of("users", key)}

    @route("POST", "/api/Users")
    def change_user(self, asked: Asked) -> Any:
        [change] = asked.json
        assert set(change) == {"id", "inactive"}, change
        self._of("users", change["id"])["inactive"] = change["inactive"]
        return Answer(201, {"id": change["id"], **self._of("users", change["id"])})

    @route("GET", "/api/Tickets")
    def tickets(self, asked: Asked) -> Any:
        wanted, client = asked.query["search"], asked.query["client_id"]
        found = [
            {"id": k, **t}
            for k, t in self.state["tickets"].items()
            if wanted in t["summary"] and str(t["client_id"]) == client
        ]
        self.lag -= bool(found and self.lag)
        return self._page(asked, "tickets", [] if self.lag else found)

    @route("POST", "/api/Tickets")
    def change_ticket(self, asked: Asked) -> Any:
        [change] = asked.json
        if "id" in change:
            assert set(change) == {"id", "status_id"}, change
            self._of("tickets", change["id"])["status_id"] = change["status_id"]
            return Answer(201, {"id": change["id"]})
        assert set(change) <= {"summary", "details_html", "client_id", "user_id", "tickettype_id"}, change
        key = max(self.state["tickets"]) + 1
        self.state["tickets"][key] = {**change, "status_id": 1}
        return Answer(201, {"id": key, **change})

    @route("GET", "/api/Tickets/{key}")
    def ticket(self, asked: Asked, key: str) -> Any:
        return {"id": int(key), **self._of("tickets", key)}

    @route("GET", "/api/Status")
    def statuses(self, asked: Asked) -> Any:
        return [{"id": 1, "name": "New"}, {"id": 9, "name": "Closed"}]

    @route("GET", "/api/Actions")
    def actions(self, asked: Asked) -> Any:
        self._of("tickets", asked.query["ticket_id"])
        mine = [
            {"id": k, **a} for k, a in self.state["actions"].items() if str(a["ticket_id"]) == asked.query["ticket_id"]
        ]
        return self._page(asked, "actions", mine)

    @route("POST", "/api/Actions")
    def add_action(self, asked: Asked) -> Any:
        [action] = asked.json
        assert {"ticket_id", "note_html", "hiddenfromuser", "outcome", "sendemail"} <= set(action), action
        self._of("tickets", action["ticket_id"])
        key = len(self.state["actions"]) + 1
        self.state["actions"][key] = action
        return Answer(201, {"id": key})
