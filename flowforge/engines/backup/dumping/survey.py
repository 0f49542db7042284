"""Look at a database before touching anything: what it is, and whether all of it may be read.

A role that may not read one table would make `pg_dump` fail at the end of an hour, or, with row
security, leave rows out in silence. Both are found here, by name, before the first byte.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

from flowforge.errors import Refused
from flowforge.rules.backups import DatabaseFacts, Manifest, ServerFacts

OLDEST_SUPPORTED = 13

_USER_SCHEMA = "n.nspname !~ '^pg_(toast|temp|catalog)' AND n.nspname <> 'information_schema'"

_UNREADABLE: LiteralString = """
SELECT format('%I.%I', n.nspname, c.relname),
       NOT has_schema_privilege(n.oid, 'USAGE'),
       CASE c.relkind WHEN 'S' THEN NOT has_sequence_privilege(c.oid, 'SELECT')
                      ELSE NOT has_table_privilege(c.oid, 'SELECT') END,
       c.relkind IN ('r', 'p') AND row_security_active(c.oid)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'S')
   AND n.nspname !~ '^pg_(toast|temp|catalog)' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                      AND d.deptype = 'e')
 ORDER BY 1
"""

_UNREADABLE_OBJECTS: LiteralString = """
SELECT count(*) FROM pg_catalog.pg_largeobject_metadata m
 WHERE NOT pg_has_role(m.lomowner, 'USAGE')
   AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) x
                    WHERE x.privilege_type = 'SELECT'
                      AND (x.grantee = 0 OR pg_has_role(x.grantee, 'USAGE')))
   AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
"""

_ROLES_NEEDED: LiteralString = """
SELECT DISTINCT r.rolname FROM pg_catalog.pg_shdepend d
  JOIN pg_catalog.pg_roles r
    ON d.refclassid = 'pg_catalog.pg_authid'::regclass AND r.oid = d.refobjid
 WHERE d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
   AND r.rolname !~ '^pg_'
UNION
SELECT pg_catalog.pg_get_userbyid(datdba) FROM pg_catalog.pg_database
 WHERE datname = current_database()
 ORDER BY 1
