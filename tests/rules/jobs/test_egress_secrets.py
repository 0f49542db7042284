"""Which secrets may be added to what a job sends."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from flowforge.errors import Refused
from flowforge.rules.jobs.egress_secrets import HostSecret, check_secrets

HOSTS = ("api.example.com", "*.example.org", "files.example.net:8443")


def secret(value: str = "s3cr3t-value", **changes: str) -> HostSecret:
    fields = {
        "name": "token",
        "host": "api.example.com",
        "header": "Authorization",
        "format": "Bearer {secret}",
    }
    return HostSecret(**fields | changes, value=SecretStr(value))


@pytest.mark.parametrize(
    "one",
    [
        secret(),
        secret(host="API.Example.Com"),
        secret(host="a.example.org"),
        secret(host="files.example.net:8443", header="X-Api-Key", format="{secret}"),
    ],
)
def test_a_secret_of_a_host_that_the_job_reaches_is_fine(one: HostSecret) -> None:
    check_secrets([one], HOSTS)
    assert one.value.get_secret_value() in one.said


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (secret(host="other.example.com"), "may not reach"),
        (secret(host="files.example.net"), "may not reach"),
        (secret(host="*.example.org"), "many hosts"),
        (secret(header="Host"), "cannot be said in the header"),
        (secret(header="content-LENGTH"), "cannot be said in the header"),
        (secret(header="A: b\r\nC"), "cannot be said in the header"),
        (secret(header=""), "cannot be said in the header"),
        (secret(format="Bearer"), "does not say where"),
        (secret(format="{secret}{secret}"), "does not say where"),
        (secret("short"), "cannot be said in a header, or be masked"),
        (secret("two\r\nLines: here"), "cannot be said in a header, or be masked"),
        (secret("ends with white space "), "cannot be said in a header, or be masked"),
        (secret("ünïcødé"), "cannot be said in a header, or be masked"),
        (secret(format="Bearer {secret}\n"), "cannot be said in a header, or be masked"),
    ],
)
def test_another_is_refused_and_its_value_not_repeated(one: HostSecret, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        check_secrets([one], HOSTS)
    assert refused.value.hint
    assert one.value.get_secret_value() not in str(refused.value) + repr(one)


def test_two_secrets_cannot_set_the_same_header_of_a_host() -> None:
    check_secrets([secret(), secret(name="key", header="X-Key")], HOSTS)
    with pytest.raises(Refused, match="token and other set the same header"):
        check_secrets([secret(), secret(name="other", header="AUTHORIZATION")], HOSTS)


def test_what_is_no_host_is_no_secret_of_one() -> None:
    with pytest.raises(ValidationError) as found:
        secret(host="https://api.example.com/")
    assert "s3cr3t-value" not in str(found.value)
