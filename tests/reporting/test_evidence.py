"""agent.reporting.evidence and leftovers: who asked, what became of each computer, what is left, sealed by a digest."""

from __future__ import annotations

import hashlib
import json
import stat
from datetime import timedelta
from typing import Any

import pytest

from agent import audit
from agent.errors import NotFound, StoreError
from agent.installation import Installation
from agent.inventory.flags import standing_flags
from agent.model.base import utcnow
from agent.model.places import Computer
from agent.reporting.evidence import evidence_document, write_evidence
from agent.reporting.html import evidence_html
from agent.reporting.leftovers import leftovers

NASTY = "<img src=x onerror=alert(1)>\n\"'{{ 7*7 }}"


def evidence(installation: Installation, client_id: int) -> dict[str, Any]:
    with installation.database.session() as session:
        document = evidence_document(session, installation.settings, client_id)
    assert json.loads(json.dumps(document)) == document
    return document


def change(installation: Installation, computer_id: int, **values: Any) -> None:
    with installation.database.session() as session:
        computer = session.get(Computer, computer_id)
        assert computer is not None
        for name, value in values.items():
            setattr(computer, name, value)
        session.add(computer)


def more_computers(installation: Installation, places: Any, *names: str) -> list[int]:
    with installation.database.session() as session:
        made = [
            Computer(
                client_id=places.contoso, location_id=places.contoso_site, external_id=n, name=n, last_contact=None
            )
            for n in names
        ]
        session.add_all(made)
        session.flush()
        return [c.computer_id or 0 for c in made]


def test_each_computer_has_its_word(installation: Installation, two_clients: Any, story: Any, flag: Any) -> None:
    retired, partial = two_clients.contoso_computers
    never, offline, skipped, fine = more_computers(
        installation, two_clients, "NEVER", "OFFLINE", "SKIPPED", "UNTOUCHED"
    )
    change(installation, offline, last_contact=utcnow() - timedelta(hours=2))
    for computer in (fine, skipped):
        change(installation, computer, last_contact=utcnow())
    for computer in (never, offline):
        flag("Offboard Computer", 1, computer)
    plan = story.plan(
        skipped=[
            {"computer": "SKIPPED", "id": skipped, "client": "Contoso", "reason": "maintenance mode"},
            {"computer": "OTHER", "id": two_clients.fabrikam_computers[0], "client": "Fabrikam", "reason": "secret"},
        ],
        approved_by="joe", approval_reason="contract ended",
    )  # fmt: skip
    foreign = story.plan(
        skipped=[{"computer": "X", "id": two_clients.fabrikam_computers[1], "client": "F", "reason": "r"}]
    )
    story.run(retired, [("App", "succeeded", None)], plan_id=plan)
    change(installation, retired, retired_at=utcnow())
    story.run(partial, story.mixed, plan_id=plan)
    document = evidence(installation, two_clients.contoso)
    assert {c["name"]: c["state"] for c in document["computers"]} == {
        "CONTOSO-PC1": "retired", "CONTOSO-PC2": "partial", "NEVER": "never_contacted", "OFFLINE": "offline",
        "SKIPPED": "skipped",
    }  # fmt: skip
    rows = {c["name"]: c for c in document["computers"]}
    assert [e["label"] for e in rows["CONTOSO-PC1"]["removed"]] == ["App"]
    assert rows["CONTOSO-PC2"]["failed"] == [{"label": "Sentinel", "reason": "it is still installed"}]
    assert [e["label"] for e in rows["CONTOSO-PC2"]["reboot_needed"]] == ["VPN"]
    assert rows["CONTOSO-PC2"]["unknown"] == [{"label": "Backup", "reason": "the connection ended"}]
    assert rows["SKIPPED"]["skipped"]["reason"] == "maintenance mode"
    assert [(p["id"], p["approved_by"]) for p in document["plans"]] == [(plan, "joe")]
    other = evidence(installation, two_clients.fabrikam)
    assert [c["name"] for c in other["computers"]] == ["FABRIKAM-PC1", "FABRIKAM-PC2"] and other["asked"] == []
    assert foreign in [p["id"] for p in other["plans"]]


def test_what_a_later_run_removed_is_removed(installation: Installation, two_clients: Any, story: Any) -> None:
    computer = two_clients.contoso_computers[0]
    story.run(computer, story.mixed)
    story.run(computer, [(n, "succeeded", None) for n, *_ in story.mixed[:4]], created_at=utcnow())
    (row,) = evidence(installation, two_clients.contoso)["computers"]
    assert row["state"] == "succeeded" and row["failed"] == row["unknown"] == row["reboot_needed"] == []
    assert [e["label"] for e in row["removed"]] == ["Datto AV", "Sentinel", "VPN", "Backup"]
    assert len(row["runs"]) == 2


def test_who_asked_is_told_with_old_and_new(installation: Installation, two_clients: Any, flag: Any) -> None:
    flag("Offboard Client", 3, two_clients.contoso, by="jane")
    flag("Offboard Client", 3, two_clients.contoso, "0", by=None)
    flag("Offboard Computer", 1, two_clients.contoso_computers[0], by="joe")
    flag("Offboard Client", 3, two_clients.fabrikam, by="eve")
    asked = evidence(installation, two_clients.contoso)["asked"]
    assert [(c["by"], c["field"], c["old"], c["new"]) for c in asked] == [
        ("jane", "Offboard Client", None, "1"), ("plain SQL", "Offboard Client", "1", "0"),
        ("joe", "Offboard Computer", None, "1"),
    ]  # fmt: skip
    assert asked[2]["place"] == "CONTOSO-PC1"


