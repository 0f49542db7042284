"""Secrets that a job's requests carry without the job ever seeing them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import SecretStr

from flowforge.errors import Refused
from flowforge.rules.jobs import egress
from flowforge.rules.jobs.spec import Host, Name
from flowforge.rules.values import Value

PLACE = "{secret}"
SHORTEST = 6
"""A shorter value would be found, and masked, in half of all text."""

HEADER = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
_PRINTABLE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_NOT_TO_BE_SET = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade"),
        *("te", "trailer", "expect", "accept-encoding", "proxy-connection", "proxy-authorization"),
    }
)


class HostSecret(Value):
    """Something that is said with every request to one host, and to no other."""

    name: Name
    """By which jobs ask for it."""

    host: Host
    """`api.example.com`, or with a port."""

    header: str
    format: str
    """The header's value, with `{secret}` where the secret goes."""

    value: SecretStr

    @property
    def address(self) -> tuple[str, int]:
        """The host's name and port."""
        name, _, port = self.host.partition(":")
        return name, int(port or egress.HTTPS)

    @property
    def said(self) -> str:
        """The header's value with the secret in it."""
        return self.format.replace(PLACE, self.value.get_secret_value())


def check_secrets(secrets: Sequence[HostSecret], hosts: Sequence[str]) -> None:
    """Make sure that secrets can be added to what a job sends, and only where they belong.

    Args:
        secrets: Of one job.
        hosts: Which the job may reach.

    Raises:
        Refused: One is for a host that the job does not name, cannot be said in a header, or is at
            odds with another.
    """
    taken: dict[tuple[str, int, str], str] = {}
    for secret in secrets:
        _check_one(secret)
        if not egress.is_allowed(hosts, *secret.address):
            raise Refused(
                f"The secret {secret.name} is for {secret.host}, which the job may not reach.",
                hint=f"Name {secret.host} in `sandbox.egress`, or leave the secret out.",
            )
        other = taken.setdefault((*secret.address, secret.header.lower()), secret.name)
        if other != secret.name:
            raise Refused(
                f"The secrets {other} and {secret.name} set the same header of {secret.host}.",
                hint="Name only one of them in `secrets`.",
            )


def _check_one(secret: HostSecret) -> None:
    if "*" in secret.host:
        raise Refused(
            f"The secret {secret.name} is for {secret.host}, which is many hosts.",
            hint="Save one secret for each host that shall be told.",
        )
    header = secret.header.lower()
    if header in _NOT_TO_BE_SET or not re.fullmatch(HEADER, header):
        raise Refused(
            f"The secret {secret.name} cannot be said in the header {secret.header!r}.",
            hint="Choose the header that the host asks for, such as Authorization.",
        )
    if secret.format.count(PLACE) != 1:
        raise Refused(
            f"The format of the secret {secret.name} does not say where the secret goes.",
            hint=f"Write {PLACE} once in it, such as `Bearer {PLACE}`.",
        )
    if len(secret.value.get_secret_value()) < SHORTEST or not _PRINTABLE.fullmatch(secret.said):
        raise Refused(
            f"The value of the secret {secret.name} cannot be said in a header, or be masked.",
            hint=f"Give {SHORTEST} or more printable ASCII characters in one line, without white "
            "space around them.",
        )
