"""One mail over SMTP by `smtplib`, with an exact answer: taken, refused (for good or for now), or answer lost."""

from __future__ import annotations

import hashlib
import re
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from types import TracebackType

from agent.errors import ExeuntError
from agent.settings import Settings

SECONDS = 30.0
#: 7-bit transfer encodings only, because a server need not know 8BITMIME; CRLF line ends; folded, encoded headers.
_POLICY = policy.SMTP.clone(cte_type="7bit")
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")


def addresses(text: str) -> list[str]:
    """The addresses of a list divided by commas or semicolons. Raises ValueError naming the first that is none."""
    found = [part.strip(" \t") for part in re.split(r"[,;]", text)]
    for address in (a for a in found if a):
        if not _ADDRESS.fullmatch(address) or ".." in address:
            raise ValueError(f"{address!r} is not a mail address")
    return [a for a in found if a]


class DeliveryError(ExeuntError):
    """A mail was not taken. `answer_lost`: it was handed over and it is not known whether it was taken."""

    def __init__(self, message: str, *, permanent: bool, answer_lost: bool = False) -> None:
        self.permanent, self.answer_lost = permanent, answer_lost
        super().__init__(message)


@dataclass(frozen=True)
class MailText:
    """What is sent. The addresses are checked, the subject is one line."""

    identity: str
    sender: str
    recipients: tuple[str, ...]
    cc: tuple[str, ...]
    subject: str
    body: str
    date: datetime

    def message(self) -> str:
        """The message in ASCII. Its Message-ID is made from its identity: a receiver can tell a second copy."""
        message = EmailMessage(policy=_POLICY)
        message["From"] = self.sender
        message["To"] = ", ".join(self.recipients)
        if self.cc:
            message["Cc"] = ", ".join(self.cc)
        message["Subject"] = self.subject.encode("utf-8", "replace").decode()
        message["Date"] = format_datetime(self.date)
        name = hashlib.sha256(self.identity.encode("utf-8", "replace")).hexdigest()[:32]
        message["Message-ID"] = f"<{name}@{self.sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(self.body.replace("\x00", "").encode("utf-8", "replace").decode(), cte="quoted-printable")
        return message.as_bytes().decode("ascii")