def test_the_written_report_is_sealed_in_the_audit_trail(
    installation: Installation, two_clients: Any, story: Any, flag: Any
) -> None:
    flag("Offboard Client", 3, two_clients.contoso)
    story.run(two_clients.contoso_computers[0], story.mixed)
    written = write_evidence(installation, two_clients.contoso, actor="jane")
    again = write_evidence(installation, two_clients.contoso, actor="jane")
    assert written.html.parent == installation.settings.workspace / "reports" and written.html != again.html
    assert stat.S_IMODE(written.html.stat().st_mode) == 0o600
    with installation.database.session() as session:
        entry = audit.entries(session, action="report.write", client_id=two_clients.contoso)[1]
        assert audit.verify(session) == []
    for path in (written.html, written.json):
        assert entry.details["sha256"][path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    document = json.loads(written.json.read_text())
    assert document["client"]["name"] == "Contoso" and document["audit_trail"].split(":")[0].isdigit()
    assert len(list(written.html.parent.iterdir())) == 4


def test_a_folder_that_cannot_be_written_is_named(installation: Installation, two_clients: Any) -> None:
    (installation.settings.workspace / "reports").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        write_evidence(installation, two_clients.contoso, actor="jane")
    with installation.database.session() as session:
        assert audit.entries(session, action="report.write") == []


def test_a_client_that_does_not_exist(installation: Installation) -> None:
    with pytest.raises(NotFound):
        evidence(installation, 99)


def test_no_name_becomes_markup(installation: Installation, two_clients: Any, story: Any, flag: Any) -> None:
    computer = two_clients.contoso_computers[0]
    story.rename(computer, NASTY)
    flag("Offboard Client", 3, two_clients.contoso, by=NASTY)
    plan = story.plan(
        created_by=NASTY, approved_by=NASTY, approval_reason=NASTY, monitor=NASTY,
        holds=[{"guardrail": "x", "reason": NASTY}],
        skipped=[{"computer": NASTY, "id": two_clients.contoso_computers[1], "client": NASTY, "reason": NASTY}],
    )  # fmt: skip
    story.run(computer, [(NASTY, "failed", {"message": NASTY})], plan_id=plan, option=NASTY)
    page = evidence_html(evidence(installation, two_clients.contoso))
    assert "<img" not in page and "&lt;img src=x onerror=alert(1)&gt;" in page and "{{ 7*7 }}" in page


def test_flagged_computers_that_stay_offline(installation: Installation, two_clients: Any, flag: Any) -> None:
    first, second = two_clients.contoso_computers
    change(installation, first, last_contact=utcnow() - timedelta(days=40))
    change(installation, second, last_contact=None)
    change(installation, two_clients.fabrikam_computers[0], last_contact=None)
    flag("Offboard Location", 2, two_clients.contoso_site)

    def left(**values: Any) -> dict[str, str]:
        settings = installation.settings.model_copy(update=values)
        with installation.database.reading() as session:
            return {x.name: x.state for x in leftovers(session, settings)}

    assert left(offline_expiry_days=50) == {"CONTOSO-PC1": "offline", "CONTOSO-PC2": "never_contacted"}
    assert left() == {"CONTOSO-PC1": "expired", "CONTOSO-PC2": "never_contacted"}
    assert left(online_seconds=86_400 * 50) == {"CONTOSO-PC2": "never_contacted"}
    flag("Exclude From Offboarding", 1, first)
    change(installation, second, retired_at=utcnow())
    assert left() == {}


def test_default_rows_count_for_what_stays_offline(installation: Installation, two_clients: Any, flag: Any) -> None:
    for computer in (*two_clients.contoso_computers, *two_clients.fabrikam_computers):
        change(installation, computer, last_contact=utcnow() - timedelta(days=1))

    def left() -> set[str]:
        with installation.database.reading() as session:
            return {x.name for x in leftovers(session, installation.settings)}

    flag("Offboard Location", 2, 0)
    assert left() == {"CONTOSO-PC1", "CONTOSO-PC2", "FABRIKAM-PC1", "FABRIKAM-PC2"}
    with installation.database.reading() as session:
        assert [(f.place_id, f.path, f.computers) for f in standing_flags(session)] == [(0, "every location", 4)]
    flag("Offboard Location", 2, two_clients.fabrikam_site, "0")
    assert left() == {"CONTOSO-PC1", "CONTOSO-PC2"}
    flag("Exclude From Offboarding", 1, 0)
    flag("Exclude From Offboarding", 1, two_clients.contoso_computers[0], "0")
    assert left() == {"CONTOSO-PC1"}


def test_a_flag_that_stays_set_is_warned_about(installation: Installation, two_clients: Any, flag: Any) -> None:
    flag("Offboard Client", 3, two_clients.contoso, by="jane")
    flag("Offboard Location", 2, two_clients.fabrikam_site, by=None)
    flag("Offboard Computer", 1, two_clients.fabrikam_computers[0])
    change(installation, two_clients.contoso_computers[0], retired_at=utcnow())
    with installation.database.reading() as session:
        client, location = standing_flags(session)
        assert standing_flags(session, client_id=two_clients.contoso) == [client]
    assert (client.level, client.path, client.by, client.computers) == ("client", "Contoso", "jane", 1)
    assert (location.level, location.by, location.computers) == ("location", None, 2)
    assert "a computer that is added later will be offboarded too" in client.warning
    assert client.warning in evidence(installation, two_clients.contoso)["warnings"]
    flag("Offboard Client", 3, two_clients.contoso, "0")
    with installation.database.reading() as session:
        assert standing_flags(session, client_id=two_clients.contoso) == []
