"""What a copy of a Redis is, and what it takes to call one good.

A Redis cannot be asked how much it held at the moment of a snapshot: it goes on changing. So what a
copy is compared with comes from the snapshot itself. The source writes into it how many keys each
database has and how many of them expire, and ends it with a CRC-64 over every byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field

from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.rules.backups import Copy, Member, RunFacts, Seal, StoredObject
from flowforge.rules.proofs import ProofMark, standing_of
from flowforge.rules.values import Value

SCHEMA = 1


class KeyCounts(Value):
    """How much one numbered database of a Redis holds.

    No field of a value may be called `keys`: Prefect would take the value for a mapping.
    """

    key_count: int
    expires: int = Field(default=0, description="how many of them have a time to live")


class RedisFacts(Value):
    """The Redis a copy was taken from."""

    name: str
    version: str
    run_id: str = Field(description="changes with every start of the server")
    is_replica: bool
    used_memory_bytes: int = Field(description="what its data took in its memory")
    keyspace: dict[int, KeyCounts] = Field(
        default_factory=dict,
        description="what it said of its databases just before; the snapshot itself may differ",
    )


class RdbFacts(Value):
    """What `redis-check-rdb` found in an RDB file by reading all of it."""

    rdb_version: int
    size_bytes: int
    key_count: int
    expires: int
    crc64: str | None = Field(description="as the source wrote it; none when it writes none")
    created_at: datetime | None = Field(description="by the source's clock, to the second")
    replication_id: str | None = None
    replication_offset: int | None = Field(
        default=None, description="how far the source's changes are in it"
    )
    database_offsets: dict[int, int] = Field(
        default_factory=dict, description="where in the file the contents of each database begin"
    )


class Whole(Value):
    """All databases of a Redis, which are copied together."""

    name: str = names.WHOLE


class RedisManifest(Value):
    """Everything known of a copy of a Redis when it was committed. No secret, no key, no value."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    name: str
    engine: Literal["redis"] = "redis"
    tool_versions: dict[str, str]
    run: RunFacts
    server: RedisFacts
    started_at: datetime
    snapshot_at: datetime
    finished_at: datetime
    seconds: float
    rdb: RdbFacts
    data: StoredObject
    seal: Seal | None = Field(default=None, description="none when the copy is not encrypted")
    warnings: tuple[str, ...] = ()

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    @property
    def database(self) -> Whole:
        """What was copied of the server: everything."""
        return Whole()

    @property
    def globals_data(self) -> StoredObject | None:
        """Nothing is copied beside an RDB file."""
        return None

    @property
    def parts(self) -> tuple[Member, ...]:
        """The one gzip member of the object."""
        return (
            Member(
                kind="rows",
                offset=0,
                size_bytes=self.seal.size_bytes if self.seal else self.data.size_bytes,
                raw_bytes=self.data.raw_bytes,
                rows=self.rdb.key_count,
                sha256=self.gzip_sha256,
            ),
        )

    @property
    def gzip_sha256(self) -> str:
        """Digest of the gzip stream, which is inside the seal when there is one."""
        return self.seal.sha256 if self.seal else self.data.sha256

    def to_json(self) -> bytes:
        """The manifest as it is stored."""
        return self.model_dump_json(indent=1).encode()


def read_redis_manifest(text: bytes) -> RedisManifest:
    """Read a stored manifest.

    Raises:
        Refused: It was written by a newer FlowForge, or it is not a manifest.
    """
    try:
        return RedisManifest.model_validate_json(text)
    except ValueError as error:
        raise Refused(
            "A stored manifest of a Redis copy cannot be read by this FlowForge.",
            hint="Upgrade FlowForge, or look at the file: another version wrote it, or somebody.",
        ) from error


def redis_entry(manifest: RedisManifest, marks: Iterable[ProofMark], store: str) -> Copy:
    """Sum up a manifest and what counts of its proofs.

    A Redis has no identity that outlives a restart, so the name it is registered under is one.
    """
    standing = standing_of(marks)
    return Copy(
        server=manifest.server.name,
        database=names.WHOLE,
        name=manifest.name,
        store=store,
        snapshot_at=manifest.snapshot_at,
        finished_at=manifest.finished_at,
        size_bytes=manifest.data.size_bytes,
        raw_bytes=manifest.data.raw_bytes,
        tables=len(manifest.rdb.database_offsets),
        rows=manifest.rdb.key_count,
        system_identifier=f"redis {manifest.server.name}",
        engine=manifest.engine,
        flow_run_id=manifest.run.flow_run_id,
        level=standing.level,
        proven_at=standing.proven_at,
        failed=standing.failed,
        warnings=manifest.warnings,
    )


def compare_loaded(
    announced: Mapping[int, KeyCounts], loaded: Mapping[int, KeyCounts]
) -> tuple[str, ...]:
    """Name every database that holds something else than its snapshot says.

    Args:
        announced: What the source wrote into the snapshot.
        loaded: What a server holds that loaded it and lets nothing expire.
    """
    nothing = KeyCounts(key_count=0)
    found = []
    for number in sorted(announced.keys() | loaded.keys()):
        wanted, has = announced.get(number, nothing), loaded.get(number, nothing)
        if wanted != has:
            found.append(
                f"database {number}: {has.key_count:,} keys loaded, {has.expires:,} of them "
                f"expire; the snapshot says {wanted.key_count:,} and {wanted.expires:,}"
            )
    return tuple(found)


def compare_files(written: RdbFacts, read: RdbFacts) -> tuple[str, ...]:
    """Name every fact in which an RDB file differs from what it was when it was copied."""
    return tuple(
        f"{field}: {getattr(read, field)}, was {getattr(written, field)} when it was copied"
        for field in ("size_bytes", "key_count", "expires", "crc64")
        if getattr(read, field) != getattr(written, field)
    )
