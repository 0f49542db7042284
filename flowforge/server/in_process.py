"""Prefect's API, asked in this very process."""

from __future__ import annotations

from typing import Any

import httpx
from starlette.types import ASGIApp

from flowforge.errors import Refused, Unavailable

_TIMEOUT_SECONDS = 30.0


class InProcess:
    """A client of Prefect's application, without a socket between.

    Args:
        application: Prefect's.
        auth_string: `user:password` its API demands.
    """

    def __init__(self, application: ASGIApp, auth_string: str | None = None) -> None:
        user, _, password = (auth_string or "").partition(":")
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(application, raise_app_exceptions=False),
            base_url="http://prefect/api",
            auth=(user, password) if auth_string else None,
            timeout=_TIMEOUT_SECONDS,
        )

    async def close(self) -> None:
        """Give back what it holds."""
        await self._client.aclose()

    async def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Ask, whatever the answer says.

        Raises:
            Unavailable: There was none.
        """
        try:
            return await self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"Prefect did not answer to {method} {path}: {type(error).__name__}.",
                hint="Look at the server's log; it is tried again by itself.",
            ) from error


def read(reply: httpx.Response) -> Any:
    """What a good answer holds.

    Raises:
        Refused: It is a no.
        Unavailable: Prefect failed.
    """
    if not reply.is_success:
        kind = Refused if 400 <= reply.status_code < 500 else Unavailable
        raise kind(
            f"Prefect answered {reply.status_code} to {reply.request.url.path}: {reply.text[:300]}",
            hint="Run `flowforge deploy`, and look at the server's log.",
        )
    return reply.json()
