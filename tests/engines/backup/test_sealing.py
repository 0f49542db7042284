"""Sealed copies: whoever has the store alone has nothing; one recovery key of several is enough."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyrage
import pytest
from pydantic import SecretStr

from flowforge.engines.backup.dumping.dump import take_copy
from flowforge.engines.backup.loading import reading
from flowforge.engines.backup.proving import examining, proof
from flowforge.engines.backup.seals import keys
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.errors import Damaged, Refused
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Level, Manifest

Database = Callable[..., PostgresAddress]
SCHEMA = """
CREATE TABLE orders (id int PRIMARY KEY, note text);
INSERT INTO orders SELECT g, 'secret note ' || g FROM generate_series(1, 2000) g;
"""


@pytest.fixture
def online() -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.generate()


@pytest.fixture
def offline() -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.generate()


@pytest.fixture
def vault(
    tmp_path: Path, online: pyrage.x25519.Identity, offline: pyrage.x25519.Identity
) -> FolderStore:
    recipients = (str(online.to_public()), str(offline.to_public()))
    return FolderStore("vault", tmp_path / "vault", recipients=recipients)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another process than the one that wrote the copy: it holds none of its keys."""
    monkeypatch.setattr(keys, "_written", {})
    yield


def with_keys(vault: FolderStore, *identities: pyrage.x25519.Identity) -> FolderStore:
    secrets = tuple(SecretStr(str(identity)) for identity in identities)
    return FolderStore("vault", vault.folder, recipients=vault.recipients, keys=secrets)


def test_who_writes_a_sealed_copy_proves_it(database: Database, vault: FolderStore) -> None:
    manifest = take_copy(database(SCHEMA), "app", vault)
    assert manifest.seal is not None
    assert manifest.data.key.endswith(".sql.gz.age")
    assert examining.read_back(vault, manifest).verdict == "proven"
    found = proof.prove_by_restoring(vault, manifest)
    assert (found.level, found.verdict) == (Level.COMPARED, "proven")


def test_the_store_alone_tells_nothing(
    database: Database, vault: FolderStore, forgetful: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = take_copy(database(SCHEMA), "app", vault)
    monkeypatch.setattr(keys, "_written", {})
    files = [path for path in vault.folder.rglob("*") if path.is_file()]
    assert files
    assert not any(b"secret note" in path.read_bytes() for path in files)
    with pytest.raises(keys.Sealed, match="no key here opens it"):
        list(reading.text_of(vault, manifest))


@pytest.mark.parametrize("which", ["online", "offline"])
def test_either_recovery_key_opens_it(
    which: str,
    database: Database,
    vault: FolderStore,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    manifest = take_copy(database(SCHEMA), "app", vault)
    monkeypatch.setattr(keys, "_written", {})
    place = with_keys(vault, request.getfixturevalue(which))
    assert b"secret note 2000" in b"".join(reading.text_of(place, manifest))


def test_the_wrong_key_is_refused_and_not_shown(
    database: Database, vault: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = take_copy(database(SCHEMA), "app", vault)
    monkeypatch.setattr(keys, "_written", {})
    stranger = pyrage.x25519.Identity.generate()
    with pytest.raises(Refused) as refused:
        list(reading.text_of(with_keys(vault, stranger), manifest))
    assert str(stranger) not in str(refused.value)
    assert vault.recipients[0] in refused.value.hint


def test_a_flipped_bit_breaks_the_seal(
    database: Database, vault: FolderStore, online: pyrage.x25519.Identity
) -> None:
    manifest = take_copy(database(SCHEMA), "app", vault)
    flip(vault.folder / manifest.data.key, manifest.data.size_bytes // 2)
    found = examining.read_back(vault, manifest)
    assert found.verdict == "failed"
    assert "seal is broken" in (found.cause or "")


def test_the_key_of_another_copy_is_noticed(
    database: Database,
    vault: FolderStore,
    online: pyrage.x25519.Identity,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = database(SCHEMA)
    first, second = (take_copy(address, "app", vault) for _ in range(2))
    monkeypatch.setattr(keys, "_written", {})
    wrapped = {m.name: key_file(vault, m) for m in (first, second)}
    wrapped[second.name].write_bytes(wrapped[first.name].read_bytes())
    with pytest.raises(Damaged, match="not the key of that copy"):
        list(reading.text_of(with_keys(vault, online), second))


def test_one_recipient_is_too_few(
    database: Database, tmp_path: Path, online: pyrage.x25519.Identity
) -> None:
    recipient = str(online.to_public())
    lonely = FolderStore("lonely", tmp_path / "lonely", recipients=(recipient, recipient))
    with pytest.raises(Refused, match="single key"):
        take_copy(database(SCHEMA), "app", lonely)
    assert not lonely.folder.exists()


def test_the_age_program_opens_it_without_us(
    database: Database,
    vault: FolderStore,
    offline: pyrage.x25519.Identity,
    tmp_path: Path,
    age: str,
) -> None:
    manifest = take_copy(database(SCHEMA), "app", vault)
    recovery, identity = tmp_path / "recovery.key", tmp_path / "identity"
    recovery.write_text(f"# kept in the safe\n{offline}\n")
    opened = [age, "-d", "-i", str(recovery), str(key_file(vault, manifest))]
    identity.write_bytes(subprocess.run(opened, capture_output=True, check=True).stdout)
    data = str(vault.folder / manifest.data.key)
    packed = subprocess.run(
        [age, "-d", "-i", str(identity), data], capture_output=True, check=True
    ).stdout
    text = subprocess.run(["gunzip", "-c"], input=packed, capture_output=True, check=True).stdout
    assert text.endswith(manifest.data.trailer.encode() + b"\n")
    assert text.count(b"secret note") == 2000


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def key_file(vault: FolderStore, manifest: Manifest) -> Path:
    (found,) = (vault.folder / "postgres/shop/app/keys" / manifest.name).iterdir()
    return found
