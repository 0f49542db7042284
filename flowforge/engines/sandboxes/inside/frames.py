"""How the brain and the keeper of a sandbox speak over one stream of bytes.

A frame is a kind, the number of the run it belongs to, and a payload. The brain says `START`,
`INPUT`, `INPUT_END`, `KILL` and `PING`; the keeper says `READY` or `FAILED` once, then `OUTPUT`,
`TAKEN` (bytes of input that a run has swallowed, so that no more than a window is ever under way),
`END`, `KILLED` and `PONG`.

Connections of commands to the proxy's port go the same way; their numbers are of their own. The
keeper says `LINK_OPENED`. Then both sides say `LINK_DATA`, `LINK_TAKEN` (bytes of it that are off
their hands), `LINK_END` (no more comes from here) and, as the last word of a link, `LINK_CLOSED`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

READY = b"R"
FAILED = b"F"
START = b"S"
INPUT = b"I"
INPUT_END = b"E"
TAKEN = b"T"
OUTPUT = b"O"
END = b"X"
KILL = b"K"
KILLED = b"D"
PING = b"P"
PONG = b"Q"
LINK_OPENED = b"o"
LINK_DATA = b"d"
LINK_TAKEN = b"t"
LINK_END = b"e"
LINK_CLOSED = b"c"
OF_LINKS = (LINK_OPENED, LINK_DATA, LINK_TAKEN, LINK_END, LINK_CLOSED)

HEADER = struct.Struct("!cII")
CHUNK = 64 * 1024
WINDOW = 4 * CHUNK
"""The most of one run's input, or of one way of a link, that is under way, and the most output that
waits to be sent."""

MOST_LINKS = 64
"""The most connections to the proxy's port at once; others wait to be accepted."""

REFUSED = 9
"""What a file operation exits with when it is refused; its output is the reason."""


class Broken(Exception):
    """What came is no frame; whoever sent it is not the program it should be."""


def pack(kind: bytes, run: int = 0, payload: bytes = b"") -> bytes:
    """One frame as bytes."""
    return HEADER.pack(kind, run, len(payload)) + payload


def pack_values(kind: bytes, run: int, values: dict[str, Any]) -> bytes:
    """One frame that carries named values."""
    return pack(kind, run, json.dumps(values).encode())


def read_values(payload: bytes) -> dict[str, Any]:
    """The named values of a frame.

    Raises:
        Broken: There are none.
    """
    try:
        values = json.loads(payload)
    except ValueError as error:
        raise Broken("a frame that should hold values holds none") from error
    if not isinstance(values, dict):
        raise Broken("a frame that should hold values holds something else")
    return values


def unpack(buffer: bytearray, *, most: int = 16 * CHUNK) -> Iterator[tuple[bytes, int, bytes]]:
    """Take every whole frame off the front of a buffer.

    Raises:
        Broken: A frame claims to be larger than `most` bytes.
    """
    while len(buffer) >= HEADER.size:
        kind, run, size = HEADER.unpack_from(buffer)
        if size > most:
            raise Broken(f"a frame of {size} bytes")
        if len(buffer) < HEADER.size + size:
            return
        payload = bytes(buffer[HEADER.size : HEADER.size + size])
        del buffer[: HEADER.size + size]
        yield kind, run, payload
