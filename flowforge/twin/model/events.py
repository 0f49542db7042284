"""A reply as server-sent events, in the order and the small pieces of the API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from flowforge.twin.model.answers import Part

_PIECE = 7
_PIECES = 64
"""About how many pieces a block is cut into at most."""

_DELTAS = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
_TOOL_DELTA = ("input_json_delta", "partial_json")


@dataclass(frozen=True)
class Event:
    """One event: its name, which is also its type, and what else it says."""

    name: str
    data: dict[str, object]

    def encode(self) -> bytes:
        """The event on the wire."""
        said = json.dumps({"type": self.name, **self.data}, ensure_ascii=False)
        return f"event: {self.name}\ndata: {said}\n\n".encode()


def stream(message: dict[str, object], parts: tuple[Part, ...]) -> Iterator[Event]:
    """Cut a message into its events.

    Args:
        message: As it would be sent whole.
        parts: Its blocks.
    """
    usage = message["usage"]
    assert isinstance(usage, dict)
    begun = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    begun |= {"stop_details": None, "usage": {**usage, "output_tokens": 1}}
    yield Event("message_start", {"message": begun})
    yield Event("ping", {})
    for index, part in enumerate(parts):
        yield from _block(index, part)
    ended = {key: message[key] for key in ("stop_reason", "stop_sequence", "stop_details")}
    yield Event("message_delta", {"delta": ended, "usage": usage})
    yield Event("message_stop", {})


def _block(index: int, part: Part) -> Iterator[Event]:
    opened = part.to_json()
    kind, key = _DELTAS.get(part.kind, _TOOL_DELTA)
    if key == "partial_json":
        opened["input"] = {}
    else:
        opened[key] = ""
    if part.signature:
        opened["signature"] = ""
    yield Event("content_block_start", {"index": index, "content_block": opened})
    # A tool's input begins with an empty piece, as the API sends it.
    for piece in ["", *_pieces(part.text)] if key == "partial_json" else _pieces(part.text):
        yield Event("content_block_delta", {"index": index, "delta": {"type": kind, key: piece}})
    if part.signature:
        signed = {"type": "signature_delta", "signature": part.signature}
        yield Event("content_block_delta", {"index": index, "delta": signed})
    yield Event("content_block_stop", {"index": index})


def _pieces(text: str) -> Iterator[str]:
    length = max(_PIECE, len(text) // _PIECES)
    for start in range(0, len(text), length):
        yield text[start : start + length]
