"""Who is told: one channel that messages about operations go to.

It is a Prefect notification block, so an automation on the server can send through it, and so can
`flowforge notify test`. An address of a channel is itself a secret (who has it can write there),
so no message ever shows more of it than scheme and host.
"""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from ipaddress import ip_address
from typing import Literal, Self
from urllib.parse import urlsplit

import anyio.to_thread
import httpx
from prefect.blocks.abstract import NotificationBlock, NotificationError
from pydantic import Field, SecretStr, model_validator

from flowforge.errors import FlowForgeError, Refused, Unavailable

TIMEOUT_SECONDS = 15
_IMPLICIT_TLS_PORT = 465


class Pager(NotificationBlock):
    """One channel: a webhook, a Slack-shaped webhook, or a mailbox."""

    _block_type_name = "Pager"
    _block_type_slug = "flowforge-pager"
    _description = "A channel FlowForge tells people through: webhook, Slack-shaped or SMTP."

    kind: Literal["webhook", "slack", "smtp"] = Field(
        description="webhook: JSON with subject and body; slack: JSON with text; smtp: a mail"
    )
    url: SecretStr | None = Field(
        default=None, description="address of the webhook; a secret, who has it can write there"
    )
    host: str | None = Field(default=None, description="SMTP: name or address of the mail server")
    port: int = Field(
        default=587,
        ge=1,
        le=65535,
        description="SMTP: its port; 465 speaks TLS from the first byte, others when offered",
    )
    user: str | None = Field(default=None, description="SMTP: account, when the server wants one")
    password: SecretStr = Field(default=SecretStr(""), description="SMTP: that account's password")
    sender: str | None = Field(default=None, description="SMTP: the address mails come from")
    recipients: list[str] = Field(
        default_factory=list, description="SMTP: the addresses mails go to"
    )

    @model_validator(mode="after")
    def check_complete(self) -> Self:
        """Say which field a channel of this kind lacks."""
        if self.kind == "smtp":
            needed = {"host": self.host, "sender": self.sender, "recipients": self.recipients}
            missing = [name for name, value in needed.items() if not value]
            if missing:
                raise ValueError(f"an smtp pager also needs {', '.join(missing)}")
        else:
            parts = urlsplit(self.url.get_secret_value() if self.url else "")
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"a {self.kind} pager needs url, an http:// or https:// address")
        return self

    @property
    def where(self) -> str:
        """The channel as it may be shown: no path, no password."""
        if self.kind == "smtp":
            return f"{', '.join(self.recipients)} through {self.host}:{self.port}"
        parts = urlsplit(self.url.get_secret_value() if self.url else "")
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}"

    def send(self, subject: str, body: str) -> None:
        """Deliver one message, within seconds or not at all.

        Args:
            subject: One line.
            body: The message; plain text or Markdown.

        Raises:
            Refused: The mail server offers no encryption, so the password was not sent.
            Unavailable: The channel did not take the message.
        """
        subject = " ".join(subject.split())
        if self.kind == "smtp":
            self._mail(subject, body)
        elif self.kind == "slack":
            self._post({"text": f"*{subject}*\n{body}" if subject else body})
        else:
            self._post({"source": "flowforge", "subject": subject, "body": body})

    async def notify(self, body: str, subject: str | None = None) -> None:
        """Deliver one message for an automation of Prefect's server.

        Raises:
            NotificationError: It was not delivered; the server writes the reason to the event of
                the failed action.
            FlowForgeError: The same, for a caller that did not ask for Prefect's own error.
        """
        try:
            await anyio.to_thread.run_sync(self.send, subject or "FlowForge", body)
        except FlowForgeError as error:
            if self._raise_on_failure:
                raise NotificationError(log=str(error)) from error
            raise

    def _post(self, message: dict[str, str]) -> None:
        assert self.url is not None
        try:
            answer = httpx.post(self.url.get_secret_value(), json=message, timeout=TIMEOUT_SECONDS)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The driver's own text may repeat the whole address: name the kind of failure only.
            raise self._undelivered(type(error).__name__) from None
        if not answer.is_success:
            raise self._undelivered(f"it answered {answer.status_code}")

    def _mail(self, subject: str, body: str) -> None:
        mail = EmailMessage()
        mail["Subject"] = subject
        mail["From"] = self.sender
        mail["To"] = ", ".join(self.recipients)
        mail["Date"] = formatdate()
        mail["Message-ID"] = make_msgid(domain="flowforge.invalid")
        mail.set_content(body)
        try:
            with self._open_mail_server() as server:
                self._enter_mail_server(server)
                server.send_message(mail)
        except smtplib.SMTPAuthenticationError:
            raise self._undelivered("it refused the account or password") from None
        except smtplib.SMTPRecipientsRefused as error:
            raise self._undelivered(f"it refused {', '.join(error.recipients)}") from None
        except smtplib.SMTPResponseException as error:
            raise self._undelivered(f"it answered {error.smtp_code}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise self._undelivered(type(error).__name__) from None

    def _open_mail_server(self) -> smtplib.SMTP:
        assert self.host is not None
        if self.port == _IMPLICIT_TLS_PORT:
            return smtplib.SMTP_SSL(
                self.host,
                self.port,
                timeout=TIMEOUT_SECONDS,
                context=ssl.create_default_context(),
            )
        return smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_SECONDS)

    def _enter_mail_server(self, server: smtplib.SMTP) -> None:
        assert self.host is not None
        server.ehlo()
        encrypted = isinstance(server, smtplib.SMTP_SSL)
        if not encrypted and server.has_extn("starttls"):
            server.starttls(context=ssl.create_default_context())
            encrypted = True
        if not self.user:
            return
        if not encrypted and not _is_loopback(self.host):
            raise Refused(
                f"The mail server {self.host}:{self.port} offers no encryption; "
                "the password was not sent.",
                hint="Use a port that offers STARTTLS (587) or TLS (465), or no account.",
            )
        server.login(self.user, self.password.get_secret_value())

    def _undelivered(self, reason: str) -> Unavailable:
        return Unavailable(
            f"The {self.kind} pager did not take the message at {self.where}: {reason}.",
            hint="Check that the address is right and reachable from this machine, then run "
            "`flowforge notify test`.",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
