"""What is asked of a tenant before anything changes: whether the account can sign in, its licences, its roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.errors import AnswerLost
from agent.functions.base import Finding
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.graph import Call, GraphClient, Reply, get, path_of, value_of

#: How findings name the system.
SYSTEM = "Microsoft 365"


def roles_of(user_id: str) -> Call:
    """The question for all directory roles that are assigned to an account itself."""
    return get(
        "roleManagement", "directory", "roleAssignments", filter=f"principalId eq '{user_id}'", expand="roleDefinition"
    )


def account_findings(graph: GraphClient, user_id: str) -> list[Finding]:
    """State, licences and roles of an account, asked in one request; what cannot be read is a warning of its own."""
    user = Call("GET", path_of("users", user_id), query={"$select": "accountEnabled,assignedLicenses"})
    skus, roles = get("subscribedSkus", select="skuId,skuPartNumber"), roles_of(user_id)
    replies = graph.batch([user, skus, roles])
    found: list[Finding] = []
    body = _read(replies[0], "the account's state and licences", found)
    if body is not None:
        if body.get("accountEnabled") is False:
            found.append(Finding("info", SYSTEM, "the account's sign-in is disabled already"))
        names = _names(graph, replies[1], skus, found)
        held = [names.get(str(e["skuId"]), str(e["skuId"])) for e in body.get("assignedLicenses") or []]
        found.append(Finding("info", SYSTEM, f"licences: {', '.join(sorted(held)) or 'none'}"))
    page = _read(replies[2], "the account's administrator roles", found)
    if page is not None:
        found += _roles(graph.rest(page, roles))
    return found


def _roles(assignments: Sequence[Mapping[str, Any]]) -> list[Finding]:
    names = sorted(str((a.get("roleDefinition") or {}).get("displayName") or a.get("id")) for a in assignments)
    if not names:
        return []
    return [
        Finding(
            "warning", SYSTEM, f"the account has administrator roles: {', '.join(names)}",
            "Mark the contact as privileged (is_privileged=1), so that somebody approves the offboarding; changing an "
            "administrator needs the role Privileged Authentication Administrator for the app registration.",
        )
    ]  # fmt: skip


def _names(graph: GraphClient, reply: Reply, call: Call, found: list[Finding]) -> dict[str, str]:
    """Sku id -> part number."""
    page = _read(reply, "the names of the licences", found)
    if page is None:
        return {}
    return {str(s.get("skuId")): str(s.get("skuPartNumber") or s.get("skuId")) for s in graph.rest(page, call)}


def _read(reply: Reply, what: str, found: list[Finding]) -> Mapping[str, Any] | None:
    """The answer, or None with a warning among the findings."""
    try:
        return value_of(reply)
    except ServiceRefused as error:
        said, remedy = str(error), error.remediation
    except AnswerLost as error:
        said, remedy = str(error), None
    found.append(Finding("warning", SYSTEM, f"{what} cannot be read: {said}", remedy))
    return None
