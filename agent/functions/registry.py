"""Which functions there are: a name and where its class stands, imported on first use. Third parties add theirs by
the entry point group `exeunt.functions`; a name that is taken is refused.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from agent.errors import NotFound, SettingsError
from agent.functions.base import Function

BUILT_IN: dict[str, str] = {
    "remove_application": "agent.functions.applications:RemoveApplication",
    "screenconnect.uninstall": "agent.functions.screenconnect:Uninstall",
    "screenconnect.end_session": "agent.functions.screenconnect:EndSession",
    "agent.remove": "agent.functions.agents:Remove",
    "inventory.retire": "agent.functions.agents:Retire",
    "offboarding.informative_ticket": "agent.functions.offboarding:InformativeTicket",
    "offboarding.report": "agent.functions.offboarding:Report",
    "offboarding.escalate": "agent.functions.escalation:Escalate",
    "notify.manager": "agent.functions.notify:NotifyManager",
    "notify.it": "agent.functions.notify:NotifyIt",
    "notify.security": "agent.functions.notify:NotifySecurity",
    "notify.hr": "agent.functions.notify:NotifyHr",
    "notify.employee": "agent.functions.notify:NotifyEmployee",
    "notify.payroll": "agent.functions.notify:NotifyPayroll",
    "ticket.create": "agent.functions.tickets:TicketCreate",
    "ticket.comment": "agent.functions.tickets:TicketComment",
    "mail.send": "agent.functions.tickets:MailSend",
}


@cache
def _places() -> dict[str, str]:
    places = dict(BUILT_IN)
    for point in entry_points(group="exeunt.functions"):
        if point.name in places:
            raise SettingsError(
                f"the function {point.name!r} of {point.value} is already defined by {places[point.name]}"
            )
        places[point.name] = point.value
    return places


def names() -> list[str]:
    """Names of all functions, sorted."""
    return sorted(_places())


@cache
def get(name: str) -> Function[Any]:
    """The function of that name. Raises NotFound with the names that come nearest."""
    place = _places().get(name)
    if place is None:
        import difflib

        near = difflib.get_close_matches(name, names(), n=3)
        raise NotFound(f"there is no function {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
    module, _, attribute = place.partition(":")
    function = getattr(import_module(module), attribute)()
    assert isinstance(function, Function), place
    return function
