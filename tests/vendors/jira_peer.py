"""A Jira site: tickets with labels, comments, transitions and attachments; users with groups, filters and projects.

Left out: screens and required fields, permissions by project (a fault stands for them), and every field that no function
reads. Uploading an attachment is our reading of the manual: the part of the contract that lies here lacks it. The search lags
behind by as many looks as `lag` says, as Jira's does by seconds.
"""

from __future__ import annotations

import base64
import json
import re
from email import message_from_bytes
from typing import Any

from vendor_contract import Contract
from vendor_peer import Answer, Asked, Refusal, VendorPeer, route

API = "/rest/api/3"
STATUSES = {"11": ("Start Progress", "In Progress"), "21": ("Close Issue", "Done"), "31": ("Reopen", "To Do")}


class JiraPeer(VendorPeer):
    """The leaver `alex` (id 5b:alex), the manager `mia`; project IT."""

    contract = Contract("jira-offboarding.openapi.yaml", "https://your-domain.atlassian.net")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.token = f"token-of-{name}"
        self.lag = 0
        self.state = {
            "users": {f"5b:{short}": {"mail": f"{short}@{name}.test", "active": True} for short in ("alex", "mia", "sam")},
            "groups": {
                "g-1": ("jira-users", ["5b:alex", "5b:mia"]), "g-2": ('Sales "west" & <east>', ["5b:alex"]),
                "g-3": ("admins", ["5b:mia"]),
            },
            "issues": {}, "filters": {"7": "5b:alex", "8": "5b:mia"}, "projects": {"IT": "5b:alex", "HR": "5b:mia"},
        }  # fmt: skip
        for number, (who, status) in enumerate(
            [("5b:alex", "To Do")] * 3 + [("5b:alex", "Done"), ("5b:mia", "To Do")], 1
        ):
            self._add(f"IT-{number}", {"summary": f"a {number}", "labels": []}, who, status)

    def _add(self, key: str, fields: dict[str, Any], assignee: str | None, status: str) -> None:
        self.state["issues"][key] = {
            "fields": fields, "assignee": assignee, "status": status, "comments": [], "attachments": {}, "unseen": 0
        }  # fmt: skip

    def settings(self, **more: Any) -> dict[str, Any]:
        """The settings of a credential for it."""
        return {
            "url": self.url, "email": f"bot@{self.name}.test", "ca_file": self.ca_file, "answer_seconds": 60,
            "call_seconds": 60, **more,
        }  # fmt: skip

    def allowed(self, asked: Asked) -> bool:
        given = base64.b64encode(f"bot@{self.name}.test:{self.token}".encode()).decode()
        return asked.headers.get("Authorization") == f"Basic {given}"

    def error(self, status: int, code: str, message: str) -> Any:
        return {"errorMessages": [message or "as the test asked for"], "errors": {}}

    # --- tickets

    def _issue(self, key: str) -> dict[str, Any]:
        if key not in self.state["issues"]:
            raise Refusal(404, "", "Issue does not exist or you do not have permission to see it.")
        found: dict[str, Any] = self.state["issues"][key]
        return found

    @route("GET", API + "/search/jql")
    def search(self, asked: Asked) -> Any:
        jql = asked.query["jql"]
        label = re.match(r'labels = "([^"]+)"', jql)
        person = re.match(r'assignee = "([^"]+)" AND statusCategory != Done', jql)
        assert label or person, jql
        found = []
        for key, issue in self.state["issues"].items():
            if label and label[1] in issue["fields"]["labels"]:
                if not issue["unseen"]:
                    found.append(key)
                issue["unseen"] = max(0, issue["unseen"] - 1)
            elif person and issue["assignee"] == person[1] and issue["status"] != "Done":
                found.append(key)
        start, size = int(asked.query.get("nextPageToken", "0")), 2
        page = {"issues": [{"id": k, "key": k, "fields": {}} for k in found[start : start + size]]}
        last = start + size >= len(found)
        return {**page, "isLast": last} | ({} if last else {"nextPageToken": str(start + size)})

    @route("POST", API + "/issue")
    def create(self, asked: Asked) -> Any:
        fields = asked.json["fields"]
        if fields["project"]["key"] not in self.state["projects"]:
            return Answer(400, {"errorMessages": [], "errors": {"project": "valid project is required"}})
        key = f"{fields['project']['key']}-{len(self.state['issues']) + 1}"
        self._add(key, fields, None, "To Do")
        self.state["issues"][key]["unseen"] = self.lag
        return Answer(201, {"id": "1000", "key": key, "self": f"https://x.test/{key}"})

    @route("GET", API + "/issue/{key}")
    def issue(self, asked: Asked, key: str) -> Any:
        found = self._issue(key)
        fields = {
            "status": {"id": "1", "name": found["status"]},
            "attachment": [{"id": str(n), "filename": name} for n, name in enumerate(found["attachments"])],
        }  # fmt: skip
        return {
            "id": "1",
            "key": key,
            "fields": {n: v for n, v in fields.items() if n in asked.query["fields"].split(",")},
        }

    @route("GET", API + "/issue/{key}/comment")
    def comments(self, asked: Asked, key: str) -> Any:
        found = [{"id": str(n), "body": body} for n, body in enumerate(self._issue(key)["comments"])]
        return {"comments": found[::-1], "startAt": 0, "maxResults": 100, "total": len(found)}

    @route("POST", API + "/issue/{key}/comment")
    def comment(self, asked: Asked, key: str) -> Any:
        self._issue(key)["comments"].append(asked.json["body"])
        return Answer(201, {"id": "77", "body": asked.json["body"]})

    @route("GET", API + "/issue/{key}/transitions")
    def transitions(self, asked: Asked, key: str) -> Any:
        here = self._issue(key)["status"]
        offered = [(i, name, to) for i, (name, to) in STATUSES.items() if to != here]
        return {"transitions": [{"id": i, "name": name, "to": {"id": i, "name": to}} for i, name, to in offered]}

    @route("POST", API + "/issue/{key}/transitions")
    def move(self, asked: Asked, key: str) -> Any:
        self._issue(key)["status"] = STATUSES[asked.json["transition"]["id"]][1]
        return Answer(204)

    @route("POST", API + "/issue/{key}/attachments", outside="not in the part of the contract that lies here")
    def attach(self, asked: Asked, key: str) -> Any:
        if asked.headers.get("X-Atlassian-Token") != "no-check":
            raise Refusal(403, "", "XSRF check failed")
        head = f"Content-Type: {asked.headers['Content-Type']}\r\n\r\n".encode()
        part = message_from_bytes(head + asked.body).get_payload(0)
        name = part.get_param("filename", header="content-disposition")  # type: ignore[union-attr]
        self._issue(key)["attachments"][name] = part.get_payload(decode=True)  # type: ignore[union-attr]
        return [{"id": "1", "filename": name}]

    @route("PUT", API + "/issue/{key}/assignee")
    def assign(self, asked: Asked, key: str) -> Any:
        self._issue(key)["assignee"] = asked.json["accountId"]
        return Answer(204)

    # --- people

    def _shown(self, user_id: str) -> dict[str, Any]:
        user = self.state["users"][user_id]
        shown = {"accountId": user_id, "accountType": "atlassian", "active": user["active"], "displayName": "O'Neil"}
        return {**shown, "emailAddress": user["mail"]} if user["mail"] else shown

    @route("GET", API + "/myself")
    def myself(self, asked: Asked) -> Any:
        return {"accountId": "5b:bot", "displayName": "Bot", "emailAddress": f"bot@{self.name}.test"}

    @route("GET", API + "/user")
    def user(self, asked: Asked) -> Any:
        if asked.query["accountId"] not in self.state["users"]:
            raise Refusal(404, "", "Specified user does not exist or you do not have required permissions")
        return self._shown(asked.query["accountId"])

    @route("GET", API + "/user/search")
    def search_user(self, asked: Asked) -> Any:
        wanted = asked.query["query"].lower()
        found = [i for i, u in self.state["users"].items() if not u["mail"] or u["mail"].startswith(wanted)]
        return [self._shown(i) for i in found]

    @route("DELETE", API + "/user")
    def delete_user(self, asked: Asked) -> Any:
        self.user(asked)
        del self.state["users"][asked.query["accountId"]]
        return Answer(204)

    @route("GET", API + "/user/groups")
    def groups(self, asked: Asked) -> Any:
        found = self.state["groups"].items()
        return [{"groupId": i, "name": name} for i, (name, people) in found if asked.query["accountId"] in people]

    @route("DELETE", API + "/group/user")
    def leave(self, asked: Asked) -> Any:
        people = self.state["groups"][asked.query["groupId"]][1]
        if asked.query["accountId"] not in people:
            raise Refusal(404, "", "The user is not in the group")
        people.remove(asked.query["accountId"])
        return Answer(200)

    @route("GET", API + "/filter/search")
    def filters(self, asked: Asked) -> Any:
        found = [f for f, owner in self.state["filters"].items() if owner == asked.query["accountId"]]
        return {"values": [{"id": f, "name": "mine"} for f in found], "total": len(found), "startAt": 0, "isLast": True}

    @route("PUT", API + "/filter/{filter_id}/owner")
    def own(self, asked: Asked, filter_id: str) -> Any:
        self.state["filters"][filter_id] = asked.json["accountId"]
        return Answer(204)

    @route("GET", API + "/project/search")
    def projects(self, asked: Asked) -> Any:
        found = [{"id": k, "key": k, "lead": {"accountId": lead}} for k, lead in self.state["projects"].items()]
        start = int(asked.query.get("startAt", "0"))
        return {
            "values": found[start : start + 1],
            "total": len(found),
            "startAt": start,
            "isLast": start + 1 >= len(found),
        }

    @route("PUT", API + "/project/{key}")
    def lead(self, asked: Asked, key: str) -> Any:
        self.state["projects"][key] = asked.json["leadAccountId"]
        return {"id": key, "key": key}

    def texts(self, key: str) -> list[str]:
        """The comments of a ticket as plain text."""
        return [
            "\n".join(t["text"] for p in body["content"] for t in p["content"]) for body in self._issue(key)["comments"]
        ]

    def dump(self) -> str:
        """Everything, as text."""
        return json.dumps(self.state, default=str)
