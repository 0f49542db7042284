"""A sealed copy is restored by who has a key; who has none is told before anything is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from pyrage.x25519 import Identity

from flowforge.engines.backup.dumping.dump import take_copy
from flowforge.engines.backup.proving import proof
from flowforge.engines.backup.restoring import restore
from flowforge.engines.backup.seals import keys
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres.connection import connect
from flowforge.errors import Refused
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Level, Manifest

Database = Callable[..., PostgresAddress]


def vault(place: Path, *recipients: Identity, held: tuple[Identity, ...] = ()) -> FolderStore:
    return FolderStore(
        "vault",
        place,
        recipients=tuple(str(one.to_public()) for one in recipients),
        keys=tuple(SecretStr(str(one)) for one in held),
    )


def databases(address: PostgresAddress) -> set[str]:
    with connect(address, "postgres") as session:
        return {row[0] for row in session.execute("SELECT datname FROM pg_database")}


def test_without_a_key_a_restore_is_refused_untouched_and_with_one_it_is_done(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daily, safe, stranger = (Identity.generate() for _ in range(3))
    source = database("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 100)")
    manifest: Manifest = take_copy(source, "app", vault(tmp_path, daily, safe))
    monkeypatch.setattr(keys, "_written", {})
    (copy,) = catalogue.list_copies(vault(tmp_path), "shop", "app")
    before = databases(source)

    for held in ((), (stranger,)):
        place = vault(tmp_path, held=held)
        with pytest.raises(Refused, match="no key here opens it") as refused:
            made = restore.plan(place, manifest, copy, source, "app")
            restore.apply(place, manifest, source, made, made.digest)
        assert str(stranger) not in str(refused.value)
        found = proof.prove_by_restoring(place, manifest)
        assert (found.level, found.verdict) == (Level.RESTORED, "inconclusive")
    assert databases(source) == before

    place = vault(tmp_path, held=(safe,))
    made = restore.plan(place, manifest, copy, source, "app")
    done = restore.apply(place, manifest, source, made, made.digest)
    assert done.compared is not None and done.compared.differences == ()
    with connect(source, "app") as session:
        assert session.execute("SELECT count(*) FROM public.t").fetchone() == (100,)
