"""What the role of those who run agent jobs may do: use the journal, nothing else of the ledger.

It writes how its own operations ended, but sees no copy, no proof and no heartbeat.
"""

from __future__ import annotations

import sqlalchemy as sa

from flowforge.errors import Refused
from flowforge.ledger import job_tables as jobs
from flowforge.ledger.connection import connect, transaction
from flowforge.ledger.tables import SCHEMA, operations

_RIGHTS = {
    "SELECT, INSERT, UPDATE, DELETE": (
        jobs.jobs,
        jobs.attempts,
        jobs.turns,
        jobs.tool_calls,
        jobs.events,
        jobs.usage,
        jobs.approvals,
        jobs.blobs,
        jobs.blob_chunks,
        jobs.artifacts,
        jobs.spending,
        jobs.buckets,
        jobs.breakers,
    ),
    "SELECT": (jobs.budgets, jobs.prices),
    "SELECT, INSERT, UPDATE": (operations,),
}


def grant_jobs(url: str, role: str) -> None:
    """Let a role run agent jobs.

    Args:
        url: The ledger, entered by its owner.
        role: An existing role.

    Raises:
        Refused: There is no such role, or the tables are not there.
        Unavailable: The ledger did not answer.
    """
    engine = connect(url, pooled=False)
    quoted = sa.sql.quoted_name(role, quote=True)
    name = engine.dialect.identifier_preparer.quote(quoted)
    with transaction(engine) as connection:
        known = sa.text("SELECT FROM pg_catalog.pg_roles WHERE rolname = :role")
        if connection.execute(known, {"role": role}).first() is None:
            raise Refused(
                f"There is no role {role!r} on the ledger's server.",
                hint="Create it first: CREATE ROLE name LOGIN PASSWORD '...';",
            )
        connection.execute(sa.text(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {name}"))
        for rights, tables in _RIGHTS.items():
            listed = ", ".join(f"{SCHEMA}.{table.name}" for table in tables)
            connection.execute(sa.text(f"GRANT {rights} ON {listed} TO {name}"))
