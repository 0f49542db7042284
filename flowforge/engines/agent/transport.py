"""One call to the model: a stream that is read to its end, or an error that says what it means.

The SDK is only the transport. It does not retry here, and a stream counts as whole only when its
last event came: one that ends early looks to the SDK like a reply (anthropic 2.12).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
from anthropic.types import Message

from flowforge.rules.jobs import retries
from flowforge.rules.jobs.accounts import Account
from flowforge.rules.jobs.models import ModelFacts
from flowforge.rules.jobs.prices import Usage
from flowforge.rules.jobs.rates import Dimension, Told
from flowforge.rules.jobs.retries import Failure

OnText = Callable[[str], None]
REHEARSAL = "msg_rehearsal_"
"""How the ids of messages begin that no model wrote."""

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 60.0
_HEADERS: dict[Dimension, str] = {
    "requests": "requests",
    "input_tokens": "input-tokens",
    "output_tokens": "output-tokens",
}


class CallFailed(Exception):
    """A call that brought no whole reply; never leaves the engine."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True)
class Said:
    """A whole reply."""

    text: str
    """The message as JSON."""

    stop_reason: str
    usage: Usage
    request_id: str | None
    cache_miss: str | None
    rehearsal: bool
    """Whether no model said it."""

    limits: Mapping[Dimension, Told]


class Model:
    """The models an account may ask."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.client = anthropic.AsyncAnthropic(
            api_key=account.api_key.get_secret_value(),
            base_url=account.base_url,
            max_retries=0,
            timeout=anthropic.Timeout(None, connect=_CONNECT_SECONDS),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()

    async def ask(
        self, asked: Mapping[str, Any], max_tokens: int, *, idle_seconds: float, on_text: OnText
    ) -> Said:
        """Ask for one reply.

        Args:
            asked: As made by `conversation.request`.
            max_tokens: The most the reply may hold.
            idle_seconds: A stream that brings nothing for so long is given up.
            on_text: Told the text as it comes.

        Raises:
            CallFailed: There is no whole reply.
        """
        begun = False
        try:
            async with asyncio.timeout(idle_seconds) as patience:
                loop = asyncio.get_running_loop()
                async with self.client.messages.stream(**asked, max_tokens=max_tokens) as stream:
                    ended = False
                    async for event in stream:
                        patience.reschedule(loop.time() + idle_seconds)
                        begun = True
                        if event.type == "text":
                            on_text(event.text)
                        ended = ended or event.type == "message_stop"
                    if not (begun and ended):
                        raise CallFailed(_lost("the reply broke off", begun=begun))
                    message = await stream.get_final_message()
                    return said(message, stream.response.headers)
        except TimeoutError as error:
            silent = f"nothing came for {idle_seconds:.0f} seconds"
            raise CallFailed(_lost(silent, begun=begun)) from error
        except anthropic.APIStatusError as error:
            raise CallFailed(_refused(error, begun=begun)) from error
        except (anthropic.APIError, httpx2.HTTPError, AssertionError, ValueError) as error:
            # A stream without a beginning is an AssertionError there, broken JSON a ValueError.
            raise CallFailed(_broken(error, begun=begun)) from error

    async def count(self, asked: Mapping[str, Any]) -> int:
        """How many tokens a request is.

        Raises:
            CallFailed: The provider did not say.
        """
        counted = {k: v for k, v in asked.items() if k not in ("cache_control", "diagnostics")}
        async with understood():
            answer = await self.client.messages.count_tokens(**counted)
        return answer.input_tokens

    async def facts_of(self, model: str) -> ModelFacts | None:
        """What the provider says of a model; `None` when it does not know it.

        Raises:
            CallFailed: The provider did not say.
        """
        async with understood():
            try:
                found = await self.client.models.retrieve(model)
            except anthropic.NotFoundError as error:
                if error.type != "not_found_error":
                    raise  # whoever answered has no list of models
                return None
        return ModelFacts(
            most_tokens=found.max_tokens, lifecycle=found.lifecycle, retires_at=found.retires_at
        )


@contextlib.asynccontextmanager
async def understood() -> AsyncIterator[None]:
    """Say what an error of a request means that is answered at once.

    Raises:
        CallFailed: The request failed, or there was no answer in time.
    """
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            yield
    except TimeoutError as error:
        raise CallFailed(_lost(f"no answer for {_ANSWER_SECONDS:.0f} seconds")) from error
    except anthropic.APIStatusError as error:
        raise CallFailed(_refused(error, begun=False)) from error
    except (anthropic.APIError, httpx2.HTTPError) as error:
        raise CallFailed(_lost(_words(error))) from error


def usage_of(message: Message) -> Usage:
    """The tokens a message was billed."""
    used = message.usage
    written = used.cache_creation
    long = written.ephemeral_1h_input_tokens if written else 0
    details = used.output_tokens_details
    return Usage(
        input_tokens=used.input_tokens,
        write_5m_tokens=(used.cache_creation_input_tokens or 0) - long,
        write_1h_tokens=long,
        read_tokens=used.cache_read_input_tokens or 0,
        output_tokens=used.output_tokens,
        thinking_tokens=(details.thinking_tokens or 0) if details else 0,
    )


def said(message: Message, headers: Mapping[str, str]) -> Said:
    """What a whole message says, and the headers that came with it.

    Raises:
        CallFailed: It has no end.
    """
    if message.stop_reason is None:
        raise CallFailed(_lost("the reply has no end", begun=True))
    missed = message.diagnostics.cache_miss_reason if message.diagnostics else None
    return Said(
        text=message.to_json(indent=None),
        stop_reason=message.stop_reason,
        usage=usage_of(message),
        request_id=headers.get("request-id"),
        cache_miss=missed.type if missed else None,
        rehearsal=message.id.startswith(REHEARSAL),
        limits=_limits(headers),
    )


def _limits(headers: Mapping[str, str]) -> dict[Dimension, Told]:
    told: dict[Dimension, Told] = {}
    for dimension, name in _HEADERS.items():
        limit = headers.get(f"anthropic-ratelimit-{name}-limit")
        remaining = headers.get(f"anthropic-ratelimit-{name}-remaining")
        if limit and remaining:
            told[dimension] = Told(limit=float(limit), remaining=float(remaining))
    return told


def _refused(error: anthropic.APIStatusError, *, begun: bool) -> Failure:
    code = getattr(error, "error_code", None)
    status = error.status_code
    message = _said_of(error)[:500]
    return Failure(
        kind=retries.classify(status=status, type=error.type, code=code, message=message),
        message=f"HTTP {status}: {message}" if status != 200 else message,
        after_seconds=_after(error.response.headers),
        begun=begun,
    )


def _said_of(error: anthropic.APIStatusError) -> str:
    """What the provider says, without what the SDK puts around it."""
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error")
    told = inner.get("message") if isinstance(inner, dict) else body.get("message")
    return told if isinstance(told, str) else error.message


def _after(headers: Mapping[str, str]) -> float | None:
    exactly = retries.believe(headers.get("retry-after-ms", ""), unit=0.001)
    return retries.believe(headers.get("retry-after", "")) if exactly is None else exactly


def _broken(error: Exception, *, begun: bool) -> Failure:
    # The SDK says it in no other way.
    if type(error) is ValueError and "tool parameter JSON" in str(error):
        message = "the input of a tool is no JSON"
        return Failure(kind="malformed", message=message, begun=begun)
    return _lost(_words(error), begun=begun)


def _lost(message: str, *, begun: bool = False) -> Failure:
    return Failure(kind="again", message=message, begun=begun)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}".rstrip(": ")
