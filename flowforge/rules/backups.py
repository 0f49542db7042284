"""What a backup is: the manifest that makes a copy exist, its proofs, its catalogue entry.

The manifest is written last and never edited, so a copy exists exactly when its manifest does.
Proofs are appended next to it. Everything else that speaks of copies, the ledger included, can be
made again from these two.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field, JsonValue

from flowforge.errors import Refused
from flowforge.rules.proofs import Level as Level
from flowforge.rules.proofs import Proof as Proof
from flowforge.rules.proofs import ProofMark, standing_of
from flowforge.rules.proofs import Verdict as Verdict
from flowforge.rules.values import Value

SCHEMA = 1


class TableFacts(Value):
    """One table's data as it left the source."""

    name: str = Field(description="qualified and quoted as pg_dump wrote it")
    columns: str = Field(description="the column list of its COPY, empty when it has none")
    rows: int
    raw_bytes: int = Field(description="bytes of COPY text")
    digest: str = Field(description="sum of XXH3-64 over the rows modulo 2^64, order-free, hex")
    counted: int | None = Field(
        default=None, description="rows counted by the source itself in the same snapshot"
    )


class SequenceFacts(Value):
    """A sequence as the dump sets it."""

    name: str
    value: int
    is_called: bool


class LargeObjectFacts(Value):
    """All large objects together."""

    count: int = 0
    total_bytes: int = 0
    digest: str = "0" * 32


class DatabaseFacts(Value):
    """The database a copy was taken from."""

    name: str
    oid: int
    encoding: str
    collate: str
    ctype: str
    locale_provider: str = "libc"
    icu_locale: str | None = None
    owner: str
    size_bytes: int
    lc_monetary: str = "C"
    settings: tuple[str, ...] = Field(
        default=(), description="ALTER DATABASE ... SET values as name=value"
    )
    tablespaces: tuple[str, ...] = Field(
        default=(), description="where it lay, beside the server's default one"
    )


class ServerFacts(Value):
    """The server a copy was taken from."""

    name: str
    system_identifier: str
    version_num: int
    version: str
    is_replica: bool

    @property
    def major(self) -> int:
        """The major version, for example 18."""
        return self.version_num // 10000


class Member(Value):
    """One gzip member of an object: text that can be inflated and loaded by itself."""

    kind: Literal["before-data", "rows", "large-objects", "sequences", "after-data", "trailer"]
    table: str | None = Field(default=None, description="the table whose rows it holds")
    offset: int = Field(description="where it begins in the gzip stream")
    size_bytes: int
    raw_bytes: int
    rows: int = 0
    sha256: str
    pages: tuple[int, int | None] | None = Field(
        default=None, description="heap pages its rows were read from, when the table was cut"
    )


class StoredObject(Value):
    """The one object that holds the data."""

    key: str
    size_bytes: int
    raw_bytes: int
    sha256: str
    codec: Literal["gzip"] = "gzip"
    trailer: str = Field(description="the last line of the uncompressed text")
    members: tuple[Member, ...] = Field(
        default=(), description="where each gzip member lies; empty for a single one"
    )


class Seal(Value):
    """How a copy is encrypted: to a key of its own, which is wrapped to every recipient."""

    format: Literal["age"] = "age"
    copy_recipient: str = Field(description="the public half of the copy's own key")
    recipients: tuple[str, ...] = Field(description="public keys it was wrapped to at first")
    size_bytes: int = Field(description="of the gzip stream inside")
    sha256: str = Field(description="of the gzip stream inside")


class RunFacts(Value):
    """Which run made the copy, and where."""

    flow_run_id: str | None = None
    flow_run_name: str | None = None
    deployment: str | None = None
    host: str = ""
    flowforge: str = ""


