"""Sign-in by OpenID Connect against a provider on loopback: who gets in with which roles, and every token that is refused."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from access_help import PASSWORD, AddUser, Clock
from joserfc.jwk import RSAKey
from openid_peer import Provider, running_provider
from sqlmodel import select

from agent import audit
from agent.access import grants, links, openid, openid_discovery, sessions, tokens, users
from agent.access.principal import Grant, Permission, Role
from agent.errors import CannotConnect, Conflict, NotSignedIn, SettingsError, TransportError, UsageError
from agent.installation import Installation
from agent.model.access import User, WebSession
from agent.services import properties

if TYPE_CHECKING:
    from conftest import Places

# The provider's package uses what authlib is about to move.
pytestmark = pytest.mark.filterwarnings(
    "ignore::authlib.deprecate.AuthlibDeprecationWarning", "ignore:get_jwt_config:DeprecationWarning"
)
BACK = "http://127.0.0.1:1/sign-in/openid/back"


@pytest.fixture(scope="module")
def one_provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(one_provider: Provider) -> Provider:
    one_provider.change, one_provider.metadata, one_provider.secrets = None, {}, []
    openid_discovery.forget()
    return one_provider


@pytest.fixture
def server(access: Installation, provider: Provider, any_two_clients: Places) -> Installation:
    """An installation that trusts the provider; its staff are technicians at Contoso, its bosses administrators."""
    settings = access.settings.model_copy(
        update={"oidc_issuer": provider.issuer, "oidc_client_id": "exeunt", "oidc_client_secret": "a secret"}
    )
    mapped = {
        "staff": {"role": "technician", "client": "contoso"}, "bosses": [{"role": "administrator"}, {"role": "viewer"}],
        "gone": {"role": "administrator", "client": "no-such-client"},
    }  # fmt: skip
    made = Installation(settings)
    made.__dict__["database"] = access.database
    properties.set_value(made, properties.OPENID_ROLES, json.dumps(mapped), actor="tester")
    return made


def comes(server: Installation, provider: Provider, subject: str) -> str:
    """The token of the session of a person who has signed in at the provider."""
    url, kept = openid.begin(server, BACK)
    return openid.finish(server, kept, provider.sign_in(url, subject), "192.0.2.1")


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(NotSignedIn) as error:
        call()
    return str(error.value)


def test_a_group_gives_its_role_and_is_renewed(
    server: Installation, provider: Provider, any_two_clients: Places
) -> None:
    provider.put_user(
        "s1", preferred_username="ana@contoso.example", email="ana@contoso.example", groups=["staff", "other"]
    )
    principal = sessions.principal_of_session(server, comes(server, provider, "s1"))
    assert principal.name == "ana@contoso.example"
    assert principal.grants == (Grant(Role.TECHNICIAN, any_two_clients.contoso),)
    assert not principal.can(Permission.SEE, any_two_clients.fabrikam)
    provider.put_user("s1", preferred_username="other name", roles=["bosses"])
    again = sessions.principal_of_session(server, comes(server, provider, "s1"))
    assert (again.user_id, again.name) == (principal.user_id, principal.name)
    assert again.grants == (Grant(Role.ADMINISTRATOR), Grant(Role.VIEWER))
    with server.database.reading() as session:
        assert [e.details["issuer"] for e in audit.entries(session, action="user.sign_in")] == [provider.issuer] * 2


@pytest.mark.parametrize(
    "claims",
    [{}, {"groups": ["strangers"]}, {"groups": ["gone"]}, {"groups": "x"}, {"groups": {"a": 1}, "roles": [1, None]}],
)
def test_without_a_mapped_group_nobody_gets_in(
    server: Installation, provider: Provider, claims: dict[str, Any]
) -> None:
    provider.put_user("s2", **claims)
    assert properties.OPENID_ROLES in refusal(lambda: comes(server, provider, "s2"))
    with server.database.reading() as session:
        assert session.exec(select(User)).all() == []


def test_too_many_groups_are_told(server: Installation, provider: Provider) -> None:
    provider.put_user("s3", _claim_names={"groups": "src1"}, _claim_sources={"src1": {"endpoint": "https://x.example"}})
    assert "too many" in refusal(lambda: comes(server, provider, "s3"))


def test_who_has_lost_the_group_is_out_everywhere(server: Installation, provider: Provider) -> None:
    provider.put_user("s4", groups=["staff"])
    cookie = comes(server, provider, "s4")
    user_id = sessions.principal_of_session(server, cookie).user_id
    _, token = tokens.create(server, user_id, name="x", scopes=None, days=9, actor="x")
    provider.put_user("s4", groups=[])
    refusal(lambda: comes(server, provider, "s4"))
    refusal(lambda: sessions.principal_of_session(server, cookie))
    assert not tokens.principal_of_token(server, token).can_somewhere(Permission.SEE)


def test_a_token_needs_a_sign_in_every_month(server: Installation, provider: Provider, clock: Clock) -> None:
    provider.put_user("s4", groups=["staff"])
    user_id = sessions.principal_of_session(server, comes(server, provider, "s4")).user_id
    _, token = tokens.create(server, user_id, name="x", scopes=None, days=366, actor="x")
    clock.forward(days=29)
    tokens.principal_of_token(server, token)
    clock.forward(days=1)
    refusal(lambda: tokens.principal_of_token(server, token))


def test_own_grants_come_on_top_and_stay(server: Installation, provider: Provider, any_two_clients: Places) -> None:
    provider.put_user("s5", groups=["staff"])
    user_id = sessions.principal_of_session(server, comes(server, provider, "s5")).user_id
    users.set_grants(server, user_id, [Grant(Role.VIEWER, any_two_clients.fabrikam)], actor="root")
    principal = sessions.principal_of_session(server, comes(server, provider, "s5"))
    assert principal.clients() == {any_two_clients.contoso, any_two_clients.fabrikam}
    with server.database.reading() as session:
        assert grants.grants_of(session, user_id, source=grants.LOCAL) == [Grant(Role.VIEWER, any_two_clients.fabrikam)]


def test_an_equal_name_or_address_gives_nobody_anothers_account(
    server: Installation, provider: Provider, add_user: AddUser
) -> None:
    ana = add_user("ana", [Grant(Role.ADMINISTRATOR)])
    with server.database.session() as session:
        session.get_one(User, ana.id).email = "ana@contoso.example"
    properties.set_value(server, properties.CLIENT_APPROVERS, "ana, Terminal Tina", actor="root")
    provider.put_user("s6", preferred_username="ANA", email="ana@contoso.example", groups=["staff"])
    provider.put_user("s7", preferred_username="terminal tina", groups=["staff"])
    provider.put_user("s8", preferred_username="a,b:c", email="x" * 300, name="\u202e", groups=["staff"])
    found = [sessions.principal_of_session(server, comes(server, provider, s)) for s in ("s6", "s7", "s8")]
    assert [p.name[:-10] for p in found[:2]] == ["ANA ", "terminal tina "]
    assert found[2].name.startswith("person ")
    assert ana.id not in {p.user_id for p in found}
    assert not any(p.can(Permission.SEE) for p in found)


def test_a_disabled_person_stays_out(server: Installation, provider: Provider) -> None:
    provider.put_user("s9", groups=["staff"])
    user_id = sessions.principal_of_session(server, comes(server, provider, "s9")).user_id
    users.disable(server, user_id, actor="root")
    refusal(lambda: comes(server, provider, "s9"))
    with server.database.reading() as session:
        assert session.exec(select(WebSession)).all() == []


def test_there_is_no_way_in_beside_the_provider(server: Installation, provider: Provider) -> None:
    provider.put_user("s10", groups=["staff"])
    user_id = sessions.principal_of_session(server, comes(server, provider, "s10")).user_id
    with pytest.raises(Conflict, match="OpenID"):
        links.password_link(server, user_id, actor="root")
    with pytest.raises(UsageError):
        users.change_password(server, user_id, "", PASSWORD)


def test_the_answer_must_fit_the_question(
    server: Installation, provider: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openid, "utcnow", lambda: clock.now)
    provider.put_user("s11", groups=["staff"])
    url, kept = openid.begin(server, BACK)
    _, other = openid.begin(server, BACK)
    answer = provider.sign_in(url, "s11")
    for wrong_kept, wrong in [
        (other, answer), ("", answer), ("enc:v1:x", answer), (server.secrets.encrypt("{}", purpose="totp:1"), answer),
        (kept, {**answer, "state": ""}), (kept, {"code": answer["code"]}), (kept, {"state": answer["state"]}),
        (kept, provider.sign_in(url, "s11", deny=True)), (kept, {**answer, "code": "x"}), (kept, {**answer, "state": "\ud800"}),
    ]:  # fmt: skip
        refusal(lambda k=wrong_kept, a=wrong: openid.finish(server, k, a, "x"))  # type: ignore[misc]
    clock.forward(minutes=16)
    assert "too long" in refusal(lambda: openid.finish(server, kept, answer, "x"))
    clock.forward(minutes=-16)
    assert openid.finish(server, kept, answer, "x")
    # The provider takes a code once.
    refusal(lambda: openid.finish(server, kept, answer, "x"))


def test_what_the_browser_keeps_and_sends_tells_no_secret(server: Installation, provider: Provider) -> None:
    url, kept = openid.begin(server, BACK)
    assert "code_challenge_method=S256" in url and "nonce=" in url and "state=" in url
    assert "a+secret" not in url and "verifier" not in url + kept


def made_by_hand(claims: dict[str, Any], algorithm: str, key: bytes | None) -> str:
    """A token that no library would make: without a signature, or with a public key as a shared secret."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    header = {"alg": algorithm, "kid": "of the test", "typ": "JWT"}
    text = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims).encode())}"
    return f"{text}." + (part(hmac.digest(key, text.encode(), "sha256")) if key is not None else "")


