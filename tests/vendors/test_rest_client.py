"""The client of all REST services against one that breaks on demand: what is repeated, what is not, and what is told."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vendor_peer import Answer, Asked, Refusal, VendorPeer, route, running

from agent.errors import AnswerLost, CannotConnect, ExeuntError, StepError, UsageError
from agent.services.rest import signing, waiting
from agent.services.rest.client import Call, RestClient, Upload, path_of
from agent.services.rest.errors import RestRefused, Service, refusal
from agent.services.rest.paging import (
    SCIM,
    LinkHeader,
    LinkInBody,
    Offset,
    PageNumber,
    PageToken,
    Paging,
    Whole,
    at,
    next_link,
)
from agent.services.rest.settings import RestSettings, checked_settings

SERVICE = Service(
    "Shop", "shop", missing=frozenset({"1001"}), busy=frozenset({"ratelimited"}), denied=frozenset({"not_allowed"}),
    refuses=lambda body: isinstance(body, dict) and body.get("ok") is False,
)  # fmt: skip
SECRET = "hunter2-not-to-be-shown"


class Shop(VendorPeer):
    """Things in a list of seven, a change, and a place that gives tokens."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.state: dict[str, Any] = {"things": list(range(7)), "changes": 0, "size": 3}
        self.tokens: list[str] = []
        self.elsewhere = ""
        self.answer: Any = {"ok": True}

    def allowed(self, asked: Asked) -> bool:
        return asked.headers.get("Authorization") in (f"Bearer {SECRET}", *(f"Bearer {t}" for t in self.tokens[-1:]))

    @route("GET", "/v1/things")
    def things(self, asked: Asked) -> Any:
        offset, size = int(asked.query.get("offset", "0")), self.state["size"]
        if "page" in asked.query:
            offset = (int(asked.query["page"]) - 1) * size
        if "startIndex" in asked.query:
            offset = int(asked.query["startIndex"]) - 1
        offset = int(asked.query.get("cursor", offset))
        part, after = self.state["things"][offset : offset + size], offset + size
        more = after < len(self.state["things"])
        link = f"{self.elsewhere or self.url}/v1/things?offset={after}"
        body = {
            "list": part, "Resources": part, "total": 7, "totalResults": 7, "pages": 3, "next": link if more else None,
            "cursor": str(after) if more else "",
        }  # fmt: skip
        own = f'<{self.url}/v1/things>; rel="self"'
        return Answer(200, body, {"Link": f'{own}, <{link}>; rel="next"' if more else own})

    @route("GET", "/v1/endless")
    def endless(self, asked: Asked) -> Any:
        return {"list": [1], "cursor": "again"}

    @route("POST", "/v1/change")
    def change(self, asked: Asked) -> Any:
        self.state["changes"] += 1
        return self.answer

    @route("GET", "/v1/ask")
    def ask(self, asked: Asked) -> Any:
        return self.answer

    @route("GET", "/v1/moved")
    def moved(self, asked: Asked) -> Any:
        return Answer(302, None, {"Location": self.elsewhere + "/v1/ask" if self.elsewhere else "ask"})

    @route("POST", "/v1/moved")
    def posted(self, asked: Asked) -> Any:
        return Answer(int(asked.query["status"]), None, {"Location": self.elsewhere + "/v1/change"})

    @route("POST", "/token", open=True)
    def token(self, asked: Asked) -> Any:
        expected = "Basic " + base64.b64encode(f"id:{SECRET}".encode()).decode()
        if asked.headers.get("Authorization") != expected or asked.form.get("grant_type") != "client_credentials":
            raise Refusal(400, "invalid_client", "who are you")
        self.tokens.append(f"token-{len(self.tokens)}")
        return {"access_token": self.tokens[-1], "expires_in": "3600"}


@pytest.fixture
def shops(vendor_certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Shop, Shop]]:
    monkeypatch.setattr(signing, "_kept", {})
    with running(Shop("contoso"), vendor_certificate) as one, running(Shop("fabrikam"), vendor_certificate) as two:
        assert isinstance(one, Shop) and isinstance(two, Shop)
        yield one, two


