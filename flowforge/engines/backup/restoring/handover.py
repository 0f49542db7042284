"""What a database takes over from the one whose name it gets: owner, rights, settings of roles.

A dump of a database holds none of them, because they belong to the server.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

from flowforge.engines.backup.loading import databases

_RIGHTS = """
SELECT CASE x.grantee WHEN 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee) END,
       x.privilege_type, x.is_grantable
  FROM pg_catalog.pg_database d,
       pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) x
 WHERE d.datname = %s ORDER BY 1 NULLS FIRST, 2
"""
_ROLE_SETTINGS = """
SELECT pg_catalog.pg_get_userbyid(s.setrole), unnest(s.setconfig)
  FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
 WHERE d.datname = %s AND s.setrole <> 0
   AND pg_catalog.current_setting('is_superuser') = 'on'  -- the plan says so to others
 ORDER BY 1, 2
"""
_LIMIT = (
    "SELECT pg_catalog.pg_get_userbyid(datdba), datconnlimit FROM pg_catalog.pg_database"
    " WHERE datname = %s"
)


def close_to_others(session: psycopg.Connection[Any], side: str) -> None:
    """Let only its owner and superusers in, until it is what it shall be."""
    session.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(Identifier(side)))


def open_new(side: str) -> list[Composed]:
    """The statements that give a database of a new name the rights every new one has."""
    return [SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC").format(Identifier(side))]


def take_over(session: psycopg.Connection[Any], live: str, side: str) -> list[Composed]:
    """The statements that give a side database what the live one has; run before the names change.

    Args:
        session: A session on another database of the server.
        live: The database whose name it will get.
        side: The side database, which only its owner may enter.
    """
    row = session.execute(_LIMIT, (live,)).fetchone()
    assert row is not None
    owner, limit = row
    here = Identifier(side)
    statements = [
        SQL("ALTER DATABASE {} OWNER TO {}").format(here, Identifier(owner)),
        SQL("REVOKE ALL ON DATABASE {} FROM {}").format(here, Identifier(owner)),
        SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(here, Literal(limit)),
    ]
    for grantee, privilege, grantable in session.execute(_RIGHTS, (live,)).fetchall():
        to = SQL("PUBLIC") if grantee is None else Identifier(grantee)
        grant = SQL("GRANT {} ON DATABASE {} TO {}").format(SQL(privilege), here, to)
        statements.append(grant + SQL(" WITH GRANT OPTION") if grantable else grant)
    for role, setting in session.execute(_ROLE_SETTINGS, (live,)).fetchall():
        statements.append(
            SQL("ALTER ROLE {} IN DATABASE {} ").format(Identifier(role), here)
            + databases.assign(setting)
        )
    return statements
