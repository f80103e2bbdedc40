"""Secrets that are handed over by a link: taken once, by one, in time; erased when used or over."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text
from sqlmodel import select

from agent.cli.main import main
from agent.errors import NotFound
from agent.installation import Installation
from agent.model.access import OneTimeLink
from agent.model.administration import AuditEntry
from agent.model.base import utcnow
from agent.model.tickets import Notification
from agent.services import handover, key_rotation, mail

SECRET = "Zażółć-' \"\\ $(id)"


def made(installation: Installation, *, hours: float = 1.0) -> str:
    with installation.database.session() as session:
        return handover.create(
            session, installation.secrets, SECRET, client_id=None, subject_id="step", life=timedelta(hours=hours),
            actor="ann",
        )  # fmt: skip


def row(installation: Installation) -> OneTimeLink:
    with installation.database.reading() as session:
        return session.exec(select(OneTimeLink)).one()


def test_it_is_taken_once_and_erased(keyed: Installation) -> None:
    token = made(keyed)
    assert len(token) == 43 and token not in row(keyed).token_digest
    assert handover.look(keyed, token).expires_at > utcnow(), "a look does not use it"
    assert handover.take(keyed, token, actor="link") == SECRET
    assert row(keyed).secret is None and row(keyed).used_at is not None
    for again in (handover.take, handover.look):
        with pytest.raises(NotFound, match="used before"):
            again(keyed, token, **({"actor": "link"} if again is handover.take else {}))  # type: ignore[operator]
    with keyed.database.reading() as session:
        entries = session.exec(select(AuditEntry).where(AuditEntry.object_kind == "link")).all()
    assert [e.action for e in entries] == ["handover.create", "handover.take"]
    assert token not in str(entries) and SECRET not in str(entries)


@pytest.mark.parametrize("token", ["", "x", "\ud800", "a" * 4000])
def test_a_link_that_never_was(keyed: Installation, token: str) -> None:
    made(keyed)
    with pytest.raises(NotFound):
        handover.take(keyed, token, actor="x")
    assert row(keyed).secret is not None


def test_one_that_is_over_is_erased_unread(keyed: Installation) -> None:
    token = made(keyed, hours=-1)
    with pytest.raises(NotFound):
        handover.take(keyed, token, actor="x")
    assert handover.erase_over(keyed) == 1 and row(keyed).secret is None
    assert handover.erase_over(keyed) == 0


def test_of_many_at_once_one_gets_it(keyed: Installation) -> None:
    token, got, gone = made(keyed), list[str](), list[str]()
    start = threading.Barrier(6)

    def take() -> None:
        start.wait()
        try:
            got.append(handover.take(keyed, token, actor="x"))
        except NotFound as error:
            gone.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [SECRET] and len(gone) == 5


def test_a_link_of_another_purpose_is_none(keyed: Installation) -> None:
    token = made(keyed)
    with keyed.database.session() as session:
        session.execute(text("UPDATE one_time_link SET purpose = 'password'"))
    with pytest.raises(NotFound):
        handover.take(keyed, token, actor="x")


def test_a_withdrawn_link(keyed: Installation) -> None:
    token = made(keyed)
    with keyed.database.session() as session:
        handover.revoke(session, token, actor="ann")
    assert row(keyed).secret is None
    with pytest.raises(NotFound):
        handover.take(keyed, token, actor="x")


def test_links_and_mail_survive_a_change_of_the_key(keyed: Installation) -> None:
    token = made(keyed)
    with keyed.database.session() as session:
        mail.queue_mail(
            session, key="k", client_id=None, recipient="a@b.test", subject="s", body="see link", box=keyed.secrets
        )
    counts = key_rotation.rotate(keyed, actor="ann")
    assert (counts["links"], counts["mail"]) == (1, 1)
    assert handover.take(keyed, token, actor="x") == SECRET


def test_the_command_reads_the_link_from_standard_input(keyed: Installation) -> None:
    token = made(keyed)
    arguments = ["--workspace", str(keyed.settings.workspace), "--user", "ann", "handover", "show"]
    shown = CliRunner().invoke(main, arguments, input=f"https://exeunt.example.com/handover/{token}\n")
    assert (shown.exit_code, shown.stdout) == (0, SECRET + "\n"), shown.output
    again = CliRunner().invoke(main, arguments, input=token)
    assert again.exit_code != 0 and SECRET not in again.output and token not in again.output
    assert CliRunner().invoke(main, arguments, input="\n").exit_code == 2


def test_a_secret_mail_is_kept_encrypted_and_erased_when_it_was_sent(
    keyed: Installation, mail_server: Any, with_mail: Any
) -> None:
    post = mail_server()
    sender = with_mail(smtp_port=post.port)
    with sender.database.session() as session:
        stored = mail.queue_mail(
            session, key="k", client_id=None, recipient="a@b.test", subject="s", body=SECRET, box=sender.secrets
        )
        assert stored.body.startswith("enc:") and SECRET not in stored.body
    assert mail.deliver(sender).sent
    (message,) = post.received
    assert SECRET in message.get_content()
    with sender.database.reading() as session:
        assert session.exec(select(Notification.body)).one() == mail.ERASED
