"""People at two clients, their child scripts, and an engine that the test plays itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.installation import Installation
from agent.inventory import places
from agent.inventory.lookup import place_id
from agent.running.executor import Executor
from agent.running.user_offboardings import DELETION, SECURITY_PHASE

if TYPE_CHECKING:
    from conftest import Places

PHASE_3 = "User Offboarding - 3 Data Preservation and Transfer"
FORWARDING = "User Offboarding - Forwarding Expired"
CHILDREN = {
    "close_account": (
        "name: Close Account\nrole: child\ntarget: contact\ninputs: user_offboarding\nsteps:\n"
        "  - {name: Disable, function: test.account, with: {act: disable}}\n"
        "  - {name: Revoke, function: test.account, with: {act: revoke, note: '@reference@'}}\n"
    ),
    "keep_data": (
        "name: Keep Data\nrole: child\ntarget: contact\nparameters:\n"
        "  mailbox_delegate: {default: ''}\n  backup_user_data: {type: checkbox, default: '1'}\n"
        "  maintain_email_forwarding: {type: checkbox, default: '0'}\nsteps:\n"
        "  - {name: Backup, function: test.backup, with: {act: backup}, when: [{value: parameter.backup_user_data, is: '1'}]}\n"
        "  - {name: Forward, function: test.account, with: {act: forward, note: '@mailbox_delegate@'},\n"
        "     when: [{value: parameter.maintain_email_forwarding, is: '1'}]}\n"
    ),
    "end_forwarding": (
        "name: End Forwarding\nrole: child\ntarget: contact\nsteps:\n"
        "  - {name: End, function: test.account, with: {act: end_forwarding}}\n"
    ),
    "delete_account": (
        "name: Delete Account\nrole: child\ntarget: contact\ndeletes_account: true\nsteps:\n"
        "  - {name: Delete, function: test.delete, with: {act: delete}}\n"
    ),
}  # fmt: skip
LISTS = {
    SECURITY_PHASE: ["Close Account"], PHASE_3: ["Keep Data"], FORWARDING: ["End Forwarding"],
    DELETION: ["Delete Account"],
}  # fmt: skip


@dataclass
class PlayedEngine:
    """Stands where the engine stands: `work()` executes what was queued, whatever its delay."""

    installation: Installation
    queued: list[tuple[str, int]] = field(default_factory=list)

    def enqueue(self, run_id: str, segment: int, client_id: int, *, delay_seconds: float = 0.0) -> None:
        self.queued.append((run_id, segment))

    def enqueue_all(self, runs: Iterable[tuple[str, int, int]]) -> None:
        for run in runs:
            self.enqueue(*run)

    def work(self) -> int:
        """Execute all that is queued; how many segments."""
        executor, count = Executor(self.installation, self), 0  # type: ignore[arg-type]
        while self.queued:
            executor.execute(*self.queued.pop(0))
            count += 1
        return count


@dataclass(frozen=True)
class People:
    """Ids: John (leaver) and Jane (his manager) at Contoso, Max and his manager Mia at Fabrikam."""

    john: int
    jane: int
    max: int
    mia: int


def write_children(installation: Installation, lists: dict[str, list[str]] | None = None) -> None:
    """Child scripts of the workspace's own, listed for every client (partner)."""
    root = installation.settings.workspace / "content" / "scripts"
    for folder, text in CHILDREN.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "script.yaml").write_text(text, encoding="utf-8")
    partner = root / "clients" / "partner"
    partner.mkdir(parents=True, exist_ok=True)
    lines = "".join(
        f"  {wrapper}:\n" + "".join(f"    - {n}\n" for n in names) for wrapper, names in (lists or LISTS).items()
    )
    (partner / "client.yaml").write_text(f"client: partner\nscripts:\n{lines}", encoding="utf-8")
    installation.content.reload()


def add_people(installation: Installation, where: Places) -> People:
    """Store the four."""
    ids: dict[str, int] = {}
    with installation.database.session() as session:
        for name, client, manager in (
            ("jane", where.contoso, None), ("john", where.contoso, "jane"), ("mia", where.fabrikam, None),
            ("max", where.fabrikam, "mia"), *((f"other{n}", where.contoso, None) for n in range(6)),
        ):  # fmt: skip
            slug = "contoso" if client == where.contoso else "fabrikam"
            made = places.add_contact(
                session, client_id=client, name=name.capitalize(), email=f"{name}@{slug}.example", actor="hr",
                **({"manager_id": ids[manager]} if manager else {}),
            )  # fmt: skip
            ids[name] = place_id(made)
    return People(ids["john"], ids["jane"], ids["max"], ids["mia"])
