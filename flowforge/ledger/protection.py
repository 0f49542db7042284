"""How well each database is protected, as the ledger knows it: asked every few seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from flowforge.ledger import tables
from flowforge.ledger.connection import transaction
from flowforge.rules.alerts import Alert, BackupRuns
from flowforge.rules.backups import Copy
from flowforge.rules.drills import Drill, drill_of
from flowforge.rules.proofs import Level, Proof
from flowforge.rules.standing import Known

_DRILLS_OF_EACH = 12

_RUNS = sa.text("""
WITH runs AS (
  SELECT server, database, flow_run_id, outcome, finished_at,
         count(*) FILTER (WHERE outcome <> 'skipped')
           OVER (PARTITION BY server, database ORDER BY finished_at DESC) AS others_since
    FROM flowforge.operations
   WHERE operation = 'backup' AND server IS NOT NULL AND database IS NOT NULL
)
SELECT server, database,
       count(*) FILTER (WHERE outcome = 'skipped') AS skipped_total,
       count(*) FILTER (WHERE outcome = 'skipped' AND others_since = 0) AS skipped_in_a_row,
       (array_agg(flow_run_id ORDER BY finished_at)
          FILTER (WHERE outcome = 'skipped' AND others_since = 0))[1] AS skipped_since
  FROM runs GROUP BY server, database ORDER BY server, database
""")


def read_known(engine: sa.Engine) -> Known:
    """Everything the rules of `flowforge.rules.standing` and `alerts` look at."""
    columns = tables.copies.c
    place = (columns.server, columns.database)
    newest = columns.snapshot_at.desc()
    usable = columns.failed.is_(False)
    with transaction(engine) as connection:
        return Known(
            newest=_copies(connection, place, (columns.failed, newest)),
            oldest=_copies(connection, place, (columns.snapshot_at,)),
            usable=_copies(
                connection,
                (columns.store, *place),
                (newest,),
                usable & (columns.level >= int(Level.READ_BACK)),
            ),
            proven=_copies(
                connection,
                place,
                (columns.proven_at.desc(),),
                usable & (columns.level >= int(Level.COMPARED)),
            ),
            fallen=_copies(connection, place, (newest,), columns.fall.is_not(None)),
            counts=_counts(connection),
            drills=_drills(connection),
            measured=_measured(connection),
            runs=_runs(connection),
        )


def record_drills(engine: sa.Engine, drills: Iterable[Drill]) -> None:
    """Enter drills; one that is known already is replaced."""
    with transaction(engine) as connection:
        for drill in drills:
            row = {
                "store": drill.store,
                "server": drill.server,
                "database": drill.database,
                "drilled_at": drill.drilled_at,
                "drill": drill.model_dump(mode="json"),
            }
            statement = insert(tables.drills).values(row)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["store", "server", "database", "drilled_at"],
                    set_={"drill": statement.excluded.drill},
                )
            )


def tell_once(engine: sa.Engine, alert: Alert, tell: Callable[[], None]) -> bool:
    """Call `tell` unless somebody already told of this; whether it was called.

    The note is kept only when `tell` returns, so a failed message is tried again.
    """
    note = alert.model_dump(include={"event", "server", "database", "about"})
    with transaction(engine) as connection:
        statement = insert(tables.notices).values(note).on_conflict_do_nothing()
        returned = connection.execute(statement.returning(tables.notices.c.about))
        if returned.one_or_none() is None:
            return False
        tell()
    return True


def _copies(
    connection: sa.Connection,
    each: tuple[sa.Column[Any], ...],
    first: tuple[sa.ColumnElement[Any], ...],
    where: sa.ColumnElement[bool] | None = None,
) -> tuple[Copy, ...]:
    """The first copy of each group."""
    question = sa.select(tables.copies).distinct(*each).order_by(*each, *first)
    if where is not None:
        question = question.where(where)
    return tuple(Copy.model_validate(dict(row._mapping)) for row in connection.execute(question))


def _counts(connection: sa.Connection) -> dict[tuple[str, str, str], int]:
    columns = tables.copies.c
    place = (columns.store, columns.server, columns.database)
    question = sa.select(*place, sa.func.count()).group_by(*place)
    return {(s, v, d): n for s, v, d, n in connection.execute(question)}


def _drills(connection: sa.Connection) -> tuple[Drill, ...]:
    """The last drills of each database, oldest first."""
    columns = tables.drills.c
    rank = sa.func.row_number().over(
        partition_by=(columns.server, columns.database), order_by=columns.drilled_at.desc()
    )
    ranked = sa.select(columns.drill, columns.drilled_at, rank.label("rank")).subquery()
    question = (
        sa.select(ranked.c.drill)
        .where(ranked.c.rank <= _DRILLS_OF_EACH)
        .order_by(ranked.c.drilled_at)
    )
    return tuple(Drill.model_validate(drill) for drill in connection.execute(question).scalars())


def _measured(connection: sa.Connection) -> tuple[Drill, ...]:
    """What the last proof of each database measured that compared a restored copy."""
    proofs, copies = tables.proofs.c, tables.copies.c
    of_copy = (
        (copies.store == proofs.store)
        & (copies.server == proofs.server)
        & (copies.database == proofs.database)
        & (copies.name == proofs.copy_name)
    )
    question = (
        sa.select(tables.copies, proofs.proof)
        .join(tables.proofs, of_copy)
        .distinct(proofs.server, proofs.database)
        .where(proofs.level >= int(Level.COMPARED), proofs.verdict == "proven")
        .order_by(proofs.server, proofs.database, proofs.checked_at.desc())
    )
    rows = (dict(row._mapping) for row in connection.execute(question))
    return tuple(
        drill_of(Copy.model_validate(row), Proof.model_validate(proof))
        for row in rows
        if (proof := row.pop("proof"))
    )


def _runs(connection: sa.Connection) -> tuple[BackupRuns, ...]:
    orphans = _orphans(connection)
    rows = (dict(row._mapping) for row in connection.execute(_RUNS))
    return tuple(
        BackupRuns.model_validate(row | {"orphans": orphans.get((row["server"], row["database"]))})
        for row in rows
    )


def _orphans(connection: sa.Connection) -> dict[tuple[str, str], int]:
    """What the last backup of each database saw of them; facts are no JSON for PostgreSQL."""
    columns = tables.operations.c
    place = (columns.server, columns.database)
    question = (
        sa.select(*place, columns.facts)
        .distinct(*place)
        .where(columns.operation == "backup", columns.outcome == "done")
        .order_by(*place, columns.finished_at.desc())
    )
    rows = connection.execute(question)
    seen = {(server, database): facts.get("orphans") for server, database, facts in rows}
    return {place: count for place, count in seen.items() if isinstance(count, int)}
