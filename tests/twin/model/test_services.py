"""What the API does besides replies, by the real SDK: models, limits, batches, refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic

from flowforge.twin.model.limits import Limits
from flowforge.twin.model.server import Server
from tests.rehearsal import rehearsing, scripted
from tests.twin.model.asking import MODEL, ONE_REPLY, TOOLS, ask, ask_stream, user


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
