"""What a person said of one copy: that it must stay, or that its fall in size is right."""

from __future__ import annotations

from datetime import datetime

from pydantic import ConfigDict, Field

from flowforge.errors import Refused
from flowforge.rules.values import Value

_LONGEST = 500


class Word(Value):
    """A person's word on a copy, kept beside it."""

    schema_version: int = Field(default=1, alias="schema")
    copy_name: str
    reason: str
    by: str = Field(description="who said it")
    at: datetime

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    def to_json(self) -> bytes:
        """The word as it is stored."""
        return self.model_dump_json(indent=1).encode()


def check_reason(text: str) -> str:
    """Return a reason or a name, on one line.

    Raises:
        Refused: It is empty or a novel.
    """
    line = " ".join(text.split())
    if not line or len(line) > _LONGEST:
        raise Refused(
            "A copy is held or accepted for a reason, by somebody.",
            hint=f"Give both, in 1 to {_LONGEST} characters: the next person will read them.",
        )
    return line
