"""The page for the worst day, run as it is written where FlowForge was never installed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest

from flowforge.engines.backup.dumping.dump import take_copy
from flowforge.engines.backup.proving import examining
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.connection import connect
from flowforge.rules.addresses import PostgresAddress
from tests.breakglass.elsewhere import run_there

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "break-glass.md"
_BLOCK = re.compile(r"^ *```sh ?(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SCHEMA = """
CREATE TABLE orders (id int PRIMARY KEY, note text);
INSERT INTO orders SELECT g, 'n' || g FROM generate_series(1, 3000) g;
SELECT lo_from_bytea(4711, 'a large object');
"""


def commands(*kinds: str) -> str:
    """The page's commands of these kinds, in their order."""
    found = _BLOCK.findall(PAGE.read_text())
    assert {kind for kind, _ in found} == {"", "values", "plain", "sealed", "breakglass"}
    return "\n".join(
        re.sub(r"^ +", "", text, flags=re.MULTILINE) for kind, text in found if kind in kinds
    )


def run_page(
    kind: str, place: Path, folder: Path, address: PostgresAddress, key: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Follow the page to the letter, with the four values of its first block replaced."""
    given = {"/store": place, "/sockets": Path(address.host)}
    if key:
        given["/media/recovery.key"] = key
    values = "STORE=/store/postgres/shop/app RECOVERY_KEY=/media/recovery.key"
    values += " NEW=app_restored OWNER=postgres"
    root = folder / "elsewhere"
    root.mkdir()
    return run_there(
        root,
        f"{values.replace(' ', chr(10))}\n{commands('', kind)}",
        given=given,
        environment={
            "PGHOST": "/sockets",
            "PGPORT": str(address.port),
            "PGUSER": address.user,
        },
        programs=[installations.for_server(15).bin],
    )


def check_restored(address: PostgresAddress) -> None:
    with connect(address, "app_restored") as session:
        row = session.execute(
            "SELECT count(*), min(note), (SELECT convert_from(lo_get(4711), 'UTF8'))"
            " FROM public.orders"
        ).fetchone()
    assert row == (3000, "n1", "a large object")


@pytest.fixture
def app(database: Callable[..., PostgresAddress]) -> PostgresAddress:
    return database(SCHEMA, major=15)


def test_a_copy_comes_back_with_nothing_but_postgresqls_own_programs(
    app: PostgresAddress, store: FolderStore, tmp_path: Path
) -> None:
    manifest = take_copy(app, "app", store)
    catalogue.add_proof(store, manifest, examining.read_back(store, manifest))
    done = run_page("plain", store.folder, tmp_path, app)
    assert done.returncode == 0, done.stderr
    assert "the file is whole" in done.stdout
    assert "-L1" in done.stdout
    assert "-- flowforge: complete backup-" in done.stdout
    assert "COPY public.orders" in done.stdout
    check_restored(app)


def test_a_sealed_copy_comes_back_with_age_and_a_recovery_key(
    app: PostgresAddress, tmp_path: Path, age: str
) -> None:
    offline, other = (pyrage.x25519.Identity.generate() for _ in range(2))
    recipients = (str(other.to_public()), str(offline.to_public()))
    vault = FolderStore("vault", tmp_path / "vault", recipients=recipients)
    take_copy(app, "app", vault)
    key = tmp_path / "recovery.key"
    key.write_text(f"# from the safe\n{offline}\n")
    done = run_page("sealed", vault.folder, tmp_path, app, key)
    assert done.returncode == 0, done.stderr
    assert "the file is whole" in done.stdout
    assert "-- flowforge: complete backup-" in done.stdout
    check_restored(app)


def test_there_is_nothing_of_flowforge_there(app: PostgresAddress, tmp_path: Path) -> None:
    root = tmp_path / "elsewhere"
    root.mkdir()
    script = "! python3 -c 'import flowforge' 2> /dev/null; ! touch /x 2> /dev/null; echo bare"
    done = run_there(root, script, given={}, environment={})
    assert done.stdout == "bare\n", done.stderr


def test_a_damaged_copy_is_found_out_by_the_page(
    app: PostgresAddress, store: FolderStore, tmp_path: Path
) -> None:
    manifest = take_copy(app, "app", store)
    with (store.folder / manifest.data.key).open("r+b") as file:
        file.seek(manifest.data.size_bytes // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    done = run_page("plain", store.folder, tmp_path, app)
    assert done.returncode != 0
    assert "/tmp/said /tmp/is differ" in done.stdout
    assert "the file is whole" not in done.stdout
