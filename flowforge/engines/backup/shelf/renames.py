"""Look whether a database is known to a store under another name, before it is copied."""

from __future__ import annotations

from flowforge.engines.backup.dumping import survey
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.store import Store
from flowforge.engines.postgres import connection
from flowforge.rules import names, renames
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Copy, catalogue_entry, read_manifest

_OID = "SELECT oid::int8 FROM pg_catalog.pg_database WHERE datname = current_database()"


def check(
    store: Store, address: PostgresAddress, database: str, *, renamed_from: str | None = None
) -> None:
    """Make sure that a database's copies belong under the name it has now.

    Args:
        store: Where its copies go.
        address: Its server.
        database: Its name now.
        renamed_from: The name somebody confirmed that it had before.

    Raises:
        Refused: It is known under another name, and nobody confirmed the change.
        Unavailable: The server or the store does not answer.
    """
    with connection.explained(address, database), connection.connect(address, database) as session:
        server = survey.read_server(session, address.name)
        row = session.execute(_OID).fetchone()
    assert row is not None
    newest = _newest_of_each(store, address.name)
    renames.check_name(
        database, row[0], server.system_identifier, newest, renamed_from=renamed_from
    )


def _newest_of_each(store: Store, server: str) -> list[Copy]:
    """The newest copy of every database of a server; names of copies sort by their time."""
    newest: dict[tuple[str, str], str] = {}
    for stored in store.listing(names.server_prefix(server)):
        place = names.parse_prefix(stored.key)
        if place and stored.key.endswith(names.MANIFEST_SUFFIX):
            newest[place] = max(newest.get(place, ""), stored.key)
    texts = catalogue.read_many(store, newest.values())
    return [catalogue_entry(read_manifest(text), (), store.name) for text in texts]
