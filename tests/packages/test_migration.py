"""From development to production: checked first, singly or together, secrets anew, undone; and what an attacker sends."""

from __future__ import annotations

import io
import json
import os
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leavers_help import add_clients, add_leavers
from made_packages import CRITERIA, write_package
from sqlmodel import select

from agent import audit
from agent.content.packages import PHASES
from agent.errors import Conflict, NotFound, UsageError
from agent.installation import Installation
from agent.inventory import extra_fields, field_values
from agent.model.administration import AuditEntry, Credential
from agent.model.fields import Form
from agent.model.packages import PackageChange
from agent.packages import applying, archive, changes, exporting, importing, migrating, signing, store
from agent.packages.importing import Allowed
from agent.running import script_verbs
from agent.secrets import create_key
from agent.services import credentials, properties
from agent.settings import Settings

if TYPE_CHECKING:
    from conftest import Places

UNSIGNED = Allowed(unsigned=True)
TOKEN = "t0ken-$(id)-'\"\n€"


@pytest.fixture
def production(tmp_path: Path) -> Iterator[Installation]:
    """A second workspace with the same two clients; the first one is development."""
    workspace = tmp_path / "production"
    workspace.mkdir()
    made = Installation(Settings(workspace=workspace, sqlite_synchronous="NORMAL"))
    made.database.initialise()
    create_key(made.settings)
    add_leavers(made, add_clients(made))
    yield made
    made.database.close()


@pytest.fixture
def development(installation: Installation, two_clients: Places) -> Installation:
    """Three packages, applied for Contoso in an order of its own; one has a monitor."""
    create_key(installation.settings)
    add_leavers(installation, two_clients)
    for key in ("aero", "brio", "cello"):
        write_package(installation, key, more=CRITERIA.format(name=key.capitalize()))
        planned = applying.plan_apply(installation, key, "contoso", actor="dev")
        changes.perform(installation, planned, actor="dev")
    changes.perform(installation, applying.plan_order(installation, "contoso", ["Cello", "Aero", "Brio"]), actor="dev")
    return installation


def bring(target: Installation, data: bytes, **options: Any) -> str | None:
    options = {"allowed": UNSIGNED, **options}
    planned = importing.plan_import(target, importing.read(data), actor="ops", **options)
    return changes.perform(target, planned, actor="ops")


def refusals(target: Installation, data: bytes, **options: Any) -> str:
    options = {"allowed": UNSIGNED, **options}
    return "; ".join(importing.plan_import(target, importing.read(data), actor="ops", **options).refusals)


def state(installation: Installation) -> tuple[Any, ...]:
    """Everything that an import may change."""
    root = installation.settings.workspace / "content"
    found = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    with installation.database.reading() as session:
        return (
            found, sorted(f.name for f in extra_fields.fields(session)), sorted(c.name for c in session.exec(select(Credential))),
            sorted((p.name, p.value) for p in properties.list_properties(session)),
        )  # fmt: skip


