"""What a callback says, and the signature by which its receiver knows who says it.

    FlowForge-Signature: t=1767225600,v1=5257a869...

`v1` is the HMAC-SHA256 of the timestamp, a dot and the body. A receiver computes it again, compares
in constant time, and refuses what is old.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from ipaddress import IPv6Address, ip_address

from flowforge.rules.jobs.records import Job

SIGNATURE = "FlowForge-Signature"
_AWS_METADATA = ip_address("fd00:ec2::254")


def body_of(job: Job) -> bytes:
    """What is told of a job that has ended; what it was asked and its files stay here."""
    fields = job.model_dump(mode="json", exclude={"spec"})
    told = {"schema": 1, "event": "job.ended", "job": fields}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """The value of the header.

    Args:
        secret: Known to both sides.
        timestamp: Seconds since 1970.
        body: Every byte that is sent.
    """
    signed = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"t={timestamp},v1={signed.hexdigest()}"


def may_be_told(address: str) -> bool:
    """Whether a callback may go to an IP address: not to what only a machine itself should reach.

    Clouds answer with credentials on link-local addresses.
    """
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    odd = ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved
    return not (odd or ip == _AWS_METADATA)
