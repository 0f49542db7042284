"""How far a copy has been proven, and what one examination of it found.

Proofs are added beside a copy and never edited. What counts of each, its level, verdict and moment,
is also in its key, so that ten thousand copies can be listed without reading one proof.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple

from pydantic import ConfigDict, Field

from flowforge.rules.values import Value

_SCHEMA = 1
Verdict = Literal["proven", "failed", "inconclusive"]


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


class Answer(Value):
    """What the restored copy said to one question. It holds one value, never rows."""

    name: str
    verdict: Verdict
    answer: str = Field(default="", description="the single value, shortened to 200 characters")
    expected: str = Field(description="what had to be so")
    cause: str | None = Field(default=None, description="why there is no good answer")
    seconds: float = 0.0

    def line(self) -> str:
        """One line: `orders of today: 412 (>= 1) proven`."""
        said = self.cause or self.answer
        return f"{self.name}: {said} ({self.expected}) {self.verdict}"


class ProofMark(NamedTuple):
    """What counts of a proof: how much it tried, how it ended, when."""

    level: Level
    verdict: Verdict
    checked_at: datetime


class Proof(Value):
    """One examination of one copy."""

    schema_version: int = Field(default=_SCHEMA, alias="schema")
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
    indexes_checked: int = Field(default=0, description="indexes compared with their table's rows")
    answers: tuple[Answer, ...] = Field(default=(), description="what the copy said when asked")
    remarks: tuple[str, ...] = Field(default=(), description="what was left out or weaker, and why")
    restore_seconds: float | None = Field(
        default=None, description="fetch and load, without comparing"
    )
    phase_seconds: dict[str, float] = Field(
        default_factory=dict, description="seconds of each phase, in the order they ran"
    )
    stored_bytes: int = Field(default=0, description="bytes read from the store")
    tool_versions: dict[str, str] = Field(default_factory=dict)
    contents: str | None = Field(
        default=None, description="what was compared, where that is not tables and their rows"
    )
    content_digest: str | None = Field(
        default=None, description="of all keys and values of a Redis, to compare proofs by"
    )

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    @property
    def mark(self) -> ProofMark:
        """What counts of it."""
        return ProofMark(self.level, self.verdict, self.checked_at)

    def to_json(self) -> bytes:
        """The proof as it is stored."""
        return self.model_dump_json(indent=1).encode()

    def summary(self) -> str:
        """One line: `proven L3: 14 tables compared, 84,210 rows`."""
        text = f"{self.verdict} {self.level.label}"
        if self.contents:
            text += f": {self.contents}"
        elif self.level >= Level.COMPARED and self.verdict != "inconclusive":
            part = "" if self.tables_digested == self.tables_total else f" of {self.tables_total}"
            text += f": {self.tables_digested}{part} tables compared, {self.rows_compared:,} rows"
        if self.answers:
            good = sum(answer.verdict == "proven" for answer in self.answers)
            text += f", {good} of {len(self.answers)} questions answered"
        if self.cause:
            text += f" ({self.cause})"
        return text


class Standing(NamedTuple):
    """What all proofs of a copy say together."""

    level: Level
    proven_at: datetime | None
    failed: bool


def standing_of(marks: Iterable[ProofMark]) -> Standing:
    """Sum up the proofs of one copy.

    The level is the highest ever proven. A failed examination takes it all back, until the same or
    a higher level is proven again: reading a copy back does not excuse that it once failed to load.
    Questions are put only to a copy that was compared, so a wrong answer speaks against what the
    source held and not against the copy, which stays at L3.
    """
    level, proven_at, failed_at = Level.STORED, None, None
    for mark in sorted(marks, key=lambda mark: mark.checked_at):
        if (mark.level, mark.verdict) == (Level.ANSWERED, "failed"):
            level, proven_at, failed_at = Level.COMPARED, mark.checked_at, None
        elif mark.verdict == "failed":
            level, proven_at, failed_at = Level.STORED, None, mark.level
        elif mark.verdict == "proven" and (failed_at is None or mark.level >= failed_at):
            failed_at = None
            if mark.level >= level:
                level, proven_at = mark.level, mark.checked_at
    return Standing(level, proven_at, failed_at is not None)
