"""Tell those who asked that their job has ended, signed, until they have heard it."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.errors import Refused
from flowforge.ledger.journal import callbacks, jobs
from flowforge.rules.jobs import webhooks
from flowforge.rules.jobs.records import Job

TIMEOUT_SECONDS = 10.0

log = logging.getLogger("flowforge.jobs")


async def tell_due(engine: AsyncEngine, secret: str) -> int:
    """Tell everybody who is due now; how many were tried.

    Args:
        engine: The ledger.
        secret: Signs every message.

    Raises:
        Unavailable: The ledger did not answer; who was not told is told later.
    """
    due = await callbacks.take_due(engine)
    await asyncio.gather(*(_tell(engine, job, secret) for job in due))
    return len(due)


async def _tell(engine: AsyncEngine, job: str, secret: str) -> None:
    try:
        why_not = await _send(await jobs.get(engine, job), secret)
    except (Refused, ValidationError) as error:  # another version of FlowForge wrote it
        why_not = type(error).__name__
    if why_not is not None:
        log.warning("%s: its callback was not told: %s", job, why_not)
    await callbacks.record(engine, job, told=why_not is None)


async def _send(job: Job, secret: str) -> str | None:
    """Send one message; why it did not arrive, or `None`."""
    url, body = str(job.spec.callback), webhooks.body_of(job)
    headers = {
        "content-type": "application/json",
        "user-agent": "FlowForge",
        webhooks.SIGNATURE: webhooks.sign(secret, int(time.time()), body),
    }
    try:
        await _check_place(url)
        # A redirect would lead a signed message to a place nobody named.
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False) as client:
            answer = await client.post(url, content=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return type(error).__name__  # its text may hold the address, and that a secret
    except Refused as error:
        return error.message
    return None if answer.is_success else f"HTTP {answer.status_code}"


async def _check_place(url: str) -> None:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    if not all(webhooks.may_be_told(str(address[4][0])) for address in found):
        raise Refused(
            "it leads to an address that only the machine itself may reach",
            hint="Give a callback on a host of its own.",
        )
