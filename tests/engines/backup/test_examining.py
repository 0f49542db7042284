"""Reading a copy back finds each byte that is not as it was, its place, and what is still whole."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from isal import isal_zlib
from pydantic import SecretStr
from pyrage.x25519 import Identity

from flowforge.engines.backup.dumping.packing import GZIP_WINDOW
from flowforge.engines.backup.loading import reading
from flowforge.engines.backup.proving import examining
from flowforge.engines.backup.seals import keys
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.errors import Damaged, Refused
from flowforge.rules.backups import Manifest
from tests.engines.backup.copies import flip, keep_copy
from tests.rules.test_backups import table

# The second table is cut in two.
TABLES = ("public.a", "public.b", "public.b+", "public.c")
Vault = tuple[FolderStore, Identity, Identity]


def texts(size: int = 50_000) -> dict[str, bytes]:
    numbers = random.Random(7)
    return {name: numbers.randbytes(size).hex().encode() + b"\n" for name in TABLES}


def keep(store: FolderStore, size: int = 50_000) -> Manifest:
    facts = tuple(table(name, 1) for name in ("public.a", "public.b", "public.c"))
    return keep_copy(store, 0, texts(size), tables=facts)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    daily, safe = Identity.generate(), Identity.generate()
    recipients = (str(daily.to_public()), str(safe.to_public()))
    return FolderStore("vault", tmp_path / "vault", recipients=recipients), daily, safe


def opened_with(vault: Vault, *held: Identity) -> FolderStore:
    secrets = tuple(SecretStr(str(one)) for one in held)
    return FolderStore("vault", vault[0].folder, recipients=vault[0].recipients, keys=secrets)


def in_the_middle_of(made: Manifest, name: str, nth: int = 0) -> int:
    parts = [part for part in made.parts if name in (part.table, part.kind)]
    return parts[nth].offset + parts[nth].size_bytes // 2


def test_a_copy_that_is_as_written_is_proven(store: FolderStore) -> None:
    made = keep(store)
    proof = examining.read_back(store, made)
    assert (proof.verdict, proof.cause, proof.differences) == ("proven", None, ())
    assert proof.stored_bytes == made.data.size_bytes


def test_a_copy_of_one_member_is_read_to_its_last_line(store: FolderStore) -> None:
    made = keep_copy(store, 0)
    text = b"".join(reading.text_of(store, made))
    packer = isal_zlib.compressobj(2, isal_zlib.DEFLATED, GZIP_WINDOW)
    packed = packer.compress(text) + packer.flush()
    (store.folder / made.data.key).write_bytes(packed)
    facts = {
        "size_bytes": len(packed),
        "sha256": hashlib.sha256(packed).hexdigest(),
        "members": (),
    }
    for trailer, verdict in ((made.data.trailer, "proven"), ("-- another end", "failed")):
        data = made.data.model_copy(update={**facts, "trailer": trailer})
        proof = examining.read_back(store, made.model_copy(update={"data": data}))
        assert proof.verdict == verdict
        assert (proof.cause is not None) == (verdict == "failed")
    assert "its last line is not the one" in str(proof.cause)


def test_a_copy_short_of_one_byte_is_bad_and_no_restore_reads_it(store: FolderStore) -> None:
    made = keep(store)
    file = store.folder / made.data.key
    file.write_bytes(file.read_bytes()[:-1])
    proof = examining.read_back(store, made)
    assert proof.verdict == "failed"
    assert proof.cause and f"should be {made.data.size_bytes:,}" in proof.cause
    with pytest.raises(Damaged):
        next(reading.text_of(store, made))


def test_one_flipped_bit_is_found_by_table_and_page_and_the_others_are_named_whole(
    store: FolderStore,
) -> None:
    made = keep(store)
    flip(store.folder / made.data.key, in_the_middle_of(made, "public.b", 1))
    proof = examining.read_back(store, made)
    assert proof.verdict == "failed"
    assert proof.cause and "rows of public.b, pages 20 to 30 at byte" in proof.cause
    assert proof.differences == ()
    assert proof.remarks == (
        "2 of 3 tables are whole and can be restored one by one: public.a, public.c",
    )


def test_every_broken_place_is_named_not_only_the_first(store: FolderStore) -> None:
    made = keep(store)
    for name in ("public.c", "public.a"):
        flip(store.folder / made.data.key, in_the_middle_of(made, name))
    proof = examining.read_back(store, made)
    assert proof.cause and "rows of public.a" in proof.cause
    assert ["rows of public.c" in one for one in proof.differences] == [True]
    assert proof.remarks[0].endswith(": public.b")


def test_without_its_definitions_no_table_is_called_whole(store: FolderStore) -> None:
    made = keep(store)
    flip(store.folder / made.data.key, in_the_middle_of(made, "before-data"))
    assert examining.read_back(store, made).remarks == (
        "no table can be restored: what defines them is broken",
    )


def test_text_that_somebody_added_is_refused_before_a_byte_is_used(store: FolderStore) -> None:
    made = keep(store)
    packer = isal_zlib.compressobj(2, isal_zlib.DEFLATED, GZIP_WINDOW)
    added = packer.compress(b"DROP TABLE a;\n") + packer.flush()
    file = store.folder / made.data.key
    file.write_bytes(file.read_bytes() + added)
    assert examining.read_back(store, made).verdict == "failed"
    with pytest.raises(Damaged, match="the store holds"):
        next(reading.packed_members(store, made))


def test_a_sealed_copy_is_proven_by_who_wrote_it_and_by_either_recipient(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = keep(vault[0])
    assert examining.read_back(vault[0], made).verdict == "proven"
    monkeypatch.setattr(keys, "_written", {})
    for key in vault[1:]:
        assert examining.read_back(opened_with(vault, key), made).verdict == "proven"


def test_without_the_right_key_nothing_is_said_for_a_copy_and_no_key_is_shown(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = keep(vault[0])
    monkeypatch.setattr(keys, "_written", {})
    stranger = Identity.generate()
    for place in (vault[0], opened_with(vault, stranger)):
        proof = examining.read_back(place, made)
        assert proof.verdict == "inconclusive"
        assert proof.remarks == ("its bytes are those that were stored",)
        assert "AGE-SECRET-KEY" not in proof.to_json().decode()
        with pytest.raises(Refused, match="no key here opens it"):
            next(reading.text_of(place, made))


def test_even_without_a_key_a_sealed_copy_is_shown_to_be_damaged(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = keep(vault[0])
    monkeypatch.setattr(keys, "_written", {})
    flip(vault[0].folder / made.data.key, made.data.size_bytes // 2)
    proof = examining.read_back(vault[0], made)
    assert (proof.verdict, "SHA-256" in str(proof.cause)) == ("failed", True)


def test_one_recipient_revoked_leaves_the_other_able(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = keep(vault[0])
    monkeypatch.setattr(keys, "_written", {})
    lost, kept = vault[1:]
    assert examining.read_back(opened_with(vault, lost, kept), made).verdict == "proven"
    assert examining.read_back(opened_with(vault, kept), made).verdict == "proven"


def test_a_broken_seal_names_the_first_lost_table_and_what_came_before_it(vault: Vault) -> None:
    made = keep(vault[0], size=200_000)
    flip(vault[0].folder / made.data.key, in_the_middle_of(made, "public.c"))
    proof = examining.read_back(vault[0], made)
    assert proof.verdict == "failed"
    assert "seal is broken" in str(proof.cause)
    assert proof.remarks == (
        "2 of 3 tables are whole and can be restored one by one: public.a, public.b",
    )
