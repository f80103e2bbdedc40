"""Packages are applied, ordered and removed all or nothing, for one client, and doing it again changes nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from leavers_help import Leavers
from made_packages import list_children, write_package
from sqlalchemy import text
from sqlmodel import select

from agent import audit
from agent.content.packages import PHASES
from agent.errors import Conflict, NotFound, StoreError, UsageError
from agent.installation import Installation
from agent.inventory import extra_fields, field_values
from agent.model.administration import AuditEntry, Credential, SystemProperty
from agent.model.fields import FieldType, Form
from agent.model.packages import AppliedPackage, PackageChange
from agent.packages import applying, changes, store
from agent.services import credentials

TWO = PHASES[2]
MONITOR = "name: Aero Watch\ninterval: 1 hour\ntarget: contact\nsql: aero.sql\n"
SQL = "SELECT c.contactid AS TestValue, c.contactid AS IdentityField, c.contactid AS ContactID FROM contacts c WHERE 1 = 0\n"


def apply(installation: Installation, name: str, client: str = "contoso", **options: Any) -> str | None:
    planned = applying.plan_apply(installation, name, client, actor="ann", **options)
    return changes.perform(installation, planned, actor="ann")


def lists(installation: Installation, client: str = "contoso") -> dict[str, list[str]]:
    installation.content.reload()
    listing = installation.content.client_list(client)
    return {w: list(n) for w, n in listing.definition.scripts.items()} if listing else {}


def files(workspace: Path) -> dict[str, bytes]:
    root = workspace / "content"
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def made(installation: Installation) -> tuple[set[str], set[tuple[str, int | None]], set[str]]:
    with installation.database.reading() as session:
        return (
            {f.name for f in extra_fields.fields(session, Form.CONTACT)},
            {(c.name, c.client_id) for c in session.exec(select(Credential))},
            {p.name for p in session.exec(select(SystemProperty))},
        )


@pytest.mark.usefixtures("leavers")
def test_applying_brings_everything_for_one_client_and_again_nothing(
    installation: Installation, two_clients: Any
) -> None:
    place = write_package(installation, "aero", more="monitors: [aero.yaml]\n")
    (place / "monitors").mkdir()
    (place / "monitors" / "aero.yaml").write_text(MONITOR)
    (place / "monitors" / "aero.sql").write_text(SQL)
    installation.content.reload()
    before = made(installation)
    planned = applying.plan_apply(installation, "Aero", "contoso", actor="ann")
    said = "\n".join(planned.lines)
    for line in (
        "field 'Aero Id'",
        "empty credential 'aero'",
        "_sysAeroMode",
        "content/monitors/aero.yaml",
        "number 1 of 1",
    ):
        assert line in said
    assert (made(installation), lists(installation)) == (before, {})
    # A monitor of a package does not count before it is applied.
    with pytest.raises(NotFound):
        installation.content.monitor("Aero Watch")
    assert changes.perform(installation, planned, actor="ann") is not None
    fields, kept, properties = made(installation)
    assert "Aero Id" in fields and "_sysAeroMode" in properties
    assert kept - before[1] == {("aero", two_clients.contoso)}
    assert lists(installation) == {TWO: ["Aero - Offboarding"]}
    assert lists(installation, "fabrikam") == {}
    assert installation.content.monitor("Aero Watch").name == "Aero Watch"
    assert apply(installation, "aero") is None
    # The second client shares field, property and monitor, and has its own credential.
    assert apply(installation, "aero", "fabrikam") is not None
    assert ("aero", two_clients.fabrikam) in made(installation)[1]
    with installation.database.session() as session:
        assert [a for a in session.exec(select(AuditEntry.action)) if a == "package.apply"] == ["package.apply"] * 2
        assert audit.verify(session) == []
    assert [(a.name, a.version, a.drift) for a in store.applied(installation, "contoso")] == [("Aero", "1.0.0", ())]


@pytest.mark.usefixtures("leavers")
def test_what_cannot_be_made_leaves_nothing_behind(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(installation, "aero")
    list_children(installation, "contoso", {PHASES[1]: ["Aero - Offboarding"]})
    before, rows = files(installation.settings.workspace), made(installation)
    with installation.database.session() as session:
        extra_fields.define(session, form=Form.CONTACT, name="aero id", type=FieldType.DATE, actor="ann")
    with pytest.raises(Conflict, match="'aero id' of the type date, and the package needs it as text"):
        apply(installation, "aero")
    with installation.database.session() as session:
        extra_fields.remove(session, extra_fields.get_field(session, Form.CONTACT, "aero id"), actor="ann")
    # The last of the database's rows fails, after the files and the field were made.
    with monkeypatch.context() as patched:
        patched.setattr(credentials, "add_shell", lambda *_, **__: (_ for _ in ()).throw(StoreError("full")))
        with pytest.raises(StoreError, match="full"):
            apply(installation, "aero")
    assert (files(installation.settings.workspace), made(installation)) == (before, rows)
    with installation.database.reading() as session:
        assert [c.state for c in session.exec(select(PackageChange))] == ["failed"]
        assert session.exec(select(AppliedPackage)).all() == []
    assert apply(installation, "aero") is not None


@pytest.mark.usefixtures("leavers")
@pytest.mark.parametrize("point", ["files", "rows"])
def test_a_process_that_dies_half_way_leaves_what_the_next_one_puts_back(
    installation: Installation, point: str
) -> None:
    place = write_package(installation, "aero", more="monitors: [aero.yaml]\n")
    (place / "monitors").mkdir()
    (place / "monitors" / "aero.yaml").write_text(MONITOR)
    (place / "monitors" / "aero.sql").write_text(SQL)
    write_package(installation, "brio")
    before, rows = files(installation.settings.workspace), made(installation)
    planned = applying.plan_apply(installation, "aero", "contoso", actor="ann")
    installation.database.close()
    child = os.fork()
    if child == 0:
        own = Installation(installation.settings)
        if point == "files":
            written = changes._write
            # Killed after the first of several files.
            changes._write = lambda *given: (written(*given), os.kill(os.getpid(), 9))  # type: ignore[assignment, misc]
        else:
            credentials.add_shell = lambda *_, **__: os.kill(os.getpid(), 9)  # type: ignore[assignment]
        changes.perform(own, planned, actor="ann")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == 9
    assert files(installation.settings.workspace) != before
    assert made(installation) == rows
    # Whatever is done next, what was left is put back first; nothing of the broken one is seen.
    assert apply(installation, "brio", "fabrikam") is not None
    installation.content.reload()
    with pytest.raises(NotFound):
        installation.content.monitor("Aero Watch")
    assert lists(installation) == {}
    with installation.database.reading() as session:
        query = select(PackageChange.subject, PackageChange.state)
        assert sorted(session.exec(query)) == [("Aero", "failed"), ("Brio", "done")]
    assert apply(installation, "aero") is not None


@pytest.mark.usefixtures("leavers")
def test_only_one_changes_packages_at_a_time(installation: Installation) -> None:
    write_package(installation, "aero")
    planned = applying.plan_apply(installation, "aero", "contoso", actor="ann")
    with changes._lock(installation.settings.workspace), pytest.raises(Conflict, match="by somebody else"):
        changes.perform(installation, planned, actor="ann")
    # And what somebody edited since it was shown is not overwritten.
    list_children(installation, "contoso", {TWO: ["Aero - Offboarding"]})
    with pytest.raises(Conflict, match=r"client\.yaml was changed by somebody else"):
        changes.perform(installation, planned, actor="ann")
    assert made(installation)[1] == set()


@pytest.mark.usefixtures("leavers")
def test_the_order_is_the_clients_own_and_nothing_of_its_list_is_lost(installation: Installation) -> None:
    for key, revocation in (("aero", "collaboration"), ("brio", "business"), ("cello", "remote_access")):
        write_package(installation, key, revocation=revocation)
    write_package(installation, "own", phase=1, revocation="none")
    file = installation.settings.workspace / "content/scripts/clients/contoso/client.yaml"
    list_children(installation, "contoso", {TWO: ["Own - Offboarding"]})
    file.write_text(file.read_text().replace("- Own - Offboarding", "- Own - Offboarding  # ours, by hand"))
    for key in ("aero", "brio", "cello"):
        apply(installation, key)
    # By danger: what is more dangerous stands before; the script of no applied package keeps its place.
    assert applying.current_order(installation, "contoso")[1] == ["Cello", "Brio", "Aero"]
    assert lists(installation)[TWO] == [f"{n} - Offboarding" for n in ("Own", "Cello", "Brio", "Aero")]
    planned = applying.plan_order(installation, "contoso", ["Aero", "Cello", "Brio"])
    assert planned.warnings == (
        "Aero (collaboration) comes before Cello (remote access) in 'User Offboarding - 2 Access Revocation', "
        "which is against the order of danger",
        "Aero (collaboration) comes before Brio (business) in 'User Offboarding - 2 Access Revocation', "
        "which is against the order of danger",
    )
    changes.perform(installation, planned, actor="ann")
    assert lists(installation)[TWO] == [f"{n} - Offboarding" for n in ("Own", "Aero", "Cello", "Brio")]
    assert "- Own - Offboarding  # ours, by hand" in file.read_text()
    for wrong, said in (
        (["Aero", "Brio"], "missing: Cello"), (["Aero", "Aero", "Brio", "Cello"], "twice: Aero"),
        (["Aero", "Brio", "Cello", "Nix"], "not applied here: Nix"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            applying.plan_order(installation, "contoso", wrong)
    with pytest.raises(UsageError, match="must be from 1 to 4"):
        applying.plan_apply(installation, "own", "contoso", actor="ann", position=6)
    # Where the client is strict, it is refused and not only warned of.
    file.write_text(file.read_text() + "strict_order: true\n")
    changes.perform(installation, applying.plan_order(installation, "contoso", ["Cello", "Brio", "Aero"]), actor="ann")
    with pytest.raises(Conflict, match=re.escape("Brio (business) comes before Cello (remote access)")):
        changes.perform(
            installation, applying.plan_order(installation, "contoso", ["Brio", "Cello", "Aero"]), actor="ann"
        )
    assert applying.current_order(installation, "contoso")[1] == ["Cello", "Brio", "Aero"]
    assert applying.current_order(installation, "fabrikam")[1] == []


@pytest.mark.usefixtures("leavers")
def test_drift_is_shown_and_applying_again_mends_it(installation: Installation) -> None:
    write_package(installation, "aero")
    write_package(installation, "brio")
    apply(installation, "aero")
    apply(installation, "brio")

    def drift() -> dict[str, tuple[str, ...]]:
        installation.content.reload()
        return {a.name: a.drift for a in store.applied(installation, "contoso")}

    write_package(installation, "aero", user="somebody")
    assert drift() == {"Aero": ("its content has changed since",), "Brio": ()}
    write_package(installation, "aero", version="1.10.0")
    assert drift()["Aero"] == ("1.10.0 is here: apply it again",)
    apply(installation, "aero")
    assert drift()["Aero"] == ()
    write_package(installation, "aero", version="1.9.0")
    assert drift()["Aero"] == ("only 1.9.0 is here",)
    list_children(installation, "contoso", {TWO: ["Brio - Offboarding"]})
    assert drift()["Aero"][1:] == (
        "it stands not in the client's order",
        f"aero_offboarding is not listed for {TWO!r} any more",
    )
    assert set(store.order_faults(installation, "contoso")) == {
        "Aero is applied and stands not in the order",
        "Brio is applied and stands not in the order",
    }
    write_package(installation, "aero", version="1.10.0")
    apply(installation, "aero")
    assert drift()["Aero"] == ()


@pytest.mark.usefixtures("leavers")
def test_a_duplicate_of_its_script_stays_in_its_place(installation: Installation) -> None:
    from agent.content import duplication

    write_package(installation, "aero")
    apply(installation, "aero")
    made_copy = duplication.duplicate(installation.content, "Aero - Offboarding", "contoso", "Aero - Contoso")
    list_children(installation, "contoso", {TWO: [made_copy.name]})
    apply(installation, "aero")
    # The client's own copy stands for the script of the package; a second one would do it twice.
    assert lists(installation) == {TWO: ["Aero - Contoso"]}


@pytest.mark.usefixtures("leavers")
def test_removing_keeps_what_holds_values(installation: Installation, leavers: Leavers, two_clients: Any) -> None:
    for key in ("aero", "brio"):
        write_package(installation, key)
        apply(installation, key)
        apply(installation, key, "fabrikam")
    with installation.database.session() as session:
        field_values.set_value(session, Form.CONTACT, leavers.john, "Aero Id", "A1", actor="ann")
    changes.perform(installation, applying.plan_remove(installation, "Aero", "contoso", actor="ann"), actor="ann")
    assert lists(installation) == {TWO: ["Brio - Offboarding"]}
    assert lists(installation, "fabrikam") == {TWO: ["Aero - Offboarding", "Brio - Offboarding"]}
    fields, kept, _ = made(installation)
    assert "Aero Id" in fields
    assert ("aero", two_clients.contoso) not in kept and ("aero", two_clients.fabrikam) in kept
    with pytest.raises(NotFound, match="not applied"):
        applying.plan_remove(installation, "Aero", "contoso", actor="ann")
    with installation.database.reading() as session:
        assert session.execute(text("select count(*) from applied_package")).scalar() == 3


@pytest.mark.usefixtures("leavers")
def test_the_partners_list_is_begun_with_and_a_phase_can_be_chosen(installation: Installation) -> None:
    write_package(installation, "aero")
    write_package(installation, "brio")
    apply(installation, "aero", "partner")
    planned = applying.plan_apply(installation, "brio", "contoso", actor="ann")
    assert f"begin the list of {TWO!r} with the partner's: Aero - Offboarding" in planned.lines
    changes.perform(installation, planned, actor="ann")
    assert lists(installation) == {TWO: ["Aero - Offboarding", "Brio - Offboarding"]}
    apply(installation, "brio", phase=1)
    assert lists(installation) == {TWO: ["Aero - Offboarding"], PHASES[1]: ["Brio - Offboarding"]}
    # It stays where somebody put it.
    assert apply(installation, "brio") is None


def test_every_shipped_package_can_be_applied_to_any_client(installation: Installation, leavers: Leavers) -> None:
    """All of them together: no field, kind or property of one stands in the way of another."""
    names = [p.name for p in installation.content.packages()]
    assert {"Active Directory", "Microsoft 365"} <= set(names)
    assert {p.name: store.check(installation.content, p) for p in installation.content.packages()} == {
        n: [] for n in names
    }
    for name in names:
        assert apply(installation, name) is not None
    assert store.order_faults(installation, "contoso") == []
    assert {a.drift for a in store.applied(installation, "contoso")} == {()}
    assert store.applied(installation, "fabrikam") == []
