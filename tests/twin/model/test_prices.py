"""The cache, the limits and the addresses behind them, by a clock that is set by hand."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from flowforge.twin.model.asked import Asked
from flowforge.twin.model.cache import Cache, Cached
from flowforge.twin.model.checks import check_breakpoints
from flowforge.twin.model.limits import Limiter, Limits
from flowforge.twin.model.problems import Rejected
from flowforge.twin.model.prompts import Prompt, lay_out
from tests.ports import free_port

FIVE_MINUTES: Any = {"cache_control": {"type": "ephemeral"}}
ONE_HOUR: Any = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def text(words: int, mark: dict[str, Any] | None = None, word: str = "word ") -> dict[str, Any]:
    return {"type": "text", "text": word * words, **(mark or {})}


def prompt(*messages: Any, model: str = "claude-opus-5-5", **options: Any) -> Prompt:
    blocks = [
        {"role": "user" if number % 2 == 0 else "assistant", "content": message}
        for number, message in enumerate(messages)
    ]
    given = {"model": model, "max_tokens": 10, "messages": blocks}
    return lay_out(Asked.model_validate(given | options))


def ask(cache: Cache, asked: Prompt, name: str = "msg_1") -> Cached:
    cached = cache.look_up(asked)
    cache.keep(asked, cached, name)
    return cached


def test_what_was_written_is_read_until_its_time_is_over() -> None:
    clock = Clock()
    cache = Cache(clock)
    asked = prompt([text(2000, FIVE_MINUTES), text(10)])
    first = ask(cache, asked)
    assert first.read == 0
    assert first.written_5m > 2000
    assert first.plain + first.written_5m == asked.tokens
    for _ in range(3):  # each time it is read, its time begins anew
        clock.now += 299
        assert ask(cache, asked).read == first.written_5m
    clock.now += 301
    assert ask(cache, asked) == first


def test_a_conversation_that_grows_pays_for_what_is_new() -> None:
    cache = Cache(Clock())
    first = ask(cache, prompt([text(2000)], **FIVE_MINUTES))
    grown = prompt([text(2000)], [text(50)], [text(500)], **FIVE_MINUTES)
    second = ask(cache, grown)
    assert (first.plain, second.plain) == (0, 0)
    assert second.read == first.written_5m
    assert second.written_5m == grown.tokens - second.read > 500


def test_each_breakpoint_is_billed_at_its_own_life() -> None:
    clock = Clock()
    cache = Cache(clock)
    asked = prompt([text(100)], system=[text(2000, ONE_HOUR)], **FIVE_MINUTES)
    first = ask(cache, asked)
    assert first.written_1h > 2000
    assert 0 < first.written_5m < 200
    clock.now += 3000
    later = ask(cache, asked)
    assert later.read == first.written_1h
    assert later.written_5m == first.written_5m


def test_short_prompts_and_those_without_breakpoints_are_not_kept() -> None:
    cache = Cache(Clock())
    for asked in (prompt([text(100, FIVE_MINUTES)]), prompt([text(5000)])):
        assert ask(cache, asked) == ask(cache, asked) == Cached(asked.tokens, 0)


def test_only_the_last_twenty_blocks_before_a_breakpoint_are_looked_at() -> None:
    for many, found in ((18, True), (25, False)):
        cache = Cache(Clock())
        ask(cache, prompt([text(2000)], **FIVE_MINUTES))
        more = [text(1) for _ in range(many)]
        assert bool(ask(cache, prompt([text(2000)], more, **FIVE_MINUTES)).read) is found


BEFORE: Any = ([text(2000)], [text(5)], [text(9)])
TOOL: Any = {"type": "bash_20250124", "name": "bash"}


@pytest.mark.parametrize(
    ("messages", "options", "reason"),
    [
        (BEFORE, {}, None),
        ((*BEFORE, [text(3)], [text(3)]), {}, None),
        (BEFORE, {"model": "claude-opus-5"}, "model_changed"),
        (BEFORE, {"system": "Be kind."}, "system_changed"),
        (BEFORE, {"tools": [TOOL]}, "tools_changed"),
        (([text(2001)], *BEFORE[1:]), {}, "messages_changed"),
        (BEFORE, {"thinking": {"type": "adaptive"}}, "unavailable"),
    ],
)
def test_what_changed_is_named(messages: Any, options: Any, reason: str | None) -> None:
    cache = Cache(Clock())
    ask(cache, prompt(*BEFORE, **FIVE_MINUTES), "msg_before")
    now = prompt(*messages, **FIVE_MINUTES, **options)
    found = cache.diagnose(now, cache.look_up(now), "msg_before")
    assert (found and found["type"]) == reason
    if reason and reason.endswith("_changed"):
        assert found is not None and int(str(found["cache_missed_input_tokens"])) > 2000
    unknown = cache.diagnose(now, cache.look_up(now), "msg_other")
    assert unknown == {"type": "previous_message_not_found"}


def test_a_breakpoint_that_moves_changes_nothing() -> None:
    moved, before = prompt([text(9, FIVE_MINUTES), text(9)]), prompt([text(9), text(9, ONE_HOUR)])
    assert moved.steps[-1].digest == before.steps[-1].digest
    assert moved.tokens == before.tokens


def test_breakpoints_have_their_rules() -> None:
    with pytest.raises(Rejected, match="maximum of 4"):
        check_breakpoints(prompt([text(9, FIVE_MINUTES) for _ in range(5)]))
    with pytest.raises(Rejected, match="1h"):
        check_breakpoints(prompt([text(9, FIVE_MINUTES), text(9, ONE_HOUR)]))
    check_breakpoints(prompt([text(9, ONE_HOUR), text(9, FIVE_MINUTES)]))


def test_a_bucket_that_is_empty_fills_evenly() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    limiter.set(Limits(requests=60, burst=0.1))
    for _ in range(6):
        limiter.take(1, 1)
    with pytest.raises(Rejected) as refused:
        limiter.take(1, 1)
    assert refused.value.headers["retry-after"] == "1"
    clock.now += 1
    limiter.take(1, 1)
    with pytest.raises(Rejected):
        limiter.take(1, 1)


def test_tokens_that_were_not_written_are_given_back() -> None:
    limiter = Limiter(Clock())
    limiter.set(Limits(output_tokens=1000))
    limiter.take(0, 900)
    with pytest.raises(Rejected, match="output tokens"):
        limiter.take(0, 200)
    assert limiter.headers()["anthropic-ratelimit-output-tokens-remaining"] == "100"
    limiter.give_back(850)
    limiter.take(0, 200)
    assert limiter.headers()["anthropic-ratelimit-output-tokens-remaining"] == "750"


HEADERS = {"x-api-key": "any", "anthropic-version": "2026-10-21"}
BODY = {
    "model": "claude-opus-5-5",
    "max_tokens": 100,
    "stream": True,
    "messages": [{"role": "user", "content": "Hi."}],
}


def test_it_runs_as_a_process_and_ends_when_told_though_a_reply_hangs() -> None:
    port = free_port()
    command = [sys.executable, "-m", "flowforge.twin.model", "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert f":{port}" in process.stderr.readline()
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                assert client.get("/rehearsal/counters").json()["billed_turns"] == 0
                client.post("/rehearsal/faults", json={"kind": "hang"})
                with client.stream("POST", "/v1/messages", headers=HEADERS, json=BODY) as reply:
                    assert reply.headers["flowforge-rehearsal"] == "1"
                    begun = time.monotonic()
                    process.terminate()
                    with pytest.raises(httpx.TransportError):
                        reply.read()
                assert process.wait(10) == 0
            assert time.monotonic() - begun < 5
        finally:
            process.kill()
