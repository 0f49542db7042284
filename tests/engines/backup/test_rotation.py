"""Recovery keys are rotated by wrapping small keys again; data is never touched."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr
from pyrage.x25519 import Identity

from flowforge.engines.backup.proving import examining
from flowforge.engines.backup.seals import keys, rotation
from flowforge.engines.backup.shelf import inventory
from flowforge.engines.backup.shelf.inventory import Inventory
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.errors import Refused
from flowforge.rules.backups import Manifest
from flowforge.rules.recipients import weigh
from tests.engines.backup.copies import keep_copy, put


@pytest.fixture(autouse=True)
def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever rotates keys did not write the copies."""
    monkeypatch.setattr(keys, "_written", _Forgetful())


class _Forgetful(dict[str, Identity]):
    def __setitem__(self, key: str, value: Identity) -> None:
        """Keep nothing."""


def vault(place: Path, *recipients: Identity, held: tuple[Identity, ...] = ()) -> FolderStore:
    return FolderStore(
        "vault",
        place,
        recipients=tuple(public(one) for one in recipients),
        keys=tuple(SecretStr(str(one)) for one in held),
    )


def public(identity: Identity) -> str:
    return str(identity.to_public())


def beside(store: FolderStore, made: Manifest) -> list[str]:
    found: Inventory = inventory.take(store, "shop", "app")
    return [key.rpartition("/")[2] for key in found.keys_of(made.name, "keys")]


def test_after_two_rotations_the_oldest_copy_opens_with_the_newest_key_alone(
    tmp_path: Path, age: str
) -> None:
    one, two, three, safe = (Identity.generate() for _ in range(4))
    made = keep_copy(vault(tmp_path, one, safe), 100)
    file = tmp_path / made.data.key
    before = (file.stat().st_mtime_ns, file.read_bytes())

    for new, old in ((two, one), (three, two)):
        done = rotation.rotate(vault(tmp_path, new, safe, held=(old,)), "shop", "app")
        assert (done.wrapped, done.current, done.closed) == ([made.name], [], {})

    assert (file.stat().st_mtime_ns, file.read_bytes()) == before
    assert examining.read_back(vault(tmp_path, held=(three,)), made).verdict == "proven"
    wraps = [name for name in beside(vault(tmp_path), made) if name.endswith(".age")]
    assert wraps == ["0001.age", "0002.age", "0003.age"]

    # And the same by the age program, as the page for emergencies tells.
    recovery, identity = tmp_path / "recovery.key", tmp_path / "identity"
    recovery.write_text(f"{three}\n")
    wrapped = tmp_path / "postgres/shop/app/keys" / made.name / "0003.age"
    identity.write_bytes(_age(age, recovery, wrapped))
    text = gzip.decompress(_age(age, identity, file))
    assert text.endswith(made.data.trailer.encode() + b"\n")


def _age(age: str, identity: Path, file: Path) -> bytes:
    command = [age, "-d", "-i", str(identity), str(file)]
    return subprocess.run(command, capture_output=True, check=True).stdout


def test_rotating_twice_is_rotating_once(tmp_path: Path) -> None:
    old, new, safe = (Identity.generate() for _ in range(3))
    made = keep_copy(vault(tmp_path, old, safe), 0)
    store = vault(tmp_path, new, safe, held=(safe,))
    rotation.rotate(store, "shop", "app")
    done = rotation.rotate(store, "shop", "app")
    assert (done.wrapped, done.current) == ([], [made.name])


def test_a_rotation_that_was_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    old, new, safe = (Identity.generate() for _ in range(3))
    made = keep_copy(vault(tmp_path, old, safe), 0)
    said = rotation.Wrapped(recipients=(public(new), public(safe)), wrapped_at=made.finished_at)
    key = f"postgres/shop/app/keys/{made.name}/0002.json"
    store = vault(tmp_path, new, safe, held=(safe,))
    put(store, key, said.model_dump_json().encode())

    assert rotation.rotate(store, "shop", "app").wrapped == [made.name]

    assert "0003.age" in beside(store, made)
    assert examining.read_back(vault(tmp_path, held=(new,)), made).verdict == "proven"


def test_copies_no_key_at_hand_opens_are_named_and_the_others_are_wrapped(tmp_path: Path) -> None:
    lost, old, new, safe = (Identity.generate() for _ in range(4))
    closed = keep_copy(vault(tmp_path, lost, Identity.generate()), 12)
    made = keep_copy(vault(tmp_path, old, safe), 0)
    told: list[tuple[int, int]] = []

    done = rotation.rotate(
        vault(tmp_path, new, safe, held=(safe,)),
        "shop",
        "app",
        on_progress=lambda *at: told.append(at),
    )

    assert done.wrapped == [made.name]
    assert list(done.closed) == [closed.name]
    assert told == [(1, 2), (2, 2)]
    assert str(safe) not in str(done)


def test_a_store_that_seals_to_one_key_is_not_rotated_to(tmp_path: Path) -> None:
    old, safe = Identity.generate(), Identity.generate()
    keep_copy(vault(tmp_path, old, safe), 0)
    with pytest.raises(Refused, match="single key"):
        rotation.rotate(vault(tmp_path, safe, held=(safe,)), "shop", "app")


def test_the_report_says_which_retired_key_may_be_thrown_away(tmp_path: Path) -> None:
    old, new, safe = (Identity.generate() for _ in range(3))
    keep_copy(vault(tmp_path, old, safe), 12)
    keep_copy(vault(tmp_path, new, safe), 0)
    keep_copy(vault(tmp_path), 24)  # not sealed
    store = vault(tmp_path, new, safe, held=(safe,))

    before = {one.public_key: one for one in rotation.report(store)}
    assert not before[public(old)].may_go
    assert (before[public(old)].opens, before[public(old)].needed_by) == (1, 1)

    rotation.rotate(store, "shop", "app")

    after = {one.public_key: one for one in rotation.report(store)}
    assert after[public(old)].may_go
    assert (after[public(new)].opens, after[public(safe)].opens) == (2, 2)
    assert not after[public(new)].may_go


def test_a_key_in_use_never_may_go_and_a_retired_one_only_when_nothing_needs_it() -> None:
    weighed = weigh({"a": ["old", "safe"], "b": ["old", "new", "safe"]}, ["new", "safe"])
    assert [(one.public_key, one.opens, one.needed_by, one.may_go) for one in weighed] == [
        ("new", 1, 0, False),
        ("safe", 2, 1, False),
        ("old", 2, 1, False),
    ]
