"""Signed messages of other systems: HR, PSA. The signature says who asks; there is no token."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from starlette.concurrency import run_in_threadpool

from agent.running.webhook_messages import AnyMessage, MessageFaults, take
from agent.services.webhooks import SIGNATURE
from agent.web.api.common import Answer, RecordId
from agent.web.api.description import OPEN
from agent.web.asking import Here
from agent.web.problems import Faults

router = APIRouter(tags=["hooks"])


class Taken(Answer):
    """What came of the message."""

    outcome: dict[str, Any]


def _described() -> dict[str, Any]:
    from pydantic import TypeAdapter

    schema = TypeAdapter(AnyMessage).json_schema()
    definitions = schema.pop("$defs")
    # Written out, so that the description needs no further names.
    choices = [_inlined(definitions[c["$ref"].rpartition("/")[2]], definitions) for c in schema["oneOf"]]
    example = {
        "id": "4f0c1d2e", "type": "contact.changed", "person": "ada@contoso.example",
        "changes": {"termination_date": "2030-01-31", "termination_type": "voluntary"},
    }  # fmt: skip
    return {"required": True, "content": {"application/json": {"schema": {"oneOf": choices}, "example": example}}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {name: _inlined(value, definitions) for name, value in schema.items()}
    return [_inlined(s, definitions) for s in schema] if isinstance(schema, list) else schema


@router.post("/hooks/{source_id}", openapi_extra={**OPEN, "requestBody": _described()})
async def take_message(
    request: Request, here: Here, source_id: RecordId,
    signature: Annotated[
        str, Header(alias=SIGNATURE, max_length=200, description="`t=<seconds since 1970>,v1=<hexadecimal HMAC-SHA256 of t.body>`")
    ] = "",
) -> Taken:  # fmt: skip
    """Take a message: HR says `contact.changed` or `offboarding.requested`, the PSA `ticket.commented` or `ticket.closed`.

    It is signed with the source's secret, at most 5 minutes old, and taken once per `id`: a replay gets 409 and changes
    nothing.
    """
    body = await request.body()
    try:
        return Taken(outcome=await run_in_threadpool(take, here, source_id, signature, body))
    except MessageFaults as error:
        raise Faults(str(error), [(f["where"], f["message"]) for f in error.faults]) from None
