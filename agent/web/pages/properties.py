"""System properties: server-wide settings with their meaning."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi import Form as FormBody
from pydantic import SecretStr

from agent.web.api import properties
from agent.web.asking import Here, Who
from agent.web.forms import Form
from agent.web.rendering import page, redirect

router = APIRouter(prefix="/properties")


class Value(Form):
    """A value; secrets are stored encrypted."""

    name: str
    value: SecretStr = SecretStr("")


@router.get("")
def list_properties(request: Request, here: Here, who: Who) -> Response:
    """All properties."""
    return page(request, "properties.html", properties=properties.list_properties(here, who))


@router.post("")
def set_property(request: Request, here: Here, who: Who, form: Annotated[Value, FormBody()]) -> Response:
    """Set one."""
    properties.set_property(here, who, form.name, properties.PropertyIn(value=form.value))
    return redirect(request, "/properties", f"{form.name} is set.")


@router.post("/unset")
def unset(request: Request, here: Here, who: Who, form: Annotated[Value, FormBody()]) -> Response:
    """Let its default count again."""
    properties.unset_property(here, who, form.name)
    return redirect(request, "/properties", f"{form.name} is no longer set.")
