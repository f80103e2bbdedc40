"""Every input of an offboarding as a model of the API, made of the one declaration that all faces share."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from pydantic import Field, create_model

from agent.content.user_inputs import INPUTS, UserInputs
from agent.web.api.common import Body


def _fields() -> dict[str, Any]:
    """Each input may be left out: then it comes from the contact, the templates, the client's fields, the defaults."""
    found: dict[str, Any] = {}
    for name in INPUTS:
        field = UserInputs.model_fields[name]
        kind: Any = field.annotation
        if field.metadata:
            kind = Annotated[kind, *field.metadata]
        usual = field.default
        told = f"{field.description}. Default: {_shown(usual)}" if usual not in (None, "", ()) else field.description
        if name not in ("employee_email", "delete_user"):
            found[name] = (kind | None, Field(None, description=told))
    return found


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, date) else str(value)


OffboardingInputs: Any = create_model(
    "OffboardingInputs", __base__=Body, __doc__="Inputs of an offboarding. What is left out follows from elsewhere.",
    **_fields(),
)  # fmt: skip


def given(inputs: Any) -> dict[str, Any]:
    """The inputs that were given, with their types."""
    return dict(inputs.model_dump(exclude_unset=True, exclude_none=True))