ANOTHER = RSAKey.generate_key(2048, {"kid": "of the test"})


def replaced(**changes: Any) -> Callable[[Provider, dict[str, Any]], str]:
    """Tokens with other claims (None: without it), signed well."""
    return lambda p, claims: p.signed({k: v for k, v in {**claims, **changes}.items() if v is not None})


def moved(claim: str, hours: int) -> Callable[[Provider, dict[str, Any]], str]:
    """Tokens with a time that is so far from the present as it is then: the tests may have been collected long before."""
    return lambda p, claims: p.signed({**claims, claim: int(time.time()) + hours * 3600})


@pytest.mark.parametrize(
    "change",
    [
        replaced(iss="https://login.example"), replaced(iss=None), replaced(aud="another"), replaced(aud=["another"]),
        replaced(aud=None), replaced(aud=["exeunt", "another"]), replaced(azp="another"), replaced(nonce="x"), replaced(nonce=None),
        moved("exp", -1), replaced(exp=None), replaced(iat=None), replaced(sub=None),
        moved("nbf", 1), replaced(at_hash="x"), replaced(exp="tomorrow"),
        lambda p, claims: p.signed(claims, ANOTHER),
        lambda p, claims: p.signed(claims)[:-8] + "AAAAAAAA",
        lambda p, claims: made_by_hand(claims, "HS256", p.key.as_pem(private=False)),
        lambda p, claims: made_by_hand(claims, "HS256", b""),
        lambda p, claims: made_by_hand(claims, "none", None),
        lambda p, claims: "x.y.z",
        lambda p, claims: "",
        lambda p, claims: None,
        lambda p, claims: {"a": 1},
    ],
)  # fmt: skip
@pytest.mark.parametrize("any_installation", ["sqlite"], indirect=True)
def test_a_token_that_is_not_ours_is_refused(
    server: Installation, provider: Provider, change: Callable[[Provider, dict[str, Any]], str]
) -> None:
    provider.put_user("s12", groups=["bosses"])
    provider.change = lambda claims: change(provider, claims)
    refusal(lambda: comes(server, provider, "s12"))
    with server.database.reading() as session:
        assert session.exec(select(User)).all() == []
    # The same without the change is taken.
    provider.change = lambda claims: provider.signed(claims)
    assert comes(server, provider, "s12")


