"""Definitions and values of extra fields, the views, and what is flagged."""

from __future__ import annotations

import secrets as random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from agent import audit
from agent.errors import Conflict, NotFound, UsageError
from agent.installation import Installation
from agent.inventory import extra_fields, field_values, flags
from agent.inventory.effective import effective_values
from agent.inventory.field_values import EffectiveValue
from agent.model.fields import FieldType, Form

if TYPE_CHECKING:
    from conftest import Places


@pytest.fixture
def db(any_installation: Installation, any_two_clients: Places) -> Any:
    return any_installation.database


def define(session: Any, name: str = "Last Day", **options: Any) -> Any:
    return extra_fields.define(session, **{"form": Form.CLIENT, "name": name, "actor": "ann", **options})


def view(session: Any, level: str = "clients") -> list[Any]:
    return list(session.execute(text(f"SELECT * FROM v_extradata{level} ORDER BY 1")).mappings())


def test_a_new_field_is_a_column_at_once(db: Any, any_two_clients: Places) -> None:
    with db.session() as session:
        define(session, type=FieldType.DATE, section="Dates", tooltip="the last day")
        field_values.set_value(session, Form.CLIENT, any_two_clients.contoso, "Last Day", "2026-12-31", actor="ann")
        assert [r["Last Day"] for r in view(session)] == ["2026-12-31", None]
        field = extra_fields.get_field(session, Form.CLIENT, "last day")
        assert (field.section, extra_fields.tooltip(field)) == ("Dates", "the last day")
        extra_fields.rename(session, field, "Final Day", actor="ann")
        assert [r["Final Day"] for r in view(session)] == ["2026-12-31", None]
        assert "Last Day" not in view(session)[0]
        with pytest.raises(Conflict, match="has values"):
            extra_fields.remove(session, field, actor="ann")
        extra_fields.remove(session, field, actor="bob", with_values=True)
        assert "Final Day" not in view(session)[0]
        gone = audit.entries(session, action="edf.change")[0]
        assert (gone.actor, gone.details["field"], gone.details["old"], gone.details["new"]) == (
            "bob", "Final Day", "2026-12-31", None,
        )  # fmt: skip
        assert [e.action for e in audit.entries(session, object_kind="extra field")] == [
            "edf.remove",
            "edf.rename",
            "edf.define",
        ]
        assert audit.verify(session) == []


def test_each_level_has_its_view(db: Any, any_two_clients: Places) -> None:
    levels = {Form.CLIENT: "clients", Form.LOCATION: "locations", Form.COMPUTER: "computers", Form.CONTACT: "contacts"}
    with db.session() as session:
        for form, level in levels.items():
            define(session, f"On {level}", form=form)
            columns = session.execute(text(f"SELECT * FROM v_extradata{level}")).keys()
            assert f"On {level}" in columns
            assert not [c for c in columns if c.startswith("On ") and c != f"On {level}"]


def test_a_secret_is_masked_everywhere(db: Any, any_two_clients: Places) -> None:
    class Box:
        def encrypt(self, text: str, *, purpose: str = "") -> str:
            return "enc:" + text[::-1] + "@" + purpose

        def decrypt(self, token: str, *, purpose: str = "") -> str:
            assert token.endswith("@" + purpose)
            return token[4:].split("@")[0][::-1]

    box: Any = Box()
    secret = random.token_hex(8)
    contoso, fabrikam = any_two_clients.contoso, any_two_clients.fabrikam
    with db.session() as session:
        define(session, "Portal Key", type=FieldType.SECRET)
        with pytest.raises(UsageError, match="is a secret"):
            field_values.set_value(session, Form.CLIENT, contoso, "Portal Key", secret, actor="ann")
        stored = field_values.set_value(session, Form.CLIENT, contoso, "Portal Key", secret, actor="ann", secrets=box)
        assert stored == "***"
        assert field_values.effective_value(session, Form.CLIENT, contoso, "Portal Key") == EffectiveValue("***", "own")
        assert [r["Portal Key"] for r in view(session)] == ["***", None]
        assert field_values.secret_value(session, Form.CLIENT, contoso, "Portal Key", box) == secret
        assert field_values.secret_value(session, Form.CLIENT, fabrikam, "Portal Key", box) is None
        entries = audit.entries(session)
        assert secret not in repr(entries) and secret[::-1] not in repr(entries)
        assert audit.verify(session) == []


