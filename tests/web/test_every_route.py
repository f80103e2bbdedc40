"""Every route of the application as owner, colleague, approver, viewer, stranger and nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
from fastapi import FastAPI
from route_table import API, PAGES
from route_world import OURS, THEIRS, make_world
from web_help import Console, Person

from agent.web.app import create_app

#: An answer of a route that did not refuse the person: done, or it cannot be done (any more).
TAKEN = {200, 201, 303, 400, 409}
#: Fixed values of placeholders.
FIXED = {
    "group": "Pilot", "group2": "Pilot2", "field": "Own", "field2": "Own2", "level": "client", "property": "own", "zero": "0",
    "stream": "stdout", "html": "html", "end": "done", "kind": "location", "act": "apply", "field_id": "99999",
}  # fmt: skip
PEOPLE = ("owner", "approver", "colleague", "viewer", "stranger", "nobody")


def everybody(
    owner: set[int], approver: set[int], colleague: set[int], viewer: set[int], stranger: set[int]
) -> dict[str, set[int]]:
    return dict(zip(PEOPLE, (owner, approver, colleague, viewer, stranger, {401}), strict=True))


NO, GONE = {403}, {404}
RULES: dict[str, dict[str, set[int]]] = {
    "own": everybody(TAKEN, TAKEN, TAKEN, TAKEN, TAKEN),
    "self": everybody(TAKEN, TAKEN, TAKEN, TAKEN, TAKEN),
    "own-or-404": everybody(TAKEN, TAKEN, TAKEN, TAKEN, GONE),
    "see": everybody(TAKEN, TAKEN, TAKEN, TAKEN, GONE),
    "see-or-operate": everybody(TAKEN, TAKEN, TAKEN, TAKEN | NO, GONE),
    "operate": everybody(TAKEN, TAKEN, TAKEN, NO, GONE),
    "approve": everybody(TAKEN, TAKEN, NO, NO, GONE),
    "administer": everybody(TAKEN, NO, NO, NO, GONE),
    "administer-or-404": everybody(TAKEN | GONE, NO, NO, NO, GONE),
    "somewhere:administer": everybody(TAKEN, NO, NO, NO, TAKEN),
    "others-404": everybody(TAKEN | GONE, GONE, GONE, GONE, GONE),
    "form-of-own": {person: {*TAKEN, 403} for person in PEOPLE},
    "unsigned": {person: {401} for person in PEOPLE},
    "token-only": {person: {401} for person in PEOPLE},
    "open": {person: {*TAKEN, 401, 404, 503} for person in PEOPLE},
    "unset": everybody({503}, {503}, {503}, {503}, {503}),
    # Who may not act never gets anywhere: to a stranger it is not there, or what was sent is refused first.
    "form": everybody({*TAKEN, 404}, {*TAKEN, 403, 404}, {*TAKEN, 403, 404}, {400, 403, 404}, {400, 403, 404}),
    "all:administer-or-404": everybody(TAKEN | GONE, NO, NO, NO, NO),
    **{f"all:{p}": everybody(TAKEN, NO, NO, NO, NO) for p in ("see", "operate", "approve", "administer")},
}


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of every route."""
    for route in app.routes:
        contexts = route.effective_route_contexts() if hasattr(route, "effective_route_contexts") else [route]
        for found in contexts:
            for method in sorted((getattr(found, "methods", None) or set()) - {"HEAD"}):
                yield method, found.path


def pattern(path: str) -> str:
    """A path of the table as the application has it: `{plan_id2=plan_id}` is `{plan_id}`."""
    return re.sub(r"{(\w+=)?(\w+(:\w+)?)}", r"{\2}", path.partition("?")[0])


