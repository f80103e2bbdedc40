"""The offboarding wizard (seed 003): client, people, options, date; then a look ahead, and only then the act."""

from __future__ import annotations

from typing import Annotated

import nh3
from fastapi import APIRouter, Depends, Request, Response
from markupsafe import Markup
from sqlmodel import Session, col, select
from starlette.datastructures import FormData

from agent.access.principal import Permission
from agent.content.user_inputs import INPUTS
from agent.errors import ExeuntError, NotFound, UsageError
from agent.installation import Installation
from agent.model.places import Client
from agent.running import user_offboardings
from agent.running.input_layers import DEFAULT
from agent.running.offboarding_start import Outcome, plan_and_start
from agent.running.planning import draft_plan
from agent.running.preflight import preflight
from agent.running.requests import PlanOrigin, RunRequest
from agent.web.asking import Here, Port, Who
from agent.web.reads import wizard
from agent.web.reads.offboarding_templates import known_templates, require_templates
from agent.web.reads.paging import among
from agent.web.rendering import page, redirect

router = APIRouter(prefix="/offboardings")
#: People whom one form takes, and bytes of one value.
MOST_PEOPLE, MOST_CHARACTERS = 200, 20_000
_OWN = (
    "csrf",
    "client",
    "person",
    "people",
    "template",
    "when",
    "date",
    "time",
    "shown",
    "termination_type",
    "replace",
    "q",
)


async def posted(request: Request) -> dict[str, list[str]]:
    """The form's fields; the inputs are many, so they are taken by name. Raises UsageError for what is none of them."""
    form: FormData = await request.form()
    raw: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if not isinstance(value, str) or len(value) > MOST_CHARACTERS:
            raise UsageError(f"{name} is too long, or no text")
        if name not in _OWN and not name.startswith(wizard.PREFIX):
            raise UsageError(f"there is no field {name!r} in this form")
        raw.setdefault(name, []).append(value)
    return raw


Raw = Annotated[dict[str, list[str]], Depends(posted)]


@router.get("/new")
def choose(
    request: Request, here: Here, who: Who, client: int | None = None, template: str | None = None, contact: int | None = None
) -> Response:  # fmt: skip
    """First the client, then the form with that client's defaults; `contact`: somebody who is chosen already."""
    with here.database.reading() as session:
        if client is None:
            allowed = among(col(Client.client_id), who.clients(Permission.OPERATE))
            clients = session.exec(select(Client).where(allowed).order_by(col(Client.name)).limit(2000)).all()
            return page(request, "wizard_client.html", clients=[(c.client_id, c.name) for c in clients])
        chosen = _client(session, who, client)
        return _form(request, session, who, chosen, {"template": [template or ""], "person": [] if contact is None else [str(contact)]})


@router.get("/people")
def find_people(request: Request, here: Here, who: Who, client: int, q: str = "", options: bool = False) -> Response:
    """Contacts of a client to choose from: boxes for the leavers, options for whoever gets something."""
    with here.database.reading() as session:
        chosen = _client(session, who, client)
        found = wizard.people(session, chosen.client_id or 0, q)
    return page(request, "wizard_people.html", people=found, options=options)


@router.post("/check")
def check(request: Request, here: Here, who: Who, raw: Raw) -> Response:
    """What contradicts what, while somebody chooses."""
    with here.database.reading() as session:
        found = _wanted(session, who, raw)
        wrong, off = wizard.explained(session, found, who.name)
    return page(request, "wizard_check.html", wrong=wrong, off=off)


@router.post("/preview")
def preview(request: Request, here: Here, who: Who, raw: Raw) -> Response:
    """Exactly what would be done to whom; nothing is stored. A form with a fault is shown again."""
    with here.database.reading() as session:
        found = _wanted(session, who, raw)
        faults, checked = _checked(session, found, who)
        if faults:
            answer = _form(request, session, who, found.client, raw, faults)
            answer.status_code = 400
            return answer
    people = [_person(here, one, who) for one in checked]
    # Cleaned of everything that could act; the person who sets it is shown what strangers will get.
    message = Markup(nh3.clean("".join(raw.get("input.out_of_office", []))))
    return page(
        request, "wizard_preview.html", client=found.client, people=people, raw=raw, message=message, found=found
    )


@router.post("/preflight")
def look_ahead(request: Request, here: Here, who: Who, raw: Raw) -> Response:
    """What the client's systems say about one person; they are only asked."""
    with here.database.reading() as session:
        found = _wanted(session, who, raw)
        ask = [r for r in found.requests()[:1] if wizard.person(session, found.client, r.person) is not None]
    results = [preflight(here, one, actor=who.name) for one in ask]
    return page(request, "wizard_preflight.html", results=results)


