"""What the model says, heard by the real SDK."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic import Anthropic
from pydantic import BaseModel

from tests.rehearsal import scripted
from tests.twin.model.asking import MODEL, ONE_REPLY, TOOLS, ask, ask_stream, user

TWO_TOOLS = scripted(
    {
        "text": "I look around, then read a file.",
        "tools": [{"bash": "ls -a"}, {"edit": {"command": "view", "path": "Grüße 🎈.py"}}],
    },
    {"text": "Done."},
)


@pytest.mark.usefixtures("server")
def test_a_stream_ends_in_the_message_that_is_also_sent_whole(client: Anthropic) -> None:
    whole, streamed = ask(client, TWO_TOOLS), ask_stream(client, TWO_TOOLS)
    assert whole.stop_reason == streamed.stop_reason == "tool_use"
    assert [block.type for block in whole.content] == ["text", "tool_use", "tool_use"]
    assert whole.content[2].input == {"command": "view", "path": "Grüße 🎈.py"}
    assert [block.to_dict()["type"] for block in streamed.content] == ["text", *["tool_use"] * 2]
    assert [block.input for block in streamed.content[1:]] == [
        block.input for block in whole.content[1:]
    ]
    assert whole.usage == streamed.usage


@pytest.mark.usefixtures("server")
def test_events_come_in_the_order_of_the_api(client: Anthropic) -> None:
    stream = ask(client, TWO_TOOLS, stream=True)
    lines = [line for line in stream.response.iter_lines() if line.startswith("event: ")]
    names = [line.removeprefix("event: ") for line in lines]
    assert names[:3] == ["message_start", "ping", "content_block_start"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert names.count("content_block_start") == names.count("content_block_stop") == 3


@pytest.mark.usefixtures("server")
def test_pieces_are_small_and_a_tools_input_begins_with_an_empty_one(client: Anthropic) -> None:
    with client.messages.stream(
        model=MODEL, max_tokens=1000, tools=TOOLS, messages=user(TWO_TOOLS)
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content_block_delta"]
    texts = [delta.text for delta in deltas if delta.type == "text_delta"]
    pieces = [delta.partial_json for delta in deltas if delta.type == "input_json_delta"]
    assert "".join(texts) == "I look around, then read a file."
    assert max(map(len, texts)) == 7
    assert pieces[0] == ""
    assert len(pieces) > 6


@pytest.mark.usefixtures("server")
def test_equal_requests_get_equal_answers_and_others_other_ids(client: Anthropic) -> None:
    one, again, other = (ask(client, text) for text in (TWO_TOOLS, TWO_TOOLS, TWO_TOOLS + " "))
    assert (one.id, one.content) == (again.id, again.content)
    assert one.id != other.id
    assert one.content[1].id != other.content[1].id


@pytest.mark.usefixtures("server")
def test_every_reply_is_labelled_a_rehearsal(client: Anthropic) -> None:
    raw = client.messages.with_raw_response.create(
        model=MODEL, max_tokens=100, messages=user(ONE_REPLY)
    )
    assert raw.headers["flowforge-rehearsal"] == "1"
    assert raw.headers["request-id"].startswith("req_")
    assert raw.parse().id.startswith("msg_rehearsal_")
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.models.retrieve("claude-none")
    assert refused.value.response.headers["flowforge-rehearsal"] == "1"


@pytest.mark.usefixtures("server")
def test_a_conversation_plays_the_script_to_its_end(client: Anthropic) -> None:
    messages = user(TWO_TOOLS)
    first = client.messages.create(model=MODEL, max_tokens=1000, tools=TOOLS, messages=messages)
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "nothing"}
        for block in first.content
        if block.type == "tool_use"
    ]
    messages += [first.to_param(), {"role": "user", "content": results}]
    second = client.messages.create(model=MODEL, max_tokens=1000, tools=TOOLS, messages=messages)
    assert second.stop_reason == "end_turn"
    assert second.content[0].to_dict()["text"] == "Done."
    messages += [second.to_param(), *user("Anything else?")]
    third = client.messages.create(model=MODEL, max_tokens=1000, tools=TOOLS, messages=messages)
    assert third.content[0].to_dict()["text"] == "Done."
    assert third.id != second.id


@pytest.mark.usefixtures("server")
def test_a_pause_is_answered_by_sending_the_reply_back(client: Anthropic) -> None:
    prompt = scripted({"text": "Searching.", "stop": "pause_turn"}, {"text": "Found."})
    paused = ask_stream(client, prompt)
    assert paused.stop_reason == "pause_turn"
    assert paused.content[-1].type == "server_tool_use"
    message = client.messages.create(
        model=MODEL, max_tokens=1000, tools=TOOLS, messages=[*user(prompt), paused.to_param()]
    )
    assert message.content[0].to_dict()["text"] == "Found."


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("turn", "options", "stop"),
    [
        ({"text": "Well."}, {}, "end_turn"),
        ({"text": "word " * 900}, {"max_tokens": 10}, "max_tokens"),
        ({"text": "Well.", "stop": "max_tokens"}, {}, "max_tokens"),
        ({"text": "one STOP two"}, {"stop_sequences": ["STOP"]}, "stop_sequence"),
        ({"tools": [{"bash": "ls"}]}, {}, "tool_use"),
        ({"text": "Wait.", "stop": "pause_turn"}, {}, "pause_turn"),
        ({"text": "No.", "stop": "refusal", "category": "cyber"}, {}, "refusal"),
        (
            {"text": "Full.", "stop": "model_context_window_exceeded"},
            {},
            "model_context_window_exceeded",
        ),
        ({"thinking": "Hm.", "text": "Well."}, {"thinking": {"type": "adaptive"}}, "end_turn"),
    ],
)
def test_every_reason_to_stop_can_be_had(
    client: Anthropic, turn: dict[str, object], options: dict[str, Any], stop: str
) -> None:
    for message in (
        ask(client, scripted(turn), **options),
        ask_stream(client, scripted(turn), **options),
    ):
        assert message.stop_reason == stop
        assert (message.stop_sequence == "STOP") is (stop == "stop_sequence")
        assert (message.stop_details is not None) is (stop == "refusal")
        assert message.stop_details is None or message.stop_details.category == "cyber"
        assert message.usage.output_tokens <= 1000


@pytest.mark.usefixtures("server")
def test_a_reply_cut_inside_a_tool_has_it_without_its_whole_input(client: Anthropic) -> None:
    turn = {"text": "Now.", "tools": [{"bash": "echo 'a long command'"}], "stop": "max_tokens"}
    streamed = ask_stream(client, scripted(turn))
    assert streamed.content[1].type == "tool_use"
    assert streamed.content[1].input != {"command": "echo 'a long command'"}
    assert ask(client, scripted(turn)).content[1].input == {}


@pytest.mark.usefixtures("server")
def test_thoughts_can_be_sent_back_but_not_changed(client: Anthropic) -> None:
    prompt = scripted({"thinking": "I think a while.", "text": "Yes."}, {"text": "Still yes."})
    first = ask_stream(client, prompt)
    assert first.content[0].thinking == "I think a while."
    assert first.usage.output_tokens_details.thinking_tokens > 0
    back = [*user(prompt), {"role": "assistant", "content": first.to_dict()["content"]}]
    assert ask(client, prompt, messages=[*back, *user("Sure?")]).stop_reason == "end_turn"
    back[1]["content"][0]["thinking"] = "I think otherwise."
    with pytest.raises(anthropic.BadRequestError, match="signature"):
        ask(client, prompt, messages=[*back, *user("Sure?")])


class Finding(BaseModel):
    title: str
    lines: list[int]
    severity: float


class Review(BaseModel):
    verdict: str
    findings: list[Finding]
    worst: Finding | None


@pytest.mark.usefixtures("server")
def test_a_structured_answer_fits_its_schema(client: Anthropic) -> None:
    message = client.messages.parse(
        model=MODEL, max_tokens=1000, messages=user("Review it."), output_format=Review
    )
    assert isinstance(message.parsed_output, Review)
    chosen = scripted({"output": {"verdict": "fine", "findings": [], "worst": None}})
    message = client.messages.parse(
        model=MODEL, max_tokens=1000, messages=user(chosen), output_format=Review
    )
    assert message.parsed_output == Review(verdict="fine", findings=[], worst=None)


@pytest.mark.usefixtures("server")
def test_tokens_are_counted_as_they_are_billed(client: Anthropic) -> None:
    counted = client.messages.count_tokens(
        model=MODEL, messages=user(TWO_TOOLS), tools=TOOLS, system="Be brief."
    )
    message = ask(client, TWO_TOOLS, system="Be brief.")
    assert counted.input_tokens == message.usage.input_tokens > 20


@pytest.mark.usefixtures("server")
def test_an_empty_reply_can_be_asked_for_to_warm_the_cache(client: Anthropic) -> None:
    system: Any = [{"type": "text", "text": "rule " * 1000, "cache_control": {"type": "ephemeral"}}]
    warmed = ask(client, ONE_REPLY, system=system, max_tokens=0)
    assert (warmed.content, warmed.usage.output_tokens) == ([], 0)
    assert warmed.usage.cache_creation_input_tokens > 1024
    used = ask(client, ONE_REPLY + "!", system=system)
    assert used.usage.cache_read_input_tokens == warmed.usage.cache_creation_input_tokens


@pytest.mark.usefixtures("server")
def test_why_the_cache_did_not_help_is_told(client: Anthropic) -> None:
    control: Any = {"cache_control": {"type": "ephemeral"}}
    first = ask(client, ONE_REPLY, system="rule " * 1000, **control, diagnostics={})
    assert first.diagnostics is None
    asked = {"diagnostics": {"previous_message_id": first.id}, **control}
    grown = [*user(ONE_REPLY), first.to_param(), *user("More.")]
    same = ask(client, "", messages=grown, system="rule " * 1000, **asked)
    assert same.diagnostics is None
    assert same.usage.cache_read_input_tokens > 1024
    changed = ask(client, ONE_REPLY, system="role " * 1000, **asked)
    assert changed.diagnostics.cache_miss_reason.type == "system_changed"
    assert changed.diagnostics.cache_miss_reason.cache_missed_input_tokens > 1024
