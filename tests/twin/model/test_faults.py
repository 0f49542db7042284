"""What the real SDK does when a reply breaks; the loop above it is built on these facts."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anthropic
import httpx
import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic

from flowforge.twin.model.faults import Fault
from flowforge.twin.model.server import Server
from tests.rehearsal import scripted

PROMPT = scripted({"text": "I look.", "tools": [{"bash": "ls -a"}]})
# message_start, ping, then start, one piece and stop of the text, then start of the tool.
IN_THE_TOOL = 7


def asked(prompt: str = PROMPT) -> Any:
    messages = [{"role": "user", "content": prompt}]
    return {"model": "claude-opus-5-5", "max_tokens": 1000, "messages": messages}


def stream(client: Anthropic, prompt: str = PROMPT) -> Any:
    with client.messages.stream(**asked(prompt)) as opened:
        return opened.get_final_message()


def test_a_connection_that_ends_mid_stream_is_no_error_of_the_api(
    client: Anthropic, server: Server
) -> None:
    retrying = client.with_options(max_retries=5)
    for kind, error in (("close", httpx2.RemoteProtocolError), ("reset", httpx2.ReadError)):
        server.state.faults.add(Fault(kind=kind))
        with pytest.raises(error) as broken:
            stream(retrying)
        assert isinstance(broken.value, httpx2.TransportError)
        assert not isinstance(broken.value, anthropic.APIError)
    assert server.state.counters.requests == {"messages": 2}
    assert server.state.counters.billed_turns == 2
    assert server.state.counters.finished_turns == 0


def test_a_clean_end_mid_stream_looks_like_a_message(client: Anthropic, server: Server) -> None:
    server.state.faults.add(Fault(kind="end", after_events=IN_THE_TOOL))
    message = stream(client)
    assert message.stop_reason is None
    assert message.content[1].input == {}


def test_a_clean_end_before_the_first_event_is_an_assertion(
    client: Anthropic, server: Server
) -> None:
    server.state.faults.add(Fault(kind="end", after_events=0))
    with pytest.raises(AssertionError):
        stream(client)
    assert stream(client).stop_reason == "tool_use"


def test_an_error_in_a_stream_has_status_200_and_only_its_type_tells(
    client: Anthropic, server: Server
) -> None:
    server.state.faults.add(Fault(kind="error", status=529))
    with pytest.raises(anthropic.APIStatusError) as broken:
        stream(client.with_options(max_retries=5))
    assert type(broken.value) is anthropic.APIStatusError
    assert (broken.value.status_code, broken.value.type) == (200, "overloaded_error")
    assert server.state.counters.requests == {"messages": 1}


def test_input_that_is_no_json_is_a_value_error(client: Anthropic, server: Server) -> None:
    server.state.faults.add(Fault(kind="malformed"))
    with pytest.raises(ValueError, match="Unable to parse tool parameter JSON"):
        stream(client)
    assert stream(client).content[1].input == {"command": "ls -a"}


@pytest.mark.parametrize("kind", ["close", "reset"])
def test_a_body_that_is_cut_is_asked_for_again(
    client: Anthropic, server: Server, kind: Any
) -> None:
    server.state.faults.add(Fault(kind=kind, count=2))
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.create(**asked())
    message = client.with_options(max_retries=1).messages.create(**asked())
    assert message.stop_reason == "tool_use"
    assert server.state.counters.requests == {"messages": 3}
    assert server.state.counters.billed_turns == 3


@pytest.mark.parametrize(
    ("fault", "error", "kind"),
    [
        (Fault(kind="status", status=401), anthropic.AuthenticationError, "authentication_error"),
        (Fault(kind="status", status=402), anthropic.PaymentRequiredError, "billing_error"),
        (Fault(kind="status", status=403), anthropic.PermissionDeniedError, "permission_error"),
        (Fault(kind="status", status=429), anthropic.RateLimitError, "rate_limit_error"),
        (Fault(kind="status", status=500), anthropic.InternalServerError, "api_error"),
        (Fault(kind="status", status=529), anthropic.InternalServerError, "overloaded_error"),
    ],
)
def test_a_status_is_the_class_it_should_be(
    client: Anthropic,
    server: Server,
    fault: Fault,
    error: type[anthropic.APIStatusError],
    kind: str,
) -> None:
    server.state.faults.add(fault)
    with pytest.raises(error) as refused:
        stream(client)
    assert (refused.value.status_code, refused.value.type) == (fault.status, kind)
    assert server.state.counters.billed_turns == 0


def test_a_spend_limit_is_told_by_its_code(client: Anthropic, server: Server) -> None:
    code = "enforced_spend_limit_reached"
    server.state.faults.add(
        Fault(kind="status", status=429, error_code=code, headers={"retry-after": "0"}, count=2)
    )
    with pytest.raises(anthropic.RateLimitError) as refused:
        stream(client.with_options(max_retries=1))
    assert refused.value.error_code == code
    assert server.state.counters.faults == {"status": 2}, "the SDK asks again in vain"


def test_the_wait_that_is_asked_for_is_kept(client: Anthropic, server: Server) -> None:
    headers = {"retry-after": "1"}
    server.state.faults.add(Fault(kind="status", status=429, headers=headers))
    begun = time.monotonic()
    assert stream(client.with_options(max_retries=1)).stop_reason == "tool_use"
    assert time.monotonic() - begun >= 1


@pytest.mark.parametrize(("kind", "billed"), [("hang", 1), ("silence", 0)])
def test_a_reply_that_stands_still_ends_by_the_callers_clock(
    client: Anthropic, server: Server, kind: Any, billed: int
) -> None:
    server.state.faults.add(Fault(kind=kind))
    with pytest.raises((httpx2.ReadTimeout, anthropic.APITimeoutError)):
        stream(client.with_options(timeout=0.2))
    assert stream(client).stop_reason == "tool_use"
    assert server.state.counters.billed_turns == billed + 1
    assert server.state.counters.aborted_streams == billed


def test_a_stream_that_is_cancelled_is_seen_to_be(server: Server) -> None:
    prompt = scripted({"text": "word " * 40, "seconds": 60})

    async def run() -> float:
        async with AsyncAnthropic(api_key="any", base_url=server.url, max_retries=0) as client:
            first = asyncio.Event()

            async def read() -> None:
                async with client.messages.stream(**asked(prompt)) as opened:
                    async for _ in opened:
                        first.set()

            reading = asyncio.create_task(read())
            await first.wait()
            begun = time.monotonic()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            seconds = time.monotonic() - begun
            # Asked on another connection, by when the server has seen the first one end.
            while not server.state.counters.aborted_streams:
                await client.models.retrieve("claude-opus-5-5")
            return seconds

    assert asyncio.run(asyncio.wait_for(run(), 10)) < 1
    assert server.state.counters.open_replies == 0


def test_a_slow_stream_is_whole(client: Anthropic, server: Server) -> None:
    server.state.faults.add(Fault(kind="drip", seconds=0.01))
    begun = time.monotonic()
    assert stream(client).stop_reason == "tool_use"
    assert time.monotonic() - begun > 0.1


def test_a_fault_waits_for_the_request_it_is_meant_for(client: Anthropic, server: Server) -> None:
    server.state.faults.add(
        Fault(kind="status", contains="job B"), Fault(kind="status", status=500, turn=1)
    )
    assert stream(client).stop_reason == "tool_use"
    with pytest.raises(anthropic.InternalServerError) as refused:
        stream(client, PROMPT + "job B")
    assert refused.value.status_code == 529
    assert stream(client, PROMPT + "job B").stop_reason == "tool_use"
    assert len(server.state.faults) == 1


def test_everything_can_be_steered_over_http(client: Anthropic, server: Server) -> None:
    with httpx.Client(base_url=f"{server.url}/rehearsal") as control:
        faults = [{"kind": "status", "status": 503, "on": "count_tokens"}, {"kind": "end"}]
        assert control.post("/faults", json=faults).json() == {"waiting_faults": 2}
        with pytest.raises(anthropic.APIStatusError) as refused:
            client.messages.count_tokens(model="claude-opus-5-5", messages=asked()["messages"])
        assert refused.value.status_code == 503
        assert control.post("/faults", json={"kind": "end", "on": "models"}).status_code == 400
        assert control.post("/limits", json={"requests": 1}).status_code == 200
        stream(client)
        with pytest.raises(anthropic.RateLimitError):
            stream(client)
        counters = control.get("/counters").json()
        assert counters["requests"] == {"count_tokens": 1, "messages": 2}
        assert counters["faults"] == {"status": 1, "end": 1}
        assert control.post("/reset").json() == {"waiting_faults": 0}
        assert control.get("/counters").json()["requests"] == {}
        page = {"origin": "http://evil.example"}
        assert control.post("/reset", headers=page).status_code == 403
        assert control.get("/none").status_code == 404
