"""agent.services.mail against a real mail server: kept before it is sent, sent once, its fate told exactly."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from peers import kept_port

from agent.errors import Conflict, NotFound
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.tickets import Notification
from agent.services import mail
from agent.services.smtp import Mailer

Make = Callable[..., Installation]


def queue(installation: Installation, **changes: Any) -> int:
    values: dict[str, Any] = {
        "key": "k1", "client_id": 1, "recipient": "msp@example.com", "subject": "Offboarding status", "body": "Done.\n",
    }  # fmt: skip
    with installation.database.session() as session:
        stored = mail.queue_mail(session, **{**values, **changes})
    assert stored.id is not None
    return stored.id


def row(installation: Installation, identity: int) -> Notification:
    with installation.database.reading() as session:
        found = session.get(Notification, identity)
    assert found is not None
    return found


def test_a_mail_arrives_once_with_its_text(installation: Installation, mail_server: Any, with_mail: Make) -> None:
    post = mail_server()
    sender = with_mail(smtp_port=post.port, smtp_from="exeunt@example.org")
    body = ".\n.leading dot\nÜmlaut $(id) \x00\n" + "long " * 400 + "\n"
    identity = queue(sender, subject="Offboarding status on PC-Ü(7)", body=body, cc="a@example.com; b@example.com")
    assert mail.deliver(sender).sent == (identity,)
    assert mail.deliver(sender) == mail.Delivered()
    (message,) = post.received
    assert message["Subject"] == "Offboarding status on PC-Ü(7)"
    assert message["From"] == "exeunt@example.org" and message["To"] == "msp@example.com"
    assert message["Message-ID"].endswith("@example.org>")
    assert message.get_content().replace("\r\n", "\n") == body.replace("\x00", "")
    assert post.recipients == [["msp@example.com", "a@example.com", "b@example.com"]]
    stored = row(sender, identity)
    assert stored.state == "sent" and stored.error is None and stored.sent_at is not None and stored.attempts == 1


def test_the_same_key_is_stored_once(installation: Installation) -> None:
    assert queue(installation) == queue(installation, subject="another")
    assert queue(installation, key="k2") != queue(installation)


def test_a_newline_cannot_add_a_header(installation: Installation, mail_server: Any, with_mail: Make) -> None:
    post = mail_server()
    sender = with_mail(smtp_port=post.port)
    queue(sender, subject="status\r\nBcc: thief@example.net\r\n\r\nbody \u2028 x")
    mail.deliver(sender)
    (message,) = post.received
    assert message["Bcc"] is None and message["Subject"] == "status Bcc: thief@example.net body x"
    assert post.recipients == [["msp@example.com"]]


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "  ",
        "jane",
        "a@b\nBcc: x@y",
        "a@b>,<c@d",
        "two words@example.com",
        "a@-x",
        "ü@example.com",
        "a@b..c",
        "a@b,c",
    ],
)
def test_what_is_no_address_is_kept_as_failed(installation: Installation, recipient: str) -> None:
    stored = row(installation, queue(installation, recipient=recipient))
    assert stored.state == "failed" and stored.failed_at is not None and stored.body == "Done.\n"
    assert "is not a mail address" in str(stored.error) or "no recipient" in str(stored.error)
    assert mail.deliver(installation) == mail.Delivered()


def test_without_a_mail_server_it_is_kept_with_that_reason(installation: Installation) -> None:
    identity = queue(installation)
    assert mail.deliver(installation).failed == (identity,)
    stored = row(installation, identity)
    assert stored.error == "no mail server is configured: set EXEUNT_SMTP_HOST"
    assert (stored.recipient, stored.subject) == ("msp@example.com", "Offboarding status")


def test_a_refused_connection_is_tried_again_later_and_given_up_in_the_end(
    installation: Installation, with_mail: Make
) -> None:
    with kept_port() as nobody:
        sender = with_mail(smtp_port=nobody)
        identity = queue(sender)
        now = utcnow()
        assert mail.deliver(sender, now=now).waiting == (identity,)
        assert mail.deliver(sender, now=now) == mail.Delivered()  # not before its time
        for attempt in range(2, mail.MAX_ATTEMPTS + 1):
            outcome = mail.deliver(sender, now=now + timedelta(days=attempt))
    assert outcome.failed == (identity,)
    stored = row(sender, identity)
    assert stored.attempts == mail.MAX_ATTEMPTS and "no connection to the mail server" in str(stored.error)


@pytest.mark.parametrize(("reply", "state"), [("451 later", "sending"), ("550 no such user", "failed")])
def test_a_refused_recipient(
    installation: Installation, mail_server: Any, with_mail: Make, reply: str, state: str
) -> None:
    post = mail_server()
    post.refused["nobody@example.com"] = reply
    sender = with_mail(smtp_port=post.port)
    refused = queue(sender, recipient="msp@example.com, nobody@example.com")
    other = queue(sender, key="k2")
    result = mail.deliver(sender)
    assert result.sent == (other,)  # the refusal does not spoil the connection
    stored = row(sender, refused)
    assert (
        stored.state == state and stored.error == f"the mail server refused the recipient nobody@example.com: {reply}"
    )
    assert len(post.received) == 1  # all recipients or none


@pytest.mark.parametrize(("reply", "state"), [("452 full", "sending"), ("554 spam", "failed")])
def test_a_refusal_after_data(
    installation: Installation, mail_server: Any, with_mail: Make, reply: str, state: str
) -> None:
    post = mail_server()
    post.data_reply = reply
    sender = with_mail(smtp_port=post.port)
    identity = queue(sender)
    mail.deliver(sender)
    stored = row(sender, identity)
    assert stored.state == state and str(stored.error).endswith(reply)
    post.data_reply = "250 taken"
    result = mail.deliver(sender, now=utcnow() + timedelta(hours=1))
    assert (result.sent == (identity,)) == (state == "sending")


def test_a_lost_answer_is_unknown_and_is_not_sent_again(
    installation: Installation, mail_server: Any, with_mail: Make
) -> None:
    post = mail_server()
    post.drop_at_data = True
    sender = with_mail(smtp_port=post.port)
    identity = queue(sender)
    assert mail.deliver(sender).unknown == (identity,)
    assert "answer was lost" in str(row(sender, identity).error)
    post.drop_at_data = False
    assert mail.deliver(sender, now=utcnow() + timedelta(days=1)) == mail.Delivered()
    assert post.received == []


def test_a_process_that_dies_while_sending_leaves_unknown_and_before_that_a_new_attempt(
    installation: Installation, mail_server: Any, with_mail: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Death(BaseException):
        pass

    def die(*arguments: object) -> None:
        raise Death

    post = mail_server()
    sender = with_mail(smtp_port=post.port)
    early, late = queue(sender), queue(sender, key="k2")
    with monkeypatch.context() as patch, pytest.raises(Death):
        patch.setattr(Mailer, "_connection", die)
        mail.deliver(sender)
    with monkeypatch.context() as patch, pytest.raises(Death):
        patch.setattr(Mailer, "_hand_over", die)
        mail.deliver(sender)
    assert (row(sender, early).state, row(sender, late).state) == ("sending", "unknown")
    assert mail.deliver(sender) == mail.Delivered()  # its lease is not over
    assert mail.deliver(sender, now=utcnow() + mail.LEASE).sent == (early,)
    assert len(post.received) == 1


def test_a_mail_that_another_worker_took_over_is_not_sent(
    installation: Installation, mail_server: Any, with_mail: Make
) -> None:
    post = mail_server()
    sender = with_mail(smtp_port=post.port)
    identity = queue(sender)

    def take_over() -> None:
        with sender.database.session() as session:
            taken = session.get(Notification, identity)
            assert taken is not None
            taken.claim = "another worker"

    post.before_text = take_over
    mail.deliver(sender, limit=1)
    assert post.received == [] and row(sender, identity).state == "sending"


def test_two_workers_send_a_mail_once(installation: Installation, mail_server: Any, with_mail: Make) -> None:
    post = mail_server()
    sender = with_mail(smtp_port=post.port)
    for n in range(12):
        queue(sender, key=f"k{n}", subject=f"mail {n}")
    workers = [threading.Thread(target=mail.deliver, args=(sender,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(m["Subject"] for m in post.received) == sorted(f"mail {n}" for n in range(12))


# The server cannot know that TLS begins before it is asked.
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_tls_is_verified_and_a_password_works(
    installation: Installation,
    mail_server: Any,
    with_mail: Make,
    authority: Any,
    security: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from aiosmtpd.smtp import AuthResult, LoginPassword

    def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        good = isinstance(data, LoginPassword) and data.password == b"correct horse"
        return AuthResult(success=good, handled=False)

    context = authority.server_context()
    keywords = {"tls": context} if security == "tls" else {"tls_context": context, "require_starttls": True}
    post = mail_server(auth_required=True, authenticator=check, auth_require_tls=security == "starttls", **keywords)
    good = {
        "smtp_port": post.port, "smtp_security": security, "smtp_ca_file": authority.ca,
        "smtp_user": "exeunt", "smtp_password": "correct horse",
    }  # fmt: skip
    taken, untrusted, refused, unprotected = (queue(installation, key=f"k{n}") for n in range(4))
    assert mail.deliver(with_mail(**good), limit=1).sent == (taken,)
    assert mail.deliver(with_mail(**{**good, "smtp_ca_file": None}), limit=1).failed == (untrusted,)
    assert "certificate is not valid" in str(row(installation, untrusted).error)
    assert mail.deliver(with_mail(**{**good, "smtp_password": "wrong battery"}), limit=1).failed == (refused,)
    error = str(row(installation, refused).error)
    assert "535" in error and "battery" not in error
    monkeypatch.setattr("agent.services.smtp.SECONDS", 0.5)  # a TLS port waits for the client to speak first
    assert mail.deliver(with_mail(**{**good, "smtp_security": "none"}), limit=1).sent == ()
    assert row(installation, unprotected).state in ("failed", "sending")
    assert len(post.received) == 1


def test_a_server_without_starttls_gets_nothing(installation: Installation, mail_server: Any, with_mail: Make) -> None:
    post = mail_server()
    identity = queue(installation)
    assert mail.deliver(with_mail(smtp_port=post.port, smtp_security="starttls")).failed == (identity,)
    assert "lacks what the settings ask for" in str(row(installation, identity).error)


def test_a_server_that_demands_tls_says_so(
    installation: Installation, mail_server: Any, with_mail: Make, authority: Any
) -> None:
    post = mail_server(tls_context=authority.server_context(), require_starttls=True)
    identity = queue(installation)
    assert mail.deliver(with_mail(smtp_port=post.port)).failed == (identity,)
    assert "530" in str(row(installation, identity).error)


def test_a_server_that_never_answers_ends_in_a_new_attempt(
    installation: Installation, with_mail: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.services.smtp.SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        identity = queue(installation)
        assert mail.deliver(with_mail(smtp_port=silent.getsockname()[1])).waiting == (identity,)
    assert "timed out" in str(row(installation, identity).error)


def test_a_kept_mail_is_sent_again_on_request(
    installation: Installation, two_clients: Any, mail_server: Any, with_mail: Make
) -> None:
    post = mail_server()
    sender = with_mail(smtp_port=post.port)
    identity = queue(sender, recipient="operator", client_id=two_clients.contoso)
    with sender.database.session() as session:
        assert [m.id for m in mail.list_mail(session, client_id=two_clients.contoso, state="failed")] == [identity]
        assert mail.list_mail(session, client_id=two_clients.fabrikam) == []
    with pytest.raises(Conflict, match="'operator' is not a mail address"), sender.database.session() as session:
        mail.resend(session, identity)
    with sender.database.session() as session:
        mail.resend(session, identity, recipient="operator@example.com")
    assert mail.deliver(sender).sent == (identity,)
    with pytest.raises(Conflict, match="is sent"), sender.database.session() as session:
        mail.resend(session, identity)
    with pytest.raises(NotFound), sender.database.session() as session:
        mail.resend(session, 999)
    assert post.recipients == [["operator@example.com"]]
