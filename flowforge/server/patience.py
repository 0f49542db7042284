"""Work that is done again and again, whatever goes wrong with it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from flowforge.errors import FlowForgeError

log = logging.getLogger("flowforge.jobs")


class Patience:
    """Says once what goes wrong again and again, and once that it went well again."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._said: str | None = None

    async def attempt(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do some work that is done again later anyway."""
        try:
            await work()
        except FlowForgeError as error:
            if error.message != self._said:
                log.warning("%s: %s", self._what, error)
            self._said = error.message
        else:
            if self._said is not None:
                log.info("%s: goes on", self._what)
            self._said = None
