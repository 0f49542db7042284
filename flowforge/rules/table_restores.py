"""Bring back single tables: never over the live ones, into a schema of their own beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from pydantic import Field

from flowforge.rules import names, restores
from flowforge.rules.backups import Level
from flowforge.rules.restores import TargetFacts
from flowforge.rules.values import Value

_ROOM_FACTOR = 3  # of the text of the rows: in the side database, in the live one, and the log


class TablePlan(Value):
    """What a restore of tables would do. Two plans with equal `digest` do the same."""

    copy_name: str
    source_server: str
    source_database: str
    store: str
    copy_sha256: str
    copy_level: Level
    snapshot_at: datetime
    planned_at: datetime
    tables: tuple[str, ...] = Field(
        description="as the manifest calls them; heirs and partitions come with them"
    )
    raw_bytes: int = Field(description="of the rows of these tables, as text")
    target: TargetFacts
    side_database: str
    may_create_schema: bool = True
    foreign_schema: bool = Field(default=False, description="a schema of that name is not ours")
    obstacles: tuple[str, ...] = Field(description="what has to be changed first, as instructions")
    warnings: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The hash somebody agrees to."""
        return restores.short_hash(
            "\n".join(
                [
                    "tables",
                    self.source_server,
                    self.source_database,
                    self.copy_name,
                    self.copy_sha256,
                    self.target.server,
                    self.target.system_identifier,
                    self.target.database,
                    str(self.target.database_oid),
                    *self.tables,
                ]
            )
        )

    @property
    def restore_id(self) -> str:
        """What this restore is called: the copy's time and the plan's hash."""
        return f"{self.copy_name.removeprefix('backup-')}-{self.digest}"

    @property
    def schema_name(self) -> str:
        """The schema the tables are brought back into."""
        return f"restore_{names.copy_time(self.copy_name):%Y%m%d%H%M%S}_{self.digest}"

    @property
    def needed_bytes(self) -> int:
        """What must be free on the server's disk."""
        return self.raw_bytes * _ROOM_FACTOR


class RestoredTable(Value):
    """One table that was brought back."""

    name: str = Field(description="as the manifest calls it")
    restored_as: str
    rows: int


def intent(plan: TablePlan) -> str:
    """The one line of a plan in a table."""
    place = f"{plan.target.server}/{plan.target.database}"
    return f"plan {plan.digest}: {len(plan.tables)} tables of {plan.copy_name} to {place}"


def evidence(plan: TablePlan, restored: Iterable[RestoredTable]) -> str:
    """The one line of a restore of tables in a table."""
    found = list(restored)
    place = f"{plan.target.database}, schema {plan.schema_name}"
    if not found:
        return f"the tables of {plan.copy_name} were brought to {place} already"
    rows = sum(table.rows for table in found)
    return f"{len(found)} tables compared, {rows:,} rows of {plan.copy_name} in {place}"


def mark(restore_id: str) -> str:
    """The comment that says a schema is ours and may be dropped when the restore is undone."""
    return f"flowforge: tables of restore {restore_id}"


def find_obstacles(plan: TablePlan, *, source_major: int, copy_failed: bool) -> tuple[str, ...]:
    """What keeps tables from being brought back, each as an instruction."""
    target = plan.target
    found = list(
        restores.place_obstacles(target, source_major=source_major, copy_failed=copy_failed)
    )
    if target.database_oid is None:
        found.append(f"There is no database {target.database!r} to bring them into: create it.")
    elif not plan.may_create_schema:
        found.append(
            f'The role may not create schemas there: GRANT CREATE ON DATABASE "{target.database}"'
            " TO it;"
        )
    if target.foreign_side_database:
        found.append(
            f"A database {plan.side_database!r} exists and is not FlowForge's: rename or drop it."
        )
    if plan.foreign_schema:
        found.append(
            f"A schema {plan.schema_name} exists and is not FlowForge's: rename or drop it."
        )
    if target.free_bytes is not None and target.free_bytes < plan.needed_bytes:
        found.append(
            f"The disk of {target.server} has {target.free_bytes:,} bytes free, the tables need "
            f"{plan.needed_bytes:,}: free the difference."
        )
    return tuple(found)


def same_names(tables: Iterable[tuple[str, ...]]) -> list[str]:
    """Names that tables of several schemas have; in one schema they cannot be together."""
    counted = Counter(parts[-1] for parts in tables)
    return sorted(name for name, times in counted.items() if times > 1)