@pytest.fixture
def shop(shops: tuple[Shop, Shop]) -> Shop:
    return shops[0]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(waiting, "pause", found.append)
    return found


def reach(shop: Shop, **more: Any) -> RestSettings:
    return checked_settings(
        SERVICE, RestSettings, {"url": shop.url + "/v1", "ca_file": shop.ca_file, "answer_seconds": 60, **more}
    )


@pytest.fixture
def client(shop: Shop, waits: list[float]) -> Iterator[RestClient]:
    with RestClient(SERVICE, reach(shop), signing.bearer(SERVICE, SECRET), run_id="r1") as made:
        yield made


ASK, CHANGE = Call("GET", "/ask"), Call("POST", "/change", json={"a": 1})


def told(error: ExeuntError) -> str:
    """Everything that an error can show, with its causes."""
    import traceback

    typed = getattr(error, "typed", None)
    return "".join(traceback.format_exception(error)) + str(vars(error)) + str(typed and vars(typed))


def test_a_request_names_its_run_and_asks_for_json(client: RestClient, shop: Shop) -> None:
    assert client.object(ASK) == {"ok": True}
    assert not client.wrote
    headers = shop.requests[0].headers
    assert headers["User-Agent"].endswith("(run:r1)") and headers["Accept"] == "application/json"
    client.object(CHANGE)
    assert client.wrote and shop.requests[1].json == {"a": 1}


@pytest.mark.parametrize("status", [429, 503])
def test_what_was_refused_for_now_is_repeated_after_the_time_asked_for(
    client: RestClient, shop: Shop, waits: list[float], status: int
) -> None:
    shop.fault("change", status, 2, retry_after=7)
    client.send(CHANGE)
    assert shop.state["changes"] == 1 and len(waits) == 2 and min(waits) >= 7


def test_a_wait_longer_than_the_deadline_is_not_begun(client: RestClient, shop: Shop, waits: list[float]) -> None:
    shop.fault("change", 429, retry_after=3600)
    with pytest.raises(RestRefused) as refused:
        client.send(CHANGE)
    assert refused.value.passing and waits == [] and len(shop.calls) == 1


@pytest.mark.parametrize("fault", [500, 502, "drop", "lose"])
def test_a_change_whose_answer_is_lost_is_not_repeated(client: RestClient, shop: Shop, fault: Any) -> None:
    shop.fault("change", fault, 1)
    with pytest.raises(AnswerLost) as lost:
        client.send(CHANGE)
    assert len(shop.calls) == 1
    assert lost.value.typed is not None and lost.value.typed.code == "answer_lost"


@pytest.mark.parametrize("fault", [500, "drop"])
def test_what_may_be_repeated_is_repeated(client: RestClient, shop: Shop, fault: Any) -> None:
    shop.fault("", fault, 2)
    assert client.object(ASK) == {"ok": True}
    shop.fault("", fault, 2)
    client.send(Call("POST", "/change", may_repeat=True))
    assert shop.state["changes"] == 1


def test_a_question_that_nobody_answers_is_a_refusal(client: RestClient, shop: Shop) -> None:
    shop.fault("ask", 500)
    with pytest.raises(RestRefused) as refused:
        client.send(ASK)
    assert (refused.value.status, refused.value.type, refused.value.passing) == (500, "INTEGRATION_ERROR", True)
    assert len(shop.calls) == waiting.ATTEMPTS


def test_nothing_listens(shop: Shop, waits: list[float]) -> None:
    gone = reach(shop).model_copy(update={"url": "https://127.0.0.1:9"})
    with RestClient(SERVICE, gone, signing.unsigned(), run_id="r") as client:
        with pytest.raises(CannotConnect) as error:
            client.send(CHANGE)
        assert not client.wrote
    assert error.value.typed is not None and error.value.typed.type == "INTEGRATION_ERROR"


