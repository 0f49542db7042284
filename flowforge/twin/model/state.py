"""What the server remembers between requests: what they cost, never what is answered."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

from flowforge.twin.model.cache import Cache
from flowforge.twin.model.counters import Counters
from flowforge.twin.model.faults import Faults
from flowforge.twin.model.limits import Limiter
from flowforge.twin.model.threads import Threads

Clock = Callable[[], float]


class State:
    """The memory of one server.

    Args:
        clock: Seconds that never go back; the cache and the limits live by it.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self._numbers = itertools.count(1)
        self.faults = Faults()
        self.reset()

    def reset(self) -> None:
        """Forget all of it."""
        self.faults.clear()
        self.counters = Counters()
        self.cache = Cache(self.clock)
        self.limits = Limiter(self.clock)
        self.threads = Threads(self.clock)

    def next_request_id(self) -> str:
        """A new id; unlike those of messages it differs each time."""
        return f"req_rehearsal_{next(self._numbers):08d}"