def test_a_whole_client_goes_from_development_to_production(
    development: Installation, production: Installation
) -> None:
    waiting = {c.name: c.id for c in _credentials(development)}
    credentials.update(development, waiting["aero"], settings={"account": "7"}, secret={"token": TOKEN}, actor="dev")
    data = exporting.export(development, [], client="contoso", actor="dev")
    assert data == exporting.export(development, [], client="contoso", actor="dev")
    # Neither a secret nor a setting of development is in it.
    assert TOKEN.encode() not in data and b'"7"' not in data
    with development.database.reading() as session:
        assert all(c.secret.encode() not in data for c in session.exec(select(Credential)) if c.secret)
    incoming = importing.read(data)
    assert bring(production, data, client="contoso") is not None
    plans = migrating.plan_applications(production, incoming, "contoso", actor="ops")
    migrating.apply_all(production, plans, actor="ops")
    assert applying.current_order(production, "contoso")[1] == ["Cello", "Aero", "Brio"]
    listing = production.content.client_list("contoso")
    assert listing is not None
    assert list(listing.definition.scripts[PHASES[2]]) == [f"{n} - Offboarding" for n in ("Cello", "Aero", "Brio")]
    assert production.content.client_list("fabrikam") is None
    assert store.order_faults(production, "contoso") == []
    assert {p.digest for p in store.applied(production, "contoso")} == {
        p.digest for p in store.applied(development, "contoso")
    }
    # The secrets are asked for anew: what was answered whole is ready, the rest says that it waits.
    shells = migrating.waiting(production, incoming, "contoso")
    assert sorted(s.name for s in shells) == ["aero", "brio", "cello"]
    environment = {"EXEUNT_AERO_ACCOUNT": "1", "EXEUNT_AERO_TOKEN": "p", "EXEUNT_BRIO_ACCOUNT": "2"}
    done, left = migrating.fill(production, shells, migrating.from_environment(environment), actor="ops")
    assert (done, left) == (["aero"], ["brio", "cello"])
    ask = migrating.from_file("cello: {account: '3', token: 'a: b'}\n")
    done, left = migrating.fill(production, migrating.waiting(production, incoming, "contoso"), ask, actor="ops")
    assert (done, left) == (["cello"], ["brio"])
    with production.database.reading() as session:
        found = {c.name: c for c in session.exec(select(Credential))}
        assert credentials.open_secret(production, found["cello"]) == {"token": "a: b"}
        assert {c.client_id for c in found.values()} == {1}
    # Doing it all again changes nothing.
    assert bring(production, data, client="contoso") is None
    assert all(not plan().lines for plan in migrating.plan_applications(production, incoming, "contoso", actor="ops"))
    with production.database.session() as session:
        assert audit.verify(session) == []
        entries = session.exec(select(AuditEntry)).all()
        assert {"package.import", "package.apply"} <= {e.action for e in entries}
        assert "p" not in {str(v) for e in entries for v in e.details.values()}


def _credentials(installation: Installation) -> list[Any]:
    with installation.database.reading() as session:
        return list(session.exec(select(Credential)))


@pytest.mark.usefixtures("development")
def test_what_is_missing_is_named_and_can_be_brought_alone(
    installation: Installation, production: Installation
) -> None:
    data = exporting.export(installation, ["aero"], actor="dev")
    before = state(production)
    said = refusals(production, data, only=["package:Aero"])
    assert "field 'Aero Id' is missing here" in said
    with pytest.raises(Conflict, match="Aero Id"):
        bring(production, data, only=["package:Aero"])
    assert state(production) == before
    with pytest.raises(UsageError, match=r"no object 'Nix'; it has credential:aero, field:Aero Id, package:Aero"):
        refusals(production, data, only=["Nix"])
    assert bring(production, data, only=["Aero Id"]) is not None
    with production.database.reading() as session:
        assert extra_fields.get_field(session, Form.CONTACT, "Aero Id").section == "Aero"
        assert session.exec(select(Credential)).all() == []
    with pytest.raises(NotFound):
        production.content.package("Aero")
    # The migration can be repeated now.
    assert bring(production, data, only=["package:Aero"]) is not None
    assert production.content.package("Aero").version == "1.0.0"
    assert bring(production, data) is not None
    assert [c.name for c in _credentials(production)] == ["aero"]


def test_functions_and_scripts_that_are_not_here_are_named(
    installation: Installation, production: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "name: Aero - Offboarding\nrole: child\ntarget: contact\nsteps:\n"
        "  - {name: A, function: demo.close, with: {folder: x, act: x, user: '{{ no_such }}'}}\n"
        "  - {name: B, script: Not There}\n"
        "  - {name: C, function: mail.send, with: {to: a@b.example, subject: '%_x%', body: {property: _sysNix}}}\n"
        "  - {name: D, function: mail.send, with: {to: {secret: nix}, subject: x, body: {field: Nix Field}}}\n"
    )
    write_package(installation, "aero", script=script)
    data = exporting.export(installation, ["aero"], actor="dev")
    from agent.functions import registry

    monkeypatch.delitem(registry.BUILT_IN, "demo.close")
    said = refusals(production, data)
    for piece in (
        "function 'demo.close'", "script 'Not There'", "property '_sysNix'", "credential 'nix'", "field 'Nix Field'",
        "value 'no_such'",
    ):  # fmt: skip
        assert f"{piece} is missing here" in said


