"""The hand-over of a secret. Opening the link shows a button only: programs that look at links in mail use nothing up."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from agent.services import handover
from agent.web.asking import Here
from agent.web.pages.signing import address_of
from agent.web.rendering import page

router = APIRouter()


@router.get("/handover/{token}")
def show_handover(request: Request, here: Here, token: str) -> Response:
    """The button of a link that still works."""
    return page(request, "handover.html", link=handover.look(here, token), secret=None)


@router.post("/handover/{token}")
def take_handover(request: Request, here: Here, token: str) -> Response:
    """The secret, once. Whoever has the link may have it; the trail keeps from where it was taken."""
    # No user's name holds a colon, so this is nobody's.
    secret = handover.take(here, token, actor=f"link:{address_of(request)}")
    return page(request, "handover.html", link=None, secret=secret)
