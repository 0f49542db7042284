from __future__ import annotations

from typing import Any

import pytest

from flowforge.engines.agent.reading import Malformed, Reading

START: dict[str, Any] = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "content": [],
        "stop_reason": None,
        "container": {"id": "c"},
        "usage": {"input_tokens": 7, "cache_read_input_tokens": 5, "output_tokens": 1},
    },
}
STOP = {"type": "message_stop"}


def block(index: int, begin: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of one block of a reply."""
    return [
        {"type": "content_block_start", "index": index, "content_block": begin},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def a_tool(*pieces: str) -> list[dict[str, Any]]:
    begin = {"type": "tool_use", "id": "t", "name": "bash", "input": {}}
    deltas = ({"type": "input_json_delta", "partial_json": piece} for piece in pieces)
    return block(0, begin, *deltas)


def end(stop_reason: str, **usage: object) -> list[dict[str, Any]]:
    delta = {"stop_reason": stop_reason, "stop_sequence": None, "container": None}
    return [{"type": "message_delta", "delta": delta, "usage": usage}, STOP]


def read(*events: dict[str, Any]) -> tuple[Reading, list[str]]:
    shown: list[str] = []
    reading = Reading(shown.append)
    for event in events:
        reading.take(event)
    return reading, shown


def test_a_reply_is_put_together_word_for_word() -> None:
    thought = block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Hm"},
        {"type": "thinking_delta", "thinking": "m."},
        {"type": "signature_delta", "signature": "signed"},
    )
    text = block(
        1,
        {"type": "text", "text": "", "citations": None},
        {"type": "text_delta", "text": "Go"},
        {"type": "citations_delta", "citation": {"cited_text": "x"}},
        {"type": "text_delta", "text": "od."},
        {"type": "of_tomorrow", "words": "passed over"},
    )
    reading, shown = read(START, *thought, *text, *end("end_turn"))
    assert reading.is_whole
    assert reading.message()["content"] == [
        {"type": "thinking", "thinking": "Hmm.", "signature": "signed"},
        {"type": "text", "text": "Good.", "citations": [{"cited_text": "x"}]},
    ]
    assert shown == ["Go", "od."]


def test_what_is_said_at_the_end_beats_the_beginning_and_silence_does_not() -> None:
    told = end("end_turn", output_tokens=40, cache_read_input_tokens=None)
    message = read(START, *told)[0].message()
    assert message["stop_reason"] == "end_turn"
    assert message["container"] == {"id": "c"}
    assert message["usage"] == {
        "input_tokens": 7,
        "cache_read_input_tokens": 5,
        "output_tokens": 40,
    }
    assert START["message"]["usage"]["output_tokens"] == 1


def test_the_input_of_a_tool_is_read_when_all_of_it_is_there() -> None:
    pieces = ("", '{"comm', 'and": "ls \\u00e9"}')
    message = read(START, *a_tool(*pieces), *end("tool_use"))[0].message()
    assert message["content"][0]["input"] == {"command": "ls é"}
    assert read(START, *a_tool(""), *end("tool_use"))[0].message()["content"][0]["input"] == {}


@pytest.mark.parametrize("written", ['{"command": "ls', '{"n": NaN}', "{]"])
def test_an_input_that_is_no_json_is_no_reply(written: str) -> None:
    reading, _ = read(START, *a_tool(written), *end("tool_use"))
    with pytest.raises(Malformed, match="no JSON"):
        reading.message()


def test_an_input_that_was_cut_off_for_its_length_is_empty() -> None:
    reading, _ = read(START, *a_tool('{"command": "ls'), *end("max_tokens"))
    assert reading.message()["content"][0]["input"] == {}


def test_a_reply_without_a_beginning_or_an_end_is_not_whole() -> None:
    reading, _ = read(START, *a_tool("{}"))
    assert (reading.is_begun, reading.is_whole) == (True, False)
    with pytest.raises(LookupError, match="no beginning"):
        read(*a_tool("{}"))
    assert not Reading(print).is_begun
