"""A reply as it streams in, put together word for word from its events.

The SDK's own helper builds a typed value for each event, and the whole message anew with it; that
takes more of the processor than all else a call needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

OnText = Callable[[str], None]

_GROWS = {"text_delta": "text", "thinking_delta": "thinking"}


class Malformed(ValueError):
    """What the model wrote as the input of a tool is no JSON."""


class Reading:
    """A message that is not there as a whole yet.

    Args:
        on_text: Told the text as it comes.
    """

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._message: dict[str, Any] | None = None
        self._inputs: dict[int, list[str]] = {}
        self.is_begun = False
        """Whether anything of it has come, so that it may be billed."""

        self.is_whole = False
        """Whether its last event has come."""

    def take(self, event: Mapping[str, Any]) -> None:
        """Go on by an event; one of a kind that is not known is passed over.

        Raises:
            LookupError: It does not follow those before it.
        """
        self.is_begun = True
        kind = event["type"]
        if kind == "message_start":
            self._message = dict(event["message"])
            self._message["content"] = list(self._message["content"])
        elif kind == "content_block_start":
            self._so_far["content"].append(dict(event["content_block"]))
        elif kind == "content_block_delta":
            self._grow(event["index"], event["delta"])
        elif kind == "message_delta":
            self._so_far.update(_told(event["delta"]))
            self._so_far["usage"] = {**self._so_far["usage"], **_told(event.get("usage", {}))}
        elif kind == "message_stop":
            self.is_whole = True

    def message(self) -> dict[str, Any]:
        """The message, once it is whole.

        Raises:
            Malformed: The input of a tool is no JSON. One that was cut off for its length is
                taken as empty: such a tool is not run.
        """
        message = self._so_far
        for index, parts in self._inputs.items():
            if written := "".join(parts):
                is_cut = message.get("stop_reason") == "max_tokens"
                message["content"][index]["input"] = _input(written, is_cut=is_cut)
        return message

    @property
    def _so_far(self) -> dict[str, Any]:
        if self._message is None:
            raise LookupError("the reply has no beginning")
        return self._message

    def _grow(self, index: int, delta: Mapping[str, Any]) -> None:
        block, kind = self._so_far["content"][index], delta["type"]
        if kind in _GROWS:
            name = _GROWS[kind]
            block[name] = block.get(name, "") + delta[name]
            if kind == "text_delta":
                self._on_text(delta["text"])
        elif kind == "input_json_delta":
            self._inputs.setdefault(index, []).append(delta["partial_json"])
        elif kind == "signature_delta":
            block["signature"] = delta["signature"]
        elif kind == "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]


def _told(parts: Mapping[str, Any]) -> dict[str, Any]:
    """What is said at all: what is left empty at the end stays as it was at the beginning."""
    return {name: value for name, value in parts.items() if value is not None}


def _input(written: str, *, is_cut: bool) -> Any:
    try:
        return json.loads(written, parse_constant=_refuse)
    except ValueError as error:
        if is_cut:
            return {}
        raise Malformed("the input of a tool is no JSON") from error


def _refuse(constant: str) -> Any:
    raise ValueError(constant)
