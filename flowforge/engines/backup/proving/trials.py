"""One attempt to prove a copy: how long its phases take, and how its end is written down."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from flowforge.engines.postgres.installations import Installation
from flowforge.rules.backups import Level, Manifest, Proof


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One attempt on a copy of anything, begun at `clock` (`time.monotonic()`)."""

    copy_name: str
    clock: float
    phases: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Take the time of a phase, also of one that fails."""
        clock = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] = round(time.monotonic() - clock, 3)

    def proof(self, level: Level, verdict: str, **facts: object) -> Proof:
        """The proof of an attempt that ends now, with whatever was found."""
        return Proof.model_validate(
            {
                "copy_name": self.copy_name,
                "level": level,
                "verdict": verdict,
                "checked_at": datetime.now(UTC),
                "seconds": round(time.monotonic() - self.clock, 3),
                "phase_seconds": self.phases,
                **facts,
            }
        )


@dataclass(frozen=True, kw_only=True)
class Trial(Timed):
    """One attempt on a copy of a database."""

    manifest: Manifest
    installation: Installation | None

    def ends(self, level: Level, verdict: str, **facts: object) -> Proof:
        """The proof of an attempt that ends now, with whatever else was found."""
        tools = {"postgres": self.installation.version} if self.installation else {}
        known = {
            "tables_total": len(self.manifest.tables),
            "restore_seconds": self.phases.get("load"),
            "stored_bytes": self.manifest.data.size_bytes if "load" in self.phases else 0,
            "tool_versions": tools,
        }
        return self.proof(level, verdict, **{**known, **facts})
