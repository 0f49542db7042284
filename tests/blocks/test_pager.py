from __future__ import annotations

from email import message_from_string

import anyio
import pytest
from prefect.blocks.abstract import NotificationError
from pydantic import SecretStr, ValidationError

from blocks import Pager
from flowforge.errors import Refused, Unavailable
from tests.ports import free_port
from tests.receivers import receive_mails, receive_posts

SECRET = "correct horse"


def smtp(port: int, **more: object) -> Pager:
    fields = {
        "kind": "smtp",
        "host": "127.0.0.1",
        "port": port,
        "sender": "ff@example.org",
        "recipients": ["ops@example.org", "boss@example.org"],
    }
    return Pager.model_validate(fields | more)


def test_a_webhook_gets_subject_and_body_as_json() -> None:
    with receive_posts() as web:
        Pager(kind="webhook", url=SecretStr(web.url)).send("Subject\nof two lines", "Body")

        assert web.received.get_nowait() == {
            "source": "flowforge",
            "subject": "Subject of two lines",
            "body": "Body",
        }


def test_slack_gets_one_text() -> None:
    with receive_posts() as web:
        Pager(kind="slack", url=SecretStr(web.url)).send("Subject", "Body")

        assert web.received.get_nowait() == {"text": "*Subject*\nBody"}


def test_a_mail_goes_to_every_recipient_after_login() -> None:
    with receive_mails(password=SECRET) as mail:
        smtp(mail.port, user="ff", password=SECRET).send("Grüße\r\nBcc: x@y", "Body\n.\nend")

    (sent,) = [message_from_string(text) for text in mail.mails]
    assert mail.logins == [("ff", SECRET)]
    assert sent["To"] == "ops@example.org, boss@example.org"
    assert sent["Bcc"] is None
    assert "Body" in sent.as_string()


def test_a_wrong_mail_password_is_unavailable_without_the_password() -> None:
    with receive_mails(password="another") as mail, pytest.raises(Unavailable) as caught:
        smtp(mail.port, user="ff", password=SECRET).send("Subject", "Body")

    assert "refused the account or password" in caught.value.message
    assert SECRET not in str(caught.value)


def test_a_password_is_never_sent_to_another_machine_in_the_clear() -> None:
    pager = smtp(25, host="mail.example.org", user="ff", password=SECRET)
    with receive_mails(password=SECRET) as mail:
        server = smtp(mail.port)._open_mail_server()
        with server, pytest.raises(Refused) as caught:
            pager._enter_mail_server(server)

    assert mail.logins == []
    assert "encryption" in caught.value.message


@pytest.mark.parametrize("kind", ["webhook", "slack"])
def test_a_webhook_that_says_no_is_unavailable_and_its_address_stays_secret(kind: str) -> None:
    with receive_posts(status=404) as web, pytest.raises(Unavailable) as caught:
        Pager.model_validate({"kind": kind, "url": web.url}).send("Subject", "Body")

    assert "it answered 404" in caught.value.message
    assert "very-secret-path" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nobody_listening_is_unavailable_with_a_hint() -> None:
    pagers = [
        Pager(kind="webhook", url=SecretStr(f"http://127.0.0.1:{free_port()}/secret")),
        smtp(free_port()),
    ]
    for pager in pagers:
        with pytest.raises(Unavailable) as caught:
            pager.send("Subject", "Body")
        assert "flowforge notify test" in caught.value.hint
        assert "secret" not in str(caught.value)


def test_prefects_server_learns_that_a_message_was_not_delivered() -> None:
    pager = Pager(kind="webhook", url=SecretStr(f"http://127.0.0.1:{free_port()}/secret"))

    with pager.raise_on_failure(), pytest.raises(NotificationError) as caught:
        anyio.run(pager.notify, "Body", "Subject")

    assert "did not take the message" in str(caught.value.log)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "webhook"}, "needs url"),
        ({"kind": "slack", "url": "ftp://x"}, "http"),
        ({"kind": "smtp", "host": "h"}, "sender, recipients"),
        ({"kind": "sms"}, "webhook"),
    ],
)
def test_an_incomplete_pager_says_what_it_lacks(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Pager.model_validate(fields)


def test_what_is_shown_of_a_pager_holds_no_secret() -> None:
    hook = Pager(kind="slack", url=SecretStr("https://user:pw@hooks.example.org:8443/T0/B0/xyz"))

    assert hook.where == "https://hooks.example.org:8443"
    assert smtp(25).where == "ops@example.org, boss@example.org through 127.0.0.1:25"