def test_values_are_checked_by_their_type(db: Any, any_two_clients: Places) -> None:
    at = (Form.CLIENT, any_two_clients.contoso)
    with db.session() as session:
        define(session, "Day", type=FieldType.DATE)
        define(session, "Seats", type=FieldType.NUMBER)
        for name, wrong in (
            ("Offboard Client", "yes"), ("Failed Uninstall Process", "Ticket"), ("Day", "31.12.2026"), ("Seats", "many"),
            ("Day", "a\0"),
        ):  # fmt: skip
            with pytest.raises(UsageError, match=name):
                field_values.set_value(session, *at, name, wrong, actor="ann")
        with pytest.raises(NotFound, match="did you mean 'Offboard Client'"):
            field_values.set_value(session, *at, "Offbord Client", "1", actor="ann")
        with pytest.raises(NotFound, match="at the level location"):
            field_values.set_value(session, *at, "Offboard Location", "1", actor="ann")
        with pytest.raises(NotFound, match="no client with the id 99"):
            field_values.set_value(session, Form.CLIENT, 99, "Offboard Client", "1", actor="ann")
        assert (
            field_values.set_value(session, *at, "Failed Uninstall Process", "Ticket+Continue", actor="ann")
            == "Ticket + Continue"
        )
        assert len(audit.entries(session, action="edf.change")) == 1


def test_own_value_then_default_then_nothing(db: Any, any_two_clients: Places) -> None:
    process = (Form.CLIENT, "Failed Uninstall Process")
    contoso, fabrikam = any_two_clients.contoso, any_two_clients.fabrikam

    def effective(client: int) -> EffectiveValue:
        with db.session() as session:
            return field_values.effective_value(session, Form.CLIENT, client, "Failed Uninstall Process")

    assert effective(contoso) == EffectiveValue("0", "nothing")
    with db.session() as session:
        field_values.set_default(session, *process, "Ticket + Halt", actor="ann")
    assert effective(contoso) == EffectiveValue("Ticket + Halt", "default")
    with db.session() as session:
        field_values.set_value(session, Form.CLIENT, contoso, process[1], "", actor="ann")
    assert (effective(contoso), effective(fabrikam)) == (
        EffectiveValue("", "own"),
        EffectiveValue("Ticket + Halt", "default"),
    )
    assert not effective(contoso).is_set
    with db.session() as session:
        assert field_values.clear_value(session, Form.CLIENT, contoso, process[1], actor="bob")
        assert not field_values.clear_value(session, Form.CLIENT, contoso, process[1], actor="bob")
        assert field_values.clear_default(session, *process, actor="bob")
        assert [(e.actor, e.details["entity_id"], e.details["new"]) for e in audit.entries(session, action="edf.change")] == [
            ("bob", 0, None), ("bob", contoso, None), ("ann", contoso, ""), ("ann", 0, "Ticket + Halt"),
        ]  # fmt: skip
        listed = field_values.values_of(session, Form.CLIENT, contoso)
        assert listed["Offboard Client"] == EffectiveValue("0", "nothing")


def test_the_same_value_again_is_no_change(db: Any, any_two_clients: Places) -> None:
    with db.session() as session:
        for _ in range(3):
            field_values.set_value(session, Form.CLIENT, any_two_clients.contoso, "Offboard Client", "1", actor="ann")
        assert len(audit.entries(session, action="edf.change")) == 1
        assert session.execute(text("SELECT count(*) FROM extrafielddata WHERE changedby IS NOT NULL")).scalar() == 0


def test_a_default_that_flags_everybody_is_refused(db: Any, any_two_clients: Places) -> None:
    with db.session() as session:
        with pytest.raises(Conflict, match="would flag every client"):
            field_values.set_default(session, Form.CLIENT, "Offboard Client", "1", actor="ann")
        field_values.set_default(session, Form.CLIENT, "Offboard Client", "0", actor="ann")
        field_values.set_default(
            session, Form.CLIENT, "Offboard Client", "1", actor="ann", allow_destructive_default=True
        )
        assert [(s.level, s.place_id, s.path) for s in flags.standing_flags(session)] == [("client", 0, "every client")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 'a"b'}, "quotation mark"), ({"name": ""}, "empty"), ({"name": " a"}, "space"), ({"name": "a\nb"}, "control"),
        ({"name": "ä" * 32}, "63 bytes"), ({"name": "ClientID"}, "already"), ({"name": "offboard client"}, "already"),
        ({"name": "True"}, "no column"), ({"name": "FALSE"}, "no column"),
        ({"type": FieldType.DROPDOWN}, "needs options"), ({"options": ["a"]}, "only a dropdown"),
        ({"type": FieldType.DROPDOWN, "options": ["a~b"]}, "no ~"), ({"type": FieldType.DROPDOWN, "options": ["a", "a"]}, "differ"),
        ({"type": FieldType.DROPDOWN, "options": ["a"], "tooltip": "x|y"}, "hold |"), ({"guid": "x"}, "no GUID"),
        ({"guid": "0f6d3b52-6f0b-4c0e-9f55-6d8f5a2f7c01"}, "GUID"), ({"destructive": True}, "checkbox"),
    ],
)  # fmt: skip
def test_definitions_that_cannot_be(db: Any, options: dict[str, Any], message: str) -> None:
    with db.session() as session, pytest.raises(UsageError, match=message.replace("|", r"\|")):
        define(session, **options)


