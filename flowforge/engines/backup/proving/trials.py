"""One attempt to prove a copy: how long its phases take, and how its end is written down."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from flowforge.engines.postgres.installations import Installation
from flowforge.rules.backups import Level, Manifest, Proof


@dataclass(frozen=True)
class Trial:
    """One attempt, begun at `clock` (`time.monotonic()`)."""

    manifest: Manifest
    installation: Installation | None
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

    def ends(self, level: Level, verdict: str, **facts: object) -> Proof:
        """The proof of an attempt that ends now, with whatever else was found."""
        tools = {"postgres": self.installation.version} if self.installation else {}
        return Proof.model_validate(
            {
                "copy_name": self.manifest.name,
                "level": level,
                "verdict": verdict,
                "checked_at": datetime.now(UTC),
                "seconds": round(time.monotonic() - self.clock, 3),
                "tables_total": len(self.manifest.tables),
                "phase_seconds": self.phases,
                "restore_seconds": self.phases.get("load"),
                "stored_bytes": self.manifest.data.size_bytes if "load" in self.phases else 0,
                "tool_versions": tools,
                **facts,
            }
        )
