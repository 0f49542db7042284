"""A copy of a Redis goes to a second store, and to new recovery keys, as any other copy does."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr
from pyrage.x25519 import Identity

from flowforge.engines.backup.seals import keys, rotation
from flowforge.engines.backup.shelf import mirror
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.redis import copying, proving
from flowforge.rules import names
from tests.engines.redis.conftest import Running


def vault(place: Path, *recipients: Identity, held: tuple[Identity, ...] = ()) -> FolderStore:
    place.mkdir(exist_ok=True)
    public = tuple(str(one.to_public()) for one in recipients)
    return FolderStore("vault", place, recipients=public, keys=tuple(map(_secret, held)))


def _secret(identity: Identity) -> SecretStr:
    return SecretStr(str(identity))


def test_a_sealed_redis_is_brought_to_a_second_store_and_wrapped_again_there(
    source: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daily, new, safe = (Identity.generate() for _ in range(3))
    manifest = copying.take_copy(source.address, vault(tmp_path / "first", daily, safe))
    monkeypatch.setattr(keys, "_written", {})

    place = ("cache", names.WHOLE)
    first, second = (vault(tmp_path / name, new, safe, held=(safe,)) for name in ("first", "b"))
    assert mirror.catch_up(first, second, *place).copied == [manifest.name]
    assert rotation.rotate(second, *place).wrapped == [manifest.name]

    opened = vault(tmp_path / "b", held=(new,))
    assert proving.read_back(opened, manifest).verdict == "proven"
