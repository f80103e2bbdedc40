"""The offboarding's ticket in Jira: created once, commented, moved.

A ticket is created once per run (`agent.functions.ticketing`): its label is made of the run's id. Jira's search lags behind by
seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from agent.errors import StepError
from agent.failure_types import INTEGRATION_ERROR
from agent.functions.base import Context, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.functions.confirming import settled
from agent.functions.systems.jira.site import API, SEARCH, SERVICE, SYSTEM, IssueKey, issue_path
from agent.functions.ticketing import CreatesTicket, TicketFunction, mark_of
from agent.services.rest.client import Call, RestClient


class JiraTicketFunction(TicketFunction[Any]):
    """A function on a ticket of Jira."""

    rest = SYSTEM
    system = "Jira"


class CreateParameters(BaseParameters):
    """A ticket."""

    project: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,79}$")
    summary: str = Field(min_length=1, max_length=255)
    description: str = ""
    issue_type: str = Field("Task", min_length=1, max_length=60)


class CreateTicket(CreatesTicket[CreateParameters]):
    """Creates the ticket of this offboarding, once, and keeps its key in the contact's field Offboarding Ticket."""

    name = "jira.create_ticket"
    summary = (
        "Create the offboarding's ticket, once per run, and keep its key in the contact's field Offboarding Ticket"
    )
    rest = SYSTEM
    system = "Jira"
    Parameters = CreateParameters
    rights = "Browse Projects, Create Issues"
    impact = "The offboarding has no ticket in Jira."

    def preview(self, parameters: CreateParameters) -> str:
        """The call that would be made."""
        return f"POST {API}/issue project={parameters.project} summary={json.dumps(parameters.summary)}, unless there is one of this run"

    def existing(self, client: RestClient, context: Context, parameters: CreateParameters) -> str | None:
        """The oldest ticket with the run's label."""
        jql = f'labels = "{self.run_mark(context)}" ORDER BY created ASC'
        call = Call("GET", f"{API}/search/jql", {"jql": jql, "fields": "labels", "maxResults": "10"})
        found = client.all(call, SEARCH)
        return str(found[0]["key"]) if found else None

    def create(self, client: RestClient, context: Context, parameters: CreateParameters) -> str:
        """Create it with the run's label."""
        fields = {
            "project": {"key": parameters.project}, "issuetype": {"name": parameters.issue_type},
            "summary": " ".join(parameters.summary.split()), "labels": ["offboarding", self.run_mark(context)],
        }  # fmt: skip
        if parameters.description.strip():
            fields["description"] = document(parameters.description)
        return str(client.object(Call("POST", f"{API}/issue", json={"fields": fields}))["key"])

    def shown(self, client: RestClient, key: str) -> dict[str, Any]:
        """Where people see it."""
        return {"url": f"{client.settings.url}/browse/{key}"}


def document(text: str) -> dict[str, Any]:
    """A text in Atlassian's document format: a paragraph per line. Whatever it holds stays text."""
    lines = text.strip("\n").split("\n")
    paragraphs = [{"type": "paragraph", "content": [{"type": "text", "text": t}] if t.strip() else []} for t in lines]
    return {"type": "doc", "version": 1, "content": paragraphs}


class CommentParameters(BaseParameters):
    """A comment."""

    issue: IssueKey
    text: str = Field(min_length=1, max_length=30_000)


