"""The place a copy would go to, as it is now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from flowforge.engines.backup.dumping.survey import read_server
from flowforge.engines.backup.loading import loading
from flowforge.engines.backup.restoring import disks
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest
from flowforge.rules.restores import TargetFacts

_TARGET = """
SELECT d.oid::bigint, pg_get_userbyid(d.datdba), d.datallowconn,
       pg_has_role(d.datdba, 'USAGE'),
       (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid),
       (SELECT count(*) FROM pg_catalog.pg_prepared_xacts p WHERE p.database = d.datname),
       (SELECT count(*) FROM pg_catalog.pg_subscription s WHERE s.subdbid = d.oid),
       (SELECT count(*) FROM pg_catalog.pg_replication_slots r WHERE r.database = d.datname),
       ARRAY(SELECT pg_catalog.pg_get_userbyid(s.setrole) FROM pg_catalog.pg_db_role_setting s
              WHERE s.setdatabase = d.oid AND s.setrole <> 0
                AND pg_catalog.current_setting('is_superuser') <> 'on' ORDER BY 1)
  FROM pg_catalog.pg_database d WHERE d.datname = %s
"""
_MAY_CREATE = "SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"


def look(
    session: psycopg.Connection[Any],
    address: PostgresAddress,
    database: str,
    manifest: Manifest,
) -> tuple[TargetFacts, list[str]]:
    """Look at a server and at the database of the name the copy shall have.

    Returns:
        What was seen, and what whoever reads the plan should mind.
    """
    server = read_server(session, address.name)
    live = session.execute(_TARGET, (database,)).fetchone()
    may_create = session.execute(_MAY_CREATE).fetchone()
    available = session.execute("SELECT name FROM pg_catalog.pg_available_extensions").fetchall()
    have = {name for (name,) in available}
    free = disks.free_bytes(session, address, server.system_identifier)
    facts = TargetFacts(
        server=address.name,
        system_identifier=server.system_identifier,
        major=server.major,
        database=database,
        database_oid=live[0] if live else None,
        database_owner=live[1] if live else None,
        sessions=live[4] if live else 0,
        prepared_transactions=live[5] if live else 0,
        may_create=bool(may_create and may_create[0]),
        may_rename=bool(live[3]) if live else True,
        missing_roles=tuple(
            r for r in manifest.roles_needed if not loading.role_exists(session, r)
        ),
        missing_extensions=tuple(e for e in manifest.extensions if e not in have),
        free_bytes=free,
    )
    spaces = manifest.database.tablespaces
    return facts, [*_space_warnings(spaces), *_warnings(database, live, free)]


def _space_warnings(tablespaces: tuple[str, ...]) -> list[str]:
    if not tablespaces:
        return []
    return [f"what lay in {', '.join(tablespaces)} goes to the server's default tablespace"]


def _warnings(database: str, live: Sequence[Any] | None, free: int | None) -> list[str]:
    warnings = []
    if free is None:
        warnings.append("the free disk of the server cannot be seen from here: look yourself")
    if live and not live[2]:
        warnings.append(
            f"{database!r} lets nobody in: a restore was killed there. Apply the plan again to "
            f'finish it, or open it with ALTER DATABASE "{database}" ALLOW_CONNECTIONS true;'
        )
    if live and (live[6] or live[7]):
        warnings.append(
            f"{live[6]} subscriptions and {live[7]} replication slots belong to the live database "
            "and stay with it under its new name: make them anew for the restored one"
        )
    if live and live[8]:
        warnings.append(
            f"settings of {', '.join(live[8])} in the live database are not taken over: only a "
            "superuser may; repeat them with ALTER ROLE ... IN DATABASE ... SET"
        )
    return warnings
