"""What a host sends back of a secret is blotted out, without a change in length.

It covers what happens by accident, such as an error page that shows the request. A host that is
told a secret and wants to hand it on can do so in many ways.
"""

from __future__ import annotations

from collections.abc import Iterable

_BLOT = b"*"


class Echoes:
    """Looks for secrets in bytes that come in pieces.

    Args:
        secrets: As they were sent.
    """

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._secrets = sorted(secrets, key=len, reverse=True)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; what can be shown by now. The start of a secret waits."""
        content = self.blot(self._held + data)
        size = max(self._begun(content, secret) for secret in self._secrets)
        self._held = content[len(content) - size :]
        return content[: len(content) - size]

    def end(self) -> bytes:
        """What waited, when nothing follows."""
        held, self._held = self._held, b""
        return held

    def blot(self, content: bytes) -> bytes:
        """Bytes that are whole, without the secrets."""
        for secret in self._secrets:
            content = content.replace(secret, _BLOT * len(secret))
        return content

    @staticmethod
    def _begun(content: bytes, secret: bytes) -> int:
        """How many bytes at the end may be the start of a secret."""
        most = min(len(secret) - 1, len(content))
        sizes = range(most, 0, -1)
        return next((size for size in sizes if content.endswith(secret[:size])), 0)
