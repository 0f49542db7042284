"""A key that opens sealed copies is saved like any secret, and given only to who reads copies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import settings
from pyrage.x25519 import Identity

from blocks import BackupKey, BackupStore, checks, documents, lookup
from flowforge import prefect_api
from flowforge.errors import Refused


@pytest.fixture(autouse=True)
def server(prefect_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The session's server, without a document of ours before and after."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_url)
    with settings.temporary_settings({settings.PREFECT_API_URL: prefect_url}):
        yield
        with prefect_api.connect() as client:
            for kind in ("key", "store"):
                for name in documents.read_blocks(client, kind):
                    documents.remove(client, kind, name)


def save(request: object) -> None:
    with prefect_api.connect() as client:
        documents.apply(client, documents.read_request(request))


def public(identity: Identity) -> str:
    return str(identity.to_public())


def test_who_reads_copies_is_given_the_keys_and_who_writes_them_is_not(tmp_path: Path) -> None:
    drills, safe = Identity.generate(), Identity.generate()
    recipients = [public(drills), public(safe)]
    save({"stores": {"vault": {"folder": str(tmp_path), "recipients": recipients}}})
    assert lookup.find_store_to_read("vault").keys == ()

    save({"keys": {"drills": {"key": f"# from the safe\n{drills}\n"}}})

    (found,) = lookup.find_store_to_read("vault").keys
    assert str(drills) in found.get_secret_value()
    writing = lookup.find_store("vault")
    assert (writing.keys, writing.recipients) == ((), tuple(recipients))


def test_a_saved_key_is_shown_by_its_public_half_alone() -> None:
    identity = Identity.generate()
    save({"keys": {"drills": {"key": str(identity)}}})
    with prefect_api.connect() as client:
        block = documents.read_one(client, "key", "drills")
    shown = json.dumps(documents.fields_without_secrets(block)) + documents.where(block)
    assert public(identity) in shown
    assert str(identity) not in shown


@pytest.mark.parametrize("text", ["AGE-SECRET-KEY-1NONSENSE", "", "age1notasecret"])
def test_what_is_no_secret_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(Refused, match="not an age secret key") as refused:
        documents.read_request({"keys": {"drills": {"key": text}}})
    assert not text or text not in str(refused.value)


def test_a_key_is_tried_by_telling_which_stores_seal_to_it() -> None:
    identity, other = Identity.generate(), Identity.generate()
    key = BackupKey(key=str(identity))
    sealing = BackupStore(folder="/srv/a", recipients=[public(identity), public(other)])
    found = checks.check_key("drills", key, {"a": sealing, "b": BackupStore(folder="/srv/b")})
    assert (found["stores"], found["problems"]) == (["a"], [])
    unused = checks.check_key("drills", BackupKey(key=str(Identity.generate())), {"a": sealing})
    assert "no store" in str(unused["problems"])