def test_shipped_fields_keep_their_names_and_options(db: Any) -> None:
    with db.session() as session:
        flag = extra_fields.get_field(session, Form.CLIENT, "Offboard Client")
        process = extra_fields.get_field(session, Form.CLIENT, "Failed Uninstall Process")
        with pytest.raises(Conflict, match="cannot be renamed"):
            extra_fields.rename(session, flag, "x", actor="ann")
        with pytest.raises(Conflict, match="cannot be removed"):
            extra_fields.remove(session, flag, actor="ann", with_values=True)
        with pytest.raises(Conflict, match="stay"):
            extra_fields.set_options(session, process, ["Ticket + Halt"], actor="ann")
        extra_fields.set_options(session, process, [*extra_fields.options(process), "Call the client"], actor="ann")
        field_values.set_value(session, Form.CLIENT, 1, "Failed Uninstall Process", "Call the client", actor="ann")
        with pytest.raises(Conflict, match="in use"):
            extra_fields.set_options(session, process, extra_fields.options(process)[:4], actor="ann")


def test_an_alias_is_accepted(db: Any, any_two_clients: Places) -> None:
    with db.session() as session:
        field = define(session, "Size", type=FieldType.DROPDOWN, options=["small", "large"])
        extra_fields.add_alias(session, field, "S", "small", actor="ann")
        assert (
            field_values.set_value(session, Form.CLIENT, any_two_clients.contoso, "Size", "S", actor="ann") == "small"
        )
        for alias, value, error in (("S", "large", Conflict), ("large", "small", Conflict), ("x", "tiny", UsageError)):
            with pytest.raises(error):
                extra_fields.add_alias(session, field, alias, value, actor="ann")


NAMES = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters='"\0') | st.just(" "), min_size=1, max_size=14
).filter(lambda name: name.lower() not in ("true", "false"))


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES, value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10))
@pytest.mark.parametrize("any_installation", ["sqlite", "postgresql"], indirect=True)
def test_any_name_is_a_column_and_any_text_a_value(
    any_installation: Installation, any_two_clients: Places, name: str, value: str
) -> None:
    with any_installation.database.session() as session:
        if name != name.strip():
            return
        field = define(session, name)
        field_values.set_value(session, Form.CLIENT, any_two_clients.contoso, name, value, actor=name)
        assert [r[name] for r in view(session)] == [value, "0"]
        assert audit.entries(session, limit=1)[0].details["new"] == value
        assert audit.verify(session) == []
        extra_fields.remove(session, field, actor="ann", with_values=True)


def test_the_levels_that_flag_a_computer(db: Any, any_two_clients: Places) -> None:
    one, two = any_two_clients.contoso_computers
    three, four = any_two_clients.fabrikam_computers
    everybody = [one, two, three, four]
    with db.session() as session:
        assert flags.flags(session, everybody) == {}
        field_values.set_value(session, Form.CLIENT, any_two_clients.contoso, "Offboard Client", "1", actor="ann")
        field_values.set_value(session, Form.COMPUTER, one, "Offboard Computer", "1", actor="ann")
        field_values.set_value(
            session, Form.LOCATION, any_two_clients.contoso_site, "Offboard Location", "0", actor="ann"
        )
        assert flags.flags(session, everybody) == {one: ["client", "computer"], two: ["client"]}
        assert flags.flags(session, [two]) == {two: ["client"]}
        field_values.set_value(session, Form.COMPUTER, four, flags.EXCLUDE, "1", actor="ann")
        assert flags.levels_set(session, flags.EXCLUDE, everybody) == {four: ["computer"]}
        # The default flags whoever has no value of its own.
        field_values.set_default(
            session, Form.COMPUTER, "Offboard Computer", "1", actor="ann", allow_destructive_default=True
        )
        field_values.set_value(session, Form.COMPUTER, three, "Offboard Computer", "0", actor="ann")
        assert flags.flags(session, everybody) == {
            one: ["client", "computer"],
            two: ["client", "computer"],
            four: ["computer"],
        }


def test_standing_flags_are_named(db: Any, any_two_clients: Places) -> None:
    with db.session() as session:
        assert flags.standing_flags(session) == []
        field_values.set_value(session, Form.CLIENT, any_two_clients.contoso, "Offboard Client", "1", actor="ann")
        field_values.set_value(
            session, Form.LOCATION, any_two_clients.fabrikam_site, "Offboard Location", "1", actor="ann"
        )
        field_values.set_value(
            session, Form.COMPUTER, any_two_clients.contoso_computers[0], "Offboard Computer", "1", actor="ann"
        )
        assert [(s.level, s.path, s.client_id) for s in flags.standing_flags(session)] == [
            ("client", "Contoso", any_two_clients.contoso), ("location", "Fabrikam/Headquarters", any_two_clients.fabrikam),
        ]  # fmt: skip


def test_values_around_a_place_agree_with_its_own_level(db: Any, any_two_clients: Places) -> None:
    with db.session() as session:
        field_values.set_value(
            session, Form.CLIENT, any_two_clients.contoso, "Failed Uninstall Process", "Ticket + Halt", actor="a"
        )
        around = effective_values(session, {"client": {"client_id": any_two_clients.contoso}})
        assert around["Failed Uninstall Process"] == "Ticket + Halt"