def test_an_unknown_certificate_is_refused(shop: Shop, waits: list[float]) -> None:
    with (
        RestClient(SERVICE, reach(shop, ca_file=None), signing.bearer(SERVICE, SECRET), run_id="r") as client,
        pytest.raises(CannotConnect),
    ):
        client.send(ASK)
    assert shop.calls == []


def test_refusals_have_types(client: RestClient, shop: Shop) -> None:
    expected = [(403, "PERMISSION_DENIED", False), (404, "INTEGRATION_ERROR", True), (400, "INTEGRATION_ERROR", False)]
    for status, kind, missing in expected:
        shop.faults.clear()
        shop.fault("ask", status, 1)
        with pytest.raises(RestRefused) as refused:
            client.send(ASK)
        assert (refused.value.type, refused.value.missing, refused.value.status) == (kind, missing, status)
    assert refusal(SERVICE, "x", 400, {"code": 1001, "message": "User does not exist"}).missing
    assert refusal(SERVICE, "x", 404, {"error": "not_allowed"}).type == "PERMISSION_DENIED"


def test_a_service_that_says_no_with_200(client: RestClient, shop: Shop) -> None:
    shop.answer = {"ok": False, "error": "not_allowed"}
    with pytest.raises(RestRefused) as refused:
        client.send(CHANGE)
    assert (refused.value.type, refused.value.code) == ("PERMISSION_DENIED", "not_allowed")
    shop.answer = {"ok": False, "error": "ratelimited"}
    with pytest.raises(RestRefused) as refused:
        client.send(ASK)
    assert len([c for c in shop.calls if c.startswith("GET")]) == waiting.ATTEMPTS


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"code": 1001, "message": "User  does\nnot exist"}, ("1001", "User does not exist")),
        ({"error": {"code": 404, "message": "Not Found", "status": "NOT_FOUND"}}, ("404", "Not Found")),
        ({"error": "invalid_client", "error_description": "no"}, ("invalid_client", "no")),
        ({"errorCode": "E0000007", "errorSummary": "Not found"}, ("E0000007", "Not found")),
        ({"errorMessages": ["gone"], "errors": {"summary": "is required"}}, ("", "gone; summary: is required")),
        ({"detail": "Resource u1 not found", "status": "404"}, ("", "Resource u1 not found")),
        ({"ok": False, "error": "user_not_found"}, ("user_not_found", "")),
        ({"code": "Invalid", "message": "bad", "errors": [{"message": "id is missing"}]}, ("Invalid", "bad; id is missing")),
        ("no object", ("", "")),
        (None, ("", "")),
    ],
)  # fmt: skip
def test_the_words_of_errors_are_found(body: Any, words: tuple[str, str]) -> None:
    from agent.services.rest.errors import words_of

    assert words_of(body) == words


# --- where the credential goes


def test_a_redirect_to_another_host_is_refused(client: RestClient, shops: tuple[Shop, Shop]) -> None:
    shop, other = shops
    shop.elsewhere = other.url
    with pytest.raises(StepError) as refused:
        client.send(Call("GET", "/moved"))
    assert "another host" in str(refused.value)
    with pytest.raises(RestRefused) as redirected:
        client.send(Call("POST", "/moved", query={"status": "307"}))
    assert redirected.value.code == "redirected"
    with pytest.raises(AnswerLost):
        client.send(Call("POST", "/moved", query={"status": "303"}))
    assert other.requests == []


def test_a_redirect_of_a_question_within_the_host_is_followed(client: RestClient, shop: Shop) -> None:
    assert client.object(Call("GET", "/moved")) == {"ok": True}


