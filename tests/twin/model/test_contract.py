"""The real SDK against the rehearsal model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic
from pydantic import BaseModel

from flowforge.twin.model.limits import Limits
from flowforge.twin.model.server import Server
from tests.rehearsal import rehearsing, scripted

MODEL = "claude-opus-5-5"
TOOLS: Any = [
    {"type": "bash_20250124", "name": "bash"},
    {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
]
TWO_TOOLS = scripted(
    {
        "text": "I look around, then read a file.",
        "tools": [{"bash": "ls -a"}, {"edit": {"command": "view", "path": "Grüße 🎈.py"}}],
    },
    {"text": "Done."},
)
ONE_REPLY = scripted({"text": "Well."})


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with rehearsing() as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    running.state.reset()
    return running


@pytest.fixture(scope="module")
def client(running: Server) -> Iterator[Anthropic]:
    with Anthropic(api_key="any", base_url=running.url, max_retries=0) as opened:
        yield opened


def user(prompt: str) -> Any:
    return [{"role": "user", "content": prompt}]


def ask(client: Anthropic, prompt: str, **options: Any) -> Any:
    given = {"model": MODEL, "max_tokens": 1000, "tools": TOOLS, "messages": user(prompt)}
    return client.messages.create(**(given | options))


def ask_stream(client: Anthropic, prompt: str, **options: Any) -> Any:
    given = {"model": MODEL, "max_tokens": 1000, "tools": TOOLS, "messages": user(prompt)}
    with client.messages.stream(**(given | options)) as stream:
        return stream.get_final_message()


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


@pytest.mark.usefixtures("server")
def test_models_say_what_they_allow(client: Anthropic) -> None:
    listed = list(client.models.list(limit=5))
    assert len(listed) > 15
    assert {model.lifecycle for model in listed} == {"active", "deprecated"}
    one = client.models.retrieve("claude-sonnet-4-5")
    assert one.lifecycle == "deprecated"
    assert (one.max_tokens, one.max_input_tokens) == (64_000, 200_000)
    assert one.retires_at is not None and one.retires_at.year == 2026
    retired = list(client.models.list(lifecycle=["retired"]))
    assert [model.id for model in retired] == ["claude-3-opus-20240229"]


UNPAIRED = [
    {"role": "user", "content": "Go."},
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "bash", "input": {}}],
    },
]
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "done"}


def answered(*content: Any) -> list[Any]:
    return [*UNPAIRED, {"role": "user", "content": list(content)}]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"model": "claude-none"}, anthropic.NotFoundError, "claude-none"),
        ({"max_tokens": 128_001}, anthropic.BadRequestError, "128001 > 128000"),
        ({"messages": []}, anthropic.BadRequestError, "messages"),
        ({"extra_body": {"n": 2}}, anthropic.BadRequestError, "n: Extra inputs"),
        ({"thinking": {"type": "disabled"}}, anthropic.BadRequestError, "thinking"),
        ({"tool_choice": {"type": "any"}}, anthropic.BadRequestError, "tool_choice"),
        ({"tools": [*TOOLS, TOOLS[0]]}, anthropic.BadRequestError, "unique"),
        ({"tools": [{"name": "own"}]}, anthropic.BadRequestError, "input_schema"),
        ({"messages": UNPAIRED}, anthropic.BadRequestError, "without `tool_result` blocks"),
        (
            {"messages": answered({"type": "text", "text": "Later."})},
            anthropic.BadRequestError,
            "messages.1: `tool_use` ids were found without",
        ),
        (
            {"messages": answered(RESULT, {**RESULT, "tool_use_id": "toolu_2"})},
            anthropic.BadRequestError,
            "messages.2.content.1: unexpected `tool_use_id`",
        ),
        ({"messages": answered(RESULT, RESULT)}, anthropic.BadRequestError, "single result"),
        ({"messages": user("")}, anthropic.BadRequestError, "non-empty"),
        (
            {"messages": [*user("Go."), {"role": "assistant", "content": "It is"}]},
            anthropic.BadRequestError,
            "prefill",
        ),
        ({"messages": user("word " * 900_000)}, anthropic.BadRequestError, "too long"),
        ({"messages": user(scripted({"word": "x"}))}, anthropic.BadRequestError, "script"),
    ],
)
def test_what_makes_no_sense_is_refused(
    client: Anthropic, change: dict[str, Any], error: type[anthropic.APIStatusError], said: str
) -> None:
    with pytest.raises(error, match=said) as refused:
        ask_stream(client, ONE_REPLY, **change)
    assert refused.value.request_id


def test_a_pair_of_use_and_result_is_accepted(client: Anthropic, server: Server) -> None:
    assert ask(client, "", messages=answered(RESULT)).stop_reason
    assert server.state.counters.billed_turns == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Basic any"}, 401),
        ({"authorization": "Bearer any"}, 200),
        ({"x-api-key": "any"}, 200),
    ],
)
def test_a_key_is_needed_in_one_of_two_places(
    server: Server, headers: dict[str, str], status: int
) -> None:
    version = {"anthropic-version": "2026-10-21"}
    got = httpx.get(f"{server.url}/v1/models", headers=headers | version)
    assert got.status_code == status
    assert ("error" in got.json()) is (status == 401)


def test_a_field_that_is_missing_is_named(server: Server) -> None:
    headers = {"x-api-key": "any", "anthropic-version": "2026-10-21"}
    got = httpx.post(f"{server.url}/v1/messages", headers=headers, json={"model": MODEL})
    assert got.status_code == 400
    assert got.json()["error"] == {
        "type": "invalid_request_error",
        "message": "messages: Field required",
    }
    assert httpx.get(f"{server.url}/v1/models", headers={"x-api-key": "any"}).status_code == 400
    assert httpx.get(f"{server.url}/v1/none", headers=headers).status_code == 404
    gone = {"model": "claude-3-opus-20240229", "max_tokens": 9, "messages": user("Hi.")}
    got = httpx.post(f"{server.url}/v1/messages", headers=headers, json=gone)
    assert got.status_code == 404
    assert "retired" in got.json()["error"]["message"]


def test_over_the_limit_one_is_told_how_long_to_wait(client: Anthropic, server: Server) -> None:
    server.state.limits.set(Limits(requests=2, output_tokens=60_000))
    create: Callable[..., Any] = client.messages.with_raw_response.create
    given = {"model": MODEL, "max_tokens": 5000, "messages": user(ONE_REPLY)}
    headers = create(**given).headers
    assert headers["anthropic-ratelimit-requests-limit"] == "2"
    assert headers["anthropic-ratelimit-requests-remaining"] == "1"
    assert int(headers["anthropic-ratelimit-output-tokens-remaining"]) > 59_900
    assert headers["anthropic-ratelimit-input-tokens-reset"].endswith("Z")
    create(**given)
    with pytest.raises(anthropic.RateLimitError) as refused:
        create(**given)
    assert refused.value.type == "rate_limit_error"
    assert 25 <= int(refused.value.response.headers["retry-after"]) <= 30
    assert refused.value.response.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert server.state.counters.statuses == {"200": 2, "429": 1}


def test_a_batch_answers_each_request_by_its_id(client: Anthropic, server: Server) -> None:
    names = [f"job-{number}" for number in range(8)]
    requests: Any = [
        {
            "custom_id": name,
            "params": {
                "model": MODEL if name != "job-3" else "claude-none",
                "max_tokens": 100,
                "messages": user(scripted({"text": f"I am {name}."})),
            },
        }
        for name in names
    ]
    batch = client.messages.batches.create(requests=requests)
    assert batch.processing_status == "in_progress"
    assert batch.request_counts.processing == 8
    ended = client.messages.batches.retrieve(batch.id)
    assert ended.processing_status == "ended"
    assert (ended.request_counts.succeeded, ended.request_counts.errored) == (7, 1)
    results: Any = list(client.messages.batches.results(batch.id))
    assert sorted(result.custom_id for result in results) == names
    assert [result.custom_id for result in results] != names
    by_id = {result.custom_id: result.result for result in results}
    assert by_id["job-5"].message.content[0].text == "I am job-5."
    assert by_id["job-5"].message.usage.service_tier == "batch"
    assert by_id["job-3"].error.error.type == "not_found_error"
    assert server.state.counters.billed_turns == 7
    assert batch.id in [one.id for one in client.messages.batches.list()]
    assert client.messages.batches.delete(batch.id).id == batch.id
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve(batch.id)


def test_a_batch_can_be_cancelled_before_its_time() -> None:
    params: Any = {"model": MODEL, "max_tokens": 9, "messages": user("Hi.")}
    with (
        rehearsing(batch_seconds=3600) as server,
        Anthropic(api_key="any", base_url=server.url, max_retries=0) as client,
    ):
        batch = client.messages.batches.create(requests=[{"custom_id": "a", "params": params}])
        assert client.messages.batches.retrieve(batch.id).processing_status == "in_progress"
        with pytest.raises(anthropic.BadRequestError, match="must end"):
            client.messages.batches.delete(batch.id)
        assert client.messages.batches.cancel(batch.id).processing_status == "canceling"
        assert client.messages.batches.retrieve(batch.id).request_counts.canceled == 1
        (result,) = client.messages.batches.results(batch.id)
        assert result.result.type == "canceled"
        with pytest.raises(anthropic.BadRequestError, match="has ended"):
            client.messages.batches.cancel(batch.id)
        assert server.state.counters.billed_turns == 0


def test_many_streams_at_once_are_served(server: Server) -> None:
    turn = {"text": "word " * 40, "seconds": 0.3}

    async def run() -> list[str | None]:
        async with AsyncAnthropic(api_key="any", base_url=server.url, max_retries=0) as client:

            async def one(number: int) -> str | None:
                async with client.messages.stream(
                    model=MODEL,
                    max_tokens=1000,
                    messages=user(scripted(turn, request=f"Job {number}.")),
                ) as stream:
                    return (await stream.get_final_message()).stop_reason

            reasons = await asyncio.gather(*(one(number) for number in range(50)))
            await client.models.retrieve(MODEL)  # by then the server has counted the last of them
            return list(reasons)

    assert asyncio.run(run()) == ["end_turn"] * 50
    assert server.state.counters.finished_turns == 50
    assert server.state.counters.most_open_replies > 25


@anthropic.beta_tool
def bash(command: str) -> str:
    """Run a command.

    Args:
        command: The command.
    """
    return f"ran {command}"


@pytest.mark.parametrize(("options", "sent"), [({}, [1, 1, 1]), ({"thread": False}, [1, 3, 5])])
def test_the_tool_runner_of_the_sdk_works_on_threads_and_without(
    client: Anthropic, server: Server, options: Any, sent: list[int]
) -> None:
    prompt = scripted(
        {"text": "One.", "tools": [{"bash": "one"}]},
        {"text": "Two.", "tools": [{"bash": "two"}]},
        {"text": "Three."},
    )
    lengths = []

    def look(request: Any) -> None:
        lengths.append(len(json.loads(request.content)["messages"]))

    with httpx2.Client(event_hooks={"request": [look]}) as http:
        runner = client.with_options(http_client=http).beta.messages.tool_runner(
            model=MODEL, max_tokens=1000, tools=[bash], messages=user(prompt), **options
        )
        replies = list(runner)
    assert [reply.stop_reason for reply in replies] == ["tool_use", "tool_use", "end_turn"]
    assert lengths == sent
    assert server.state.counters.billed_turns == 3


@pytest.mark.usefixtures("server")
def test_a_thread_that_is_forgotten_has_an_error_of_its_own(client: Anthropic) -> None:
    going_on: Any = {"type": "continue", "previous_message_id": "msg_rehearsal_none"}
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.beta.messages.create(
            model=MODEL, max_tokens=9, messages=user("More."), thread=going_on
        )
    assert refused.value.error_code == "thread_not_found"
