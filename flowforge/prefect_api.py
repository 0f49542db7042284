"""One open client of the Prefect server that is meant, with errors people can act on.

Prefect's own client starts a server of its own when none is named, and waits a minute for one that
is not there. An operator's command must do neither: it asks the server for its health first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flowforge.client.address import Environment, find_environment
from flowforge.errors import FlowForgeError, Refused, Unavailable

_HEALTH_TIMEOUT_SECONDS = 10


@contextlib.contextmanager
def connect() -> Iterator[SyncPrefectClient]:
    """Open a client of the server the environment, profile or local platform names.

    What Prefect does inside the block goes to the same server.

    Raises:
        Refused: It said no to a request.
        Unavailable: It does not answer.
    """
    environment = find_environment()
    _check_alive(environment)
    secret = ":".join(environment.credentials) if environment.credentials else None
    settings = {PREFECT_API_URL: environment.api_url, PREFECT_API_AUTH_STRING: secret}
    try:
        with (
            temporary_settings(settings),
            get_client(sync_client=True) as client,
        ):
            yield client
    except PrefectHTTPStatusError as error:
        raise explain(error) from error
    except httpx.TransportError as error:
        raise _unreachable(environment.api_url, error) from error


def explain(error: httpx.HTTPStatusError) -> FlowForgeError:
    """Turn a status the server answered into one of the three kinds."""
    code = error.response.status_code
    what = f"{error.request.method} {error.request.url.path}"
    if code in (401, 403):
        return Refused(
            f"The Prefect server refused who we are ({code} on {what}).",
            hint="Set PREFECT_API_AUTH_STRING to the server's, then run it again.",
        )
    if code in (404, 409, 422):
        return Refused(
            f"The Prefect server refused {what}: {_detail(error.response)}",
            hint="Correct what it names, then run it again.",
        )
    return Unavailable(
        f"The Prefect server could not do {what} ({code}).",
        hint="Read the server's log (`flowforge logs server`), then run it again.",
    )


def _check_alive(environment: Environment) -> None:
    url = environment.api_url
    try:
        answer = httpx.get(
            f"{url}/health",
            timeout=_HEALTH_TIMEOUT_SECONDS,
            auth=environment.credentials,
            trust_env=not environment.is_loopback,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(url, error) from error
    if answer.status_code in (401, 403):
        raise Refused(
            f"The Prefect server at {url} refused who we are ({answer.status_code}).",
            hint="Set PREFECT_API_AUTH_STRING to the server's, then run it again.",
        )
    if not answer.is_success:
        raise Unavailable(
            f"What answers at {url} is not a healthy Prefect server ({answer.status_code}).",
            hint="Check PREFECT_API_URL (it ends in /api) and `flowforge status`.",
        )


def _unreachable(url: str, error: Exception) -> Unavailable:
    return Unavailable(
        f"The Prefect server at {url} does not answer ({type(error).__name__}).",
        hint="Start it with `flowforge up`, or set PREFECT_API_URL to one that runs.",
    )


def _detail(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return response.text[:300]
    detail = body.get("detail") or body.get("exception_message") if isinstance(body, dict) else body
    return str(detail)[:1000]
