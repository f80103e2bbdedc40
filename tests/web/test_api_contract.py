"""The API answers as its description promises, whatever is sent to it: one test per operation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
from api_help import add_sites, token_of
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from web_help import console_at, serving

from agent.installation import Installation
from agent.secrets import create_key
from agent.settings import Settings
from agent.web.app import create_app

CHECKS = (
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
)  # fmt: skip


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A server with two clients, and how its owner calls it."""
    workspace = tmp_path_factory.mktemp("workspace")
    (workspace / "backups").mkdir()
    installation = Installation(
        Settings(workspace=workspace, sqlite_synchronous="NORMAL", backup_folder=workspace / "backups")
    )
    installation.database.initialise()
    create_key(installation.settings)
    with serving(installation) as address, console_at(installation, cast(Any, add_sites(installation)), address):
        yield {"base_url": address, "headers": {"Authorization": f"Bearer {token_of(installation, 'owner')}"}}
    installation.database.close()


schema = schemathesis.openapi.from_dict(create_app(Installation(Settings(workspace=Path("none")))).openapi())


CALLS = [found.ok() for found in schema.get_all_operations()]


@pytest.mark.parametrize("operation", CALLS, ids=[c.label for c in CALLS])
def test_it_answers_as_described(operation: Any, owner: dict[str, Any]) -> None:
    @settings(
        max_examples=3, deadline=None, phases=[Phase.explicit, Phase.generate], derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(operation.as_strategy())
    def calls(case: Any) -> None:
        case.call_and_validate(checks=CHECKS, timeout=120, **owner)

    calls()


DESCRIPTION = schema.raw_schema
OPERATIONS = [(m, p, o) for p, found in DESCRIPTION["paths"].items() for m, o in found.items()]


def test_the_description_is_complete() -> None:
    lacking = [
        f"{m} {p}" for m, p, o in OPERATIONS if not (o.get("description") and o.get("tags") and o.get("summary"))
    ]
    assert lacking == []
    assert all({"400", "401", "403", "404", "409", "413"} <= set(o["responses"]) for _, _, o in OPERATIONS)
    assert "HTTPValidationError" not in str(DESCRIPTION)
    keyed = [(m, p) for m, p, o in OPERATIONS if "Idempotency-Key" in [q["name"] for q in o.get("parameters", ())]]
    assert keyed == [(m, p) for m, p, o in OPERATIONS if m == "post" and not p.startswith("/api/v1/hooks/")]
    assert {"token", "session", "csrf"} <= set(DESCRIPTION["components"]["securitySchemes"])


def test_nothing_that_is_not_known_is_taken() -> None:
    schemas = DESCRIPTION["components"]["schemas"]
    taken = [
        o["requestBody"]["content"]["application/json"]["schema"].get("$ref", "").rpartition("/")[2]
        for _, _, o in OPERATIONS if "application/json" in o.get("requestBody", {}).get("content", {})
    ]  # fmt: skip
    assert [n for n in taken if n and schemas[n].get("additionalProperties") is not False] == []
