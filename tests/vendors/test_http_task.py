"""`http.*`: what a step describes is what is sent, and nothing that a value holds becomes an address or a header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from task_peer import TaskPeer
from vendor_matrix import Case, FaultMatrix

from agent.errors import StepError
from agent.functions import registry
from agent.functions.systems.http import EachParameters, RequestParameters, requests
from agent.functions.systems.http.service import system_of

PAGING = {"style": "offset", "entries": "data.items", "query_key": "offset", "total": "total"}
FIND = {
    "path": ["people"], "paging": PAGING, "where": [{"at": "profile.mail", "is": "alex@contoso.test", "ignore_case": "true"}],
}  # fmt: skip
DISABLE = {
    "find": FIND,
    "request": {
        "method": "PATCH", "path": ["people", {"found": "id"}],
        "body": {"enabled": {"boolean": "false"}, "sessions": {"number": "0"}, "note": {"nothing": ""}, "why": ["left", {"found": "id"}]},
        "repeatable": "true", "success": [{"at": "ok", "is": "true"}], "keep": {"ticket": "result.ticket"},
    },
    "verify": {"path": ["people", {"found": "id"}], "done": [{"at": "enabled", "is": "false"}, {"at": "sessions", "is": "0"}], "method": "GET"},
}  # fmt: skip
DELETE = {
    "find": {**FIND, "when_missing": "done"}, "request": {"method": "DELETE", "path": ["people", {"found": "id"}]},
    "verify": {"method": "GET", "path": ["people", {"found": "id"}], "done": [{"is": "404"}]},
}  # fmt: skip
BADGES = {
    "entries": {
        "path": ["badges"], "where": [{"at": "holder", "is": "7"}, {"at": "active", "is": "true"}],
    },
    "request": {"method": "POST", "path": ["badges", {"found": "number"}, "block"], "repeatable": "true"}, "id": "number",
}  # fmt: skip
TICKET = {
    "request": {
        "method": "POST", "path": ["requests"], "body": {"kind": "card", "run": "root1"}, "keep": {"number": "number"}
    },
    "verify": {"method": "GET", "path": ["requests"], "done": [{"at": "list.0.run", "is": "root1"}]},
}  # fmt: skip


def alex(peer: TaskPeer) -> dict[str, Any]:
    found: dict[str, Any] = peer.state["people"]["7"]
    return found


def _disabled(peer: TaskPeer) -> bool:
    return (alex(peer)["enabled"], alex(peer)["sessions"], alex(peer)["note"], alex(peer)["why"]) == (
        False,
        0,
        None,
        ["left", "7"],
    )


def _blocked(peer: TaskPeer) -> bool:
    return [b["active"] for b in peer.state["badges"].values()] == [False, False, False, True, True]


CASES = [
    Case("http.ensure", "PATCH", _disabled, DISABLE, finds=False),
    Case("http.ensure", "DELETE", lambda p: "7" not in p.state["people"], DELETE, finds=False, id="delete"),
    Case("http.each", "POST", _blocked, BADGES, finds=False),
    Case("http.request", "POST", lambda p: p.state["requests"] == [{"kind": "card", "run": "root1"}], TICKET, finds=False),
]  # fmt: skip


class TestHttp(FaultMatrix):
    """The matrix."""

    peer, cases, kind = TaskPeer, CASES, "http"
    contoso: TaskPeer

    def credential(self, peer: Any) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        return peer.settings(), {"secret": peer.secret}

    def test_every_function_is_here(self) -> None:
        functions = {c.function for c in self.cases} | {"http.confirm"}
        assert functions == {n for n in registry.names() if n.startswith("http.")}

    def test_the_credential_is_tested(self) -> None:
        system = system_of("vpn")
        assert system.service.kind == "http_vpn"
        assert system.test(*self.credential(self.contoso)) == "GET /people was answered 200"
        with pytest.raises(StepError, match="answered 401"):
            system.test(self.contoso.settings(), {"secret": "wrong"})

    @pytest.mark.parametrize(
        ("more", "code"),
        [({"auth": "api_key"}, None), ({"auth": "api_key", "key_header": "Authorization", "key_prefix": "Bearer "}, None),
         ({"auth": "none"}, "401"), ({"auth": "basic", "username": "bot"}, "401"), ({"auth": "basic"}, "wrong_credential"),
         ({"auth": "oauth2"}, "wrong_credential"), ({"auth": "api_key", "key_header": "X: y"}, "wrong_credential")],
    )  # fmt: skip
    def test_the_ways_to_sign_in(self, more: dict[str, str], code: str | None) -> None:
        self.context.credentials["http"] = (self.contoso.settings(**more), {"secret": self.contoso.secret})
        outcome = self.run(CASES[0])
        assert (outcome.error.code if outcome.error else None) == (
            code if code != "401" else "Unauthorized" if code else None
        )

    def test_nobody_is_found(self) -> None:
        nobody = {**FIND, "where": [{"at": "profile.mail", "is": "nobody@contoso.test"}]}
        outcome = self.run(CASES[0], find=nobody)
        self.failed(outcome, "ACCOUNT_NOT_FOUND")
        assert "profile.mail is nobody@contoso.test" in str(outcome.error)
        outcome = self.run(CASES[1], find={**nobody, "when_missing": "done"})
        assert outcome.result["outcome"] == "already" and self.contoso.written() == []

    def test_several_are_nobody(self) -> None:
        everybody = {**FIND, "where": [{"at": "id", "present": "true"}]}
        outcome = self.run(CASES[0], find=everybody)
        self.failed(outcome, "ACCOUNT_NOT_FOUND")
        assert outcome.error is not None and outcome.error.code == "ambiguous" and self.contoso.written() == []

    def test_an_answer_that_is_no_success_is_a_failure(self) -> None:
        self.contoso.ok = False
        outcome = self.run(CASES[0], failure_type="LICENSE_REMOVAL_FAILED", impact="It is still paid for.")
        self.failed(outcome, "LICENSE_REMOVAL_FAILED")
        assert "ok is true" in str(outcome.error) and outcome.error is not None
        assert outcome.error.impact == "It is still paid for."

    def test_what_never_comes_true_is_not_confirmed(self) -> None:
        never = {**DISABLE["verify"], "done": [{"at": "grade", "is": "0"}]}  # type: ignore[dict-item]
        outcome = self.run(CASES[0], verify=never)
        assert outcome.error is not None and outcome.error.code == "not_confirmed"

    def test_values_are_kept_for_later_steps(self) -> None:
        assert self.run(CASES[0]).result["ticket"] == 42
        assert self.run(CASES[3]).result["number"] == "R-1"

    def test_a_request_without_a_verification_is_sent_and_not_verified(self) -> None:
        once = {"request": TICKET["request"]}
        outcome = self.context.run("http.request", **once)
        assert (outcome.state, outcome.result["verified"]) == ("succeeded", False)
        self.contoso.fault("POST", "lose", 1)
        assert self.context.run("http.request", **once).state == "unknown"
        assert len(self.contoso.state["requests"]) == 2

    def test_a_form_is_sent(self) -> None:
        form = {"method": "POST", "path": ["requests"], "form": {"a": "b&c=d", "e": "ü"}}
        assert self.context.run("http.request", request=form).state == "succeeded"
        assert self.contoso.state["requests"] == [{"a": "b&c=d", "e": "ü"}]

    def test_confirm_only_asks(self) -> None:
        values = {"find": FIND, "verify": DISABLE["verify"]}
        self.failed(self.context.run("http.confirm", **values), "INTEGRATION_ERROR")
        alex(self.contoso).update(enabled=False, sessions=0)
        assert self.context.run("http.confirm", **values).result["outcome"] == "confirmed"
        assert self.contoso.written() == []

    def test_each_names_what_did_not_work(self) -> None:
        self.contoso.fault("b3", 403)
        outcome = self.run(CASES[2])
        self.failed(outcome, "PERMISSION_DENIED")
        assert [(e["id"], e["outcome"]) for e in outcome.result["entries"]] == [("b1", "changed"), ("b3", "failed")]

    # --- values never become syntax

    def test_an_odd_id_stays_one_part_of_the_path(self) -> None:
        find = {**FIND, "where": [{"at": "profile.mail", "is": "odd@contoso.test"}]}
        assert self.run(CASES[0], find=find).state == "succeeded"
        assert self.contoso.state["people"]["a/../b?c#d"]["enabled"] is False
        assert "PATCH /api/people/a%2F..%2Fb%3Fc%23d" in self.contoso.calls

    @pytest.mark.parametrize("part", ["", ".", ".."])
    def test_a_part_that_leads_elsewhere_is_refused(self, part: str) -> None:
        outcome = self.context.run("http.request", request={"method": "DELETE", "path": ["people", part]})
        assert outcome.error is not None and outcome.error.code == "wrong_value"
        assert self.contoso.requests == []

    def test_a_query_is_one_value(self) -> None:
        ask = {"method": "POST", "path": ["requests"], "query": {"q": "a&admin=1#x"}, "body": {}}
        self.context.run("http.request", request=ask)
        assert self.contoso.requests[-1].query == {"q": "a&admin=1#x"}


def _request(**more: Any) -> RequestParameters:
    return RequestParameters.model_validate({"request": {"method": "POST", "path": ["x"], **more}})


@pytest.mark.parametrize(
    "headers",
    [{"X-A": "b\r\nX-Evil: 1"}, {"X-A": "ü"}, {"X A": "b"}, {"X-A:": "b"}, {"Authorization": "b"}, {"hOsT": "b"}, {"Content-Length": "1"}],
)  # fmt: skip
def test_headers_that_are_not_a_steps_to_set(headers: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        _request(headers=headers)
    assert _request(headers={"If-Match": "*"}).request.headers == {"If-Match": "*"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "CONNECT"}, {"path": []}, {"path": "people/7"}, {"body": {}, "form": {}}, {"colour": "blue"},
        {"success": [{"at": "a"}]}, {"success": [{"at": "a", "is": "b", "present": "true"}]}, {"also_success": ["500"]},
    ],
)  # fmt: skip
def test_a_description_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _request(**wrong)


@pytest.mark.parametrize("service", ["../x", "VPN", "a b", "vpn\n", "1"])
def test_a_service_is_a_word(service: str) -> None:
    with pytest.raises(ValidationError):
        EachParameters.model_validate({**BADGES, "service": service})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"number": "5"}, 5), ({"number": "-1.50"}, -1.5), ({"boolean": "True"}, True), ({"boolean": "0"}, False),
        ({"nothing": ""}, None), ({"found": "a.b"}, [1]), ({"object": {"number": "x"}}, {"number": "x"}),
        ({"number": {"number": "5"}, "b": "c"}, {"number": 5, "b": "c"}), (["5", {"number": "5"}], ["5", 5]),
        ({"a": {"b": {"boolean": "true"}}}, {"a": {"b": True}}), ("{{ x }}", "{{ x }}"),
    ],
)  # fmt: skip
def test_values_of_a_body_have_types(written: Any, meant: Any) -> None:
    found = requests.typed(written, {"a": {"b": [1]}})
    assert found == meant and type(found) is type(meant)


@pytest.mark.parametrize(
    "written", [{"number": "1e5"}, {"number": "NaN"}, {"number": "01"}, {"boolean": "yes"}, {"found": "x"}]
)
def test_values_that_are_none(written: Any) -> None:
    with pytest.raises(StepError) as wrong:
        requests.typed(written, {"a": 1})
    assert wrong.value.code == "wrong_value"


@given(
    st.recursive(
        st.text(max_size=5), lambda s: st.lists(s, max_size=3) | st.dictionaries(st.sampled_from("abcd"), s, max_size=3)
    )
)
@settings(max_examples=80, deadline=None)
def test_text_stays_text(body: Any) -> None:
    assert requests.typed(body, None) == body


@given(st.text(min_size=1, max_size=12), st.text(max_size=12))
@settings(max_examples=80, deadline=None)
def test_a_condition_compares_whole_values(wanted: str, value: str) -> None:
    condition = requests.Condition.model_validate({"at": "v", "is": wanted})
    assert condition.holds({"v": value}) == (wanted == value)
    assert condition.holds({}) == (wanted == "null")
