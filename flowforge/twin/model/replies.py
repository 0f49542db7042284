"""From a request to a message with its price."""

from __future__ import annotations

from dataclasses import dataclass

from flowforge.twin.model import checks
from flowforge.twin.model.answers import Answer, answer
from flowforge.twin.model.asked import Asked, Counted
from flowforge.twin.model.cache import Cached
from flowforge.twin.model.models import Model, usable
from flowforge.twin.model.problems import Rejected
from flowforge.twin.model.prompts import Prompt, lay_out
from flowforge.twin.model.state import State


@dataclass(frozen=True)
class Considered:
    """A request that makes sense, and its prompt."""

    asked: Asked
    content: bytes
    model: Model
    prompt: Prompt


@dataclass(frozen=True)
class Reply:
    """What is sent: the message whole, and what it was made from."""

    answer: Answer
    message: dict[str, object]
    usage: dict[str, object]


def consider(asked: Asked, content: bytes) -> Considered:
    """Look whether a request makes sense.

    Raises:
        Rejected: It does not, or its prompt is longer than the window of the model.
    """
    model = usable(asked.model)
    checks.check(asked, model)
    prompt = lay_out(asked)
    checks.check_breakpoints(prompt)
    if prompt.tokens > model.max_input_tokens:
        raise Rejected(
            400, f"prompt is too long: {prompt.tokens} tokens > {model.max_input_tokens} maximum"
        )
    return Considered(asked, content, model, prompt)


def count_tokens(asked: Counted) -> int:
    """Tokens of a prompt, as `usage` would sum them up.

    Raises:
        Rejected: It makes no sense.
    """
    checks.check_prompt(asked, usable(asked.model))
    return lay_out(asked).tokens


def compose(considered: Considered, cached: Cached, state: State, tier: str) -> Reply:
    """Answer a request and account for it.

    Args:
        considered: The request.
        cached: How its prompt is accounted for.
        state: Where the cache is, into which the prompt goes.
        tier: `standard` or `batch`.
    """
    asked, prompt = considered.asked, considered.prompt
    found = answer(asked, considered.content, considered.model, prompt.tokens)
    usage = _usage(found, cached, tier)
    reason = None
    if asked.diagnostics and asked.diagnostics.previous_message_id:
        reason = state.cache.diagnose(prompt, cached, asked.diagnostics.previous_message_id)
    state.cache.keep(prompt, cached, found.id)
    state.threads.keep(asked, found)
    message: dict[str, object] = {
        "id": found.id,
        "type": "message",
        "role": "assistant",
        "model": found.model,
        "content": [part.to_json() for part in found.parts],
        "stop_reason": found.stop,
        "stop_sequence": found.stop_sequence,
        "stop_details": found.stop_details,
        "usage": usage,
        "container": None,
        "diagnostics": reason and {"cache_miss_reason": reason},
    }
    return Reply(found, message, usage)


def _usage(found: Answer, cached: Cached, tier: str) -> dict[str, object]:
    usage = cached.to_json()
    if (written := found.usage.get("cache_creation_input_tokens")) is not None:
        usage["cache_creation"] = {
            "ephemeral_5m_input_tokens": written,
            "ephemeral_1h_input_tokens": 0,
        }
    return {
        **usage,
        "output_tokens": found.tokens(),
        "output_tokens_details": {"thinking_tokens": found.thought()},
        "server_tool_use": None,
        "service_tier": tier,
        "inference_geo": "not_available",
        **found.usage,
    }
