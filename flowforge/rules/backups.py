"""What a backup is: the manifest that makes a copy exist, its proofs, its catalogue entry.

The manifest is written last and never edited, so a copy exists exactly when its manifest does.
Proofs are appended next to it. Everything else that speaks of copies, the ledger included, can be
made again from these two.
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field, JsonValue

from flowforge.errors import Refused
from flowforge.rules.values import Value

SCHEMA = 1


class Level(enum.IntEnum):
    """How far a copy has been proven."""

    STORED = 0
    """The store holds as many bytes as the manifest says."""
    READ_BACK = 1
    """Every byte was read, its checksum and its trailer agree."""
    RESTORED = 2
    """It was loaded into a server without an error."""
    COMPARED = 3
    """The restored rows, sequences, large objects and definitions equal those of the snapshot."""
    ANSWERED = 4
    """The owner's own questions were answered from the restored copy."""

    @property
    def label(self) -> str:
        """`L3` and so on."""
        return f"L{self.value}"


class TableFacts(Value):
    """One table's data as it left the source."""

    name: str = Field(description="qualified and quoted as pg_dump wrote it")
    columns: str = Field(description="the column list of its COPY, empty when it has none")
    rows: int
    raw_bytes: int = Field(description="bytes of COPY text")
    digest: str = Field(description="sum of XXH3-128 over the rows modulo 2^128, order-free, hex")
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


Verdict = Literal["proven", "failed", "inconclusive"]


class Proof(Value):
    """One examination of one copy."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    copy_name: str
    level: Level = Field(description="what was tried")
    verdict: Verdict
    checked_at: datetime
    seconds: float
    cause: str | None = Field(default=None, description="why it is not proven")
    differences: tuple[str, ...] = Field(default=(), description="what differs, named, at most 50")
    tables_total: int = 0
    tables_counted: int = 0
    tables_digested: int = 0
    rows_compared: int = 0
    definitions_compared: int = 0
    remarks: tuple[str, ...] = Field(default=(), description="what was left out or weaker, and why")
    restore_seconds: float | None = Field(
        default=None, description="fetch and load, without comparing"
    )
    tool_versions: dict[str, str] = Field(default_factory=dict)

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    def to_json(self) -> bytes:
        """The proof as it is stored."""
        return self.model_dump_json(indent=1).encode()

    def summary(self) -> str:
        """One line: `proven L3: 14 tables compared, 84,210 rows`."""
        text = f"{self.verdict} {self.level.label}"
        if self.level >= Level.COMPARED and self.verdict != "inconclusive":
            part = "" if self.tables_digested == self.tables_total else f" of {self.tables_total}"
            text += f": {self.tables_digested}{part} tables compared, {self.rows_compared:,} rows"
        if self.cause:
            text += f" ({self.cause})"
        return text


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
    engine: str = "pg_dump"
    flow_run_id: str | None = None
    level: Level = Field(default=Level.STORED, description="highest level proven")
    proven_at: datetime | None = Field(default=None, description="when that level was proven")
    failed: bool = Field(default=False, description="whether the newest examination failed")
    warnings: tuple[str, ...] = ()


def catalogue_entry(manifest: Manifest, proofs: list[Proof], store: str) -> Copy:
    """Sum up a manifest and its proofs.

    The level is the highest ever proven. A failed examination takes it all back, until the same or
    a higher level is proven again: reading a copy back does not excuse that it once failed to load.
    """
    level, proven_at, failed_at = Level.STORED, None, None
    for proof in sorted(proofs, key=lambda p: p.checked_at):
        if proof.verdict == "failed":
            level, proven_at, failed_at = Level.STORED, None, proof.level
        elif proof.verdict == "proven" and (failed_at is None or proof.level >= failed_at):
            failed_at = None
            if proof.level >= level:
                level, proven_at = proof.level, proof.checked_at
    failed = failed_at is not None
    return Copy(
        server=manifest.server.name,
        database=manifest.database.name,
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
        level=level,
        proven_at=proven_at,
        failed=failed,
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
    facts: dict[str, JsonValue] = Field(default_factory=dict, description="the result, as JSON")
