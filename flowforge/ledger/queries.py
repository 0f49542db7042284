"""The few questions asked of the ledger, and the few things told to it.

Recording is idempotent: the same fact told twice is one row, so any flow may run again from its
first line. All functions raise `Unavailable` when the ledger does not answer and `Refused` when it
says no (password, rights, missing tables).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from flowforge.ledger import tables
from flowforge.ledger.connection import transaction
from flowforge.rules.backups import Copy, Operation, Proof

_ROWS_PER_STATEMENT = 500


def record_copy(engine: sa.Engine, copy: Copy) -> None:
    """Enter a copy in the catalogue, or bring its entry up to date."""
    with transaction(engine) as connection:
        _upsert(connection, tables.copies, [_copy_row(copy)])


def forget_copy(engine: sa.Engine, server: str, database: str, name: str, store: str) -> None:
    """Take a copy and its proofs out of the catalogue; one that is not there is fine."""
    with transaction(engine) as connection:
        for table, name_column in (
            (tables.copies, tables.copies.c.name),
            (tables.proofs, tables.proofs.c.copy_name),
        ):
            connection.execute(
                sa.delete(table).where(
                    table.c.store == store,
                    table.c.server == server,
                    table.c.database == database,
                    name_column == name,
                )
            )


def record_proof(engine: sa.Engine, server: str, database: str, store: str, proof: Proof) -> None:
    """Enter one examination of a copy."""
    with transaction(engine) as connection:
        _upsert(connection, tables.proofs, [_proof_row(server, database, store, proof)])


def record_operation(engine: sa.Engine, operation: Operation) -> None:
    """Enter a finished operation; a run that is recorded again replaces its entry."""
    with transaction(engine) as connection:
        _upsert(connection, tables.operations, [operation.model_dump()])


def list_copies(
    engine: sa.Engine, server: str | None = None, database: str | None = None
) -> list[Copy]:
    """The copies of one database, one server or all of them, newest first."""
    question = sa.select(tables.copies).order_by(
        tables.copies.c.snapshot_at.desc(), tables.copies.c.store, tables.copies.c.name
    )
    if server is not None:
        question = question.where(tables.copies.c.server == server)
    if database is not None:
        question = question.where(tables.copies.c.database == database)
    with transaction(engine) as connection:
        return [_copy(row) for row in connection.execute(question)]


def list_proofs(engine: sa.Engine, server: str, database: str, name: str) -> list[Proof]:
    """The examinations of one copy, newest first."""
    columns = tables.proofs.c
    question = (
        sa.select(columns.proof)
        .where(columns.server == server, columns.database == database, columns.copy_name == name)
        .order_by(columns.checked_at.desc(), columns.level.desc())
    )
    with transaction(engine) as connection:
        return [Proof.model_validate(proof) for proof in connection.execute(question).scalars()]


def read_operation(engine: sa.Engine, flow_run_id: str) -> Operation | None:
    """The operation of one flow run; `None` when the ledger knows none."""
    question = sa.select(tables.operations).where(tables.operations.c.flow_run_id == flow_run_id)
    with transaction(engine) as connection:
        row = connection.execute(question).one_or_none()
    return Operation.model_validate(dict(row._mapping)) if row else None


def list_operations(
    engine: sa.Engine, operation: str | None = None, limit: int = 50
) -> list[Operation]:
    """Finished operations, newest first.

    Args:
        engine: The ledger.
        operation: Only this kind, for example `backup`.
        limit: How many at most.
    """
    question = (
        sa.select(tables.operations).order_by(tables.operations.c.finished_at.desc()).limit(limit)
    )
    if operation is not None:
        question = question.where(tables.operations.c.operation == operation)
    with transaction(engine) as connection:
        rows = connection.execute(question)
        return [Operation.model_validate(dict(row._mapping)) for row in rows]


def replace_catalogue(
    engine: sa.Engine,
    store: str,
    copies: Iterable[Copy],
    proofs: Iterable[tuple[str, str, Proof]],
) -> None:
    """Make the catalogue of one store equal to what the store holds, in one transaction.

    Args:
        engine: The ledger.
        store: Name of the store.
        copies: Every copy it holds.
        proofs: Every proof it holds, each with its server and database.
    """
    copy_rows = [_copy_row(copy) | {"store": store} for copy in copies]
    proof_rows = [_proof_row(server, database, store, proof) for server, database, proof in proofs]
    with transaction(engine) as connection:
        for table, rows in ((tables.copies, copy_rows), (tables.proofs, proof_rows)):
            connection.execute(sa.delete(table).where(table.c.store == store))
            for start in range(0, len(rows), _ROWS_PER_STATEMENT):
                _upsert(connection, table, rows[start : start + _ROWS_PER_STATEMENT])


def _upsert(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    keys = [column.name for column in table.primary_key]
    statement = insert(table).values(list(rows))
    changes = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if column.name not in keys
    }
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changes))


def _copy_row(copy: Copy) -> dict[str, Any]:
    return copy.model_dump() | {"level": int(copy.level), "warnings": list(copy.warnings)}


def _copy(row: sa.Row[Any]) -> Copy:
    return Copy.model_validate(dict(row._mapping))


def _proof_row(server: str, database: str, store: str, proof: Proof) -> dict[str, Any]:
    return {
        "store": store,
        "server": server,
        "database": database,
        "copy_name": proof.copy_name,
        "checked_at": proof.checked_at,
        "level": int(proof.level),
        "verdict": proof.verdict,
        "proof": proof.model_dump(mode="json"),
    }
