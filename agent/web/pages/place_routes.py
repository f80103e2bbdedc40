"""What the pages of one place share: their addresses, and the place that one may see."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Depends, Path, Request
from sqlmodel import Session
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import UploadFile

from agent.access.principal import Permission, Principal
from agent.errors import UsageError
from agent.inventory.lookup import MODELS, Place
from agent.model.fields import Form
from agent.web.api.common import MOST_ID, place_for
from agent.web.asking import CSRF_FIELD

Kind = Literal["client", "location", "computer", "contact"]
PlaceId = Annotated[int, Path(ge=1, le=MOST_ID)]
#: Characters of one input.
MOST_CHARACTERS = 20_000


class _KindConvertor(Convertor[str]):
    """`/{kind:place}s/7` is `/computers/7`, but not `/runs/7`."""

    regex = "client|location|computer|contact"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("place", _KindConvertor())


def place_of(
    session: Session, who: Principal, kind: str, place_id: int, permission: Permission = Permission.SEE
) -> Place:
    """The place of an address. Raises NotFound, Forbidden."""
    return place_for(session, who, MODELS[Form[kind.upper()]], place_id, permission)


def address(kind: str, place_id: int, more: str = "") -> str:
    """The address of a place's page."""
    return f"/{kind}s/{place_id}{more}"


async def posted(request: Request) -> dict[str, str]:
    """The inputs of a form whose fields are known only when it is shown; each is checked against what was shown.

    Raises UsageError for a file, an input that occurs twice, or one that is too long.
    """
    found: dict[str, str] = {}
    for name, value in (await request.form()).multi_items():
        if isinstance(value, UploadFile) or name in found or len(value) > MOST_CHARACTERS or "\0" in value:
            raise UsageError("the form is not as it was shown: load the page again and repeat it")
        # Browsers send line breaks as CR LF.
        found[name] = value.replace("\r\n", "\n").strip()
    found.pop(CSRF_FIELD, None)
    return found


Posted = Annotated[dict[str, str], Depends(posted)]
