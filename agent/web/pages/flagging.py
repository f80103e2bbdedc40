"""Flagging: of one place or of many computers, always after a page that says what would become of each."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from fastapi import Form as FormBody
from pydantic import Field, ValidationError
from sqlalchemy import ColumnElement
from sqlmodel import Session, col, select

from agent.access.principal import Permission, Principal
from agent.errors import Conflict, NotFound, UsageError
from agent.inventory import field_values, flags
from agent.inventory.lookup import FORMS
from agent.inventory.reach import MEANING, Outcome, Reach, of_place, reach
from agent.model.fields import Form as Level
from agent.model.places import Computer, Contact
from agent.web.asking import Here, Who
from agent.web.forms import Form
from agent.web.pages.place_routes import Kind, PlaceId, address, place_of
from agent.web.pages.places import head
from agent.web.reads.inventory import Filters, computer_query
from agent.web.reads.paging import MOST
from agent.web.rendering import page, redirect, with_query

router = APIRouter()
#: Computers that can be flagged at once; more of them are a location or a client.
MOST_AT_ONCE = 5000
_FILTER = "f_"
#: In the order in which people read them.
OUTCOMES = (
    Outcome.GOES, Outcome.OFFLINE, Outcome.EXCLUDED, Outcome.SERVER, Outcome.PROBE, Outcome.QUIET, Outcome.RETIRED,
)  # fmt: skip


class FlagForm(Form):
    """What becomes of a place's own flag."""

    flag: Literal["0", "1"]


class ChosenForm(Form):
    """Computers that were ticked in a list, or all that its filters leave."""

    act: Literal["flag", "unflag"]
    chosen: list[int] = Field(default_factory=list, max_length=MOST)
    everything: bool = False
    f_q: str = Field("", max_length=200)
    f_client: str = ""
    f_location: str = ""
    f_platform: str = ""
    f_state: str = ""
    f_flagged: str = ""
    f_kind: str = ""

    def filters(self) -> Filters:
        """The filters of the list. Raises UsageError."""
        given = {
            name.removeprefix(_FILTER): getattr(self, name)
            for name in type(self).model_fields
            if name.startswith(_FILTER)
        }
        try:
            return Filters.model_validate(given)
        except ValidationError:
            raise UsageError("the filters are none that the list has: load it again") from None


class ConfirmForm(ChosenForm):
    """What the preview showed. `seen`: digest of the computers that it was about."""

    ids: str = Field("", max_length=20_000, pattern=r"^[0-9,]*$")
    seen: str


def _flag_of(level: Level) -> str:
    return flags.OFFBOARD.get(level, "Offboard Contact")


def _reach(session: Session, here: Here, computers: ColumnElement[bool]) -> Reach:
    return reach(session, computers, online_seconds=here.settings.online_seconds, zone=here.settings.zone)


@router.get("/{kind:place}s/{place_id:int}/flag")
def preview(request: Request, here: Here, who: Who, kind: Kind, place_id: PlaceId) -> Response:
    """What the flag of this place would reach. Nothing is changed."""
    with here.database.reading() as session:
        place = place_of(session, who, kind, place_id, Permission.OPERATE)
        level, name = FORMS[type(place)], _flag_of(FORMS[type(place)])
        own = field_values.effective_value(session, level, place_id, name)
        found = None
        if not isinstance(place, Contact):
            found = _reach(session, here, of_place(level, place_id))
        values = {**head(session, who, place, "flag"), "name": name, "own": own}
    return page(request, "flag.html", reach=found, outcomes=OUTCOMES, meaning=MEANING, **values)


@router.post("/{kind:place}s/{place_id:int}/flag")
def set_flag(
    request: Request, here: Here, who: Who, kind: Kind, place_id: PlaceId, form: Annotated[FlagForm, FormBody()]
) -> Response:  # fmt: skip
    """Set or take back the flag; the monitor does the rest."""
    with here.database.session() as session:
        place = place_of(session, who, kind, place_id, Permission.OPERATE)
        level, name = FORMS[type(place)], _flag_of(FORMS[type(place)])
        changed = field_values.tick(session, level, [place_id], name, form.flag == "1", actor=who.name)
    if not changed:
        said = f"{name} was {'set' if form.flag == '1' else 'not set'} already"
    elif form.flag == "1":
        monitor = "User Offboarding" if kind == "contact" else "Offboarding"
        said = f"{name} is set. The monitor {monitor} finds it at its next look"
    else:
        said = f"{name} is taken back. Runs that have started go on: cancel them there"
    return redirect(request, address(kind, place_id), said)


