"""Which hosts the commands of a sandbox asked for, gathered until somebody looks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flowforge.engines.sandboxes.proxy import Attempt

MOST = 50
"""Kinds of contacts kept at once: commands name hosts as they like."""

OTHERS = "more hosts"
_NAME_BYTES = 200


@dataclass(frozen=True)
class Contact:
    """Connections to one host that came out the same."""

    host: str
    """With its port."""

    refusal: str | None
    """Why they were not made or not finished; `None` for those that were."""

    times: int
    sent_bytes: int
    received_bytes: int


class Contacts:
    """The contacts of one sandbox since they were taken last."""

    def __init__(self) -> None:
        self._gathered: dict[tuple[str, str | None], Contact] = {}

    def add(self, tried: Attempt) -> None:
        """Note a connection that is over."""
        key = (f"{tried.host[:_NAME_BYTES]}:{tried.port}", tried.refusal)
        if key not in self._gathered and len(self._gathered) >= MOST:
            key = (OTHERS, None if tried.refusal is None else "not looked at one by one")
        known = self._gathered.get(key, Contact(*key, times=0, sent_bytes=0, received_bytes=0))
        self._gathered[key] = replace(
            known,
            times=known.times + 1,
            sent_bytes=known.sent_bytes + tried.sent_bytes,
            received_bytes=known.received_bytes + tried.received_bytes,
        )

    def take(self) -> list[Contact]:
        """What was gathered; the next time only what came after."""
        taken = list(self._gathered.values())
        self._gathered.clear()
        return taken