@pytest.mark.parametrize("any_installation", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://login.microsoftonline.com/{tenantid}/v2.0"}, {"issuer": None}, {"token_endpoint": "http://login.example/x"},
        {"token_endpoint": 7}, {"jwks_uri": "file:///etc/passwd"}, {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": "https://["}, {"jwks_uri": "https:///x"},
    ],
)  # fmt: skip
def test_a_provider_that_says_nonsense_is_refused(
    server: Installation, provider: Provider, metadata: dict[str, Any]
) -> None:
    provider.metadata = metadata
    with pytest.raises(SettingsError):
        openid.begin(server, BACK)


@pytest.mark.parametrize("any_installation", ["sqlite"], indirect=True)
@pytest.mark.parametrize("ways", [["client_secret_post"], ["private_key_jwt"], 7, [], None])
def test_our_secret_goes_the_way_that_the_provider_takes(
    server: Installation, provider: Provider, ways: object
) -> None:
    provider.metadata = {"token_endpoint_auth_methods_supported": ways}
    provider.put_user("s13", groups=["staff"])
    assert comes(server, provider, "s13")
    assert provider.secrets == (["body"] if ways == ["client_secret_post"] else ["header"])


@pytest.mark.parametrize("any_installation", ["sqlite"], indirect=True)
def test_a_provider_that_is_away_is_told(server: Installation, provider: Provider, access: Installation) -> None:
    def begin(**update: str | None) -> None:
        other = Installation(server.settings.model_copy(update=update))
        openid.begin(other, BACK)

    with pytest.raises(CannotConnect, match="cannot be reached"):
        begin(oidc_issuer="http://127.0.0.1:1")
    with pytest.raises(SettingsError, match="https"):
        begin(oidc_issuer="http://login.example")
    with pytest.raises(TransportError):
        begin(oidc_issuer=provider.issuer + "/nothing")
    with pytest.raises(SettingsError, match="both"):
        begin(oidc_client_id=None)
    with pytest.raises(SettingsError, match="not set up"):
        openid.begin(access, BACK)
    assert openid.is_configured(server.settings) and not openid.is_configured(access.settings)


