"""What is answered: a pure function of the request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from flowforge.twin.model import engineer, schemas, script
from flowforge.twin.model.asked import Asked
from flowforge.twin.model.checks import sign
from flowforge.twin.model.models import Model
from flowforge.twin.model.prompts import count_text
from flowforge.twin.model.script import Call, StopReason, Turn

Kind = Literal["text", "thinking", "tool_use", "server_tool_use"]
_CALL_TOKENS = 8
"""What naming a tool costs besides its input."""


@dataclass(frozen=True)
class Part:
    """One block of an answer."""

    kind: Kind
    text: str
    """What is said or thought; of a tool the JSON of its input, cut where the reply was."""

    id: str = ""
    name: str = ""
    signature: str = ""

    def tokens(self) -> int:
        """What it costs to write."""
        return count_text(self.text) + (_CALL_TOKENS if self.id else 0)

    def to_json(self) -> dict[str, object]:
        """The block as it stands in a message."""
        if self.kind == "text":
            return {"type": "text", "text": self.text, "citations": None}
        if self.kind == "thinking":
            return {"type": "thinking", "thinking": self.text, "signature": self.signature}
        return {"type": self.kind, "id": self.id, "name": self.name, "input": self._input()}

    def _input(self) -> object:
        try:
            return json.loads(self.text)
        except ValueError:
            return {}


@dataclass(frozen=True)
class Answer:
    """One reply, before it is priced and sent."""

    id: str
    model: str
    parts: tuple[Part, ...]
    stop: StopReason
    stop_sequence: str | None = None
    stop_details: dict[str, object] | None = None
    usage: dict[str, int] = field(default_factory=dict)
    """Figures that replace the counted ones."""

    seconds: float = 0
    """How long the reply takes."""

    def tokens(self) -> int:
        """All it costs to write."""
        return sum(part.tokens() for part in self.parts)

    def thought(self) -> int:
        """Those of them that were thoughts."""
        return sum(part.tokens() for part in self.parts if part.kind == "thinking")


def answer(asked: Asked, content: bytes, model: Model, prompt_tokens: int) -> Answer:
    """Answer a request.

    Args:
        asked: The request, found to be sensible.
        content: Its bytes; equal bytes get the same answer and the same ids.
        model: The model that is asked for.
        prompt_tokens: Tokens of the prompt, which leave the rest of the window to the answer.

    Raises:
        Rejected: The script in the prompt makes no sense.
    """
    turn = script.find(asked.prompt(), asked.turn()) or engineer.reply(asked)
    turn = _as_asked(turn, asked)
    seed = hashlib.sha256(content).hexdigest()
    stop = turn.stop or ("tool_use" if turn.tools else "end_turn")
    whole = Answer(
        id=f"msg_rehearsal_{seed[:24]}",
        model=asked.model,
        parts=tuple(_parts(turn, stop, seed, asked.model)),
        stop=stop,
        stop_details=_details(turn, stop),
        usage=turn.usage,
        seconds=turn.seconds,
    )
    if stop in ("max_tokens", "model_context_window_exceeded"):
        return _broken_off(whole)
    if stop == "stop_sequence":
        return replace(whole, stop_sequence=next(iter(asked.stop_sequences), None))
    whole = _stopped(whole, asked.stop_sequences)
    window = model.max_input_tokens - prompt_tokens
    if window < asked.max_tokens:
        return _cut(whole, window, "model_context_window_exceeded")
    return _cut(whole, asked.max_tokens, "max_tokens")


def _as_asked(turn: Turn, asked: Asked) -> Turn:
    """Keep to the choice of tools and to the form of a structured answer."""
    choice = asked.tool_choice
    tools = turn.tools
    if choice and choice.type == "none":
        tools = ()
    elif choice and choice.type in ("any", "tool") and turn.stop is None:
        named = tuple(call for call in tools if choice.name in (None, call.name))
        tools = named or (_forced(asked, choice.name),)
    if choice and choice.disable_parallel_tool_use:
        tools = tools[:1]
    text = turn.text
    form = asked.output_config.format if asked.output_config else None
    if form and not tools and turn.stop in (None, "end_turn"):
        value = schemas.example(form.schema_) if turn.output is None else turn.output
        text = json.dumps(value, ensure_ascii=False)
    return turn.model_copy(update={"tools": tools, "text": text})


def _forced(asked: Asked, name: str | None) -> Call:
    tool = next(tool for tool in asked.tools if name in (None, tool.name))
    value = schemas.example(tool.input_schema or {"type": "object"})
    return Call.model_validate({"name": tool.name, "input": value})


def _parts(turn: Turn, stop: StopReason, seed: str, model: str) -> Iterator[Part]:
    if turn.thinking:
        yield Part("thinking", turn.thinking, signature=sign(model, turn.thinking))
    if turn.text:
        yield Part("text", turn.text)
    for number, call in enumerate(turn.tools):
        given = json.dumps(call.input, ensure_ascii=False)
        yield Part("tool_use", given, f"toolu_rehearsal_{seed[:20]}{number:02d}", call.name)
    if stop == "pause_turn":
        # A turn pauses only while the API itself runs a tool.
        query = json.dumps({"query": "rehearsal"})
        yield Part("server_tool_use", query, f"srvtoolu_rehearsal_{seed[:20]}", "web_search")


def _details(turn: Turn, stop: StopReason) -> dict[str, object] | None:
    if stop != "refusal":
        return None
    explanation = "The script of this rehearsal refuses here."
    return {"type": "refusal", "category": turn.category, "explanation": explanation}


def _stopped(whole: Answer, sequences: list[str]) -> Answer:
    """End before the first stop sequence that occurs in what is said."""
    for number, part in enumerate(whole.parts):
        places = [(part.text.find(one), one) for one in sequences if part.kind == "text"]
        found = min((place for place in places if place[0] >= 0), default=None)
        if found is None:
            continue
        kept = replace(part, text=part.text[: found[0]])
        parts = (*whole.parts[:number], *([kept] if kept.text else []))
        return replace(whole, parts=parts, stop="stop_sequence", stop_sequence=found[1])
    return whole


def _broken_off(whole: Answer) -> Answer:
    """End in the middle of the last block, if that is a tool's input."""
    if not whole.parts or whole.parts[-1].kind != "tool_use":
        return whole
    last = whole.parts[-1]
    half = replace(last, text=last.text[: len(last.text) // 2])
    return replace(whole, parts=(*whole.parts[:-1], half))


def _cut(whole: Answer, limit: int, reason: StopReason) -> Answer:
    """End where the tokens do."""
    kept: list[Part] = []
    for part in whole.parts:
        if part.tokens() > limit:
            room = limit - (part.tokens() - count_text(part.text))
            text = part.text.encode()[: max(0, room) * 4].decode(errors="ignore")
            if text or (part.id and room >= 0):
                kept.append(replace(part, text=text))
            return replace(whole, parts=tuple(kept), stop=reason, stop_details=None)
        kept.append(part)
        limit -= part.tokens()
    return whole
