"""The sandboxes that a worker can give to its jobs."""

from __future__ import annotations

from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.engines.sandboxes.sandbox import Provider
from flowforge.errors import Refused

DEFAULT = "default"


def provider(profile: str) -> Provider:
    """What makes the sandboxes of a profile.

    Raises:
        Refused: There is no such profile.
    """
    if profile != DEFAULT:
        raise Refused(
            f"There is no sandbox profile {profile!r}.", hint=f"Use the profile {DEFAULT!r}."
        )
    return LocalProvider()
