"""Which value counts and why: over any layers. And what cannot go together is refused or turned off, never kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.content.definitions import ScriptDefinition
from agent.content.user_inputs import INPUTS, UserInputs, parameter, parameter_definitions
from agent.errors import UsageError
from agent.running.drafting import coerce
from agent.running.input_layers import CONFLICTS, DEFAULT, RECEIVERS, Layer, combine, without_unusable

#: Inputs that no rule ties to another one.
FREE = [
    n for n, i in INPUTS.items()
    if not i.required and n not in RECEIVERS and n not in {s.name for pair in CONFLICTS for s in pair}
    and n not in ("last_working_day", "offboarding_retention_days", "forwarding_duration_days")
]  # fmt: skip
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "checkbox": st.sampled_from([True, False, "1", "0", "yes", "no"]),
    "number": st.integers(1, 365).flatmap(lambda n: st.sampled_from([n, str(n)])),
    "text": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    "address": st.sampled_from(["a@b.example", "B@B.example", ""]),
    "addresses": st.sampled_from(["", "a@b.example, c@d.example", ["a@b.example"]]),
    "items": st.sampled_from(["", "x; y", ["x"]]),
    "date": st.dates().map(str),
}


def values(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    def of(name: str) -> st.SearchStrategy[Any]:
        item = INPUTS[name]
        return st.sampled_from(item.options) if item.options else VALUES[item.kind]

    return st.lists(st.sampled_from(names), unique=True, max_size=6).flatmap(
        lambda chosen: st.fixed_dictionaries({n: of(n) for n in chosen})
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(values(FREE), max_size=4))
def test_the_first_layer_that_says_something_counts(layers: list[dict[str, Any]]) -> None:
    found = combine([Layer(f"layer {n}", said) for n, said in enumerate(layers)])
    for name in FREE:
        first = next((n for n, said in enumerate(layers) if name in said), None)
        assert found.sources[name] == (DEFAULT if first is None else f"layer {first}")
        typed = getattr(found.values, name)
        if first is None:
            assert typed == INPUTS[name].default
        elif INPUTS[name].kind == "checkbox":
            assert typed is (layers[first][name] in (True, "1", "yes"))
        elif INPUTS[name].kind == "text":
            assert typed == layers[first][name]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        values([n for n, i in INPUTS.items() if i.kind in ("checkbox", "dropdown", "address")]), min_size=1, max_size=4
    )
)
def test_no_outcome_holds_a_contradiction(layers: list[dict[str, Any]]) -> None:
    try:
        found = combine([Layer(f"layer {n}", said) for n, said in enumerate(layers)])
    except UsageError as error:
        assert "contradict" in str(error) or "who leaves" in str(error)
        return
    shown = found.values.model_dump()
    for one, other in CONFLICTS:
        assert not (one.is_on(shown[one.name]) and other.is_on(shown[other.name])), (one, other)
    UserInputs.model_validate(shown)


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [
        ({"disable_forwarding": True}, {"maintain_email_forwarding": True}, {"maintain_email_forwarding": False}),
        ({"maintain_email_forwarding": True}, {"disable_forwarding": True}, {"disable_forwarding": False}),
        ({"forward_to": "a@b.example"}, {"maintain_email_forwarding": False}, {"maintain_email_forwarding": True}),
        ({"mailbox_conversion_method": "forward_only"}, {}, {"convert_mailbox_to_shared": False}),
        ({"convert_mailbox_to_shared": True}, {"mailbox_conversion_method": "forward_only"},
         {"mailbox_conversion_method": "shared_mailbox"}),
        ({"backup_user_data": False}, {"backup_location": "x"}, {"backup_location": ""}),
        ({"delete_user": True}, {"remove_groups": True}, {"remove_groups": False, "reset_password": False}),
    ],
)  # fmt: skip
def test_the_weaker_of_two_is_turned_off(
    above: dict[str, Any], below: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = combine([Layer("above", above), Layer("below", below)])
    assert {n: getattr(found.values, n) for n in expected} == expected
    turned = {n: "on" if value is True else "off" for n, value in expected.items()}
    assert all(found.sources[n].startswith(f"{word} because of") for n, word in turned.items())
    if below:
        with pytest.raises(UsageError, match="contradict"):
            combine([Layer("same", {**above, **below})])


def test_what_follows_from_others_says_so() -> None:
    given_ = {"termination_date": "2026-01-31", "manager_email": "M@x.example", "termination_type": "contract_end"}
    found = combine([Layer("given", {**given_, "immediate_disable": "1"})], contractor_days=30)
    assert found.document()["forward_to"] == {
        "value": "m@x.example",
        "source": "mailbox_delegate (manager_email (given))",
    }
    assert found.document()["last_working_day"]["value"] == "2026-01-31"
    assert found.values.mobile_device_action == "wipe"
    assert found.values.offboarding_retention_days == 30
    kept = combine([Layer("given", {**given_, "offboarding_retention_days": 5, "immediate_disable": "1",
                                    "mobile_device_action": "none"})], contractor_days=30)  # fmt: skip
    assert (kept.values.offboarding_retention_days, kept.values.mobile_device_action) == (5, "none")


def test_an_account_is_kept_as_long_as_its_onedrive() -> None:
    """Only where somebody said how long: nobody's default makes a retention longer."""
    files = Layer("client field onedrive_retention_days", {"onedrive_retention_days": 365})
    given_ = Layer("given", {"offboarding_retention_days": 30, "termination_type": "contract_end"})
    found = combine([given_, files], contractor_days=14)
    assert found.document()["offboarding_retention_days"] == {
        "value": "365", "source": "onedrive_retention_days (client field onedrive_retention_days)",
    }  # fmt: skip
    assert combine([given_]).values.offboarding_retention_days == 30
    assert combine([Layer("given", {"onedrive_retention_days": 30})]).values.offboarding_retention_days == 90


