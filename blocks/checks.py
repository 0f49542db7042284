"""Try a saved system for real: enter the server, write to the store, page a person, run a command.

What is found is told, not judged: a table nobody may read is a remark for whoever registers the
server, and the backup will refuse it by name.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from blocks import (
    BackupKey,
    BackupStore,
    GitRepository,
    Pager,
    PostgresServer,
    RedisServer,
    SandboxProfile,
)
from flowforge.engines.agent import sources_check
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.connection import connect
from flowforge.engines.sandboxes import profiles
from flowforge.errors import Refused, Unavailable
from flowforge.rules.addresses import FolderAddress
from flowforge.rules.redis_addresses import ElastiCacheAddress

_FACTS = """
SELECT current_setting('server_version'),
       current_setting('server_version_num')::int,
       current_database(),
       pg_catalog.pg_database_size(current_database()),
       pg_catalog.pg_is_in_recovery(),
       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
"""
_DATABASES = """
SELECT datname FROM pg_catalog.pg_database
WHERE datallowconn AND NOT datistemplate
  AND pg_catalog.has_database_privilege(datname, 'CONNECT')
ORDER BY datname
"""
_UNREADABLE = """
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S', 'm')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'
  AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE')
           AND CASE c.relkind WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
                              ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END)
ORDER BY 1
"""
_FILTERED = """
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE pg_catalog.row_security_active(c.oid)
ORDER BY 1
"""
_NAMED_AT_MOST = 10


def check_server(name: str, block: PostgresServer) -> Mapping[str, JsonValue]:
    """Enter a server and say what it is, what is in it and what its role may not read.

    Raises:
        Refused: It said no.
        Unavailable: It did not answer.
    """
    address = block.address(name)
    with connect(address) as session:
        facts = session.execute(_FACTS).fetchone()
        assert facts is not None
        version, number, database, size_bytes, is_replica, is_superuser = facts
        databases = [row[0] for row in session.execute(_DATABASES)]
        unreadable = [row[0] for row in session.execute(_UNREADABLE)]
        filtered = [row[0] for row in session.execute(_FILTERED)]
    problems = _list_problems(block.user, database, unreadable, filtered)
    try:
        installations.for_server(number // 10000)
    except Refused as error:
        problems.append(str(error))
    return {
        "version": version,
        "database": database,
        "size_bytes": size_bytes,
        "is_replica": is_replica,
        "is_superuser": is_superuser,
        "databases": list(databases),
        "problems": list(problems),
    }


def _list_problems(
    user: str, database: str, unreadable: list[str], filtered: list[str]
) -> list[str]:
    problems = []
    if unreadable:
        problems.append(
            f"{user} may not read {_name(unreadable)} of {database}: "
            f"a backup will be refused. "
            f'GRANT pg_read_all_data TO "{user}"; (PostgreSQL 14 or newer) gives the right.'
        )
    if filtered:
        problems.append(
            f"Row security hides rows of {_name(filtered)} from {user}: a backup will be "
            f'refused. ALTER ROLE "{user}" BYPASSRLS; lifts it.'
        )
    return problems


def check_redis(name: str, block: RedisServer) -> Mapping[str, JsonValue]:
    """Enter a Redis and say what it is, or ask Amazon for a replication group.

    Raises:
        Refused: It said no.
        Unavailable: It did not answer.
    """
    address = block.address(name)
    if isinstance(address, ElastiCacheAddress):
        from flowforge.engines.redis import elasticache  # botocore is large

        status, node_type = elasticache.check(address)
        return {"status": status, "node_type": node_type, "problems": []}
    from flowforge.engines.redis import connection, survey

    with connection.connect(address) as session:
        facts, warnings = survey.survey(session, name)
    return {
        "version": facts.version,
        "keys": sum(counts.key_count for counts in facts.keyspace.values()),
        "used_memory_bytes": facts.used_memory_bytes,
        "is_replica": facts.is_replica,
        "problems": list(warnings),
    }


def check_store(name: str, block: BackupStore) -> Mapping[str, JsonValue]:
    """Write, read and delete something small in a store, and say how much room a folder has.

    Raises:
        Refused: It is not there or cannot be written.
        Unavailable: It did not answer, or took the bytes and gave others back.
    """
    address = block.address(name)
    if isinstance(address, FolderAddress):
        return _check_folder(name, address.folder)
    from flowforge.engines.backup.stores.s3_check import try_bucket  # botocore is large

    return {"where": block.where, "problems": list(try_bucket(address))}


def _check_folder(name: str, folder: Path) -> Mapping[str, JsonValue]:
    if not folder.is_dir():
        raise Refused(
            f"The folder of the store {name} is not there: {folder}",
            hint="Make it (mkdir -p) or mount it, readable and writable for the workers.",
        )
    probe = folder / f".flowforge-probe-{secrets.token_hex(8)}"
    written = secrets.token_bytes(4096)
    try:
        try:
            with probe.open("xb") as file:
                file.write(written)
                file.flush()
                os.fsync(file.fileno())
            read = probe.read_bytes()
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise Refused(
            f"The store {name} cannot be written at {folder}: {error.strerror}.",
            hint="Free the disk or give the workers' user the right to write there.",
        ) from error
    if read != written:
        raise Unavailable(
            f"The store {name} gave back other bytes than were written to {folder}.",
            hint="Check the disk or the mount before trusting it with a copy.",
        )
    return {"free_bytes": shutil.disk_usage(folder).free, "problems": []}


def check_key(name: str, block: BackupKey, stores: Mapping[str, object]) -> Mapping[str, JsonValue]:
    """Say whose copies a key opens.

    Args:
        name: What the key is called.
        block: The key.
        stores: Every saved store, by name.
    """
    sealing: list[JsonValue] = [
        store
        for store, kept in stores.items()
        if isinstance(kept, BackupStore) and block.where in kept.recipients
    ]
    problems: list[JsonValue] = []
    if not sealing:
        problems.append(
            f"New copies in no store are sealed to {name}. `flowforge backup keys` tells whether "
            "older ones need it."
        )
    return {"public_key": block.where, "stores": sealing, "problems": problems}


def check_pager(name: str, block: Pager) -> Mapping[str, JsonValue]:
    """Send one message and say where to.

    Raises:
        Refused: The mail server offers no encryption for a password.
        Unavailable: The channel did not take it.
    """
    block.send(
        f"FlowForge test: the pager {name} works",
        "This is a test, nothing happened. Messages about failed operations and copies that are "
        "too old will arrive here.",
    )
    return {"sent_to": block.where, "problems": []}


def check_profile(name: str, block: SandboxProfile) -> Mapping[str, JsonValue]:
    """Make a sandbox on this machine, run a command in it, end it, and say how long that took.

    Raises:
        Refused: It cannot be had here.
        Unavailable: It cannot be had now.
    """
    tried = asyncio.run(profiles.try_out(block.profile(name)))
    return {
        "where": block.where,
        "open_seconds": round(tried.open_seconds, 3),
        "command_seconds": round(tried.command_seconds, 3),
        "close_seconds": round(tried.close_seconds, 3),
        "says": tried.says,
        "problems": [],
    }


def check_repo(name: str, block: GitRepository) -> Mapping[str, JsonValue]:
    """Ask a repository for its newest commit with the access that is saved.

    Raises:
        Refused: It is not there, does not let us in, or no repository is saved with the access.
        Unavailable: It did not answer.
    """
    if block.url is None:
        raise Refused(
            f"No repository is saved with the access {name}, so there is none to ask.",
            hint=f"Save it again with one: `flowforge repo add {name} --url URL`.",
        )
    newest = sources_check.try_access(name, block.url, block.access(name))
    problems: list[JsonValue] = [] if newest.commit else ["There is no commit in it yet."]
    return {
        "where": block.where,
        "branch": newest.branch,
        "commit": newest.commit,
        "problems": problems,
    }


def _name(things: list[str]) -> str:
    rest = len(things) - _NAMED_AT_MOST
    return ", ".join(things[:_NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")