def test_versions_and_names_that_clash_are_named(installation: Installation, production: Installation) -> None:
    write_package(installation, "aero", version="1.2.0")
    data = exporting.export(installation, ["aero"], actor="dev")
    write_package(production, "aero", version="1.10.0")
    assert refusals(production, data) == "Aero 1.10.0 is here, and 1.2.0 is older"
    assert refusals(production, data, allowed=Allowed(unsigned=True, older=True)) == ""
    # Another folder with that name, a script of that name, a field of another type, another kind of credential.
    other = write_package(production, "aero", version="1.0.0")
    (other / "package.yaml").write_text((other / "package.yaml").read_text().replace("name: Aero\n", "name: Brio\n", 1))
    assert "the folder aero is that of the package 'Brio' here" in refusals(production, data)
    other.rename(other.with_name("brio"))
    said = refusals(production, data)
    assert "the script name 'Aero - Offboarding' of Aero is taken here" in said
    manifest = json.loads(archive.read(data).manifest_bytes)
    manifest["product"] = "0.0.1"
    old = archive.pack(archive.canonical(manifest), None, archive.read(data).packages)
    assert "was made by Exeunt 0.0.1" in refusals(production, old)


def test_only_who_is_trusted_may_send(installation: Installation, production: Installation, tmp_path: Path) -> None:
    write_package(installation, "aero")
    data = exporting.export(installation, ["aero"], actor="dev")
    with pytest.raises(Conflict, match="is not signed"):
        bring(production, data, allowed=Allowed())
    key = signing.make_key(installation.settings.workspace)
    assert (installation.settings.workspace / signing.KEY_FILE).stat().st_mode & 0o077 == 0
    with pytest.raises(Conflict, match="there already"):
        signing.make_key(installation.settings.workspace)
    signed = exporting.export(installation, ["aero"], actor="dev")
    with pytest.raises(Conflict, match="a key that is not trusted here"):
        bring(production, signed, allowed=Allowed())
    with pytest.raises(UsageError, match="is no publisher"):
        properties.set_value(production, properties.TRUSTED, "Dev=abc", actor="ops")
    properties.set_value(production, properties.TRUSTED, f"Dev={key}", actor="ops")
    # Changed after it was signed, with a manifest that fits: refused whatever is allowed.
    found = archive.read(signed)
    files = {"aero": {**found.packages["aero"], "README.md": "# Other\n"}}
    manifest = json.loads(found.manifest_bytes)
    manifest["packages"][0]["files"]["README.md"] = archive._sha(b"# Other\n")
    forged = archive.pack(archive.canonical(manifest), found.signature, files)
    with pytest.raises(UsageError, match=r"(not that of the package|was changed after)"):
        refusals(production, forged)
    manifest = json.loads(found.manifest_bytes)
    manifest["order"] = ["Aero"]
    forged = archive.pack(archive.canonical(manifest), found.signature, found.packages)
    with pytest.raises(UsageError, match="it was changed after it was signed"):
        refusals(production, forged)
    assert bring(production, signed, allowed=Allowed()) is not None


@pytest.mark.usefixtures("development")
def test_an_import_is_undone_unless_somebody_built_on_it(installation: Installation, production: Installation) -> None:
    write_package(production, "aero", version="0.9.0")
    before = state(production)
    data = exporting.export(installation, ["aero", "brio"], actor="dev")
    bring(production, data)
    file = production.settings.workspace / "content/scripts/packages/brio/README.md"
    file.write_text("# mine\n")
    with pytest.raises(Conflict, match=r"brio/README\.md was edited since the import"):
        changes.perform(production, importing.plan_undo(production, actor="ops"), actor="ops")
    file.write_text("# Brio\n")
    changes.perform(production, applying.plan_apply(production, "brio", "fabrikam", actor="ops"), actor="ops")
    with pytest.raises(Conflict, match="brio is applied for fabrikam"):
        changes.perform(production, importing.plan_undo(production, actor="ops"), actor="ops")
    changes.perform(production, applying.plan_remove(production, "brio", "fabrikam", actor="ops"), actor="ops")
    (production.settings.workspace / "content/scripts/clients/fabrikam/client.yaml").unlink()
    changes.perform(production, importing.plan_undo(production, actor="ops"), actor="ops")
    assert state(production) == before
    assert production.content.package("aero").version == "0.9.0"
    with pytest.raises(NotFound, match="no import to undo"):
        importing.plan_undo(production, actor="ops")
    # What got a value since stays, and the record says so.
    bring(production, data)
    with production.database.session() as session:
        field_values.set_value(session, Form.CONTACT, 2, "Aero Id", "A", actor="ops")
    changes.perform(production, importing.plan_undo(production, actor="ops"), actor="ops")
    with production.database.reading() as session:
        extra_fields.get_field(session, Form.CONTACT, "Aero Id")
        undone = [c for c in session.exec(select(PackageChange)) if c.kind == "undo"][-1]
        assert undone.made["stays"] == ["the contact field 'Aero Id' stays: it has values"]