def filled(value: Any, world: dict[str, str]) -> Any:
    """A path or body of the table with what the world has; a whole placeholder in a body that is a number becomes one."""
    if isinstance(value, dict):
        return {k: filled(v, world) for k, v in value.items()}
    if isinstance(value, list):
        return [filled(v, world) for v in value]
    if not isinstance(value, str):
        return value
    text = re.sub(r"{(\w+)(?:=\w+)?(?::\w+)?}", lambda m: {**FIXED, **world}[m[1]], value)
    return int(text) if text != value and text.isdecimal() and len(text) < 10 else text


def send(person: Person, method: str, path: str, body: Any) -> httpx.Response:
    if isinstance(body, str):
        return person.send(method, path, content=body)
    if isinstance(body, bytes):
        return person.send(method, path, files={"file": body})
    return person.send(method, path, json=body) if body is not None else person.send(method, path)


def test_the_table_knows_every_route_of_the_api(console: Console) -> None:
    served = {
        (m, p.removeprefix("/api/v1")) for m, p in routes(create_app(console.installation)) if p.startswith("/api/v1/")
    }
    served -= {("GET", "/openapi.json")}
    told = {(line[0], pattern(line[1])) for line in API}
    assert served - told == set(), "a new route needs a line in route_table.py"
    assert told - served == set(), "a line of route_table.py has no route"
    assert len(API) == len(told)


def test_each_person_gets_what_is_theirs_from_the_api(console: Console) -> None:
    world = make_world(console)
    wrong: list[str] = []
    for line in API:
        method, path, rule = line[:3]
        body = filled(line[3], world) if len(line) > 3 else None
        for person in reversed(console.people):
            answer = send(person, method, "/api/v1" + str(filled(path, world)), body)
            if answer.status_code not in RULES[rule][person.name]:
                wrong.append(f"{person.name} {method} {path} ({rule}): {answer.status_code} {answer.text[:200]}")
            wrong += leaks(person, f"{method} {path}", answer)
            if answer.status_code >= 400 and answer.headers["content-type"] != "application/problem+json":
                wrong.append(f"{person.name} {method} {path}: {answer.headers['content-type']}")
    assert not wrong, "\n".join(wrong)


def test_the_table_knows_every_page(console: Console) -> None:
    served = {(m, p) for m, p in routes(create_app(console.installation)) if not p.startswith("/api/")}
    told = {(line[0], pattern(line[1])) for line in PAGES}
    assert served - told == set(), "a new page needs a line in route_table.py"
    assert told - served == set(), "a line of route_table.py has no page"
    assert len(PAGES) == len(told)


def test_each_person_gets_the_pages_that_are_theirs(console: Console) -> None:
    world = make_world(console)
    wrong: list[str] = []
    for line in PAGES:
        method, path, rule = line[:3]
        for person in reversed(console.people):
            answer = send(person, method, str(filled(path, world)), None)
            allowed = RULES[rule][person.name]
            if person.name == "nobody" and rule not in ("open", "token-only"):
                allowed = {303}
                if not answer.headers.get("location", "").startswith("/sign-in"):
                    wrong.append(f"nobody {method} {path}: is not sent to sign in")
            if answer.status_code not in allowed:
                text = re.sub(r"\s+", " ", answer.text)
                wrong.append(f"{person.name} {method} {path} ({rule}): {answer.status_code} {text[-300:]}")
            wrong += leaks(person, f"{method} {path}", answer)
            html = "html" in answer.headers.get("content-type", "")
            if (html and "<script>alert(1)</script>" in answer.text) or (
                html and f"{OURS} <b>ltd" in answer.text.lower()
            ):
                wrong.append(f"{person.name} {method} {path}: HTML of a name is not escaped")
    assert not wrong, "\n".join(wrong)


def leaks(person: Person, what: str, answer: httpx.Response) -> list[str]:
    """Names of clients that the person may not see."""
    hidden = {"stranger": [OURS], "owner": []}.get(person.name, [THEIRS])
    if person.name == "nobody":
        hidden = [OURS, THEIRS]
    text = answer.text.lower()
    return [f"{person.name} {what}: tells of {word}: {text[:300]}" for word in hidden if word in text]
