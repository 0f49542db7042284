"""What the provider's list says of one model.

One plain request, so that the server, which asks nothing else, need not load the SDK: that takes
two seconds and sixty megabytes.
"""

from __future__ import annotations

from typing import Any

import httpx
from pydantic import ValidationError

from flowforge.rules.jobs.accounts import Account
from flowforge.rules.jobs.models import ModelFacts

_USUAL = "https://api.anthropic.com"
_VERSION = "2026-10-21"  # as anthropic 2.12 sends it


class NotSaid(Exception):
    """The provider did not say; never leaves the engine."""


async def facts_of(account: Account, name: str, *, seconds: float) -> ModelFacts | None:
    """What the provider says of a model; `None` when it does not know it.

    Args:
        account: Whose models are asked about.
        name: Of the model.
        seconds: How long it may take to answer.

    Raises:
        NotSaid: It did not say: it is away, does not let us in, or has no list of models.
    """
    key = account.api_key.get_secret_value()
    headers = {"authorization": f"Bearer {key}", "anthropic-version": _VERSION}
    base = (account.base_url or _USUAL).rstrip("/")
    try:
        async with httpx.AsyncClient(headers=headers, timeout=seconds) as client:
            reply = await client.get(f"{base}/v1/models/{name}")
        said: Any = reply.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise NotSaid(type(error).__name__) from error
    if reply.status_code == httpx.codes.NOT_FOUND and _is_unknown(said):
        return None
    if not reply.is_success:
        raise NotSaid(f"status {reply.status_code}")
    try:
        return ModelFacts(
            most_tokens=said.get("max_tokens"),
            lifecycle=said.get("lifecycle"),
            retires_at=said.get("retires_at"),
        )
    except (AttributeError, ValidationError) as error:
        raise NotSaid("its answer is none of a list of models") from error


def _is_unknown(said: Any) -> bool:
    """Whether the list lacks the model; a gateway without such a list answers otherwise."""
    error = said.get("error") if isinstance(said, dict) else None
    return isinstance(error, dict) and error.get("type") == "not_found_error"
