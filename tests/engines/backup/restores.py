"""Restores as the tests do them, and what is seen of a server afterwards."""

from __future__ import annotations

from flowforge.engines.backup.restoring import restore
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest
from flowforge.rules.restores import RestorePlan


def plan(
    store: FolderStore, manifest: Manifest, address: PostgresAddress, to: str = "app"
) -> RestorePlan:
    (copy,) = catalogue.list_copies(store, "shop", "app")
    return restore.plan(store, manifest, copy, address, to)


def do(
    store: FolderStore, manifest: Manifest, address: PostgresAddress, to: str = "app"
) -> restore.Restoration:
    made = plan(store, manifest, address, to)
    return restore.apply(store, manifest, address, made, made.digest)


def run(address: PostgresAddress, database: str, *statements: str) -> object:
    """The first value of the last statement, or `None`."""
    found = None
    with connection.connect(address, database) as session:
        for statement in statements:
            cursor = session.execute(statement.encode())
            found = cursor.fetchone() if cursor.description else None
    return found[0] if found else None


def names(address: PostgresAddress) -> set[str]:
    with connection.connect(address, "postgres") as session:
        rows = session.execute("SELECT datname FROM pg_database WHERE datname LIKE 'app%'")
        return {name for (name,) in rows.fetchall()}


def is_as_before(address: PostgresAddress) -> None:
    assert names(address) == {"app"}
    assert run(address, "app", "SELECT count(*) FROM public.t") == 1000
