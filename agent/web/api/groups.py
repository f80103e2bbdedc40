"""Groups of computers that monitors can be limited to. They may hold computers of any client."""

from __future__ import annotations

from pydantic import Field

from agent.access.principal import Permission
from agent.errors import NotFound
from agent.inventory import groups
from agent.model.places import Computer
from agent.web.api.common import MOST_ID, Answer, Body, Done, Name, api_router
from agent.web.asking import Here, Who
from agent.web.reads import places as reads
from agent.web.reads.places import ComputerRow

router = api_router("inventory")


class GroupOut(Answer):
    """A group."""

    name: str
    computers: int


class GroupIn(Body):
    """A new group."""

    name: str = Field(min_length=1, max_length=200, examples=["Pilot"])


class Members(Body):
    """Computers by their ids."""

    computer_ids: list[int] = Field(min_length=1, max_length=1000)


@router.get("/groups")
def list_groups(here: Here, who: Who) -> list[GroupOut]:
    """All groups with the number of their computers."""
    who.require(Permission.SEE)
    with here.database.reading() as session:
        return [
            GroupOut(name=g.full_name, computers=len(groups.members(session, g.full_name)))
            for g in groups.groups(session)
        ]


@router.post("/groups", status_code=201)
def add_group(here: Here, who: Who, body: GroupIn) -> GroupOut:
    """Make an empty group."""
    who.require(Permission.OPERATE)
    with here.database.session() as session:
        groups.add_group(session, body.name, actor=who.name)
    return GroupOut(name=body.name, computers=0)


@router.get("/groups/{name}")
def show_group(here: Here, who: Who, name: Name) -> list[ComputerRow]:
    """A group's computers, at most a thousand."""
    who.require(Permission.SEE)
    with here.database.reading() as session:
        found = [session.get(Computer, i) for i in groups.members(session, name)[:1000]]
        return reads.computer_rows(session, [c for c in found if c is not None], here.settings.online_seconds)


@router.delete("/groups/{name}")
def remove_group(here: Here, who: Who, name: Name) -> Done:
    """Remove a group; its computers stay."""
    who.require(Permission.OPERATE)
    with here.database.session() as session:
        groups.remove_group(session, name, actor=who.name)
    return Done(done=f"the group {name!r} is removed")


@router.post("/groups/{name}/add")
def add_members(here: Here, who: Who, name: Name, body: Members) -> Done:
    """Put computers into a group."""
    who.require(Permission.OPERATE)
    with here.database.session() as session:
        for computer_id in body.computer_ids:
            if not 1 <= computer_id <= MOST_ID or session.get(Computer, computer_id) is None:
                raise NotFound(f"there is no computer {computer_id}")
        new = groups.add_members(session, name, body.computer_ids, actor=who.name)
    return Done(done=f"{len(new)} computers added")


@router.post("/groups/{name}/remove")
def remove_members(here: Here, who: Who, name: Name, body: Members) -> Done:
    """Take computers out of a group. The computers stay."""
    who.require(Permission.OPERATE)
    with here.database.session() as session:
        gone = groups.remove_members(session, name, [i for i in body.computer_ids if 1 <= i <= MOST_ID], actor=who.name)
    return Done(done=f"{len(gone)} computers taken out")
