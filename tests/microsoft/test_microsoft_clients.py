"""The clients under the functions: tokens, batches, pages, repetition, and what never reaches a log."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from m365_context import UserContext
from tenant_server import Server
from tenant_state import TestTenant

from agent.errors import AnswerLost, CannotConnect, StepError
from agent.model.base import utcnow
from agent.services.microsoft import tokens
from agent.services.microsoft.errors import ServiceRefused, refusal
from agent.services.microsoft.exchange import Answered, Cmdlet
from agent.services.microsoft.graph import Call, get, path_of
from agent.services.microsoft.settings import tenant_settings
from agent.services.microsoft.tenant import Tenant
from agent.services.rest.waiting import retry_after


@pytest.fixture
def tenant(server: Server, contoso: TestTenant) -> Any:
    with Tenant(server.settings(contoso), {"client_secret": contoso.secret}, run_id="run7") as opened:
        yield opened


# --- tokens


def test_one_token_serves_many_callers_and_steps(server: Server, contoso: TestTenant) -> None:
    def ask() -> None:
        with Tenant(server.settings(contoso), {"client_secret": contoso.secret}, run_id="r") as opened:
            opened.graph.call(get("users", "alex@contoso.test", select="id"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.sign_ins) == 1
    assert len(server.requests) == 8


def test_a_token_is_renewed_before_its_end(server: Server, contoso: TestTenant) -> None:
    server.token_seconds = int(tokens.EARLY) - 1
    settings = tenant_settings(server.settings(contoso))
    provider = tokens.TokenProvider(settings, {"client_secret": contoso.secret})
    scope = server.urls["graph"] + "/.default"
    assert provider.token(scope) != provider.token(scope)


def test_a_token_that_is_refused_is_renewed_once(server: Server, tenant: Tenant) -> None:
    ask = get("users", "alex@contoso.test", select="id")
    tenant.graph.call(ask)
    server.tokens.clear()
    tenant.graph.call(ask)
    assert len(server.sign_ins) == 2
    server.fault("GET /users", 401)
    with pytest.raises(ServiceRefused) as refused:
        tenant.graph.call(ask)
    assert refused.value.type == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("code", "kind"),
    [("AADSTS7000222", "expired"), ("AADSTS700016", "does not know the app"), ("AADSTS65001", "consented"),
     ("AADSTS999999", "something new")],
)  # fmt: skip
def test_refused_sign_ins_are_explained(context: UserContext, server: Server, code: str, kind: str) -> None:
    server.sign_in_error = {"error": "invalid_client", "error_description": f"{code}: something new"}
    error = context.run("m365.disable_sign_in").error
    assert error is not None and (error.type, error.code) == ("PERMISSION_DENIED", code)
    assert kind in str(error) and error.remediation


def test_a_wrong_secret_and_a_wrong_tenant(context: UserContext, server: Server, contoso: TestTenant) -> None:
    context.credentials["microsoft365"] = (server.settings(contoso), {"client_secret": "wrong-secret-value"})
    error = context.run("m365.disable_sign_in").error
    assert error is not None and error.code == "AADSTS7000215" and "wrong-secret-value" not in str(error)
    wrong = server.settings(contoso, tenant_id="nobody.onmicrosoft.com")
    context.credentials["microsoft365"] = (wrong, {"client_secret": contoso.secret})
    error = context.run("m365.disable_sign_in").error
    assert error is not None and error.type == "PERMISSION_DENIED" and error.remediation


@pytest.mark.parametrize(
    "settings",
    [{"tenant_id": "a/../b"}, {"client_id": ""}, {"graph_url": "http://graph"}, {"graph_url": "https://u:p@graph"},
     {"cloud": "mars"}, {"unknown": 1}],
)  # fmt: skip
def test_wrong_settings_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(StepError, match=next(iter(settings))):
        tenant_settings({"tenant_id": "t", "client_id": "c", **settings})


@pytest.mark.parametrize("secrets", [{}, {"client_secret": ""}, {"certificate": "no pem"}])
def test_a_credential_without_a_secret_is_refused(
    context: UserContext, server: Server, secrets: dict[str, str]
) -> None:
    context.credentials["microsoft365"] = (context.credentials["microsoft365"][0], secrets)
    error = context.run("m365.disable_sign_in").error
    assert error is not None and (error.type, error.code) == ("PERMISSION_DENIED", "wrong_credential")
    assert server.requests == []


def test_two_clients_never_share_a_token(server: Server, contoso: TestTenant, fabrikam: TestTenant) -> None:
    for owner in (contoso, fabrikam):
        with Tenant(server.settings(owner), {"client_secret": owner.secret}, run_id="r") as opened:
            found = opened.graph.all(get("users", select="userPrincipalName", filter=f"mail eq 'alex@{owner.domain}'"))
        assert [u["userPrincipalName"] for u in found] == [f"alex@{owner.domain}"]
    with (
        Tenant(server.settings(contoso), {"client_secret": contoso.secret}, run_id="r") as opened,
        pytest.raises(ServiceRefused) as refused,
    ):
        opened.graph.call(get("users", fabrikam.named("alex").id, select="id"))
    assert refused.value.missing


def test_one_app_registration_for_two_clients_has_a_token_for_each(
    server: Server, contoso: TestTenant, fabrikam: TestTenant, app_certificate: str
) -> None:
    for owner in (contoso, fabrikam):
        with Tenant(server.settings(owner), {"certificate": app_certificate}, run_id="r") as opened:
            found = opened.graph.call(get("users", f"alex@{owner.domain}", select="id"))
        assert found["id"] == owner.named("alex").id
    assert len(set(server.tokens.values())) == 2


def test_secrets_and_tokens_reach_no_log(
    context: UserContext, server: Server, contoso: TestTenant, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    context.credentials["microsoft365"] = (server.settings(contoso), {"client_secret": contoso.secret})
    server.fault("PATCH", 500, times=1)
    outcome = context.run("m365.reset_password")
    said = caplog.text + repr(outcome)
    assert caplog.records and server.tokens
    for secret in (contoso.secret, contoso.named("alex").password, *server.tokens):
        assert secret not in said


def test_requests_name_the_run(server: Server, tenant: Tenant) -> None:
    tenant.graph.call(get("users", "alex@contoso.test", select="id"))
    assert {a for a in server.agents if a != "exeunt"} <= {f"exeunt/{v} (run:run7)" for v in _versions(server)}
    assert any("(run:run7)" in a for a in server.agents)


def _versions(server: Server) -> set[str]:
    return {a.removeprefix("exeunt/").split(" ")[0] for a in server.agents}


# --- Graph


def calls(tenant: Tenant, names: list[str]) -> list[Call]:
    return [get("users", f"{n}@contoso.test", select="id") for n in names]


def test_batches_of_twenty_and_each_item_judged_by_itself(server: Server, tenant: Tenant) -> None:
    names = ["alex", "nobody", "mia"] * 15
    replies = tenant.graph.batch(calls(tenant, names))
    assert [isinstance(r, ServiceRefused) for r in replies] == [n == "nobody" for n in names]
    assert len(server.requests) == 3


def test_an_item_that_is_throttled_is_repeated_alone_after_its_own_time(
    server: Server, tenant: Tenant, waits: list[float]
) -> None:
    server.fault("GET /users/mia", 429, times=1, retry_after=9)
    replies = tenant.graph.batch(calls(tenant, ["alex", "mia", "dana"]))
    assert all(isinstance(r, dict) for r in replies)
    asked = [call for _, call in server.calls]
    assert asked.count("GET /users/mia@contoso.test") == 2 and asked.count("GET /users/alex@contoso.test") == 1
    assert 9 <= waits[0] < 12


def test_what_follows_a_throttled_item_follows_its_repetition(
    server: Server, tenant: Tenant, contoso: TestTenant
) -> None:
    server.fault("PATCH /users", 429, times=2, retry_after=1)
    path = path_of("users", "alex@contoso.test")
    write, after = tenant.graph.batch(
        [
            Call("PATCH", path, {"accountEnabled": False}),
            get("users", "alex@contoso.test", select="accountEnabled", after=0),
        ]
    )
    assert write == {} and after == {"accountEnabled": False}


@pytest.mark.parametrize("fault", [500, 502, "drop", "lose"])
def test_a_post_that_may_not_be_repeated_is_sent_once(server: Server, tenant: Tenant, fault: Any) -> None:
    server.fault("^POST /users/.*/revokeSignIn", fault)
    with pytest.raises(AnswerLost):
        tenant.graph.call(Call("POST", path_of("users", "alex@contoso.test", "revokeSignInSessions")))
    assert sum("revokeSignIn" in call for _, call in server.calls) == 1
    # Throttling says that nothing was done: that may be repeated whatever it is.
    server.reset()
    server.fault("^POST /users/.*/revokeSignIn", 429, times=1, retry_after=1)
    tenant.graph.call(Call("POST", path_of("users", "alex@contoso.test", "revokeSignInSessions")))


def test_it_does_not_wait_for_ever(server: Server, tenant: Tenant, waits: list[float]) -> None:
    server.fault("GET /users", 429, retry_after=3600)
    with pytest.raises(ServiceRefused) as refused:
        tenant.graph.call(get("users", "alex@contoso.test", select="id"))
    assert refused.value.retry_after == 3600 and waits == []


def test_silence_ends_at_the_time_limit(server: Server, contoso: TestTenant) -> None:
    server.release.clear()
    settings = server.settings(contoso, answer_seconds=3, call_seconds=4)
    server.fault("HTTP graph", "hang")
    with (
        Tenant(settings, {"client_secret": contoso.secret}, run_id="r") as opened,
        pytest.raises(AnswerLost, match="ReadTimeout"),
    ):
        opened.graph.call(Call("DELETE", path_of("users", "alex@contoso.test")))
    server.release.set()


def test_nobody_listens(server: Server, contoso: TestTenant) -> None:
    from peers import kept_port

    with (
        kept_port() as port,
        Tenant(
            server.settings(contoso, graph_url=f"https://127.0.0.1:{port}"),
            {"client_secret": contoso.secret},
            run_id="r",
        ) as opened,
        pytest.raises(CannotConnect) as error,
    ):
        opened.graph.call(get("users", "x@y", select="id"))
    assert error.value.typed is not None and error.value.typed.type == "INTEGRATION_ERROR"


def test_pages_are_read_to_the_end_and_never_elsewhere(server: Server, contoso: TestTenant, tenant: Tenant) -> None:
    contoso.page_size = 1
    ask = get("users", contoso.named("alex").id, "memberOf", "microsoft.graph.group", select="id")
    assert len(tenant.graph.all(ask)) == 8
    for host in ("https://evil.test/v1.0", server.urls["exchange"] + "/v1.0", server.urls["graph"] + ".evil.test/v1.0"):
        contoso.next_host = host
        with pytest.raises(StepError, match="another host"):
            tenant.graph.all(ask)


def test_paths_are_quoted() -> None:
    assert path_of("users", "a/../b?c#d%", "$ref") == "/users/a%2F..%2Fb%3Fc%23d%25/$ref"


def test_retry_after_is_read_in_both_forms() -> None:
    assert retry_after("12") == 12 and retry_after(None) is None and retry_after("soon") is None
    date = retry_after(format_datetime(utcnow() + timedelta(seconds=60), usegmt=True))
    assert date is not None and 50 < date <= 60


# --- Exchange


def test_exchange_pages_and_warnings(contoso: TestTenant, tenant: Tenant) -> None:
    contoso.page_size = 2
    answer = tenant.mail.invoke(
        Cmdlet("Get-Mailbox", {"ResultSize": "Unlimited", "RecipientTypeDetails": ["UserMailbox"]})
    )
    assert len(answer.entries) == 4 and answer.warnings == ["be careful"] * 2


def test_exchange_batches_of_ten_are_matched_by_id_and_throttled_items_repeated(
    server: Server, tenant: Tenant, waits: list[float]
) -> None:
    names = ["alex", "nobody", "mia", "dana"] * 6
    server.fault("Get-Mailbox", 429, times=2, retry_after=5)
    replies = tenant.mail.invoke_all([Cmdlet("Get-Mailbox", {"Identity": f"{n}@contoso.test"}) for n in names])
    for name, reply in zip(names, replies, strict=True):
        if name == "nobody":
            assert isinstance(reply, ServiceRefused) and reply.missing
        else:
            assert isinstance(reply, Answered) and reply.entries[0]["PrimarySmtpAddress"] == f"{name}@contoso.test"
    assert len(server.requests) == 4 and waits[0] >= 5


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ({"error": {"message": "outer", "details": [{"message": "|Microsoft.Exchange.X.ServerBusyException|Too busy"}]}},
         "ServerBusyException", "Too busy"),
        ({"error": {"message": "outer", "innererror": {"internalexception": {"message": "inner"}}}}, "400", "inner"),
        ({"error": {"code": "BadRequest", "message": "outer"}}, "BadRequest", "outer"),
        (None, "400", ""), ([], "400", ""), ({"error": "text"}, "400", ""),
    ],
)  # fmt: skip
def test_the_words_of_exchange_in_their_order(body: Any, code: str, text: str) -> None:
    error = refusal("Exchange", "Set-Mailbox", 400, body)
    assert error.code == code and text in str(error)
    assert error.passing == (code == "ServerBusyException")