@pytest.mark.usefixtures("development")
def test_a_frozen_production_changes_by_imports_only(installation: Installation, production: Installation) -> None:
    data = exporting.export(installation, [], client="contoso", actor="dev")
    properties.set_value(production, properties.FROZEN, "1", actor="ops")
    write_package(production, "own")
    with production.database.session() as session:
        field = extra_fields.get_field(session, Form.CLIENT, "backup_location")

    def define() -> None:
        with production.database.session() as session:
            extra_fields.define(session, form=Form.CONTACT, name="X", actor="ops")

    def remove() -> None:
        with production.database.session() as session:
            extra_fields.remove(session, field, actor="ops")

    for edit, said in (
        (lambda: changes.perform(production, applying.plan_apply(production, "own", "contoso", actor="ops"), actor="ops"),
         r"apply Own \(contoso\)"),
        (define, "defining the contact field 'X'"), (remove, "removing the field 'backup_location'"),
        (lambda: script_verbs.use(production, "Own - Offboarding", None, PHASES[2], actor="ops"),
         "listing 'Own - Offboarding'"),
    ):  # fmt: skip
        with pytest.raises(Conflict, match=f"{said}.*frozen here"):
            edit()
    incoming = importing.read(data)
    bring(production, data, client="contoso")
    migrating.apply_all(
        production, migrating.plan_applications(production, incoming, "contoso", actor="ops"), actor="ops"
    )
    assert applying.current_order(production, "contoso")[1] == ["Cello", "Aero", "Brio"]
    found = {p.name: p.holds for p in migrating.preconditions(installation, production)}
    assert found["frozen configuration of the target"]
    assert not {p.name: p.holds for p in migrating.preconditions(production, production)}["two workspaces"]


@pytest.mark.parametrize("point", ["file", "row"])
def test_an_import_whose_process_dies_is_put_back(
    installation: Installation, production: Installation, point: str
) -> None:
    write_package(installation, "aero")
    data = exporting.export(installation, ["aero"], actor="dev")
    before = state(production)
    production.database.close()
    child = os.fork()
    if child == 0:
        own = Installation(production.settings)
        written = changes._write
        if point == "file":
            changes._write = lambda *given: (written(*given), os.kill(os.getpid(), 9))  # type: ignore[assignment, misc]
        else:
            credentials.add_shell = lambda *_, **__: os.kill(os.getpid(), 9)  # type: ignore[assignment]
        bring(own, data)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == 9
    assert state(production) != before
    with changes._lock(production.settings.workspace):
        assert len(changes.recover(production, actor="ops")) == 1
    assert state(production) == before
    assert bring(production, data) is not None


# --- what an attacker sends


