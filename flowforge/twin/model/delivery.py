"""How a reply goes over the wire, whole or broken on purpose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from flowforge.twin.model.events import Event, stream
from flowforge.twin.model.faults import Fault
from flowforge.twin.model.replies import Reply
from flowforge.twin.model.wire import Connection, chunk, head

Outcome = Literal["finished", "broken", "aborted"]
"""Sent to its end; ended early by a fault; left by its reader."""


async def send_stream(
    connection: Connection, reply: Reply, headers: Mapping[str, str], fault: Fault | None
) -> Outcome:
    """Send a reply as events."""
    parts = reply.answer.parts
    if fault and fault.kind == "malformed":
        parts = tuple(replace(part, text="{]" + part.text) if part.id else part for part in parts)
    events = [event.encode() for event in stream(reply.message, parts)]
    begun = head(
        200,
        {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "transfer-encoding": "chunked",
            **headers,
        },
    )
    if fault and fault.kind in ("close", "reset", "end", "error", "hang"):
        sent = b"".join(map(chunk, events[: fault.after_events]))
        await connection.write(begun + sent)
        return await _break(connection, fault, headers.get("request-id", ""))
    pause = reply.answer.seconds / len(events)
    if fault and fault.kind == "drip":
        pause = fault.seconds
    if not pause:
        await connection.write(begun + b"".join(map(chunk, events)) + chunk(b""))
        return "finished"
    await connection.write(begun)
    for event in events:
        await connection.write(chunk(event))
        if await connection.left_within(pause):
            return "aborted"
    await connection.write(chunk(b""))
    return "finished"


async def send_whole(
    connection: Connection, reply: Reply, headers: Mapping[str, str], fault: Fault | None
) -> Outcome:
    """Send a reply as one JSON object; a fault cuts it in half."""
    body = json.dumps(reply.message, ensure_ascii=False).encode()
    pause = fault.seconds if fault and fault.kind == "drip" else reply.answer.seconds
    if pause and await connection.left_within(pause):
        return "aborted"
    begun = head(200, whole_headers(len(body)) | dict(headers))
    if fault and fault.kind in ("close", "reset", "end", "hang"):
        await connection.write(begun + body[: len(body) // 2])
        return await _break(connection, fault, whole=True)
    await connection.write(begun + body)
    return "finished"


def whole_headers(length: int) -> dict[str, str]:
    """Headers of a JSON body."""
    return {"content-type": "application/json", "content-length": str(length)}


async def _break(
    connection: Connection, fault: Fault, request_id: str = "", *, whole: bool = False
) -> Outcome:
    """End a reply that has begun, in the way of a fault."""
    if fault.kind == "hang":
        await connection.left_within(None)
        return "aborted"
    if fault.kind == "reset":
        connection.reset()
    elif fault.kind == "close" or whole:  # a body of known length cannot end well too early
        await connection.close()
    else:
        told = b""
        if fault.kind == "error":
            told = chunk(Event("error", fault.rejected().body(request_id)).encode())
        await connection.write(told + chunk(b""))
    return "broken"