"""


@dataclass(frozen=True)
class Survey:
    """What was seen of a server and one of its databases."""

    server: ServerFacts
    database: DatabaseFacts
    extensions: dict[str, str]
    roles_needed: tuple[str, ...]
    codec: str
    """Python's name of the database's encoding."""


def survey(session: psycopg.Connection[Any], server_name: str) -> Survey:
    """Look at the database a session is in.

    Raises:
        Refused: The server is too old, a pooler stands in between, or something is unreadable.
    """
    server = read_server(session, server_name)
    check_direct(session)
    check_readable(session)
    extensions = session.execute(
        "SELECT extname, extversion FROM pg_catalog.pg_extension"
    ).fetchall()
    roles = session.execute(_ROLES_NEEDED).fetchall()
    database = read_database(session, server.major)
    return Survey(
        server=server,
        database=database,
        extensions=dict(sorted(extensions)),
        roles_needed=tuple(name for (name,) in roles),
        codec=python_codec(session, database.encoding),
    )


def read_server(session: psycopg.Connection[Any], name: str) -> ServerFacts:
    """Say which server this is.

    Raises:
        Refused: It is older than any version FlowForge was made for.
    """
    row = session.execute(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'),"
        " pg_catalog.pg_is_in_recovery(),"
        " (SELECT system_identifier::text FROM pg_catalog.pg_control_system())"
    ).fetchone()
    assert row is not None
    number, version, is_replica, identifier = row
    if number // 10000 < OLDEST_SUPPORTED:
        raise Refused(
            f"{name} is PostgreSQL {version}.",
            hint=f"FlowForge works with PostgreSQL {OLDEST_SUPPORTED} and newer; upgrade it.",
        )
    return ServerFacts(
        name=name,
        system_identifier=identifier,
        version_num=number,
        version=version,
        is_replica=is_replica,
    )


def read_database(session: psycopg.Connection[Any], major: int) -> DatabaseFacts:
    """Say which database this is and how it was created."""
    provider: LiteralString = "d.datlocprovider::text" if major >= 15 else "'c'"
    locale: LiteralString = (
        "d.datlocale" if major >= 17 else "d.daticulocale" if major >= 15 else "NULL::text"
    )
    row = session.execute(
        "SELECT d.datname, d.oid::bigint, pg_encoding_to_char(d.encoding),"
        " d.datcollate, d.datctype,"
        f" {provider}, {locale}, pg_get_userbyid(d.datdba), pg_database_size(d.oid),"
        " current_setting('lc_monetary'),"
        " ARRAY(SELECT unnest(setconfig) FROM pg_catalog.pg_db_role_setting s"
        "        WHERE s.setdatabase = d.oid AND s.setrole = 0 ORDER BY 1),"
        " ARRAY(SELECT DISTINCT t.spcname FROM pg_catalog.pg_tablespace t"
        "        WHERE t.oid IN (SELECT reltablespace FROM pg_catalog.pg_class)"
        "              AND t.spcname <> 'pg_global'"
        "           OR t.oid = d.dattablespace AND t.spcname <> 'pg_default' ORDER BY 1)"
        " FROM pg_catalog.pg_database d WHERE d.datname = current_database()"
    ).fetchone()
    assert row is not None
    providers = {"c": "libc", "i": "icu", "b": "builtin"}
    return DatabaseFacts(
        name=row[0],
        oid=row[1],
        encoding=row[2],
        collate=row[3],
        ctype=row[4],
        locale_provider=providers.get(row[5], row[5]),
        icu_locale=row[6],
        owner=row[7],
        size_bytes=row[8],
        lc_monetary=row[9],
        settings=tuple(row[10]),
        tablespaces=tuple(row[11]),
    )


def check_direct(session: psycopg.Connection[Any]) -> None:
    """Refuse a pooler that changes the server process between two statements."""
    seen = {session.execute("SELECT pg_catalog.pg_backend_pid()").fetchone() for _ in range(3)}
    if len(seen) > 1:
        raise Refused(
            "A connection pooler in transaction mode stands before this server.",
            hint="Register the server's own host and port: a snapshot needs one session.",
        )


def check_readable(session: psycopg.Connection[Any]) -> None:
    """Refuse when a table, sequence or large object could not be read whole."""
    user = session.info.user
    for name, no_schema, no_select, filtered in session.execute(_UNREADABLE).fetchall():
        if no_schema or no_select:
            raise Refused(
                f"The role {user} may not read {name}.",
                hint=f"GRANT pg_read_all_data TO {user}; (PostgreSQL 14 and newer), or grant "
                f"{'USAGE on its schema' if no_schema else f'SELECT on {name}'}.",
                table=name,
            )
        if filtered:
            raise Refused(
                f"Row security hides rows of {name} from the role {user}.",
                hint=f"ALTER ROLE {user} BYPASSRLS; or back up as the owner of the table.",
                table=name,
            )
    row = session.execute(_UNREADABLE_OBJECTS).fetchone()
    if row and row[0]:
        raise Refused(
            f"The role {user} may not read {row[0]} large objects.",
            hint="No predefined role covers large objects: back up as their owner or a superuser.",
        )


def as_dumped(session: psycopg.Connection[Any], server: str, manifest: Manifest) -> Survey:
    """Look at a restored database; equal rows are equal text when money is written alike."""
    seen = survey(session, server)
    money = {"lc_monetary": manifest.database.lc_monetary}
    return dataclasses.replace(seen, database=seen.database.model_copy(update=money))


def python_codec(session: psycopg.Connection[Any], encoding: str) -> str:
    """Python's name of a PostgreSQL encoding; bytes that do not fit are shown as escapes."""
    if encoding == "SQL_ASCII":
        return "utf-8"
    before = session.info.parameter_status("client_encoding") or "UTF8"
    session.execute("SELECT set_config('client_encoding', %s, false)", (encoding,))
    try:
        return session.info.encoding
    except psycopg.NotSupportedError:
        return "utf-8"
    finally:
        session.execute("SELECT set_config('client_encoding', %s, false)", (before,))
