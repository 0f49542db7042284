"""What a tool takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class ToolInput(BaseModel):
    """What a model wrote: no value is bent into the type that was asked for."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


@dataclass(frozen=True)
class ToolResult:
    """What the model is told, and what the brain does with it."""

    content: str
    is_error: bool = False
    changed: bool = False
    """Whether the workspace may be another one now."""

    artifact: Path | None = None
    """All of the output, masked, when the model was not shown all of it."""
