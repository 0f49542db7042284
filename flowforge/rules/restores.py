"""A restore is planned, shown, agreed to by its hash, and only then done.

The copy goes into a side database, is compared there, and takes the name of the live one in a
single transaction; the live one is kept under another name. Names follow from the plan alone, so a
restore that was killed finds what it left and goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from pydantic import Field

from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.rules.backups import Level, Proof
from flowforge.rules.comparison import Comparison
from flowforge.rules.masks import Mask
from flowforge.rules.values import Value

_MAX_NAME_BYTES = 63
_HASH_CHARACTERS = 12
_SIDE_MARK = "flowforge: side database of restore "
_ROOM_FACTOR = 1.2  # of the original's size: its rows again, and the log they are written through


class TargetFacts(Value):
    """What was seen of the place to restore to."""

    server: str
    system_identifier: str
    major: int
    database: str
    database_oid: int | None = Field(
        description="the live database's id, or none when there is none"
    )
    database_owner: str | None = None
    sessions: int = Field(default=0, description="sessions that would be ended")
    may_create: bool = Field(description="whether the role may create databases")
    may_rename: bool = Field(description="whether the role owns the live database")
    missing_roles: tuple[str, ...] = ()
    missing_extensions: tuple[str, ...] = ()
    foreign_side_database: bool = Field(
        default=False, description="the side database's name is taken by one that is not ours"
    )
    foreign_kept_database: bool = Field(
        default=False, description="the name the live one would be kept under is taken"
    )
    prepared_transactions: int = Field(
        default=0, description="prepared in the live database, which cannot be renamed with them"
    )
    free_bytes: int | None = Field(
        default=None, description="free on the server's disk, where that can be seen from here"
    )


class RestorePlan(Value):
    """What a restore would do. Two plans with equal `digest` do the same."""

    copy_name: str
    source_server: str
    source_database: str
    store: str
    copy_sha256: str
    copy_level: Level
    snapshot_at: datetime
    planned_at: datetime
    loses_seconds: float = Field(
        description="writes since the snapshot, in seconds, if it is replaced"
    )
    database_bytes: int = Field(description="what the original took on its server's disk")
    target: TargetFacts
    side_database: str
    kept_as: str | None = Field(description="the name the live database gets, if there is one")
    estimated_seconds: float | None = Field(description="from the last drills, or unknown")
    masks: tuple[Mask, ...] = ()
    order: str | None = Field(
        default=None, description="what it is done for, when that is to be done once"
    )
    obstacles: tuple[str, ...] = Field(description="what has to be changed first, as instructions")
    warnings: tuple[str, ...] = ()

    @property
    def needed_bytes(self) -> int:
        """What must be free on the server's disk."""
        return int(self.database_bytes * _ROOM_FACTOR)

    @property
    def digest(self) -> str:
        """The hash somebody agrees to. It leaves out what may change in between without harm."""
        text = "\n".join(
            [
                self.source_server,
                self.source_database,
                self.copy_name,
                self.copy_sha256,
                self.target.server,
                self.target.system_identifier,
                self.target.database,
                str(self.target.database_oid),
                *(mask.model_dump_json() for mask in self.masks),
            ]
        )
        return short_hash(text)

    @property
    def restore_id(self) -> str:
        """What this restore is called: the copy's time and the plan's hash."""
        return f"{self.copy_name.removeprefix('backup-')}-{self.digest}"


def side_database(target: str, copy_name: str) -> str:
    """The name of the database a copy is loaded into before it takes the live one's name."""
    return _derived(target, f"__restore_{_stamp(copy_name)}")


def kept_database(target: str, copy_name: str, oid: int) -> str:
    """The name the live database gets when a copy takes its place."""
    return _derived(target, f"__before_{_stamp(copy_name)}_{oid}")


def undone_database(target: str, oid: int) -> str:
    """The name a restored database gets when its restore is undone."""
    return _derived(target, f"__undone_{oid}")


def mark(restore_id: str, target: str) -> str:
    """The comment that says a side database is ours and may be dropped."""
    return f"{_SIDE_MARK}{restore_id} to {target}"


def is_side_of(comment: str | None, target: str) -> bool:
    """Tell whether a comment says that a database is a side one of a restore to `target`.

    Whichever restore it was: only one at a time goes to a database, so the others are dead.
    """
    text = comment or ""
    return text.startswith(_SIDE_MARK) and text.endswith(f" to {target}")


def order_of(database: str, words: str) -> str:
    """How the comments on databases name what somebody wants done to one of them, once."""
    return short_hash(f"{words}\n{database}")


def short_hash(text: str) -> str:
    """The hash of what a plan does, short enough to be read aloud."""
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARACTERS]


