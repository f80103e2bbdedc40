"""The base of the vendors' test systems itself: it notes what breaks a contract, keeps state, and breaks as it is told."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
from vendor_contract import Contract
from vendor_peer import Answer, Asked, Refusal, VendorPeer, route, running


class Org(VendorPeer):
    """Two calls of Okta's, as small as they can be."""

    contract = Contract("okta-offboarding.openapi.yaml", "https://subdomain.okta.com")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.state = {"sessions": {"u1": 3}, "wrong": False}

    def allowed(self, asked: Asked) -> bool:
        return asked.headers["Authorization"] == f"SSWS {self.name}"

    def error(self, status: int, code: str, message: str) -> Any:
        return {"errorCode": code, "errorSummary": message}

    @route("DELETE", "/api/v1/users/{user}/sessions")
    def clear(self, asked: Asked, user: str) -> Any:
        if user not in self.state["sessions"]:
            raise Refusal(404, "E0000007", "Not found")
        self.state["sessions"][user] = 0
        return Answer(204)

    @route("GET", "/api/v1/users/{user}/groups")
    def groups(self, asked: Asked, user: str) -> Any:
        return {"not": "a list"} if self.state["wrong"] else []


@pytest.fixture
def org(vendor_certificate: Path) -> Any:
    assert Org.contract is not None
    Org.contract.require()
    with running(Org("contoso"), vendor_certificate) as peer:
        yield peer


@pytest.fixture
def client(org: Org) -> Any:
    tls = ssl.create_default_context(cafile=org.ca_file)
    with httpx.Client(base_url=org.url, verify=tls, headers={"Authorization": "SSWS contoso"}, timeout=60) as made:
        yield made


def test_it_keeps_state_and_answers_by_the_contract(org: Org, client: httpx.Client) -> None:
    assert client.delete("/api/v1/users/u1/sessions").status_code == 204
    assert client.get("/api/v1/users/u1/groups").json() == []
    assert client.delete("/api/v1/users/u%2F9/sessions").status_code == 404
    assert org.state["sessions"] == {"u1": 0}
    assert org.calls == ["DELETE /api/v1/users/u1/sessions", "GET /api/v1/users/u1/groups",
                         "DELETE /api/v1/users/u%2F9/sessions"]  # fmt: skip
    assert org.written() == [org.calls[0], org.calls[2]]
    assert org.violations == []


def test_what_breaks_the_contract_is_noted(org: Org, client: httpx.Client) -> None:
    org.state["wrong"] = True
    client.get("/api/v1/users/u1/groups")
    client.delete("/api/v1/users/u1/sessions?oauthTokens=perhaps")
    client.get("/api/v1/nothing")
    client.get("/api/v1/users/u1/groups", headers={"Authorization": ""})
    assert [v.split(":")[0].split(" {")[0] for v in org.violations][:3] == [
        "answer 200 to GET /api/v1/users/u1/groups", "request DELETE /api/v1/users/u1/sessions",
        "request GET /api/v1/nothing",
    ]  # fmt: skip
    assert any("answer 401" in v for v in org.violations)


def test_it_breaks_as_it_is_told(org: Org, client: httpx.Client) -> None:
    clear = "/api/v1/users/u1/sessions"
    org.fault("DELETE", 429, 1, retry_after=7)
    answer = client.delete(clear)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    org.fault("DELETE", 500, 1)
    assert client.delete(clear).status_code == 500
    org.fault("DELETE", "drop", 1)
    with pytest.raises(httpx.TransportError):
        client.delete(clear)
    assert org.state["sessions"] == {"u1": 3}
    org.fault("DELETE", "lose", 1)
    with pytest.raises(httpx.TransportError):
        client.delete(clear)
    assert org.state["sessions"] == {"u1": 0}
    org.fault("DELETE", "lose", for_good=True)
    for call in (client.delete, client.get, client.get):
        with pytest.raises(httpx.TransportError):
            call(clear)


def test_a_silence_is_a_time_out(org: Org, client: httpx.Client) -> None:
    org.fault("GET", "hang", 1)
    with pytest.raises(httpx.ReadTimeout):
        client.get("/api/v1/users/u1/groups", timeout=httpx.Timeout(60, read=0.5))
    org.release.set()