def test_forwarding_is_promised_no_longer_than_the_account_is_kept() -> None:
    short = {"offboarding_retention_days": 30, "forwarding_duration_days": 60}
    found = combine([Layer("given", short)])
    assert found.document()["forwarding_duration_days"] == {
        "value": "30",
        "source": "offboarding_retention_days (given)",
    }
    assert combine([Layer("given", {**short, "delete_after_retention": "0"})]).values.forwarding_duration_days == 60
    assert combine([Layer("given", {"forwarding_duration_days": 60})]).values.forwarding_duration_days == 60


@settings(max_examples=40, deadline=None)
@given(values(FREE))
def test_a_script_takes_every_value_as_its_parameter(said: dict[str, Any]) -> None:
    definition = ScriptDefinition.model_validate(
        {
            "name": "x",
            "target": "contact",
            "inputs": "user_offboarding",
            "steps": [{"name": "s", "function": "mail.send"}],
        }
    )
    assert set(definition.parameters) == set(INPUTS) == set(parameter_definitions())
    found = combine([Layer("given", said)])
    for name, text in found.parameters().items():
        value = coerce(name, definition.parameters[name], text)
        typed = getattr(found.values, name)
        assert value == (typed if isinstance(typed, bool | int) else parameter(typed))


@pytest.mark.parametrize("text", ["31.12.2026", "1798675200", "2026-12-31T00:00:00", "tomorrow", "２０２６-12-31"])
def test_a_date_is_not_guessed(text: str) -> None:
    with pytest.raises(UsageError, match="is no date: write it as 2026-01-31"):
        combine([Layer("given", {"termination_date": text})])


def test_a_manager_who_leaves_is_told_as_such() -> None:
    """Not as the delegate who follows from it."""
    with pytest.raises(UsageError, match=r"^manager_email: a@x\.example is the person who leaves"):
        combine([Layer("given", {"employee_email": "a@x.example", "manager_email": "A@x.example"})])


def test_what_a_monitor_starts_goes_on_without_receivers_and_messages_that_cannot_be() -> None:
    layers = [
        Layer("contact", {"employee_email": "John@x.example", "manager_email": "john@x.example"}),
        Layer("client field a", {"mailbox_delegate": "nobody at all", "full_access_automap": "john@x.example, b@x.example"}),
        Layer("client field b", {"out_of_office": "%leaver% left, ask %whom%"}),
        Layer("everyone", {"mailbox_delegate": "c@x.example", "out_of_office": "100% gone: %leaver%"}),
    ]  # fmt: skip
    with pytest.raises(UsageError):
        combine(layers)
    usable, told = without_unusable(layers)
    found = combine(usable).values
    assert (found.manager_email, found.mailbox_delegate, found.full_access_automap, found.out_of_office) == (
        "", "c@x.example", ("b@x.example",), "100% gone: %leaver%",
    )  # fmt: skip
    assert [t.partition(":")[0] for t in told] == ["contact", "client field a", "client field a", "client field b"]
    assert all(t.endswith(": left out") for t in told) and "there is no variable %whom%" in told[3]


@pytest.mark.parametrize(
    ("name", "value"), [("offboarding_retention_days", "9x"), ("employee_email", "nobody"), ("keep_copy", "maybe")]
)
def test_any_other_wrong_value_is_refused_in_a_monitors_run_too(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name):
        combine(without_unusable([Layer("client field", {name: value})])[0])
