"""Where a job may connect to: hosts by name, never an address of a private network."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

HTTPS = 443
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


def is_allowed(hosts: Iterable[str], name: str, port: int) -> bool:
    """Whether a name and port are among the hosts of a job.

    Args:
        hosts: Such as `lib.example` (port 443), `lib.example:8443` or `*.example.org`, which is
            every name below `example.org` but not `example.org` itself.
        name: The name asked for.
        port: The port asked for.
    """
    asked = name.lower().rstrip(".")
    for host in hosts:
        known, _, number = host.partition(":")
        if port != int(number or HTTPS):
            continue
        if asked == known or (known.startswith("*.") and asked.endswith(known[1:])):
            return True
    return False


def is_public(address: str) -> bool:
    """Whether an address belongs to the internet, also when it hides one of another family."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo or (None, None))[1]
        if parsed in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast
