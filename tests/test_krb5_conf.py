"""Which KDCs krb5.conf names, for the messages about those that are silent."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.krb5_conf import kdcs

MAIN = """
include {folder}/absent.conf
includedir {folder}/more
# [realms]
[libdefaults]
 default_realm = CONTOSO.EXAMPLE
[realms]*
 CONTOSO.EXAMPLE = {{
  kdc = dc1.contoso.example
  kdc = tcp/dc2.contoso.example:1088
  ; kdc = no.contoso.example
  admin_server = dc1.contoso.example
  kdc = [2001:db8::1]:88
  auth_to_local_names = {{
   kdc = somebody
  }}
  kdc = https://proxy.contoso.example/KdcProxy
 }}
 FABRIKAM.EXAMPLE = {{
  kdc = dc1.fabrikam.example
 }}
[capaths]
 CONTOSO.EXAMPLE = {{
  kdc = not.a.kdc
 }}
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file, more = tmp_path / "krb5.conf", tmp_path / "more"
    file.write_text(MAIN.format(folder=tmp_path))
    more.mkdir()
    for name, host in (("realm", "included"), ("it.is.conf", "included2"), (".hidden.conf", "no"), ("it.is~", "no")):
        (more / name).write_text(f"[realms]\nFABRIKAM.EXAMPLE = {{\n kdc = {host}:750\n}}\n")
    monkeypatch.setenv("KRB5_CONFIG", f"{tmp_path}/first.conf:{file}")
    return file


def test_those_of_the_realm_and_of_no_other(conf: Path) -> None:
    assert kdcs("CONTOSO.EXAMPLE") == [
        "dc1.contoso.example port 88", "dc2.contoso.example port 1088", "[2001:db8::1] port 88",
        "https://proxy.contoso.example/KdcProxy",
    ]  # fmt: skip
    assert kdcs("FABRIKAM.EXAMPLE") == ["included2 port 750", "included port 750", "dc1.fabrikam.example port 88"]
    assert kdcs("contoso.example") == kdcs("OTHER.EXAMPLE") == []


def test_files_that_include_each_other(conf: Path) -> None:
    conf.write_text(f"include {conf}\n[realms]\nA = {{\nkdc = a\n}}\n")
    assert kdcs("A") == ["a port 88"]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            ["[realms]", "A = {", "}", "kdc = a", "kdc", "=", "{", "include", "\0", "\xff", "[", "kdc = :9"]
        )
    )
)
def test_a_broken_file_tells_little_and_never_fails(conf: Path, lines: list[str]) -> None:
    conf.write_text("\n".join(lines))
    assert set(kdcs("A")) <= {"a port 88", ":9"}
