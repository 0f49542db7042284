"""What a loaded copy holds: which keys are alive, which of them somebody may work off.

The server that loaded the copy looks at its keys itself, a batch at a time, and says only what it
counted: a copy of many millions is looked at in seconds.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import redis

from flowforge.engines.redis import connection
from flowforge.engines.redis.connection import Session
from flowforge.rules.redis_addresses import RedisAddress
from flowforge.rules.redis_copies import KeyCounts
from flowforge.rules.redis_restores import Contents, Queue

_BATCH = 1000
_QUEUES_NAMED = 20

_LOOK = r"""
local said = redis.call('SCAN', ARGV[1], 'COUNT', ARGV[2])
local kinds, prefects, lines = {}, 0, {}
for _, key in ipairs(said[2]) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' then
    kinds[kind] = (kinds[kind] or 0) + 1
    if key:sub(1, 8) == 'prefect:' or key:sub(1, 9) == '{prefect:' then prefects = prefects + 1 end
    if kind == 'list' then lines[#lines + 1] = {key, kind, redis.call('LLEN', key)} end
    if kind == 'stream' then lines[#lines + 1] = {key, kind, redis.call('XLEN', key)} end
  end
end
table.sort(lines, function(one, other) return one[3] > other[3] end)
while #lines > tonumber(ARGV[3]) do table.remove(lines) end
local counts = {}
for kind, count in pairs(kinds) do counts[#counts + 1] = {kind, count} end
return {said[1], counts, prefects, lines}
"""
"""One step of a scan: living keys by type, those of Prefect, and the longest lists and streams.

A key whose time has passed is of type `none`.
"""


def look(address: RedisAddress, announced: Mapping[int, KeyCounts]) -> Contents:
    """Look at every key of a server that loaded a copy.

    Args:
        address: The server.
        announced: What the snapshot says of its databases.
    """
    alive: dict[int, int] = {}
    types: Counter[str] = Counter()
    longest: list[tuple[int, int, bytes, bytes]] = []
    prefects = 0
    for number in announced:
        with connection.connect(address, database=number) as session:
            for kinds, of_prefect, lines in _steps(session):
                types.update(kinds)
                alive[number] = alive.get(number, 0) + sum(kinds.values())
                prefects += of_prefect
                found = [(entries, number, key, kind) for key, kind, entries in lines]
                longest = heapq.nlargest(_QUEUES_NAMED, longest + found, key=lambda line: line[0])
    with connection.connect(address) as session:
        functions = read_functions(session)
    return Contents(
        alive_in=alive,
        expired=max(0, sum(one.key_count for one in announced.values()) - sum(alive.values())),
        types=dict(types),
        queues=tuple(_describe(address, *line) for line in longest),
        prefect_keys=prefects,
        has_functions=functions is not None,
    )


def batches(session: Session) -> Iterator[list[bytes]]:
    """The keys of a database, some at a time. Nothing may change it meanwhile."""
    cursor: Any = 0
    while True:
        cursor, keys = session.execute_command("SCAN", cursor, "COUNT", _BATCH)
        if keys:
            yield keys
        if int(cursor) == 0:
            return


def read_functions(session: Session) -> bytes | None:
    """The function libraries of a server, or `None` when it has none or is too old for them."""
    try:
        if not session.execute_command("FUNCTION", "LIST"):
            return None
    except redis.ResponseError:
        return None
    dumped: bytes = session.execute_command("FUNCTION", "DUMP")
    return dumped


def _steps(
    session: Session,
) -> Iterator[tuple[dict[str, int], int, list[tuple[bytes, bytes, int]]]]:
    """What each step of a scan counted; see `_LOOK`."""
    cursor = b"0"
    while True:
        said = session.execute_command("EVAL", _LOOK, 0, cursor, _BATCH, _QUEUES_NAMED)
        cursor, kinds, prefects, lines = said
        yield {kind.decode(): count for kind, count in kinds}, prefects, lines
        if cursor == b"0":
            return


def _describe(address: RedisAddress, entries: int, number: int, key: bytes, kind: bytes) -> Queue:
    """A list or a stream, and what the consumer groups of a stream have left."""
    groups: list[list[Any]] = []
    if kind == b"stream":
        with connection.connect(address, database=number) as session:
            groups = session.execute_command("XINFO", "GROUPS", key)
    return Queue(
        database=number,
        name=key.decode("utf-8", "backslashreplace"),
        kind=kind.decode(),
        entries=entries,
        groups=len(groups),
        pending=sum(_pending(group) for group in groups),
    )


def _pending(group: list[Any]) -> int:
    """Of a consumer group, which comes as names and values in turn."""
    return int(dict(zip(group[::2], group[1::2], strict=True))[b"pending"])
