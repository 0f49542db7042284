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
from flowforge.rules.values import Value

_MAX_NAME_BYTES = 63
_HASH_CHARACTERS = 12


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
    estimated_seconds: float | None = Field(description="what the last proof took, or unknown")
    obstacles: tuple[str, ...] = Field(description="what has to be changed first, as instructions")
    warnings: tuple[str, ...] = ()

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
            ]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARACTERS]

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


def mark(restore_id: str) -> str:
    """The comment that says a side database is ours and may be dropped."""
    return f"flowforge: side database of restore {restore_id}"


def kept_mark(restore_id: str) -> str:
    """The comment on the database that was live before a restore."""
    return f"flowforge: kept from before restore {restore_id}"


def find_obstacles(
    target: TargetFacts, *, source_major: int, copy_failed: bool, side: str
) -> tuple[str, ...]:
    """What keeps a restore from being done, each as an instruction."""
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
    if target.database_oid is not None and not target.may_rename:
        found.append(
            f"The role does not own {target.database!r}: use its owner {target.database_owner}."
        )
    if target.missing_roles:
        made = " ".join(f'CREATE ROLE "{role}" NOLOGIN;' for role in target.missing_roles)
        found.append(f"Roles are missing on {target.server}: {made}")
    if target.missing_extensions:
        wanted = ", ".join(target.missing_extensions)
        found.append(f"Extensions are not installed on {target.server}: install {wanted}.")
    if target.foreign_side_database:
        found.append(f"A database {side!r} exists and is not FlowForge's: rename or drop it.")
    return tuple(found)


def check_plan(plan: RestorePlan, agreed: str | None) -> None:
    """Make sure that what will be done is what somebody agreed to.

    Raises:
        Refused: No plan was agreed to, another one was, or something stands in the way.
    """
    if plan.obstacles:
        raise Refused("The restore cannot be done yet.", hint=" ".join(plan.obstacles))
    if not agreed:
        raise Refused(
            "No plan was agreed to.",
            hint="Run it with action=plan, read the plan, and give its hash as plan_hash.",
        )
    if agreed != plan.digest:
        raise Refused(
            f"The plan is {plan.digest} now, not {agreed}: the copy or the target has changed.",
            hint="Plan again, read what changed, and agree to the new hash.",
        )


def estimate(proofs: Sequence[Proof]) -> float | None:
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
    kept = f", old one kept as {kept_as}" if kept_as else ""
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
