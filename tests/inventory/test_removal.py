"""Removing a place that was added by mistake: what has a history is kept, and the other client never loses anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import inspect, text
from sqlmodel import Session, SQLModel, select

from agent import audit
from agent.errors import Conflict, NotFound
from agent.inventory import contacts, field_values, groups, lookup, places
from agent.inventory.lookup import place_id
from agent.inventory.removal import KEEPS, KEEPS_TARGETS, MANY, Removed, refuse_kept, remove
from agent.model.access import OneTimeLink, User, UserGrant
from agent.model.administration import Credential, SystemProperty
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding, ManualTask, OffboardingTemplate, OffboardingTemplateUse
from agent.model.directory import DirectoryAccount, DirectoryWatch
from agent.model.fields import ExtraFieldData, Form
from agent.model.monitors import Alert, FailingRow
from agent.model.packages import AppliedPackage, PackageChange
from agent.model.places import Client, Computer, Contact, Location, Software
from agent.model.runs import RunState, ScriptRevision, ScriptRun, ScriptState
from agent.model.tickets import Notification, Ticket
from agent.model.webhooks import WebhookSource, WebhookTarget

if TYPE_CHECKING:
    from conftest import Places

    from agent.installation import Installation

EXCLUDE = "Exclude From Offboarding"


class Mistake:
    """A client, location, computer and contact that should not be there, beside the two real clients."""

    def __init__(self, store: Installation, name: str = "Fabrikan") -> None:
        self.store = store
        with store.database.session() as session:
            self.client = place_id(places.add_client(session, name=name, actor="ann"))
            self.location = place_id(places.add_location(session, client_id=self.client, name="HQ", actor="ann"))
            self.computer = place_id(
                places.add_computer(
                    session, location_id=self.location, name="PC1", actor="ann",
                    transport_options={"password": "hunter2"},
                )
            )  # fmt: skip
            self.contact = place_id(places.add_contact(session, client_id=self.client, name="Jo", actor="ann"))

    def id(self, model: type[lookup.Place]) -> int:
        return int(getattr(self, lookup.word(model)))

    def remove(self, model: type[lookup.Place]) -> Removed:
        with self.store.database.session() as session:
            return remove(self.store, session, lookup.get(session, model, self.id(model)), actor="bob")

    def refused(self, model: type[lookup.Place]) -> str:
        with self.store.database.reading() as session, pytest.raises(Conflict) as error:
            refuse_kept(self.store, session, lookup.get(session, model, self.id(model)))
        with pytest.raises(Conflict, match="is kept"):
            self.remove(model)
        with self.store.database.reading() as session:
            lookup.get(session, model, self.id(model))
        return str(error.value)


def everything(session: Session) -> list[Any]:
    """All that the two real clients have."""
    rows: list[Any] = []
    for table in ("clients", "locations", "computers", "contacts", "extrafielddata"):
        rows += session.execute(text(f"SELECT * FROM {table} ORDER BY 1, 2")).all()
    return rows


def test_a_mistake_is_removed_from_the_inside_to_the_outside(
    any_installation: Installation, any_two_clients: Places
) -> None:
    with any_installation.database.session() as session:
        field_values.set_value(session, Form.CLIENT, any_two_clients.contoso, EXCLUDE, "1", actor="ann")
        before = everything(session)
    mistake = Mistake(any_installation)
    for model in (Client, Location):
        hanging = "1 computer." if model is Location else "1 location, 1 computer, 1 contact."
        assert f"hangs on it: {hanging}" in mistake.refused(model)
    for model in (Contact, Computer, Location, Client):
        gone = mistake.remove(model)
        assert (gone.kind, gone.id) == (lookup.word(model), mistake.id(model))
        with any_installation.database.reading() as session, pytest.raises(NotFound):
            lookup.get(session, model, gone.id)
    with any_installation.database.reading() as session:
        assert everything(session) == before
        assert lookup.find(session, Client, "contoso").client_id == any_two_clients.contoso


@pytest.mark.parametrize("model", [Client, Location, Computer, Contact])
def test_an_id_is_never_given_again(
    any_installation: Installation, any_two_clients: Places, model: type[lookup.Place]
) -> None:
    """Also that of the newest place, which SQLite would give again without AUTOINCREMENT."""
    first = Mistake(any_installation)
    for one in (Contact, Computer, Location, Client):
        first.remove(one)
    any_installation.database.close()
    assert Mistake(any_installation).id(model) > first.id(model)


def test_values_go_along_and_the_audit_trail_keeps_them(
    any_installation: Installation, any_two_clients: Places
) -> None:
    mistake, other = Mistake(any_installation), any_two_clients.contoso_computers[0]
    with any_installation.database.session() as session:
        for place in (mistake.computer, other):
            field_values.set_value(session, Form.COMPUTER, place, EXCLUDE, "1", actor="ann")
        groups.add_group(session, "Pilot", actor="ann")
        groups.add_members(session, "Pilot", [mistake.computer, other], actor="ann")
        groups.set_alerting(session, mistake.computer, actor="ann", no_alerts=True)
        groups.maintenance_on(session, mistake.computer, minutes=5, actor="ann")
        session.add(Software(computer_id=mistake.computer, name="Zoom"))
        session.add(FailingRow(monitor="M", target_kind="computer", target_id=mistake.computer, identity="x"))
        session.add(FailingRow(monitor="M", target_kind="contact", target_id=mistake.computer, identity="x"))
    gone = mistake.remove(Computer)
    assert (gone.path, gone.values) == ("Fabrikan/HQ/PC1", 1)
    with any_installation.database.session() as session:
        removed, change = audit.entries(session, client_id=mistake.client, limit=2)
        assert (removed.action, removed.actor, removed.object_id) == ("computer.remove", "bob", str(mistake.computer))
        kept = removed.details
        assert (kept["name"], kept["path"], kept["client_id"], kept["location_id"], kept["external_id"]) == (
            "PC1", "Fabrikan/HQ/PC1", mistake.client, mistake.location, gone.external_id,
        )  # fmt: skip
        assert (kept["groups"], kept["software"], kept["transport_options"]) == (["Pilot"], 1, {"password": "***"})
        assert (change.action, change.actor, change.object_id) == ("edf.change", "bob", str(mistake.computer))
        assert (change.details["old"], change.details["new"]) == ("1", None)
        values = session.exec(select(ExtraFieldData).where(ExtraFieldData.value == "1", ExtraFieldData.id != 0))
        assert [v.id for v in values] == [other]
        assert [r.target_kind for r in session.exec(select(FailingRow))] == ["contact"]
        assert groups.members(session, "Pilot") == [other]
        assert audit.verify(session) == []


def run_of(kind: str, number: int, client: int, state: str = RunState.SUCCEEDED) -> ScriptRun:
    return ScriptRun(
        script="X", role="script", revision="d", target_kind=kind, target_id=number, target_name="x", client_id=client,
        started_by="ann", state=state,
    )  # fmt: skip


#: Model -> rows of a place (client id, kind, id) that keep it, and what the refusal says.
HISTORY: dict[type[lookup.Place], list[tuple[str, Callable[[int, int], list[Any]]]]] = {
    Computer: [
        ("1 run", lambda c, i: [ScriptRevision(digest="d", name="X", content={}), run_of("computer", i, c)]),
        ("1 alert", lambda c, i: [Alert(monitor="M", target_kind="computer", target_id=i, identity="x", client_id=c)]),
        ("1 ticket", lambda c, i: [Ticket(key="k", client_id=c, computer_id=i, subject="s", body="b")]),
        ("1 value of a script", lambda c, i: [ScriptState(script="X", target_kind="computer", target_id=i, variable="v", value="1")]),
    ],
    Contact: [
        ("1 run", lambda c, i: [ScriptRevision(digest="d", name="X", content={}), run_of("contact", i, c)]),
        ("1 offboarding", lambda c, i: [ContactOffboarding(contact_id=i, client_id=c, requested_by="ann")]),
        ("1 offboarding", lambda c, i: [ContactOffboarding(contact_id=i, client_id=c, requested_by="ann", removed_at=utcnow())]),
        ("1 manual task", lambda c, i: [ManualTask(client_id=c, contact_id=i, title="keys", created_by="ann")]),
        ("1 ticket", lambda c, i: [Ticket(key="k", client_id=c, contact_id=i, subject="s", body="b")]),
        ("1 alert", lambda c, i: [Alert(monitor="M", target_kind="contact", target_id=i, identity="x", client_id=c)]),
    ],
    Location: [
        ("1 credential", lambda c, i: [Credential(kind="secret", name="n", client_id=c, location_id=i)]),
        ("1 ticket", lambda c, i: [Ticket(key="k", client_id=c, location_id=i, subject="s", body="b")]),
        ("1 run", lambda c, i: [ScriptRevision(digest="d", name="X", content={}), run_of("location", i, c)]),
    ],
    Client: [
        ("1 run", lambda c, i: [ScriptRevision(digest="d", name="X", content={}), run_of("computer", 9999, c)]),
        ("1 alert", lambda c, i: [Alert(monitor="M", target_kind="client", target_id=i, identity="x")]),
        ("1 ticket", lambda c, i: [Ticket(key="k", client_id=c, subject="s", body="b")]),
        ("1 credential", lambda c, i: [Credential(kind="secret", name="n", client_id=c)]),
        ("1 mail", lambda c, i: [Notification(key="k", client_id=c, recipient="a@b", subject="s", body="b", state="sent")]),
        ("1 offboarding", lambda c, i: [ContactOffboarding(contact_id=9999, client_id=c, requested_by="ann")]),
        ("1 role of a user", lambda c, i: [User(id="u", name="uma"), UserGrant(user_id="u", role="viewer", client_id=c)]),
        ("1 one-time link", lambda c, i: [OneTimeLink(token_digest="t", purpose="handover", client_id=c, expires_at=utcnow())]),
        ("1 webhook", lambda c, i: [WebhookTarget(name="w", url="https://x.example", client_id=c, secret="s")]),
        ("1 source of webhooks", lambda c, i: [WebhookSource(name="w", kind="hr", client_id=c, secret="s")]),
        ("1 watched tenant", lambda c, i: [DirectoryWatch(client_id=c, tenant="t")]),
        ("1 account in a tenant", lambda c, i: [DirectoryAccount(client_id=c, tenant="t", object_id="o")]),
        ("1 applied package", lambda c, i: [AppliedPackage(client="fabrikan", package="zoom", version="1", digest="d", applied_by="ann")]),
        ("1 change of packages", lambda c, i: [PackageChange(kind="apply", client="fabrikan", subject="zoom", started_by="ann")]),
        ("1 assigned template", lambda c, i: [
            OffboardingTemplate(name="T", changed_by="ann"),
            OffboardingTemplateUse(kind="client", key=str(i), template="T", assigned_by="ann"),
        ]),
        ("'Helpdesk' in the system property _sysOpenIdRoles", lambda c, i: [
            SystemProperty(name="_sysOpenIdRoles", value='{"Helpdesk": {"role": "viewer", "client": "fabrikan"}, "All": {"role": "viewer"}}'),
        ]),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "told", "rows"), [(model, told, rows) for model, each in HISTORY.items() for told, rows in each]
)
def test_what_has_a_history_is_kept_and_the_refusal_says_why(
    installation: Installation,
    two_clients: Places,
    model: type[lookup.Place],
    told: str,
    rows: Callable[[int, int], list[Any]],
) -> None:
    mistake = Mistake(installation)
    for inner in (Contact, Computer, Location):
        if model in (Client, Location) and inner is not model:
            mistake.remove(inner)
    with installation.database.session() as session:
        for row in rows(mistake.client, mistake.id(model)):
            session.add(row)
            session.flush()
    said = mistake.refused(model)
    assert told in said and f"{lookup.word(model)} {mistake.id(model)} (Fabrikan" in said
    advice = {Computer: "inventory retire --computer", Contact: "'status=Former Employee'"}
    assert advice.get(model, f"exeunt edf set '{EXCLUDE}' 1 --{lookup.word(model)} id:{mistake.id(model)}") in said


def test_a_managers_reports_and_equipment_keep_a_person(installation: Installation, two_clients: Places) -> None:
    mistake = Mistake(installation)
    with installation.database.session() as session:
        person = session.get_one(Contact, mistake.contact)
        for name in ("One", "Two"):
            made = places.add_contact(session, client_id=mistake.client, name=name, actor="ann")
            made.manager_id = mistake.contact
        contacts.assign(session, person, "Laptop", actor="ann")
    assert "2 direct reports, 1 item of equipment" in mistake.refused(Contact)


def test_the_folder_of_a_clients_scripts_keeps_it(installation: Installation, two_clients: Places) -> None:
    mistake = Mistake(installation)
    for inner in (Contact, Computer, Location):
        mistake.remove(inner)
    folder = installation.settings.workspace / "content" / "scripts" / "clients" / "fabrikan"
    folder.mkdir(parents=True)
    assert f"the folder {folder}" in mistake.refused(Client)
    folder.rmdir()
    assert mistake.remove(Client).path == "Fabrikan"


def test_many_are_counted_no_further_than_needed(installation: Installation, two_clients: Places) -> None:
    mistake = Mistake(installation)
    with installation.database.session() as session:
        session.add_all(
            Ticket(key=f"k{n}", client_id=mistake.client, computer_id=mistake.computer, subject="s", body="b")
            for n in range(MANY + 1)
        )
    assert f"{MANY} or more tickets" in mistake.refused(Computer)


def test_every_table_that_names_a_place_was_thought_of() -> None:
    """A new table with such a column keeps its places, or stands here with the reason why it does not."""
    named = {"client_id", "location_id", "computer_id", "contact_id", "manager_id"}
    found, targets = set(), set()
    for mapper in SQLModel._sa_registry.mappers:
        columns = {a.key for a in inspect(mapper.class_).column_attrs}
        found |= {(mapper.class_.__tablename__, c) for c in columns & named}
        targets |= {mapper.class_.__tablename__} if {"target_kind", "target_id"} <= columns else set()
    kept = {(table.__tablename__, column) for _, table, columns in KEEPS for column in columns.values()}
    itself = {(f"{kind}s", f"{kind}_id") for kind in ("client", "location", "computer", "contact")}
    goes_along = {
        (t, "computer_id") for t in ("agentcomputerdata", "maintenancemode", "software", "mastergroupcomputers")
    }
    assert found - kept - itself == goes_along | {("audit_entry", "client_id")}
    # The failing rows of the last scan are no history.
    assert targets - {table.__tablename__ for _, table in KEEPS_TARGETS} == {"monitor_failing_row"}
