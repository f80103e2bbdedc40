"""The first page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from agent.access.principal import Permission
from agent.web.asking import Here, Who
from agent.web.reads.overview import overview
from agent.web.rendering import page

router = APIRouter()


@router.get("/")
def show(request: Request, here: Here, who: Who) -> Response:
    """What stands out now."""
    with here.database.reading() as session:
        found = overview(session, who.clients(), online_seconds=here.settings.online_seconds)
    return page(request, "overview.html", overview=found, may_begin=who.can(Permission.ADMINISTER))
