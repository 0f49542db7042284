"""Break-glass with the copies in a bucket, given by nothing but a command and its environment."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flowforge.engines.backup.dumping import dump
from flowforge.engines.postgres.connection import connect
from flowforge.rules.addresses import PostgresAddress
from tests.breakglass.test_commands import SCHEMA, answer, breakglass, count, url_of
from tests.faults.buckets import make_bucket, open_quickly
from tests.faults.proxy import answer as answers
from tests.faults.proxy import stand_before

KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "very-secret-key",
    "AWS_REGION": "us-east-1",
}


@pytest.mark.slow
def test_a_database_comes_back_from_a_bucket(
    database: Callable[..., PostgresAddress], buckets: str
) -> None:
    app = database(SCHEMA)
    address = make_bucket(buckets, prefix="copies/")
    manifest = dump.take_copy(app, "app", open_quickly(address))
    with connect(app) as session:
        session.execute("DELETE FROM public.orders")
    place = ("--store", f"s3://{address.bucket}/copies", "--endpoint-url", buckets)
    listed = answer(breakglass("list", *place, "--json", **KEYS))
    assert [copy["name"] for copy in listed["copies"]] == [manifest.name]
    verified = breakglass("verify", *place, "--json", **KEYS)
    assert answer(verified)["proof"]["verdict"] == "proven"
    assert answer(breakglass("list", *place, "--json", **KEYS))["copies"][0]["level"] == 1
    words = ("--copy", "latest", "--url-env", "TARGET_URL", "--yes")
    done = breakglass("restore", *place, *words, url=url_of(app), **KEYS)
    assert done.returncode == 0, done.stderr
    assert count(app, "app") == 500


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("InvalidAccessKeyId", "does not know the access key"),
        ("SignatureDoesNotMatch", "does not belong to the access key"),
    ],
)
def test_wrong_keys_are_refused_with_where_they_come_from(
    buckets: str, code: str, said: str
) -> None:
    address = make_bucket(buckets)
    with stand_before(buckets) as proxy:
        proxy.fail("GET", answers(403, code), times=50)
        place = ("--store", f"s3://{address.bucket}", "--endpoint-url", proxy.url)
        done = breakglass("list", *place, **KEYS)
    assert done.returncode == 3, done.stderr
    assert said in done.stderr
    assert "AWS_SECRET_ACCESS_KEY" in done.stderr
    assert "flowforge store" not in done.stderr
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in done.stderr
