"""Options that name a place: `--client`, `--location`, `--computer`, `--contact`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from sqlmodel import Session

from agent.errors import UsageError
from agent.inventory import lookup
from agent.inventory.lookup import Place
from agent.model.fields import Form

_HELP = {
    Form.CLIENT: "A client: slug, name, id or external id.",
    Form.LOCATION: "A location: `Client/Location`, id or external id.",
    Form.COMPUTER: "A computer: `Client/Location/Computer`, id or external id.",
    Form.CONTACT: "A contact: `Client/Contact`, id or external id.",
}
#: Levels as they are written in options and lists.
LEVELS = {form.name.lower(): form for form in (Form.CLIENT, Form.LOCATION, Form.COMPUTER, Form.CONTACT)}


def place_options(*forms: Form) -> Callable[[Any], Any]:
    """One option per level; the parameters are named `client`, `location`, `computer`, `contact`."""

    def declare(function: Any) -> Any:
        for form in reversed(forms or tuple(_HELP)):
            function = click.option(f"--{form.name.lower()}", help=_HELP[form])(function)
        return function

    return declare


def one_place(session: Session, **given: str | None) -> tuple[Form, Place]:
    """The level and the place that exactly one of the options names. Raises UsageError, NotFound, Conflict."""
    named = {level: reference for level, reference in given.items() if reference is not None}
    if len(named) != 1:
        options = ", ".join(f"--{level}" for level in given)
        raise UsageError(f"name one place with one of {options}")
    level, reference = next(iter(named.items()))
    form = LEVELS[level]
    return form, lookup.find(session, lookup.MODELS[form], reference)