@router.post("")
def begin(request: Request, here: Here, port: Port, who: Who, raw: Raw) -> Response:
    """Plan all of them or none; those without a later date begin."""
    with here.database.reading() as session:
        found = _wanted(session, who, raw)
        faults, _ = _checked(session, found, who)
        if faults:
            answer = _form(request, session, who, found.client, raw, faults)
            answer.status_code = 400
            return answer
    done = plan_and_start(here, port, found.requests(), actor=who.name, replace=bool(raw.get("replace")))
    return redirect(request, _leads_to(done), _told(done))


def _client(session: Session, who: Who, client_id: int) -> Client:
    who.require(Permission.OPERATE, client_id, what=f"client {client_id}")
    found = session.get(Client, client_id)
    if found is None:
        raise NotFound(f"there is no client {client_id}")
    return found


def _wanted(session: Session, who: Who, raw: dict[str, list[str]]) -> wizard.Wanted:
    chosen = raw.get("client", [""])[-1]
    if not chosen.isdecimal():
        raise UsageError("choose a client first")
    client = _client(session, who, int(chosen))
    require_templates(session, who, (t.strip() for t in raw.get("template", ())))
    found = wizard.wanted(session, client, raw, who.name)
    if len(found.people) > MOST_PEOPLE:
        raise UsageError(f"{len(found.people)} people are too many for one form: at most {MOST_PEOPLE}")
    return found


def _form(
    request: Request,
    session: Session,
    who: Who,
    client: Client,
    raw: dict[str, list[str]],
    faults: list[str] | None = None,
) -> Response:
    template = (raw.get("template") or [""])[-1] or None
    require_templates(session, who, [template])
    defaults = wizard.defaults_of(session, client, template, who.name)
    chosen = [c for p in raw.get("person", ()) if (c := wizard.person(session, client, p)) is not None]
    return page(
        request, "wizard.html", client=client, groups=wizard.groups(defaults, raw), raw=raw, faults=faults or [],
        templates=[("", "that of the client"), *((t.name, t.name) for t, _ in known_templates(session, who))], template=template or "", chosen=chosen,
        people=wizard.people(session, client.client_id or 0, ""),
    )  # fmt: skip


def _checked(session: Session, found: wizard.Wanted, who: Who) -> tuple[list[str], list[user_offboardings.Checked]]:
    """Each person as the act would check it, and every fault with the person's name."""
    faults: list[str] = [] if found.people else ["choose at least one person who leaves"]
    checked = []
    for one in found.requests():
        if wizard.person(session, found.client, one.person) is None:
            faults.append(f"{one.person}: nobody of {found.client.name} has this address")
            continue
        try:
            checked.append(user_offboardings.check(session, one, actor=who.name))
        except UsageError as error:
            faults.append(f"{one.person}: {error}")
    return list(dict.fromkeys(faults)), checked


def _person(here: Installation, one: user_offboardings.Checked, who: Who) -> dict[str, object]:
    """A person with the exact steps, as the planner would make them now."""
    values = [
        {"name": INPUTS[n].cipp or INPUTS[n].description, **d}
        for n, d in one.resolved.document().items() if d["source"] != DEFAULT
    ]  # fmt: skip
    request = RunRequest(
        user_offboardings.WRAPPER,
        "contact",
        one.contact.contact_id or 0,
        one.resolved.parameters(),
        levels=("planned",),
    )
    fault, draft = None, None
    try:
        draft = draft_plan(here, [request], PlanOrigin(who.name))
    except ExeuntError as error:
        fault = str(error)
    steps = [s for t in draft.targets for s in t.run.steps()] if draft else []
    return {
        "contact": one.contact, "at": one.at, "begins_now": one.begins_now, "inputs": values, "fault": fault,
        "warnings": one.resolved.warnings, "day": one.resolved.values.termination_date,
        "steps": [(s.name, str(s.options.get("preview") or "")) for s in steps],
        "skipped": list(draft.skipped) if draft else [], "holds": list(draft.holds) if draft else [],
    }  # fmt: skip


def _leads_to(done: Outcome) -> str:
    if len(done.planned) == 1 and len(done.started) == 1:
        stored = done.started[0][1]
        return f"/plans/{stored.id}" if stored.holds else f"/runs/{stored.run_ids[0]}"
    return "/offboardings"


def _told(done: Outcome) -> str:
    held = sum(bool(stored.holds) for _, stored in done.started)
    said = [
        f"{len(done.planned)} planned" if len(done.started) < len(done.planned) else "",
    ]
    if len(done.started) > held:
        said.append(f"{len(done.started) - held} started")
    if held:
        said.append(f"{held} held: somebody has to approve")
    said += [f"{found.contact.name}: planned, but not started: {error}" for found, error in done.errors]
    return "; ".join(s for s in said if s).capitalize() + "."
