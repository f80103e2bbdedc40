"""Pages from templates: always escaped, a missing value is an error, times and states shown one way."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import quote, unquote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from agent.access.principal import Permission, Principal
from agent.model.base import utcnow
from agent.reporting.words import result_titles, unapplied
from agent.web.asking import STATIC, TEMPLATES, csrf_of, is_secure, session_token

#: What was done, shown once on the next page.
SAID = "exeunt_said"
#: Pages of the side bar: title, address, and what one must be allowed to see it (at any client).
NAVIGATION = (
    ("Overview", "/", Permission.SEE),
    ("Inventory", "/inventory", Permission.SEE),
    ("Offboardings", "/offboardings", Permission.SEE),
    ("Runs", "/runs", Permission.SEE),
    ("Tickets", "/tickets", Permission.SEE),
    ("Monitors", "/monitors", Permission.SEE),
    ("Scripts", "/scripts", Permission.SEE),
    ("Packages", "/packages", Permission.SEE),
    ("Audit", "/audit", Permission.SEE),
    ("Backups", "/backups", Permission.SEE),
    ("Credentials", "/credentials", Permission.ADMINISTER),
    ("Webhooks", "/webhooks", Permission.ADMINISTER),
    ("Properties", "/properties", Permission.ADMINISTER),
    ("Users", "/users", Permission.ADMINISTER),
)
#: Pages that a role at some clients does not open.
WHOLE_SERVER = ("/properties", "/users")
_STEPS = ((60, "second", 1), (3600, "minute", 60), (86_400, "hour", 3600), (60 * 86_400, "day", 86_400))


def page(request: Request, template: str, /, **values: Any) -> HTMLResponse:
    """A page. Every template finds `principal`, `csrf`, `path`, `now` and what was said last."""
    principal: Principal | None = getattr(request.state, "principal", None)
    token = session_token(request)
    said = request.cookies.get(SAID)
    text = _environment().get_template(template).render(
        principal=principal, csrf=csrf_of(token) if token else None, path=request.url.path, now=utcnow(),
        said=unquote(said) if said else None, navigation=_navigation(principal), Permission=Permission, **values,
    )  # fmt: skip
    answer = HTMLResponse(text)
    if said:
        answer.delete_cookie(SAID)
    return answer


def fragment(template: str, /, **values: Any) -> str:
    """A part of a page that stands for itself, such as what an event carries."""
    return _environment().get_template(template).render(values)


def redirect(request: Request, address: str, said: str | None = None) -> RedirectResponse:
    """To a page of ours after a form was taken, which then shows what was done."""
    answer = RedirectResponse(address, 303)
    if request.headers.get("hx-request") == "true":
        # As the other header has it: nothing in an address ends a header.
        answer = RedirectResponse(address, 200, {"hx-redirect": answer.headers["location"]})
    if said is not None:
        answer.set_cookie(SAID, quote(said[:500]), 60, httponly=True, samesite="lax", secure=is_secure(request))
    return answer


def wants_part(request: Request) -> bool:
    """Whether htmx asks for a part of the page only."""
    return request.headers.get("hx-request") == "true" and request.headers.get("hx-boosted") != "true"


def asset(name: str) -> str:
    """Address of a file below `static/`; it changes with its content, so browsers may keep it for ever."""
    return f"/static/{name}?{_digest(name)}"


@cache
def _digest(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def relative(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago or from now, in words: `3 minutes ago`, `in 2 days`."""
    if moment is None:
        return "never"
    seconds = ((now or utcnow()) - moment).total_seconds()
    size = abs(seconds)
    if size < 5:
        return "now"
    limit = next((s for s in _STEPS if size < s[0]), None)
    if limit is None:
        return moment.strftime("%Y-%m-%d")
    count = int(size // limit[2])
    words = f"{count} {limit[1]}{'' if count == 1 else 's'}"
    return f"{words} ago" if seconds > 0 else f"in {words}"


def time_element(moment: datetime | None) -> Markup:
    """A time for people: relative in words, exact in UTC on hover and for programs."""
    if moment is None:
        return Markup('<span class="quiet">never</span>')
    exact = moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(moment.isoformat(), exact, relative(moment))


def duration(seconds: float | None) -> str:
    """A length of time: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 4 min`."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def with_query(path: str, **values: Any) -> str:
    """A path with a query of the values that are not None."""
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    return path + ("?" + urlencode(given, doseq=True) if given else "")


def _navigation(principal: Principal | None) -> list[tuple[str, str]]:
    if principal is None:
        return []
    return [
        (title, address)
        for title, address, needed in NAVIGATION
        if (principal.can(needed) if address in WHOLE_SERVER else principal.can_somewhere(needed))
    ]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        time=time_element,
        duration=duration,
        words=lambda state: str(state).replace("_", " "),
        pretty=lambda value: json.dumps(value, ensure_ascii=False, indent=2, default=str),
        compact=lambda value: json.dumps(value, ensure_ascii=False, sort_keys=True, default=str),
    )
    environment.globals.update(asset=asset, with_query=with_query, result_titles=result_titles, unapplied=unapplied)
    return environment
