"""How far a copy is proven, and how much time that may take."""

from __future__ import annotations

from pydantic import Field

from flowforge.rules.values import Value


class ProofPolicy(Value):
    """How far a new copy is proven before the backup says it is done."""

    restore: bool = Field(
        default=True, description="restore the copy on a scratch server and compare it (L3)"
    )
    budget_seconds: float = Field(
        default=600, ge=0, description="seconds for hashing restored tables; the rest is counted"
    )
    largest_bytes: int = Field(
        default=20 * 1024**3,
        gt=0,
        description="leave larger databases to the weekly drill, which has more time",
    )


STANDARD_PROOF = ProofPolicy()
DRILL_PROOF = ProofPolicy(budget_seconds=4 * 3600, largest_bytes=1024**5)