def test_no_error_shows_the_secret(shop: Shop, waits: list[float]) -> None:
    """Neither in a message nor in what an exception holds, and a secret with a newline is refused before it is sent."""
    for broken in (SECRET + "\nX-Injected: 1", "ünlesbar" + SECRET, " " + SECRET, ""):
        with pytest.raises(StepError) as wrong:
            signing.bearer(SERVICE, broken)
        assert SECRET not in told(wrong.value)
    with pytest.raises(StepError) as settings_error:
        reach(shop, url=f"https://user:{SECRET}@host")
    assert SECRET not in told(settings_error.value)
    for fault in (400, 500, "drop"):
        shop.faults.clear()
        shop.fault("", fault)
        with (
            RestClient(SERVICE, reach(shop), signing.bearer(SERVICE, SECRET), run_id="r") as client,
            pytest.raises(ExeuntError) as error,
        ):
            client.send(CHANGE)
        assert SECRET not in told(error.value)
    assert "X-Injected" not in str([r.headers for r in shop.requests])


@pytest.mark.parametrize(
    "url", ["http://h", "https://", "https://h/?a=b", "https://u@h", "https://h/a b", "https://h\\x", ""]
)
def test_an_address_is_https_and_nothing_else(url: str) -> None:
    with pytest.raises(StepError) as wrong:
        checked_settings(SERVICE, RestSettings, {"url": url})
    assert wrong.value.code == "wrong_credential"


# --- tokens


def tokens(shop: Shop, secret: str = SECRET) -> signing.Tokens:
    grant = signing.Grant(shop.url + "/token", lambda: {"grant_type": "client_credentials"}, ("id", secret))
    return signing.tokens(SERVICE, reach(shop), grant)


def test_a_token_is_fetched_once_and_again_when_it_is_refused(shop: Shop, waits: list[float]) -> None:
    for _ in range(2):
        with RestClient(SERVICE, reach(shop), tokens(shop), run_id="r") as client:
            client.send(ASK)
    assert len(shop.tokens) == 1
    shop.tokens.append("another: the first one is void")
    with RestClient(SERVICE, reach(shop), tokens(shop), run_id="r") as client:
        client.send(CHANGE)
    assert len(shop.tokens) == 3 and shop.state["changes"] == 1


def test_two_clients_share_no_token(shops: tuple[Shop, Shop]) -> None:
    assert tokens(shops[0]) is tokens(shops[0])
    assert tokens(shops[0]) is not tokens(shops[1])
    assert tokens(shops[0]) is not tokens(shops[0], "another secret")


def test_a_wrong_secret_is_named_and_not_shown(shop: Shop, waits: list[float]) -> None:
    with RestClient(SERVICE, reach(shop), tokens(shop, "wrong-" + SECRET), run_id="r") as client:
        with pytest.raises(StepError) as refused:
            client.send(CHANGE)
        assert not client.wrote
    assert refused.value.type == "PERMISSION_DENIED" and SECRET not in told(refused.value)


def test_signing_in_is_repeated_when_it_is_throttled(shop: Shop, waits: list[float]) -> None:
    shop.fault("token", 429, 2, retry_after=1)
    assert tokens(shop).headers()["Authorization"] == "Bearer token-0"
    shop.fault("token", "drop")
    with pytest.raises(CannotConnect):
        tokens(shop, "another").headers()


# --- bounds


def test_an_answer_is_bounded(shop: Shop, waits: list[float]) -> None:
    shop.answer = {"long": "x" * 5000}
    with RestClient(SERVICE, reach(shop, answer_bytes=1024), signing.bearer(SERVICE, SECRET), run_id="r") as client:
        with pytest.raises(StepError) as refused:
            client.send(ASK)
        assert "too much" in str(refused.value)
        with pytest.raises(AnswerLost):
            client.send(CHANGE)


def test_what_is_no_json_is_no_answer(client: RestClient, shop: Shop) -> None:
    shop.answer = Answer(200, b"<html>", content_type="text/html")
    with pytest.raises(StepError):
        client.json(ASK)
    with pytest.raises(AnswerLost):
        client.json(CHANGE)
    shop.answer = Answer(204)
    assert client.object(CHANGE) == {}


def test_a_file_is_uploaded(client: RestClient, shop: Shop) -> None:
    client.send(Call("POST", "/change", upload=Upload("file", 'a"b\n.pdf', b"%PDF", "application/pdf")))
    body = shop.requests[-1].body
    assert b"%PDF" in body and b'a"b\n' not in body


