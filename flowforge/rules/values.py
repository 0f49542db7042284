"""The base of every value that crosses a floor: frozen, strict about unknown fields, JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """A frozen value. Two with equal fields are the same thing."""

    model_config = ConfigDict(frozen=True, extra="forbid")
