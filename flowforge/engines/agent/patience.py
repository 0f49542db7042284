"""Writes to the journal that outlast a restart of the ledger."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from flowforge.errors import Unavailable

PATIENCE_SECONDS = 300.0
_LONGEST_PAUSE_SECONDS = 5.0
T = TypeVar("T")


async def patiently(write: Callable[[], Awaitable[T]]) -> T:
    """Do a write again while the ledger does not answer; it must be one that may be repeated.

    Raises:
        Unavailable: The ledger was gone for `PATIENCE_SECONDS`.
    """
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, 0.1
    while True:
        try:
            return await write()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(pause * (0.5 + random.random() / 2))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
