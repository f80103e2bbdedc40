"""`Idempotency-Key`: a POST that is sent twice with the same key is carried out once (agent/access/idempotency.py)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from agent.access import idempotency
from agent.access.idempotency import Kept
from agent.access.principal import Principal
from agent.errors import Conflict, ExeuntError
from agent.web.asking import installation_of, who_asks
from agent.web.faults import answer_to

HEADER = "idempotency-key"
#: On a route whose answer holds a secret (`openapi_extra=SECRET`): the answer is kept nowhere.
SECRET = {"x-holds-secret": True}
#: On a route that changes nothing: it is carried out again, since its answer is a file that is not kept.
REPEATABLE = {"x-changes-nothing": True}
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ApiRoute(APIRoute):
    """A route of the API."""

    def get_route_handler(self) -> Handler:
        """The handler; that of a POST looks for the key first."""
        handler: Handler = super().get_route_handler()
        extra = self.openapi_extra or {}
        if "POST" not in (self.methods or ()) or extra.get("x-changes-nothing"):
            return handler
        secret = bool(extra.get("x-holds-secret"))

        async def once(request: Request) -> Response:
            key = request.headers.get(HEADER)
            if key is None:
                return await handler(request)
            principal = await who_asks(request)
            claimed = await _claim(request, principal, key)
            if claimed is not None:
                return _again(claimed)
            return await _act(request, handler, principal, key, secret)

        return once


async def _claim(request: Request, principal: Principal, key: str) -> Kept | None:
    # With other scopes another token of the same person might not get that answer.
    scopes = sorted(principal.scopes) if principal.scopes is not None else None
    head = json.dumps([request.method, request.url.path, request.url.query, scopes])
    digest = hashlib.sha256(head.encode() + b"\n" + await request.body()).hexdigest()
    return await run_in_threadpool(idempotency.claim, installation_of(request), principal.user_id, key, digest)


def _again(kept: Kept) -> Response:
    if kept.body is None and kept.status < 300:
        raise Conflict(
            "this was done before with the same Idempotency-Key; its answer held a secret, which is kept nowhere: "
            "take back what it made, and make another one with a new key"
        )
    kind = "application/json" if kept.status < 400 else "application/problem+json"
    return JSONResponse(kept.body, kept.status, {"idempotency-replayed": "true"}, media_type=kind)


async def _act(request: Request, handler: Handler, principal: Principal, key: str, secret: bool) -> Response:
    installation = installation_of(request)
    try:
        answer = await handler(request)
    except RequestValidationError:
        # Nothing was begun: the corrected request may come with the same key.
        await run_in_threadpool(idempotency.give_back, installation, principal.user_id, key)
        raise
    except ExeuntError as error:
        answer = answer_to(request, error)
    if answer.status_code < 500:
        body = None if secret and answer.status_code < 300 else json.loads(bytes(answer.body))
        await run_in_threadpool(
            idempotency.keep, installation, principal.user_id, key, status=answer.status_code, body=body
        )
    return answer