class Manifest(Value):
    """Everything known of a copy when it was committed. No secret, no row value."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    name: str
    engine: Literal["members", "pg_dump"] = "pg_dump"
    tool_versions: dict[str, str]
    run: RunFacts
    server: ServerFacts
    database: DatabaseFacts
    started_at: datetime
    snapshot_at: datetime
    finished_at: datetime
    seconds: float
    extensions: dict[str, str] = Field(default_factory=dict)
    roles_needed: tuple[str, ...] = ()
    definitions: dict[str, str] = Field(
        description="what exists (`table public.orders`) and a digest of its definition"
    )
    schema_sha256: str
    tables: tuple[TableFacts, ...]
    sequences: tuple[SequenceFacts, ...] = ()
    large_objects: LargeObjectFacts = LargeObjectFacts()
    data: StoredObject
    seal: Seal | None = Field(default=None, description="none when the copy is not encrypted")
    globals_data: StoredObject | None = Field(
        default=None, description="roles and settings of the server, copied beside the database"
    )
    warnings: tuple[str, ...] = ()

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def parts(self) -> tuple[Member, ...]:
        """The gzip members of the object; one for all of it when it was written as one."""
        data = self.data
        whole = Member(
            kind="before-data",
            offset=0,
            size_bytes=self.seal.size_bytes if self.seal else data.size_bytes,
            raw_bytes=data.raw_bytes,
            rows=self.rows,
            sha256=self.gzip_sha256,
        )
        return data.members or (whole,)

    @property
    def gzip_sha256(self) -> str:
        """Digest of the gzip stream, which is inside the seal when there is one."""
        return self.seal.sha256 if self.seal else self.data.sha256

    def to_json(self) -> bytes:
        """The manifest as it is stored."""
        return self.model_dump_json(indent=1).encode()


def read_manifest(text: bytes) -> Manifest:
    """Read a stored manifest.

    Raises:
        Refused: It was written by a newer FlowForge, or it is not a manifest.
    """
    try:
        return Manifest.model_validate_json(text)
    except ValueError as error:
        raise Refused(
            "A stored manifest cannot be read by this FlowForge.",
            hint="Upgrade FlowForge, or look at the file: another version wrote it, or somebody.",
        ) from error


class Copy(Value):
    """A catalogue entry: what the store says of one copy, short enough for a list."""

    server: str
    database: str
    name: str
    store: str
    snapshot_at: datetime
    finished_at: datetime
    size_bytes: int
    raw_bytes: int
    tables: int
    rows: int
    system_identifier: str
    database_oid: int | None = Field(default=None, description="the database's id on its server")
    engine: str = "pg_dump"
    flow_run_id: str | None = None
    level: Level = Field(default=Level.STORED, description="highest level proven")
    proven_at: datetime | None = Field(default=None, description="when that level was proven")
    failed: bool = Field(default=False, description="whether the newest examination failed")
    held: bool = Field(default=False, description="whether somebody said that it must stay")
    fall: str | None = Field(
        default=None,
        description="how much less it holds than the copy before, unless that was accepted",
    )
    warnings: tuple[str, ...] = ()


def catalogue_entry(manifest: Manifest, marks: Iterable[ProofMark], store: str) -> Copy:
    """Sum up a manifest and what counts of its proofs."""
    standing = standing_of(marks)
    return Copy(
        server=manifest.server.name,
        database=manifest.database.name,
        database_oid=manifest.database.oid,
        name=manifest.name,
        store=store,
        snapshot_at=manifest.snapshot_at,
        finished_at=manifest.finished_at,
        size_bytes=manifest.data.size_bytes,
        raw_bytes=manifest.data.raw_bytes,
        tables=len(manifest.tables),
        rows=manifest.rows,
        system_identifier=manifest.server.system_identifier,
        engine=manifest.engine,
        flow_run_id=manifest.run.flow_run_id,
        level=standing.level,
        proven_at=standing.proven_at,
        failed=standing.failed,
        warnings=manifest.warnings,
    )


class Operation(Value):
    """One finished operation and its evidence, as the ledger keeps it."""

    operation: str = Field(description="`backup`, `restore`, `restore-drill` ...")
    flow_run_id: str
    flow_run_name: str
    outcome: str = Field(description="`done`, `skipped`, `failed`, `refused`, `damaged`")
    evidence: str = Field(description="one line for a person")
    seconds: float
    finished_at: datetime
    server: str | None = Field(default=None, description="what it was about, once that was known")
    database: str | None = None
    facts: dict[str, JsonValue] = Field(default_factory=dict, description="the result, as JSON")
