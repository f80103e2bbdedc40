"""`exeunt inventory`: search, reach."""

from __future__ import annotations

from typing import Any

import click
from sqlmodel import Session, select

from agent.cli.caller import Caller, json_option, limit_option, pass_caller
from agent.cli.inventory_group import inventory
from agent.cli.lazy import command
from agent.cli.output import say, show_json, show_table
from agent.cli.places import LEVELS, one_place, place_options
from agent.inventory import lookup
from agent.inventory.lookup import MODELS, place_id
from agent.inventory.reach import MEANING, of_place, reach
from agent.inventory.search import matching
from agent.model.fields import Form


@command(
    inventory, "search", "exeunt inventory search ada@contoso", "exeunt inventory search pc 1 --level computer --json"
)
@click.argument("words", nargs=-1, required=True)
@click.option("--level", type=click.Choice(list(LEVELS)), help="Only this kind of place.")
@limit_option(20)
@json_option
@pass_caller
def search(caller: Caller, words: tuple[str, ...], level: str | None, limit: int, as_json: bool) -> None:
    """Find places: each word begins a word of a name, an id, a mail address or a user's name. --limit counts for each kind."""
    with caller.installation.database.reading() as session:
        rows = [row for name in ([level] if level else LEVELS) for row in _found(session, name, " ".join(words), limit)]
    if as_json:
        show_json(rows)
    else:
        columns = ("kind", "id", "path", "external_id")
        show_table(("kind", "id", "path", "external id"), ([r[c] for c in columns] for r in rows), empty="nothing fits")


def _found(session: Session, level: str, typed: str, limit: int) -> list[dict[str, Any]]:
    model: Any = MODELS[LEVELS[level]]
    query, order = matching(session, select(model), model, typed, None)
    places = [row[0] for row in session.execute(query.order_by(order).limit(limit))]
    return [
        {"kind": level, "id": place_id(p), "path": lookup.path(session, p), "external_id": p.external_id}
        for p in places
    ]


@command(
    inventory,
    "reach",
    "exeunt inventory reach --client contoso",
    "exeunt inventory reach --location Contoso/HQ --json",
)
@place_options(Form.CLIENT, Form.LOCATION, Form.COMPUTER)
@json_option
@pass_caller
def show_reach(caller: Caller, as_json: bool, **places: str | None) -> None:
    """Show what would become of the computers of a place if it were flagged. Nothing is changed."""
    with caller.installation.database.reading() as session:
        form, place = one_place(session, **places)
        settings = caller.installation.settings
        found = reach(
            session, of_place(form, place_id(place)), online_seconds=settings.online_seconds, zone=settings.zone
        )
        where = lookup.path(session, place)
    rows: list[dict[str, Any]] = [
        {"computers": count, "outcome": outcome.value, "what": MEANING[outcome], "such_as": [s.name for s in found.samples[outcome]]}
        for outcome, count in found.counts.items()
    ]  # fmt: skip
    if as_json:
        show_json({"path": where, "total": found.total, "reached": found.reached, "outcomes": rows})
        return
    say(f"{where}: {found.reached} of {found.total} computers would be offboarded")
    show_table(
        ("computers", "what becomes of them", "such as"),
        ((r["computers"], r["what"], ", ".join(r["such_as"])) for r in rows),
        empty="there is no computer here",
    )
