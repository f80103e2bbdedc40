"""One-time links: the first administrator, and a new password. Looking at one does not use it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi import Form as FormBody

from agent.access import links
from agent.errors import Conflict, UsageError
from agent.errors import NotFound as Gone
from agent.installation import Installation
from agent.web.asking import Here
from agent.web.forms import Form
from agent.web.pages.signing import Password
from agent.web.rendering import page, redirect

router = APIRouter()


class NewPassword(Form):
    """The password twice; the first administrator also chooses a name."""

    name: str | None = None
    password: Password
    again: Password


@router.get("/welcome/{token}")
def show_welcome(request: Request, here: Here, token: str) -> Response:
    """The form of a link that still works."""
    return _form(request, here, token)


@router.post("/welcome/{token}")
def take_welcome(request: Request, here: Here, token: str, form: Annotated[NewPassword, FormBody()]) -> Response:
    """Use the link; the person signs in with the new password afterwards."""
    try:
        if form.password != form.again:
            raise UsageError("the two passwords differ: write the same one twice")
        links.use_link(here, token, password=form.password, name=form.name)
    except Gone:
        raise
    except (UsageError, Conflict) as error:
        return _form(request, here, token, name=form.name or "", wrong=str(error))
    return redirect(request, "/sign-in", said="The password is set. Sign in with it.")


def _form(request: Request, here: Installation, token: str, *, name: str = "", wrong: str | None = None) -> Response:
    link = links.look(here, token)
    answer = page(request, "welcome.html", link=link, name=link.name or name, wrong=wrong)
    answer.status_code = 200 if wrong is None else 400
    return answer
