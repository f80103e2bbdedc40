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
    skus = get("subscribedSkus", select="skuId,skuPartNumber,prepaidUnits,consumedUnits,servicePlans")
    roles = roles_of(user_id)
    replies = graph.batch([user, skus, roles])
    found: list[Finding] = []
    body = _read(replies[0], "the account's state and licences", found)
    if body is not None:
        if body.get("accountEnabled") is False:
            found.append(Finding("info", SYSTEM, "the account's sign-in is disabled already"))
        held = [str(e["skuId"]) for e in body.get("assignedLicenses") or []]
        found += _licences(held, _skus(graph, replies[1], skus, found))
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


def _skus(graph: GraphClient, reply: Reply, call: Call, found: list[Finding]) -> dict[str, Mapping[str, Any]]:
    """Sku id -> the tenant's subscription."""
    page = _read(reply, "the names of the licences", found)
    return {} if page is None else {str(s.get("skuId")): s for s in graph.rest(page, call)}


def _licences(held: Sequence[str], skus: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """The licences by name, those of which no unit is free, and the one on which the mailbox hangs."""
    names = {sku: str(skus.get(sku, {}).get("skuPartNumber") or sku) for sku in held}
    found = [Finding("info", SYSTEM, f"licences: {', '.join(sorted(names.values())) or 'none'}")]
    for sku in sorted(held, key=names.__getitem__):
        units = skus.get(sku, {}).get("prepaidUnits") or {}
        bought, used = units.get("enabled"), skus.get(sku, {}).get("consumedUnits")
        if isinstance(bought, int) and isinstance(used, int) and used >= bought:
            found.append(
                Finding(
                    "warning", SYSTEM, f"the account holds the last unit of {names[sku]}: {used} of {bought} are in use",
                    "A successor gets one only after it was reclaimed here (reclaim_licenses_immediately), or when more are bought.",
                )
            )  # fmt: skip
    mail = [sku for sku in held if carries_mail(skus.get(sku, {}))]
    if len(mail) == 1:
        said = f"{names[mail[0]]} is the only licence of the account that carries Exchange: the mailbox hangs on it"
        found.append(Finding("info", SYSTEM, said))
    return found


def carries_mail(sku: Mapping[str, Any]) -> bool:
    """Whether a subscription has a service plan with a mailbox (Microsoft Learn, "Product names and service plan identifiers")."""
    plans = (str(p.get("servicePlanName") or "") for p in sku.get("servicePlans") or [])
    return any(
        p.startswith(("EXCHANGE_S_", "EXCHANGE_B_")) and "ARCHIVE" not in p and p != "EXCHANGE_S_FOUNDATION"
        for p in plans
    )


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
