"""Filters and distinguished names, over any text; and the errors of a directory by their codes."""

from __future__ import annotations

import warnings
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.services.directory import errors
from agent.services.directory.names import escape_filter, escape_rdn, guid_of, split_dn
from agent.services.directory.settings import split_address

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from ldap3.operation.search import MATCH_EQUAL, parse_filter
    from ldap3.utils.dn import parse_dn

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
HARD = st.text(st.sampled_from('*()\\\0 #,+"<>;=\r\nä☃a'), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(TEXT | HARD)
def test_any_text_in_a_filter_is_one_value_and_nothing_else(text: str) -> None:
    parsed = parse_filter(f"(mail={escape_filter(text)})", None, False, True, None, False)
    only = parsed.elements[0]
    assert only.tag == MATCH_EQUAL and len(parsed.elements) == 1
    value = only.assertion["value"]
    assert _unescaped(value) == text.encode()


def _unescaped(value: str | bytes) -> bytes:
    raw, found, at = value.encode() if isinstance(value, str) else value, b"", 0
    while at < len(raw):
        escaped = raw[at : at + 1] == b"\\"
        found += bytes([int(raw[at + 1 : at + 3], 16)]) if escaped else raw[at : at + 1]
        at += 3 if escaped else 1
    return found


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20) | HARD)
def test_any_text_in_a_distinguished_name_is_one_part(text: str) -> None:
    rdn = f"CN={escape_rdn(text)}"
    assert split_dn(f"{rdn},OU=a,DC=b") == (rdn, "OU=a,DC=b") and split_dn(rdn) == (rdn, "")
    assert len(parse_dn(f"{rdn},OU=a")) == 2


def test_a_guid_is_told_from_a_name() -> None:
    text = "937f4deb-8038-408d-a79c-85a3de946b2e"
    assert guid_of(f"{{{text}}}") == guid_of(text.upper()) == UUID(text)
    assert guid_of("zoe") is None and guid_of(text[1:]) is None


def test_addresses_of_controllers() -> None:
    assert split_address("dc1", 636) == ("dc1", 636) and split_address("[::1]:700", 636) == ("::1", 700)
    assert split_address("[::1]", 389) == ("::1", 389)
    for wrong in ("", ":1", "a:0", "a:b", "ldap://a", "a b"):
        with pytest.raises(ValueError, match="controller"):
            split_address(wrong, 636)


@pytest.mark.parametrize(
    ("code", "text", "type_", "shown"),
    [
        (50, "00002098: SecErr: DSID-03150F94, problem 4003", "PERMISSION_DENIED", "ldap 50 / 00002098"),
        (32, "0000208D: NameErr: DSID-0310020A, problem 2001", "ACCOUNT_NOT_FOUND", "ldap 32 / 0000208D"),
        (53, "0000052D: SvcErr: DSID-031A12D2\n\0", "INTEGRATION_ERROR", "ldap 53 / 0000052D"),
        (51, "", "INTEGRATION_ERROR", "ldap 51"),
    ],
)
def test_a_refusal_is_typed_by_its_code(code: int, text: str, type_: str, shown: str) -> None:
    error = errors.refusal("dc1", "change x", code, "name", text)
    assert (error.type, error.code, error.result_code) == (type_, shown, code)
    assert error.remediation and "\0" not in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(("data", "word"), [("52e", "password is wrong"), ("533", "disabled"), ("775", "locked")])
def test_a_refused_sign_in_says_why(data: str, word: str) -> None:
    text = f"80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data {data}, v1db1"
    error = errors.bind_refused("dc1", "svc", 49, "invalidCredentials", text)
    assert word in str(error)