def find_obstacles(
    plan: RestorePlan, *, source_identifier: str, source_major: int, copy_failed: bool
) -> tuple[str, ...]:
    """What keeps a restore from being done, each as an instruction."""
    target = plan.target
    found = list(place_obstacles(target, source_major=source_major, copy_failed=copy_failed))
    if target.database_oid is not None and not target.may_rename:
        found.append(
            f"The role does not own {target.database!r}: use its owner {target.database_owner}."
        )
    if target.prepared_transactions:
        found.append(
            f"{target.database!r} holds {target.prepared_transactions} prepared transactions: "
            "COMMIT PREPARED or ROLLBACK PREPARED those that pg_prepared_xacts lists."
        )
    if target.free_bytes is not None and target.free_bytes < plan.needed_bytes:
        found.append(
            f"The disk of {target.server} has {target.free_bytes:,} bytes free, the restore needs "
            f"{plan.needed_bytes:,}: free the difference."
        )
    for taken, name in (
        (target.foreign_side_database, plan.side_database),
        (target.foreign_kept_database, plan.kept_as),
    ):
        if taken:
            found.append(f"A database {name!r} exists and is not FlowForge's: rename or drop it.")
    is_source = (source_identifier, plan.source_database) == (
        target.system_identifier,
        target.database,
    )
    if plan.masks and is_source:
        found.append(
            "A masked copy would replace the very database it was taken from: "
            "give the clone another name."
        )
    return tuple(found)


def place_obstacles(
    target: TargetFacts, *, source_major: int, copy_failed: bool
) -> tuple[str, ...]:
    """What keeps any part of a copy from being loaded on a server, each as an instruction."""
    found = []
    if copy_failed:
        found.append("The copy failed its last examination: choose another one.")
    if target.major < source_major:
        found.append(
            f"The copy is of PostgreSQL {source_major}, {target.server} is {target.major}: "
            f"restore to a server of {source_major} or newer."
        )
    if not target.may_create:
        found.append(
            f"The role on {target.server} may not create databases: ALTER ROLE ... CREATEDB;"
        )
    if target.missing_roles:
        made = " ".join(f'CREATE ROLE "{role}" NOLOGIN;' for role in target.missing_roles)
        found.append(f"Roles are missing on {target.server}: {made}")
    if target.missing_extensions:
        wanted = ", ".join(target.missing_extensions)
        found.append(f"Extensions are not installed on {target.server}: install {wanted}.")
    return tuple(found)


def check_plan(digest: str, obstacles: Sequence[str], agreed: str | None) -> None:
    """Make sure that what will be done is what somebody agreed to.

    Args:
        digest: The hash of the plan as it is now.
        obstacles: What stands in its way.
        agreed: The hash of the plan somebody read.

    Raises:
        Refused: No plan was agreed to, another one was, or something stands in the way.
    """
    if obstacles:
        raise Refused("The restore cannot be done yet.", hint=" ".join(obstacles))
    if not agreed:
        raise Refused(
            "No plan was agreed to.",
            hint="Run it with action=plan, read the plan, and give its hash as plan_hash.",
        )
    if agreed != digest:
        raise Refused(
            f"The plan is {digest} now, not {agreed}: the copy or the target has changed.",
            hint="Plan again, read what changed, and agree to the new hash.",
        )


def last_measured(proofs: Sequence[Proof]) -> float | None:
    """How long loading a copy took in its last proof, in seconds, or `None` when never tried."""
    measured = [proof.restore_seconds for proof in proofs if proof.restore_seconds is not None]
    return measured[-1] if measured else None


def intent(plan: RestorePlan) -> str:
    """The one line of a plan in a table."""
    place = f"{plan.target.server}/{plan.target.database}"
    return f"plan {plan.digest}: {plan.copy_name} to {place}"


def evidence(plan: RestorePlan, compared: Comparison | None, kept_as: str | None) -> str:
    """The one line of a restore in a table."""
    place = f"{plan.target.server}/{plan.target.database}"
    if compared is None:
        return f"{place} was restored already from {plan.copy_name}"
    kept = f", {len(plan.masks)} columns masked" if plan.masks else ""
    kept += f", old one kept as {kept_as}" if kept_as else ""
    return (
        f"{plan.copy_name} to {place}: {compared.tables_digested} tables compared, "
        f"{compared.rows_compared:,} rows{kept}"
    )


def _derived(target: str, suffix: str) -> str:
    """A name made from another, cut between characters so that it fits."""
    room = _MAX_NAME_BYTES - len(suffix)
    return target.encode()[:room].decode("utf-8", "ignore") + suffix


def _stamp(copy_name: str) -> str:
    return f"{names.copy_time(copy_name):%Y%m%d%H%M%S}"
