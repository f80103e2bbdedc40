"""The API's description (OpenAPI 3.1): what every operation shares is written here once."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from agent.web.asking import CSRF_HEADER

_PROBLEM = {
    "type": "object",
    "description": "An error (RFC 9457)",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and what to do"},
        "instance": {"type": "string", "description": "Path of the request"},
        "guardrail": {"type": ["string", "null"], "description": "The guardrail that refused"},
        "errors": {
            "type": "array",
            "description": "Everything that is wrong with the request",
            "items": {
                "type": "object",
                "required": ["where", "message"],
                "properties": {
                    "where": {"type": "string"},
                    "line": {"type": ["integer", "null"]},
                    "message": {"type": "string"},
                },
            },
        },
    },
    "example": {
        "type": "about:blank", "title": "Bad Request", "status": 400, "detail": "1 value(s) are not as they must be",
        "instance": "/api/v1/clients", "errors": [{"where": "body.name", "message": "Field required"}],
    },
}  # fmt: skip
_ERRORS = {
    "400": "The request is not as it must be; `errors` lists everything that is wrong",
    "401": "No token or session, or one that is over",
    "403": "The person, or the token's scopes, do not allow it",
    "404": "There is no such thing, or none that one may see",
    "409": "It exists already, is in a state that does not allow this, a guardrail refuses it, or the key was used before",
    "413": "The body is larger than the route takes",
    "500": "A fault of Exeunt; its log says more",
    "503": "The database or another service cannot be reached now",
}
_KEY = {
    "name": "Idempotency-Key", "in": "header", "required": False,
    "description": "A request that is sent again within 24 hours with the same key is carried out once and gets the same answer",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[ -~]+$"},
    "example": "9b2e5c1e-3d0f-4a57-9f0e-0f6f0b8f4c11",
}  # fmt: skip
#: An operation with this has its own way to say who asks.
OPEN: dict[str, Any] = {"security": []}
_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "`exeunt token add`, or POST /api/v1/tokens"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "exeunt_session",
        "description": "A browser that is signed in",
    },
    "csrf": {"type": "apiKey", "in": "header", "name": CSRF_HEADER, "description": "The form token of that session"},
}


def describe(app: FastAPI) -> None:
    """Let the application describe itself with errors, security and keys at every operation."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes,
                servers=[{"url": "/"}],
            )  # fmt: skip
            app.openapi_schema = _completed(found)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _completed(found: dict[str, Any]) -> dict[str, Any]:
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    # Ours are answered in another shape.
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas["Problem"] = _PROBLEM
    components["securitySchemes"] = _SCHEMES
    found["security"] = [{"token": []}, {"session": [], "csrf": []}]
    for path in found["paths"].values():
        for method, operation in path.items():
            _complete(operation, method)
    return found


def _complete(operation: dict[str, Any], method: str) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status, text in _ERRORS.items():
        responses.setdefault(status, {"description": text, "content": content})
    if method == "post" and operation.get("security") != []:
        operation.setdefault("parameters", []).append(_KEY)