def _zip(members: list[tuple[Any, bytes]], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", **options) as made:
        warnings.simplefilter("ignore")  # that a name is there twice
        for name, content in members:
            made.writestr(name, content)
    return buffer.getvalue()


def _info(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def _called_compressed(data: bytes) -> bytes:
    """An archive whose directory says of its last member that it is compressed, which it is not."""
    at = data.rfind(b"PK\x01\x02") + 10
    return data[:at] + zipfile.ZIP_DEFLATED.to_bytes(2, "little") + data[at + 2 :]


MANIFEST = ("manifest.json", b'{"format": 1, "packages": []}')


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no archive"),
        (b"PK\x03\x04 and nothing more", "no archive"),
        (_zip([("other", b"")]), "has no manifest"),
        (_zip([("manifest.json", b"[" * 100_000)]), "no JSON"),
        (_zip([("manifest.json", b'{"format": 2}')]), "format 2"),
        (_zip([MANIFEST, ("../../etc/passwd", b"x")]), "not allowed"),
        (_zip([MANIFEST, ("/etc/passwd", b"x")]), "not allowed"),
        (_zip([MANIFEST, ("packages\\..\\x", b"x")]), "not allowed"),
        (_zip([MANIFEST, ("packages/aero/../x", b"x")]), "not allowed"),
        (_zip([MANIFEST, ("packages/aXb", b"x")]).replace(b"/aXb", b"/a\x00b"), "not allowed"),
        (_zip([MANIFEST, ("packages/aero/é.yaml", b"x")]), "not allowed"),
        (_zip([MANIFEST, (_info("packages/aero/link", 0o120777), b"/etc/passwd")]), "no plain file"),
        (_zip([MANIFEST, (_info("packages/aero/pipe", 0o010644), b"")]), "no plain file"),
        (_zip([MANIFEST, ("packages/aero/x.yaml", b"1"), ("packages/aero/x.yaml", b"2")]), "twice"),
        (_zip([MANIFEST, ("packages/aero/x.yaml", b"1"), ("packages/aero/X.yaml", b"2")]), "twice"),
        (_zip([MANIFEST, ("packages/aero/bomb.yaml", b"0" * 30_000_000)], compression=zipfile.ZIP_DEFLATED), "too large"),
        (_zip([MANIFEST, ("x", b"1")], compression=zipfile.ZIP_LZMA), "compressed in a way"),
        (_called_compressed(_zip([MANIFEST, ("packages/aero/x.yaml", b"\xff" * 9)])), "no archive"),
        (_zip([MANIFEST, *((f"packages/aero/{n}.yaml", b"") for n in range(5_001))]), "more than 5000"),
        (_zip([MANIFEST, ("packages/aero/x.yaml", b"1")]), "not in the manifest"),
        (_zip([("manifest.json", b'{"format": 1, "packages": [{"key": "../x", "files": {}}]}')]), "not allowed"),
        (_zip([("manifest.json", b'{"format": 1, "packages": {}}')]), "no list"),
        (_zip([("manifest.json", b'{"format": 1, "packages": [{"key": "x", "files": {}}]}')]), "not whole"),
    ],
)  # fmt: skip
def test_what_is_no_archive_of_packages_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        importing.read(data)


def test_a_member_that_lies_about_its_size_is_not_believed() -> None:
    data = bytearray(_zip([MANIFEST, ("packages/aero/bomb.yaml", b"0" * 5_000_000)], compression=zipfile.ZIP_DEFLATED))
    end = data.rfind(b"PK\x01\x02")
    # The size in the central directory.
    data[end + 24 : end + 28] = (10).to_bytes(4, "little")
    with pytest.raises(UsageError):
        importing.read(bytes(data))


def test_a_half_missing_or_changed_archive_names_what_is_wrong(installation: Installation) -> None:
    write_package(installation, "aero")
    data = exporting.export(installation, ["aero"], actor="dev")
    members = _members(data)
    del members["packages/aero/README.md"]
    members["packages/aero/package.yaml"] += b"# one more comment\n"
    with pytest.raises(
        UsageError, match=r"package\.yaml was changed; .*README\.md is missing|README\.md is missing; .*changed"
    ):
        importing.read(_zip(list(members.items())))
    # The file that a manifest leaves out on purpose is missed by the package itself.
    manifest = json.loads(_members(data)["manifest.json"])
    del manifest["packages"][0]["files"]["README.md"]
    members = {**_members(data), "manifest.json": archive.canonical(manifest)}
    del members["packages/aero/README.md"]
    with pytest.raises(UsageError, match=r"aero of the archive does not load: .*README\.md"):
        importing.read(_zip(list(members.items())))


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        return {n: found.read(n) for n in found.namelist()}


@pytest.fixture
def one(installation: Installation) -> bytes:
    write_package(installation, "aero")
    signing.make_key(installation.settings.workspace)
    return exporting.export(installation, ["aero"], actor="dev")


def test_no_changed_bit_goes_through(one: bytes) -> None:
    """Whatever byte of a signed archive is changed: it is refused, or means exactly the same."""
    whole = importing.read(one)

    @settings(max_examples=150, deadline=None)
    @given(st.integers(0, len(one) - 1), st.integers(1, 255))
    def changed(at: int, by: int) -> None:
        data = bytearray(one)
        data[at] ^= by
        try:
            found = importing.read(bytes(data))
            signing.verify(found.archive.signature, found.archive.manifest_bytes, "")
        except UsageError:
            return
        assert found.archive.packages == whole.archive.packages
        assert found.archive.manifest == whole.archive.manifest

    changed()
