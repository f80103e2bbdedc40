"""A company's own services behind one address, as somebody who writes REST services would write them: people, badges, requests.

No contract describes it: it is there to show that a step's description is sent as it says.
"""

from __future__ import annotations

from typing import Any

from vendor_peer import Answer, Asked, Refusal, VendorPeer, route


class TaskPeer(VendorPeer):
    """The leaver is alex@<customer>.test with VPN account 7 and two badges."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.secret = f"secret-of-{name}"
        self.state = {
            "people": {
                "7": {"mail": f"Alex@{name}.test", "enabled": True, "sessions": 2, "grade": 5},
                "8": {"mail": f"mia@{name}.test", "enabled": True, "sessions": 1, "grade": 6},
                "a/../b?c#d": {"mail": f"odd@{name}.test", "enabled": True, "sessions": 0, "grade": 1},
            },
            "badges": {f"b{n}": {"owner": "7" if n < 4 else "8", "active": n != 2} for n in range(1, 6)},
            "requests": [],
        }
        self.ok = True

    def settings(self, **more: Any) -> dict[str, Any]:
        """The settings of a credential for it."""
        return {
            "url": self.url + "/api", "ca_file": self.ca_file, "answer_seconds": 60, "call_seconds": 60,
            "probe_path": "people", **more,
        }  # fmt: skip

    def allowed(self, asked: Asked) -> bool:
        return (
            asked.headers.get("Authorization") == f"Bearer {self.secret}"
            or asked.headers.get("X-Api-Key") == self.secret
        )

    def _person(self, key: str) -> dict[str, Any]:
        if key not in self.state["people"]:
            raise Refusal(404, "NotFound", "nobody")
        found: dict[str, Any] = self.state["people"][key]
        return found

    @route("GET", "/api/people")
    def people(self, asked: Asked) -> Any:
        found = [{"id": k, "profile": {"mail": v["mail"]}} for k, v in self.state["people"].items()]
        start = int(asked.query.get("offset", 0))
        return {"data": {"items": found[start : start + 1]}, "total": len(found)}

    @route("GET", "/api/people/{person}")
    def one(self, asked: Asked, person: str) -> Any:
        return {"id": person, **self._person(person)}

    @route("PATCH", "/api/people/{person}")
    def change(self, asked: Asked, person: str) -> Any:
        self._person(person).update(asked.json)
        return {"ok": self.ok, "result": {"id": person, "ticket": 42}}

    @route("DELETE", "/api/people/{person}")
    def delete(self, asked: Asked, person: str) -> Any:
        self._person(person)
        del self.state["people"][person]
        return Answer(204)

    @route("GET", "/api/badges")
    def badges(self, asked: Asked) -> Any:
        return [{"number": k, "holder": v["owner"], "active": v["active"]} for k, v in self.state["badges"].items()]

    @route("POST", "/api/badges/{badge}/block")
    def block(self, asked: Asked, badge: str) -> Any:
        self.state["badges"][badge]["active"] = False
        return Answer(202)

    @route("POST", "/api/requests")
    def request(self, asked: Asked) -> Any:
        kind = asked.headers.get("Content-Type", "")
        self.state["requests"].append(asked.json if kind.startswith("application/json") else asked.form)
        return Answer(201, {"number": f"R-{len(self.state['requests'])}"})

    @route("GET", "/api/requests")
    def requests_of(self, asked: Asked) -> Any:
        return {"list": [{"number": f"R-{n}", **r} for n, r in enumerate(self.state["requests"], 1)]}
