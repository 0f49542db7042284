"""One call to the model: a stream that is read to its end, or an error that says what it means.

The SDK is only the transport. It does not retry here, and a stream counts as whole only when its
last event came: one that ends early looks to the SDK like a reply (anthropic 2.12).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2

from flowforge.engines.agent.reading import Malformed, OnText, Reading
from flowforge.ledger.journal.text import storable
from flowforge.rules.jobs import retries
from flowforge.rules.jobs.accounts import Account
from flowforge.rules.jobs.prices import Usage
from flowforge.rules.jobs.rates import Dimension, Told
from flowforge.rules.jobs.retries import Failure

REHEARSAL = "msg_rehearsal_"
"""How the ids of messages begin that no model wrote."""

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 60.0
_GARBLED = (LookupError, TypeError, ValueError)  # events that do not fit together, or are no JSON
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
    """The message as JSON, as the journal keeps it."""

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
        reading = Reading(on_text)
        try:
            async with asyncio.timeout(idle_seconds) as patience:
                loop = asyncio.get_running_loop()
                body = {**asked, "max_tokens": max_tokens, "stream": True}
                async with await self._post(body) as stream:
                    async for event in _events(stream.response):
                        patience.reschedule(loop.time() + idle_seconds)
                        reading.take(event)
                    if not reading.is_whole:
                        raise CallFailed(_lost("the reply broke off", begun=reading.is_begun))
                    return said(reading.message(), stream.response.headers)
        except TimeoutError as error:
            silent = f"nothing came for {idle_seconds:.0f} seconds"
            raise CallFailed(_lost(silent, begun=reading.is_begun)) from error
        except anthropic.APIStatusError as error:
            raise CallFailed(_refused(error, begun=reading.is_begun)) from error
        except Malformed as error:
            failure = Failure(kind="malformed", message=str(error), begun=reading.is_begun)
            raise CallFailed(failure) from error
        except (anthropic.APIError, httpx2.HTTPError, *_GARBLED) as error:
            raise CallFailed(_lost(_words(error), begun=reading.is_begun)) from error

    async def _post(self, body: Mapping[str, Any]) -> anthropic.AsyncStream[object]:
        """Send a request as it is: to check its form, the SDK would copy all that was ever said."""
        return await self.client.post(
            "/v1/messages",
            body=body,
            cast_to=object,
            stream=True,
            stream_cls=anthropic.AsyncStream[object],
        )

    async def count(self, asked: Mapping[str, Any]) -> int:
        """How many tokens a request is.

        Raises:
            CallFailed: The provider did not say.
        """
        counted = {k: v for k, v in asked.items() if k not in ("cache_control", "diagnostics")}
        async with understood():
            answer = await self.client.messages.count_tokens(**counted)
        return answer.input_tokens


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


async def _events(response: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    """What a stream tells.

    Raises:
        APIStatusError: It tells of an error.
    """
    async for told in anthropic.AsyncStream.raw_events(response):
        if told.event == "error":
            raise anthropic.APIStatusError(told.data, response=response, body=_body(told.data))
        if told.event not in (None, "ping") and told.data:
            yield told.json()


def _body(data: str) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return data


def usage_of(message: Mapping[str, Any]) -> Usage:
    """The tokens a message was billed."""
    used = message["usage"]
    long = (used.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0
    details = used.get("output_tokens_details") or {}
    return Usage(
        input_tokens=used["input_tokens"],
        write_5m_tokens=(used.get("cache_creation_input_tokens") or 0) - long,
        write_1h_tokens=long,
        read_tokens=used.get("cache_read_input_tokens") or 0,
        output_tokens=used["output_tokens"],
        thinking_tokens=details.get("thinking_tokens") or 0,
    )


def said(message: Mapping[str, Any], headers: Mapping[str, str]) -> Said:
    """What a whole message says, and the headers that came with it.

    Raises:
        CallFailed: It has no end.
    """
    if message.get("stop_reason") is None:
        raise CallFailed(_lost("the reply has no end", begun=True))
    missed = (message.get("diagnostics") or {}).get("cache_miss_reason")
    return Said(
        text=storable(json.dumps(message, ensure_ascii=False, separators=(",", ":"))),
        stop_reason=message["stop_reason"],
        usage=usage_of(message),
        request_id=headers.get("request-id"),
        cache_miss=missed["type"] if missed else None,
        rehearsal=message["id"].startswith(REHEARSAL),
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


def _lost(message: str, *, begun: bool = False) -> Failure:
    return Failure(kind="again", message=message, begun=begun)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}".rstrip(": ")
