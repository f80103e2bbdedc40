"""The services of a company's own that the packages VPN, Badge, Company Card, Phone, Parking, HR and Software Licence describe, by
the tables in their READMEs. All stand behind one address; a real company has one for each.
"""

from __future__ import annotations

from typing import Any

from vendor_peer import Answer, Asked, Refusal, VendorPeer, route


class OfficePeer(VendorPeer):
    """John leaves; the boss stays."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.secret = f"key-of-{name}"
        john, boss = f"John@{name}.example", f"boss@{name}.example"
        both = ((1, john), (2, boss))
        self.state: dict[str, Any] = {
            "users": {f"u{n}": {"email": who, "enabled": True} for n, who in both},
            "sessions": {"u1": [{"id": "s1"}, {"id": "s2"}], "u2": [{"id": "s3"}]},
            "badges": {f"b{n}": {"holder": who, "number": str(n), "status": "active"} for n, who in (*both, (3, john))},
            "cards": {f"c{n}": {"holder": who, "last_digits": "0001", "status": "active"} for n, who in both},
            "requests": {},
            "extensions": {f"e{n}": {"owner": who, "active": True} for n, who in both},
            "permits": {f"p{n}": {"holder": who, "plate": f"AB {n}"} for n, who in (*both, (3, john))},
            "employees": {f"h{n}": {"email": who, "status": "employed", "last_day": None} for n, who in both},
            "assignments": {f"a{n}": {"user": who, "product": "CAD"} for n, who in both},
            "subscriptions": {f"x{n}": {"owner": who, "product": "News", "status": "running"} for n, who in both},
        }

    def allowed(self, asked: Asked) -> bool:
        return asked.headers.get("Authorization") == f"Bearer {self.secret}"

    def _things(self, kind: str) -> dict[str, Any]:
        if kind not in self.state or kind == "sessions":
            raise Refusal(404, "", f"no {kind}")
        found: dict[str, Any] = self.state[kind]
        return found

    @route("GET", "/api/{kind}")
    def listed(self, asked: Asked, kind: str) -> Any:
        found = [{"id": key, **thing} for key, thing in self._things(kind).items()]
        return [t for t in found if all(str(t.get(name)) == value for name, value in asked.query.items())]

    @route("POST", "/api/requests")
    def requested(self, asked: Asked) -> Any:
        number = f"R-{len(self.state['requests']) + 1}"
        self.state["requests"][number] = {**asked.json, "number": number}
        return Answer(201, {"number": number})

    @route("GET", "/api/{kind}/{key}")
    def shown(self, asked: Asked, kind: str, key: str) -> Any:
        if key not in self._things(kind):
            raise Refusal(404, "", "gone")
        return {"id": key, **self._things(kind)[key]}

    @route("PATCH", "/api/{kind}/{key}")
    def changed(self, asked: Asked, kind: str, key: str) -> Any:
        self._things(kind)[key].update(asked.json)
        return Answer(204)

    @route("DELETE", "/api/{kind}/{key}")
    def removed(self, asked: Asked, kind: str, key: str) -> Any:
        del self._things(kind)[key]
        return Answer(204)

    @route("GET", "/api/users/{user}/sessions")
    def sessions(self, asked: Asked, user: str) -> Any:
        return self.state["sessions"][user]

    @route("DELETE", "/api/users/{user}/sessions")
    def ended(self, asked: Asked, user: str) -> Any:
        self.state["sessions"][user] = []
        return Answer(204)

    @route("POST", "/api/subscriptions/{key}/cancel")
    def cancelled(self, asked: Asked, key: str) -> Any:
        self.state["subscriptions"][key]["status"] = "cancelled"
        return Answer(202)
