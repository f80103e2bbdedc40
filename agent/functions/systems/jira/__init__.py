"""Functions `jira.*`: the offboarding's ticket, what the leaver is responsible for, and the leaver's groups and user.

Jira Cloud platform REST API v3. Atlassian deactivates accounts by its SCIM service only (package `scim`); here the user is taken
out of groups, or removed from the site.
"""

from __future__ import annotations

from typing import Any

from agent.functions.base import Function
from agent.functions.systems.jira import attaching, people, tickets
from agent.functions.systems.jira.site import SYSTEM

__all__ = ["FUNCTIONS", "SYSTEM"]

FUNCTIONS: dict[str, type[Function[Any]]] = {
    f.name: f
    for f in (
        tickets.CreateTicket, tickets.AddComment, tickets.Transition, attaching.AttachReport, people.HandOver,
        people.RemoveGroups, people.Delete,
    )
}  # fmt: skip
