"""What all forms of pages share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Form(BaseModel):
    """A posted form: `form: Annotated[MyForm, Form()]`. Unknown fields are refused; white space around is dropped."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, str_max_length=20_000)

    #: The session's form token; `Who` has checked it.
    csrf: str = ""
