"""Messages: variables in both spellings, values that are never read again, bounds, and the string form."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.alerting.messages import LACKING, VARIABLES, check_message, default_message, render
from agent.alerting.messagestring import AlertMessage, format_alert_message, parse_alert_message
from agent.alerting.occurrences import Occurrence, Place
from agent.content.definitions import Message

CONTOSO = Place("computer", 7, "PC1", 3, "Contoso", 5, "HQ")


def occurrence(place: Place = CONTOSO, **changes: object) -> Occurrence:
    values = {"monitor": "Disk", "status": "FAILED", "place": place, "identity": "C:", "test_value": "91", **changes}
    return Occurrence(**values)  # type: ignore[arg-type]


def filled(text: str, **changes: object) -> str:
    told = occurrence(**changes)
    return render(Message(subject="x", body=text), told.variables(), told.columns).body


def test_every_variable_of_connectwise_automate_in_any_case() -> None:
    text = (
        "%NAME% %Status% %result% %FIELDNAME% %clientname% %ClientID% %LocationName% %locationid% %COMPUTERNAME% "
        "%computerid%"
    )
    assert filled(text) == "Disk FAILED 91 C: Contoso 3 HQ 5 PC1 7"
    assert filled(text.lower()) == filled(text.upper()) == filled(text)


def test_the_default_wording() -> None:
    assert render(default_message("computer"), occurrence().variables()).subject == (
        r"Disk FAILED on Contoso\PC1 at HQ for C: result 91."
    )
    for kind, place in {
        "client": Place("client", 3, "Contoso", 3, "Contoso"), "location": Place("location", 5, "HQ", 3, "Contoso", 5, "HQ"),
        "contact": Place("contact", 9, "Ann", 3, "Contoso"),
    }.items():  # fmt: skip
        check_message(default_message(kind), kind)
        assert "Contoso" in render(default_message(kind), occurrence(place).variables()).subject


def test_what_is_no_variable_stays_text() -> None:
    assert filled("100% of 50%other% %% %NAME") == "100% of 50%other% %% %NAME"


def test_jinja_conditions_filters_and_columns() -> None:
    text = (
        "{% if status == 'FAILED' %}{{ computername | lower }}{% else %}fine{% endif %} {{ row.days }} {{ row['a b'] }}"
    )
    assert filled(text, columns={"days": 3, "a b": None}) == "pc1 3 "
    with pytest.raises(ValueError, match="weeks"):
        filled("{{ row.weeks }}", columns={"days": 3})


@pytest.mark.parametrize("attack", ["{{ 7 * 7 }}", "%RESULT%", "{% raw %}", "{{ result }}", "{# x #}", "%computerid%"])
def test_a_value_is_never_read_as_a_template(attack: str) -> None:
    place = Place("computer", 7, attack, 3, attack, 5, attack)
    text = "%COMPUTERNAME%|{{ clientname }}|%locationname%|%FIELDNAME%|%RESULT%"
    assert filled(text, place=place, identity=attack, test_value=attack) == "|".join([attack] * 5)


def test_a_value_brings_no_line_of_its_own() -> None:
    place = Place("computer", 7, "PC1\r\nBcc: all@example.test\x00\u2028x", 3, "Contoso", 5, "HQ")
    told = occurrence(place)
    made = render(Message(subject="a\n%COMPUTERNAME%", body="first\n%COMPUTERNAME%"), told.variables())
    assert made.subject == "a PC1 Bcc: all@example.test x"
    assert made.body.splitlines() == ["first", "PC1 Bcc: all@example.test x"]


def test_a_huge_value_is_cut() -> None:
    assert len(filled("%RESULT%", test_value="x" * 1_000_000)) < 3_000


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(10) %}x{% endfor %}", "{{ range(10**9) | list }}", "{{ 'x' * 10**9 }}", "{{ 9 ** 9999999 }}",
        "{% set a = 'x' %}{{ a }}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{% include 'x' %}",
        "{{ ''.__class__ }}", "{{ name.upper() }}", "{{ name.__class__.__mro__ }}", "{{ row.x.y }}", "{{ row[name] }}",
        "{{ '%1000000000s' % name }}", "{{ name | center(1000000000) }}", "{{ cycler }}", "{{ config }}", "{{ name",
        "{{ nobody }}", "{% if %}", "{{ self }}", "x" * 30_000, "{{ lipsum(n=1000) }}", "{% extends 'x' %}",
        "{% filter upper %}x{% endfilter %}", "{{ name | attr('x') }}",
    ],
)  # fmt: skip
def test_a_message_is_text_and_nothing_else(source: str) -> None:
    with pytest.raises(ValueError, match="message"):
        check_message(Message(subject=source), "computer")
    with pytest.raises(ValueError, match="message"):
        check_message(Message(subject="x", body=source), "computer")


@pytest.mark.parametrize("kind", sorted(LACKING))
def test_a_name_that_the_target_lacks_is_found_before_anything_runs(kind: str) -> None:
    for name in VARIABLES:
        if name in LACKING[kind]:
            with pytest.raises(ValueError, match=name):
                check_message(Message(subject=f"%{name}%"), kind)
        else:
            check_message(Message(subject=f"%{name}%"), kind)


def test_a_missing_value_is_an_error_and_not_an_empty_text() -> None:
    with pytest.raises(ValueError, match="locationname"):
        filled("%LOCATIONNAME%", place=Place("contact", 9, "Ann", 3, "Contoso"))


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_any_source_is_rendered_or_refused(source: str) -> None:
    try:
        check_message(Message(subject=source), "computer")
    except ValueError:
        return
    render(Message(subject=source), occurrence().variables())


def test_the_string_form() -> None:
    read = parse_alert_message("%NAME% is well~~~good!!!%NAME% failed~~~bad: %RESULT%|tzcompdisabled=1|priority=1")
    assert read.of("SUCCESS") == Message(subject="%NAME% is well", body="good")
    assert read.of("FAILED") == Message(subject="%NAME% failed", body="bad: %RESULT%")
    assert read.options == {"tzcompdisabled": "1", "priority": "1"}


def test_the_string_form_in_short() -> None:
    assert (
        parse_alert_message("%NAME%").failed
        == parse_alert_message("%NAME%").success
        == Message(subject="%NAME%", body="%NAME%")
    )
    assert parse_alert_message("a~~~b").success == Message(subject="a", body="b")
    assert parse_alert_message("a | b=c d").options == {}
    with pytest.raises(ValueError, match="twice"):
        parse_alert_message("a|priority=1|priority=2")


part = st.builds(
    Message, subject=st.text(alphabet="ab !~|=%é\n", max_size=12), body=st.text(alphabet="ab !~|=%é\n", max_size=12)
)
options = st.dictionaries(
    st.from_regex(r"[a-z]{1,6}", fullmatch=True), st.from_regex(r"[a-z0-9]{0,4}", fullmatch=True), max_size=3
)


@given(part, part, options)
def test_what_is_written_is_read_back(success: Message, failed: Message, given_options: dict[str, str]) -> None:
    message = AlertMessage(success, failed, given_options)
    try:
        text = format_alert_message(message)
    except ValueError:
        joined = "".join((success.subject, success.body, failed.subject, failed.body))
        assert any(mark in joined for mark in "!~|")
        return
    assert parse_alert_message(text) == message


@given(st.lists(st.sampled_from(["a", "!!!", "~~~", "!", "~", "|a=1", "|"]), max_size=12).map("".join))
def test_any_string_is_read_or_refused(text: str) -> None:
    try:
        read = parse_alert_message(text)
    except ValueError:
        return
    try:
        written = format_alert_message(read)
    except ValueError:
        return
    assert parse_alert_message(written) == read