# --- lists

STYLES: list[tuple[Paging, dict[str, str]]] = [
    (LinkHeader(entries="list"), {}),
    (LinkInBody(entries="list", next="next"), {}),
    (PageToken(entries="list", next="cursor", parameter="cursor"), {"limit": "3"}),
    (Offset(entries="list", parameter="offset", total="total"), {}),
    (Offset(entries="list", parameter="offset"), {}),
    (PageNumber(entries="list", parameter="page", pages="pages"), {}),
    (PageNumber(entries="list", parameter="page", size=3), {}),
    (SCIM, {}),
]


@pytest.mark.parametrize(("paging", "query"), STYLES, ids=[f"{n}-{p.style}" for n, (p, _) in enumerate(STYLES)])
def test_every_style_gives_the_whole_list(
    client: RestClient, shop: Shop, paging: Paging, query: dict[str, str]
) -> None:
    assert client.all(Call("GET", "/things", query), paging) == list(range(7))
    assert all(r.query.items() >= query.items() for r in shop.requests)
    shop.state["things"] = []
    assert client.all(Call("GET", "/things", query), paging) == []


def test_a_next_page_on_another_host_is_refused(client: RestClient, shops: tuple[Shop, Shop]) -> None:
    shops[0].elsewhere = shops[1].url
    for paging in (LinkHeader(entries="list"), LinkInBody(entries="list", next="next")):
        with pytest.raises(StepError) as refused:
            client.all(Call("GET", "/things"), paging)
        assert "another host" in str(refused.value)
    assert shops[1].requests == []


def test_a_list_without_an_end_is_given_up(client: RestClient, shop: Shop) -> None:
    with pytest.raises(StepError) as refused:
        client.all(Call("GET", "/endless"), PageToken(entries="list", next="cursor", parameter="cursor"))
    assert "no end" in str(refused.value) and len(shop.calls) == 2


def test_no_list_is_no_answer(client: RestClient, shop: Shop) -> None:
    with pytest.raises(StepError):
        client.all(ASK, Whole(entries="list"))


# --- parsers


@given(st.lists(st.text(min_size=1, max_size=20).filter(lambda t: t not in (".", "..")), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_a_part_of_a_path_never_becomes_syntax(parts: list[str]) -> None:
    from urllib.parse import unquote, urlsplit

    try:
        path = path_of(*parts)
    except UnicodeEncodeError:
        return
    split = urlsplit("https://h" + path)
    assert [unquote(p, errors="strict") for p in split.path.split("/")[1:]] == parts
    assert not split.query and not split.fragment and split.netloc == "h"


@pytest.mark.parametrize("part", ["", ".", ".."])
def test_a_part_that_leads_elsewhere_is_refused(part: str) -> None:
    with pytest.raises(UsageError):
        path_of("users", part)


@given(st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_link_header_is_read(text: str) -> None:
    found = next_link(text)
    assert found is None or found in text
    assert next_link('<https://h/a,b;c>; title="x, y"; rel="prev NEXT", ' + text) == "https://h/a,b;c"


_JSON = st.recursive(
    st.none() | st.text(max_size=3) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(_JSON, st.text("ab01.", max_size=8))
@settings(max_examples=150, deadline=None)
def test_a_place_in_a_body_is_found_or_not(body: Any, path: str) -> None:
    at(body, path)
    assert at({"a": [{"b": body}]}, "a.0.b") == body


# --- what a failure after it means


def test_only_a_change_that_may_have_been_accepted_counts_as_written(client: RestClient, shop: Shop) -> None:
    for fault in (403, 404, 429, 503):
        shop.faults.clear()
        shop.fault("change", fault)
        with pytest.raises(RestRefused):
            client.send(CHANGE)
        assert not client.wrote
    shop.faults.clear()
    shop.fault("change", 500)
    with pytest.raises(AnswerLost):
        client.send(CHANGE)
    assert client.wrote