@router.post("/inventory/flag")
def preview_chosen(request: Request, here: Here, who: Who, form: Annotated[ChosenForm, FormBody()]) -> Response:
    """What flagging the chosen computers would do. Nothing is changed."""
    with here.database.reading() as session:
        ids = _chosen(session, here, who, form, form.chosen)
        found = _reach(session, here, col(Computer.computer_id).in_(ids))
        own = _flagged_themselves(session, ids)
        around = sum(set(levels) != {"computer"} for levels in flags.flags(session, ids).values())
        where = _clients_of(session, ids)
    return page(
        request, "flag_chosen.html", section="/inventory", act=form.act, reach=found, outcomes=OUTCOMES, meaning=MEANING,
        count=len(ids), flagged=len(own), around=around, clients=where, everything=form.everything,
        filters=form.filters().query(), ids="" if form.everything else ",".join(map(str, ids)), seen=_digest(ids),
    )  # fmt: skip


@router.post("/inventory/flag/confirm")
def flag_chosen(request: Request, here: Here, who: Who, form: Annotated[ConfirmForm, FormBody()]) -> Response:
    """Flag or unflag what the preview showed, and nothing else."""
    with here.database.session() as session:
        ids = _chosen(session, here, who, form, [int(i) for i in form.ids.split(",") if i])
        if _digest(ids) != form.seen:
            raise Conflict("other computers fit now than the preview showed: go back to the list and look again")
        changed = field_values.tick(
            session, Level.COMPUTER, ids, flags.OFFBOARD[Level.COMPUTER], form.act == "flag", actor=who.name
        )
    verb = "flagged" if form.act == "flag" else "unflagged"
    rest = f"; {len(ids) - changed} were so already" if changed < len(ids) else ""
    said = f"{changed} computer{'' if changed == 1 else 's'} {verb}{rest}"
    if form.act == "flag" and changed:
        said += ". The monitor Offboarding finds those that are online at its next look"
    return redirect(request, with_query("/inventory/computers", **form.filters().query()), said)


def _chosen(
    session: Session, here: Here, who: Principal, form: ChosenForm, chosen: Sequence[int]
) -> list[int]:  # fmt: skip
    """Ids of the computers that are meant, ascending. Raises NotFound for one that may not be seen, Forbidden for one
    that may not be changed, UsageError for none or too many."""
    if form.everything:
        return _everything(session, here, who, form.filters())
    wanted = sorted(set(chosen))
    if not wanted:
        raise UsageError("no computer is chosen: tick some in the list, or take all that the filters leave")
    clients = dict(
        session.exec(
            select(Computer.computer_id, Computer.client_id).where(col(Computer.computer_id).in_(wanted))
        ).all()
    )
    for computer in wanted:
        if computer not in clients or not who.can(Permission.SEE, clients[computer]):
            raise NotFound(f"there is no computer {computer}")
    who.require_all(Permission.OPERATE, set(clients.values()))
    return wanted


def _everything(session: Session, here: Here, who: Principal, filters: Filters) -> list[int]:
    seen, may = who.clients(), who.clients(Permission.OPERATE)
    query, order = computer_query(session, may if may is not None else seen, filters, here.settings.online_seconds)
    found = session.execute(
        query.with_only_columns(col(Computer.computer_id)).order_by(*order.by()).limit(MOST_AT_ONCE + 1)
    )
    ids = sorted(row[0] for row in found)
    if len(ids) > MOST_AT_ONCE:
        raise UsageError(
            f"the filters leave more than {MOST_AT_ONCE} computers: narrow them, or flag the location or the client"
        )
    if not ids:
        raise UsageError("the filters leave no computer that you may change")
    return ids


def _flagged_themselves(session: Session, ids: Collection[int]) -> set[int]:
    fields = flags.FieldSets(session)
    query = fields.places(Level.COMPUTER, flags.OFFBOARD[Level.COMPUTER])
    return {row[0] for row in session.execute(query)} & set(ids)


def _clients_of(session: Session, ids: Sequence[int]) -> int:
    """Of how many clients they are."""
    query = select(Computer.client_id).where(col(Computer.computer_id).in_(ids)).distinct()
    return len(session.exec(query).all())


def _digest(ids: Sequence[int]) -> str:
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()
