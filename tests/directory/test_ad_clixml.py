"""What PSRP carries, turned into what LDAP gives: values of every tag, SIDs, and error records as published transcripts show them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from uuid import UUID
from xml.etree.ElementTree import tostring

import psrpcore.types as ps
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import AccessDenied, StepError
from agent.services.directory import powershell_errors
from agent.services.directory.accounts import Account
from agent.services.directory.clixml import entry_of
from agent.services.directory.errors import DirectoryRefused
from agent.services.directory.names import sid_of
from agent.services.directory.port import Entry

NEPAL = timezone(timedelta(hours=5, minutes=45))
GUID = UUID("937f4deb-8038-408d-a79c-85a3de946b2e")


def carried(**values: Any) -> str:
    """An object with these properties, as psrpcore writes it."""
    made = ps.PSObject()
    for name, value in {"DistinguishedName": "CN=a", **values}.items():
        made.PSObject.adapted_properties.append(ps.PSNoteProperty(name, value=value))
    # No secure strings are among them, so there is nothing to encrypt.
    cipher: Any = None
    return tostring(ps.serialize(made, cipher), encoding="unicode")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"), max_size=20) | st.text(
    st.sampled_from("_x0041_X\n\r\0é\U0001f600"), max_size=12
)


@settings(max_examples=200, deadline=None)
@given(TEXT, st.lists(TEXT, max_size=3))
def test_any_text_comes_back_as_it_was(one: str, many: list[str]) -> None:
    found = entry_of(carried(info=one, other=many), ("Info", "OTHER", "absent"))
    assert found.texts("info") == (one,) and found.texts("other") == tuple(many) and found.raw("absent") is None


@settings(max_examples=100, deadline=None)
@given(
    st.integers(-(2**63), 2**63 - 1), st.booleans(), st.uuids(), st.binary(max_size=40),
    st.integers(0, 8000 * 365 * 86400).map(lambda s: datetime(1601, 1, 2, tzinfo=NEPAL) + timedelta(seconds=s)),
)  # fmt: skip
def test_every_kind_of_value_is_as_ldap_gives_it(number: int, yes: bool, guid: UUID, raw: bytes, at: datetime) -> None:
    xml = carried(
        n=ps.PSInt64(number), b=yes, g=ps.PSGuid(str(guid)), r=ps.PSByteArray(raw), rs=[ps.PSByteArray(raw)] * 2,
        t=ps.PSDateTime(at), nothing=None,
    )  # fmt: skip
    found = entry_of(xml, ("n", "b", "g", "r", "rs", "t", "nothing"))
    assert found.number("n") == number and found.flag("b") is yes and found.raw("g") == guid.bytes_le
    assert (
        found.attributes["r"] == (raw,) and found.attributes["rs"] == (raw, raw) and "nothing" not in found.attributes
    )
    assert found.raw("t") == at.astimezone(UTC).strftime("%Y%m%d%H%M%S.0Z").rjust(17, "0").encode()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**48 - 1), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=15))
def test_a_sid_is_the_same_in_both_forms(authority: int, parts: list[int]) -> None:
    shown = str(authority) if authority < 2**32 else f"0x{authority:012x}"
    raw = sid_of("-".join(["S-1", shown, *map(str, parts)]))
    assert raw[0] == 1 and raw[1] == len(parts) and int.from_bytes(raw[2:8], "big") == authority
    assert [int.from_bytes(raw[i : i + 4], "little") for i in range(8, len(raw), 4)] == parts
    assert entry_of(carried(objectSid=f"S-1-5-{parts[0]}"), ("objectSid",)).raw("objectSid") == sid_of(
        f"S-1-5-{parts[0]}"
    )


@pytest.mark.parametrize(
    "wrong", ["", "S-1", "S-1-5", "S-1-5-x", "S-1-5-4294967296", "S-1-99999999999999999-1", "S-300-5-1"]
)
def test_what_is_no_sid_is_said(wrong: str) -> None:
    with pytest.raises(ValueError, match="no SID"):
        sid_of(wrong)


@pytest.mark.parametrize("wrong", ["text", "<Obj RefId='0'/>", "<Obj RefId='0'><Props><S N='Name'>a</S></Props></Obj>"])
def test_what_is_no_object_is_said(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"no object|without"):
        entry_of(wrong, ("cn",))


def record(identifier: str, reason: str, message: str, server: str = "") -> Any:
    exception = SimpleNamespace(
        adapted_properties={"Message": message, "ServerErrorMessage": server or None}, extended_properties={},
        types=[f"Microsoft.ActiveDirectory.Management.{reason}", "System.Exception"],
    )  # fmt: skip
    return SimpleNamespace(fq_error=identifier, reason=reason, exception=exception)


_COMMAND = ",Microsoft.ActiveDirectory.Management.Commands.SetADObject"
_NOT_FOUND = "ActiveDirectoryCmdlet:Microsoft.ActiveDirectory.Management.ADIdentityNotFoundException" + _COMMAND


@pytest.mark.parametrize(
    ("identifier", "reason", "type_", "code"),
    [
        ("ActiveDirectoryServer:8344" + _COMMAND, "ADException", "PERMISSION_DENIED", "ldap 50 / 00002098"),
        ("ActiveDirectoryCmdlet:System.UnauthorizedAccessException" + _COMMAND, "UnauthorizedAccessException",
         "PERMISSION_DENIED", "ldap 50"),
        (_NOT_FOUND, "ADIdentityNotFoundException", "ACCOUNT_NOT_FOUND", "ldap 32"),
        ("ActiveDirectoryServer:1325" + _COMMAND, "ADPasswordComplexityException", "INTEGRATION_ERROR", "ldap 19 / 0000052D"),
        ("ActiveDirectoryServer:8235" + _COMMAND, "ADException", "INTEGRATION_ERROR", "ldap 10 / 0000202B"),
        ("ActiveDirectoryServer:8213" + _COMMAND, "ADException", "INTEGRATION_ERROR", "ldap 66 / 00002015"),
        ("ActiveDirectoryServer:8316" + _COMMAND, "ADException", "INTEGRATION_ERROR", "psrp ADException / 0000207C"),
        ("ActiveDirectoryCmdlet:System.ArgumentException" + _COMMAND, "ArgumentException", "INTEGRATION_ERROR",
         "psrp ActiveDirectoryCmdlet:System.ArgumentException"),
        ("NamedParameterNotFound" + _COMMAND, "ParameterBindingException", "INTEGRATION_ERROR", "psrp NamedParameterNotFound"),
    ],
)  # fmt: skip
def test_a_record_is_typed_by_its_identifier(identifier: str, reason: str, type_: str, code: str) -> None:
    said = powershell_errors.read(record(identifier, reason, "It will not\ndo."))
    error = powershell_errors.refused("dc1", "svc", "change x", said)
    assert isinstance(error, DirectoryRefused) and not said.unanswered
    assert (error.type, error.code) == (type_, code) and "\n" not in str(error)


def test_the_directorys_own_words_are_kept() -> None:
    server = "00002098: SecErr: DSID-03150F94, problem 4003 (INSUFF_ACCESS_RIGHTS), data 0\n\0"
    said = powershell_errors.read(record("ActiveDirectoryServer:8344" + _COMMAND, "ADException", "Denied", server))
    assert "DSID-03150F94" in str(powershell_errors.refused("dc1", "svc", "change x", said))


@pytest.mark.parametrize(
    ("identifier", "reason"),
    [
        ("ActiveDirectoryServer:0", "ADServerDownException"), ("ActiveDirectoryServer:1355", "ADServerDownException"),
        ("ActiveDirectoryCmdlet:System.TimeoutException", "TimeoutException"),
    ],
)  # fmt: skip
def test_a_directory_that_did_not_answer_the_host_refused_nothing(identifier: str, reason: str) -> None:
    assert powershell_errors.read(record(identifier + _COMMAND, reason, "x")).unanswered


def test_a_sign_in_that_goes_no_further_and_a_missing_module_say_what_to_do() -> None:
    hop = "ActiveDirectoryCmdlet:System.Security.Authentication.AuthenticationException" + _COMMAND
    refused = powershell_errors.refused(
        "m1", "svc", "x", powershell_errors.read(record(hop, "AuthenticationException", "no"))
    )
    assert isinstance(refused, AccessDenied) and refused.typed is not None
    assert "psrp_forward_credential" in (refused.typed.remediation or "")
    missing = powershell_errors.read(record("CommandNotFoundException", "CommandNotFoundException", "not recognized"))
    error = powershell_errors.refused("m1", "svc", "x", missing)
    assert isinstance(error, StepError) and error.code == "no_cmdlet"


@pytest.mark.parametrize("kind", ["computer", "msDS-GroupManagedServiceAccount", "msDS-ManagedServiceAccount"])
def test_the_most_specific_class_tells_a_computers_account(kind: str) -> None:
    entry = Entry("CN=a", {"objectclass": (kind.encode(),), "objectguid": (GUID.bytes_le,)})
    assert "computer" in Account(entry, GUID).protections
