"""The audit trail: who did what, when, with old and new values; and whether it is whole."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi import Form as FormBody

from agent.access.principal import Permission
from agent.errors import UsageError
from agent.web.api import audit
from agent.web.asking import Here, Who
from agent.web.forms import Form
from agent.web.rendering import page, with_query

router = APIRouter(prefix="/audit")


class Noted(Form):
    """The end of the trail as it was noted elsewhere."""

    noted: str = ""


@router.get("")
def list_entries(
    request: Request, here: Here, who: Who, actor: str | None = None, action: str | None = None, client: int | None = None,
    after: str | None = None,
) -> Response:  # fmt: skip
    """Entries, the newest first."""
    found = audit.list_entries(here, who, actor=actor or None, action=action or None, client_id=client, after=after)
    following = (
        with_query("/audit", actor=actor, action=action, client=client, after=found.next) if found.next else None
    )
    return page(
        request, "audit.html", entries=found.items, actor=actor or "", action=action or "", following=following,
        may_verify=who.can(Permission.SEE),
    )  # fmt: skip


@router.post("/verify")
def verify(request: Request, here: Here, who: Who, form: Annotated[Noted, FormBody()]) -> Response:
    """Read the whole trail and say whether anything was changed, removed or inserted."""
    try:
        body = audit.Verify(noted=form.noted or None)
    except ValueError:
        raise UsageError("that is no noted end: paste it as it was shown, COUNT:DIGEST") from None
    return page(request, "audit_verify.html", verdict=audit.verify(here, who, body), noted=form.noted)
