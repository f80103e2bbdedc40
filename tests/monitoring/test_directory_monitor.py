"""The monitor of accounts that were deleted in a directory, on both databases: whose, and whose not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.directory import DirectoryAccount
from agent.model.places import Contact
from agent.monitoring.evaluation import evaluate


def matched(installation: Installation) -> list[tuple[str, str]]:
    found = evaluate(installation, "Deleted in Directory", actor="test", dry_run=True).matched
    return sorted((m.place.name, m.row.identity) for m in found)


def test_it_finds_the_person_of_the_same_client(any_installation: Installation, any_two_clients: Any) -> None:
    contoso, fabrikam = any_two_clients.contoso, any_two_clients.fabrikam
    now = utcnow()
    with any_installation.database.session() as session:
        for client, name, email, upn in (
            (contoso, "By address", "Ada@x.test", ""), (contoso, "By sign-in name", "other@x.test", "Bo@x.test"),
            (contoso, "Without either", "", ""), (fabrikam, "Elsewhere", "ada@x.test", "bo@x.test"),
        ):  # fmt: skip
            session.add(Contact(client_id=client, external_id=name, name=name, email=email, upn=upn))
        for number, (upn, mail, ago, deletions) in enumerate(
            [("ada.old@x.test", "ada@x.test", 1, 2), ("bo@x.test", "", 29, 1), ("gone@x.test", "ada@x.test", 31, 1),
             ("here@x.test", "other@x.test", None, 0), ("", "", 1, 1)]
        ):  # fmt: skip
            session.add(
                DirectoryAccount(
                    client_id=contoso, tenant="t", object_id=f"o{number}", upn=upn, mail=mail, deletions=deletions,
                    deleted_at=None if ago is None else now - timedelta(days=ago),
                )
            )  # fmt: skip
    assert matched(any_installation) == [("By address", "ada.old@x.test o0 2"), ("By sign-in name", "bo@x.test o1 1")]