@pytest.mark.parametrize("any_installation", ["sqlite"], indirect=True)
def test_a_provider_is_not_asked_at_each_click(
    server: Installation, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may click: neither an answer nor a failure is fetched anew each time."""
    # A failure is kept for ten seconds, and who waits for another's question does so for two: both may pass here.
    monkeypatch.setattr(openid_discovery, "time", SimpleNamespace(monotonic=lambda: 1.0))
    monkeypatch.setattr(openid_discovery, "_PATIENCE", 120.0)
    provider.metadata = {"issuer": "https://another.example"}
    provider.requests.clear()
    for _ in range(5):
        with pytest.raises(SettingsError, match="another"):
            openid.begin(server, BACK)
    assert len(provider.requests) == 1
    openid_discovery.forget()
    provider.metadata = {}
    with ThreadPoolExecutor(12) as pool:
        assert len(set(pool.map(lambda _: openid.begin(server, BACK)[0], range(12)))) == 12
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    "value",
    [
        "[", "[]", "7", '{"a": "viewer"}', '{"a": {"role": "owner"}}', '{"a": {"role": "viewer", "client": null}}',
        '{"a": {"role": "viewer", "client": ""}}', '{"a": {"role": "viewer", "clients": "x"}}', '{"a": [{"role": ["viewer"]}]}',
        '{"a": {}}',
    ],
)  # fmt: skip
def test_a_mapping_that_cannot_be_is_refused(installation: Installation, value: str) -> None:
    with pytest.raises(UsageError, match=properties.OPENID_ROLES):
        properties.set_value(installation, properties.OPENID_ROLES, value, actor="tester")