class Mailer:
    """One connection for many mails, opened when first needed. Used by one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._smtp: smtplib.SMTP | None = None
        #: A connection that cannot be made is tried once per mailer, not once per mail.
        self._refused: DeliveryError | None = None

    def __enter__(self) -> Mailer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._smtp is not None:
            try:
                if error is None:
                    self._smtp.quit()
            except (smtplib.SMTPException, OSError):
                pass  # everything that mattered was answered before
            self._drop()

    def send(self, mail: MailText, about_to_send: Callable[[], None]) -> None:
        """Send one mail to all its recipients or to none. `about_to_send` is called before the text is handed over.

        Raises DeliveryError.
        """
        smtp = self._connection()
        text = smtplib.quotedata(mail.message())
        try:
            self._expect(smtp.mail(mail.sender), "the sender", mail.sender)
            for address in (*mail.recipients, *mail.cc):
                self._expect(smtp.rcpt(address), "the recipient", address)
            self._expect(smtp.docmd("DATA"), "the mail", "", good=354)
        except (smtplib.SMTPServerDisconnected, OSError) as error:
            self._drop()
            raise DeliveryError(f"the connection to the mail server broke: {error}", permanent=False) from error
        try:
            about_to_send()
        except BaseException:
            self._drop()  # the server waits for the text and must not take silence for it
            raise
        self._hand_over(smtp, text)

    def _hand_over(self, smtp: smtplib.SMTP, text: str) -> None:
        try:
            smtp.send(text + ("" if text.endswith("\r\n") else "\r\n") + ".\r\n")
            answer = smtp.getreply()
        except (smtplib.SMTPException, OSError) as error:
            self._drop()
            raise DeliveryError(
                f"the mail was handed over and the server's answer was lost: {error}", permanent=False, answer_lost=True
            ) from error
        if not 200 <= answer[0] < 600:
            self._drop()
            raise DeliveryError("the mail server's answer makes no sense", permanent=False, answer_lost=True)
        self._expect(answer, "the mail", "")

    def _expect(self, answer: tuple[int, bytes], what: str, name: str, good: int = 250) -> None:
        code, text = answer
        if code == good or (good == 250 and code == 251):
            return
        self._reset()
        what = f"{what} {name}".rstrip()
        raise DeliveryError(f"the mail server refused {what}: {code} {_decoded(text)}", permanent=code >= 500)

    def _reset(self) -> None:
        """Make the connection fit for the next mail, or give it up."""
        try:
            if self._smtp is not None and self._smtp.rset()[0] == 250:
                return
        except (smtplib.SMTPException, OSError):
            pass
        self._drop()

    def _drop(self) -> None:
        if self._smtp is not None:
            self._smtp.close()
            self._smtp = None

    def _connection(self) -> smtplib.SMTP:
        if self._refused is not None:
            raise self._refused
        if self._smtp is None:
            try:
                self._smtp = self._connect()
            except DeliveryError as error:
                self._refused = error
                raise
        return self._smtp

    def _connect(self) -> smtplib.SMTP:
        host, port = self._settings.smtp_host, self._settings.smtp_port
        if not host:
            raise DeliveryError("no mail server is configured: set EXEUNT_SMTP_HOST", permanent=True)
        try:
            addresses(self._settings.smtp_from)
            return self._log_in(self._open(host, port))
        except smtplib.SMTPAuthenticationError as error:
            reason = f"EXEUNT_SMTP_USER or its password was refused (code {error.smtp_code})"
            raise DeliveryError(reason, permanent=error.smtp_code >= 500) from None
        except ssl.SSLCertVerificationError as error:
            reason = f"{host}:{port}: the certificate is not valid: {error.verify_message} (see EXEUNT_SMTP_CA_FILE)"
            raise DeliveryError(reason, permanent=True) from error
        except smtplib.SMTPNotSupportedError as error:
            raise DeliveryError(f"{host}:{port} lacks what the settings ask for: {error}", permanent=True) from error
        except smtplib.SMTPResponseException as error:
            said = f"{error.smtp_code} {_decoded(error.smtp_error)}"
            raise DeliveryError(f"{host}:{port} refused us: {said}", permanent=error.smtp_code >= 500) from error
        except (smtplib.SMTPException, OSError) as error:
            raise DeliveryError(f"no connection to the mail server {host}:{port}: {error}", permanent=False) from error
        except ValueError as error:
            raise DeliveryError(f"EXEUNT_SMTP_FROM: {error}", permanent=True) from error

    def _open(self, host: str, port: int) -> smtplib.SMTP:
        # A name of our own in the greeting: asking the resolver for it may take long.
        name = self._settings.smtp_from.rpartition("@")[2]
        if self._settings.smtp_security == "tls":
            return smtplib.SMTP_SSL(host, port, local_hostname=name, timeout=SECONDS, context=self._tls())
        smtp = smtplib.SMTP(host, port, local_hostname=name, timeout=SECONDS)
        if self._settings.smtp_security == "starttls":
            try:
                smtp.starttls(context=self._tls())
            except BaseException:
                smtp.close()
                raise
        return smtp

    def _log_in(self, smtp: smtplib.SMTP) -> smtplib.SMTP:
        user, password = self._settings.smtp_user, self._settings.smtp_password
        try:
            smtp.ehlo_or_helo_if_needed()
            if user is None:
                return smtp
            if self._settings.smtp_security == "none":
                raise DeliveryError("the password is not sent over an unprotected connection", permanent=True)
            if password is None or not (user + password).isascii():
                raise DeliveryError("EXEUNT_SMTP_USER needs EXEUNT_SMTP_PASSWORD, both in ASCII", permanent=True)
            smtp.login(user, password)
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _tls(self) -> ssl.SSLContext:
        authority = self._settings.smtp_ca_file
        try:
            return ssl.create_default_context(cafile=authority)
        except (OSError, ssl.SSLError) as error:
            raise DeliveryError(f"EXEUNT_SMTP_CA_FILE: {authority} cannot be used: {error}", permanent=True) from error


def _decoded(answer: bytes | str) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
