"""A script in the prompt: what the rehearsal model says, reply by reply.

    ```rehearsal
    - text: I look around.
      tools: [{bash: ls -a}, {edit: {command: view, path: README.md}}]
    - {text: Done., stop: end_turn}
    ```

Which reply is played is the number of replies the conversation already has. After the last one
its text is said again, without tools, as the end.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Literal

import yaml
from pydantic import Field, JsonValue, TypeAdapter, ValidationError, field_validator

from flowforge.rules.values import Value
from flowforge.twin.model.problems import Rejected

EDIT = "str_replace_based_edit_tool"
StopReason = Literal[
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
]
Category = Literal["cyber", "bio", "frontier_llm", "reasoning_extraction", "general_harms"]
_FENCE = re.compile(r"^[ \t]*```rehearsal[ \t]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)


class Call(Value):
    """One use of a tool."""

    name: str
    input: dict[str, JsonValue]


class Turn(Value):
    """One reply."""

    text: str = ""
    thinking: str = Field(default="", description="Thought before the text")
    tools: tuple[Call, ...] = Field(
        default=(), description="`{bash: COMMAND}`, `{edit: INPUT}` or `{NAME: INPUT}` each"
    )
    stop: StopReason | None = Field(
        default=None, description="tool_use when there are tools, else end_turn"
    )
    category: Category | None = Field(default=None, description="Why it is refused")
    output: JsonValue = Field(default=None, description="The value of a structured answer")
    usage: dict[str, int] = Field(
        default_factory=dict, description="Tokens reported in place of those counted"
    )
    seconds: float = Field(default=0, ge=0, le=3600, description="How long the reply takes")
    repeat: int = Field(default=1, ge=1, le=100_000, description="How many replies are like it")

    @field_validator("tools", mode="before")
    @classmethod
    def _named(cls, entries: object) -> object:
        return [_call(entry) for entry in entries] if isinstance(entries, list) else entries


def find(prompt: str, turn: int) -> Turn | None:
    """The reply a script in the prompt has for this turn; nothing when there is no script.

    Args:
        prompt: What the first message says.
        turn: How many replies there were.

    Raises:
        Rejected: There is a script, and it makes no sense.
    """
    fence = _FENCE.search(prompt)
    if fence is None:
        return None
    turns = _read(fence[1])
    for candidate in turns:
        if turn < candidate.repeat:
            return candidate
        turn -= candidate.repeat
    return Turn(text=turns[-1].text or "The script is over.", output=turns[-1].output)


@lru_cache(maxsize=256)
def _read(text: str) -> tuple[Turn, ...]:
    try:
        turns = TypeAdapter(tuple[Turn, ...]).validate_python(_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        raise Rejected(400, f"the script in the prompt: {error}") from None
    if not turns:
        raise Rejected(400, "the script in the prompt has no turn")
    return turns


def _load(text: str) -> object:
    try:
        return json.loads(text)  # YAML reads it too, but slowly, and no emoji in it
    except ValueError:
        return yaml.safe_load(text)


def _call(entry: object) -> object:
    if not isinstance(entry, dict) or len(entry) != 1:
        return entry
    ((name, given),) = entry.items()
    if name == "bash" and isinstance(given, str):
        return {"name": name, "input": {"command": given}}
    return {"name": EDIT if name == "edit" else name, "input": given}