class AddComment(JiraTicketFunction):
    """Comments a ticket, once per step and text."""

    name = "jira.add_comment"
    summary = "Comment a ticket, once per step and text"
    Parameters = CommentParameters
    rights = "Browse Projects, Add Comments"

    def preview(self, parameters: CommentParameters) -> str:
        """The call that would be made."""
        return f"POST {API}/issue/{parameters.issue}/comment {json.dumps(parameters.text[:200])}"

    def act(self, client: RestClient, context: Context, parameters: CommentParameters) -> Outcome:
        """Comment, unless the same was said by this step."""
        if self.is_so(client, context, parameters):
            return Outcome.succeeded(outcome="already", ticket=parameters.issue)
        path = issue_path(parameters.issue, "comment")
        text = f"{parameters.text}\n{mark_of(context, parameters.text)}"
        made = client.object(Call("POST", path, json={"body": document(text)}))
        return Outcome.succeeded(outcome="created", ticket=parameters.issue, comment=made.get("id"))

    def is_so(self, client: RestClient, context: Context, parameters: CommentParameters) -> bool:
        """Whether one of the latest comments has this step's mark."""
        path = issue_path(parameters.issue, "comment")
        found = client.object(Call("GET", path, {"orderBy": "-created", "maxResults": "100"})).get("comments") or []
        mark = mark_of(context, parameters.text)
        return any(mark in json.dumps(comment.get("body"), ensure_ascii=False) for comment in found)


class TransitionParameters(BaseParameters):
    """Where a ticket is to go."""

    issue: IssueKey
    #: Name of the status to reach, or of the transition that leads there.
    to: str = Field(min_length=1, max_length=100)


class Transition(JiraTicketFunction):
    """Moves a ticket to another status."""

    name = "jira.transition"
    summary = "Move a ticket to another status, by the status's name or the transition's"
    Parameters = TransitionParameters
    rights = "Browse Projects, Transition Issues"
    impact = "The ticket stays in its status."

    def preview(self, parameters: TransitionParameters) -> str:
        """The call that would be made."""
        return f"POST {API}/issue/{parameters.issue}/transitions to {json.dumps(parameters.to)}"

    def act(self, client: RestClient, context: Context, parameters: TransitionParameters) -> Outcome:
        """Move it unless it is there, and see that it arrived."""
        before = _status(client, parameters.issue)
        offered = self._offered(client, parameters.issue)
        wanted = parameters.to.casefold()
        way = next((t for t in offered if wanted in (_to(t).casefold(), str(t.get("name")).casefold())), None)
        # Once it has arrived, the name of the transition that led there is no longer offered.
        goal = _to(way) if way else context.state(_goal(context)) or parameters.to
        if before.casefold() == goal.casefold():
            return Outcome.succeeded(outcome="already", ticket=parameters.issue, before=before, after=before)
        if way is None:
            names = ", ".join(sorted({f"{t.get('name')} ({_to(t)})" for t in offered})) or "nowhere"
            raise StepError(
                f"{parameters.issue} cannot go from {before!r} to {parameters.to!r}: it can go to {names}",
                type=INTEGRATION_ERROR, code="no_transition", remediation="Write the name of a status that it can reach.",
            )  # fmt: skip
        # Kept first: a second look knows by it what the transition's name led to.
        context.set_state(_goal(context), goal)
        client.send(
            Call("POST", issue_path(parameters.issue, "transitions"), json={"transition": {"id": str(way["id"])}})
        )
        after = settled(
            lambda: _status(client, parameters.issue), lambda s: s.casefold() == goal.casefold(), service=SERVICE.name
        )  # fmt: skip
        return Outcome.succeeded(outcome="changed", ticket=parameters.issue, before=before, after=after)

    def is_so(self, client: RestClient, context: Context, parameters: TransitionParameters) -> bool:
        """Whether it is in that status."""
        goal = context.state(_goal(context)) or parameters.to
        return _status(client, parameters.issue).casefold() == goal.casefold()

    def _offered(self, client: RestClient, issue: str) -> list[Mapping[str, Any]]:
        return list(client.object(Call("GET", issue_path(issue, "transitions"))).get("transitions") or [])


def _goal(context: Context) -> str:
    return f"Jira goal of {context.step_id}"


def _to(transition: Mapping[str, Any]) -> str:
    return str((transition.get("to") or {}).get("name"))


def _status(client: RestClient, issue: str) -> str:
    found = client.object(Call("GET", issue_path(issue), {"fields": "status"}))
    return str(((found.get("fields") or {}).get("status") or {}).get("name"))
