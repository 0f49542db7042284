"""What a loaded copy holds: which keys are alive, which of them somebody may work off."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import redis

from flowforge.engines.redis import connection
from flowforge.engines.redis.connection import Session
from flowforge.rules.redis_addresses import RedisAddress
from flowforge.rules.redis_copies import KeyCounts
from flowforge.rules.redis_restores import Contents, Queue

BATCH = 1000
_QUEUES_NAMED = 20
_PREFECT = (b"prefect:", b"{prefect:")


def look(address: RedisAddress, announced: Mapping[int, KeyCounts]) -> Contents:
    """Look at every key of a server that loaded a copy.

    Args:
        address: The server.
        announced: What the snapshot says of its databases.
    """
    alive: dict[int, int] = {}
    types: Counter[str] = Counter()
    queues: list[Queue] = []
    prefects = 0
    for number in announced:
        with connection.connect(address, database=number) as session:
            for keys in batches(session):
                kinds = together(session, [("TYPE", key) for key in keys])
                found = [(key, str(kind)) for key, kind in _living(keys, kinds)]
                alive[number] = alive.get(number, 0) + len(found)
                types.update(kind for _, kind in found)
                prefects += sum(key.startswith(_PREFECT) for key, _ in found)
                of_batch = _queues(session, number, found)
                queues = heapq.nlargest(_QUEUES_NAMED, queues + of_batch, key=lambda q: q.entries)
    with connection.connect(address) as session:
        functions = read_functions(session)
    return Contents(
        alive_in=alive,
        expired=max(0, sum(one.key_count for one in announced.values()) - sum(alive.values())),
        types=dict(types),
        queues=tuple(queues),
        prefect_keys=prefects,
        has_functions=functions is not None,
    )


def batches(session: Session) -> Iterator[list[bytes]]:
    """The keys of a database, some at a time. Nothing may change it meanwhile."""
    cursor: Any = 0
    while True:
        cursor, keys = session.execute_command("SCAN", cursor, "COUNT", BATCH)
        if keys:
            yield keys
        if int(cursor) == 0:
            return


def together(session: Session, commands: list[tuple[object, ...]]) -> list[Any]:
    """Send commands together and return their answers; an error is an answer, too."""
    pipeline = session.pipeline(transaction=False)
    for words in commands:
        pipeline.execute_command(*words)
    return pipeline.execute(raise_on_error=False)


def read_functions(session: Session) -> bytes | None:
    """The function libraries of a server, or `None` when it has none or is too old for them."""
    try:
        if not session.execute_command("FUNCTION", "LIST"):
            return None
    except redis.ResponseError:
        return None
    dumped: bytes = session.execute_command("FUNCTION", "DUMP")
    return dumped


def _living(keys: list[bytes], kinds: list[Any]) -> Iterator[tuple[bytes, str]]:
    for key, kind in zip(keys, kinds, strict=True):
        said = kind.decode() if isinstance(kind, bytes) else str(kind)
        if said != "none":  # its time has passed
            yield key, said


def _queues(session: Session, number: int, found: list[tuple[bytes, str]]) -> list[Queue]:
    """The lists and streams among some keys, with their lengths."""
    asked: list[tuple[object, ...]] = []
    for key, kind in found:
        if kind == "list":
            asked += [("LLEN", key), ("ECHO", "")]
        elif kind == "stream":
            asked += [("XLEN", key), ("XINFO", "GROUPS", key)]
    lines = [(key, kind) for key, kind in found if kind in ("list", "stream")]
    answers = iter(together(session, asked) if asked else [])
    queues = []
    for (key, kind), (entries, groups) in zip(
        lines, iter(lambda: tuple(itertools.islice(answers, 2)), ()), strict=True
    ):
        of_stream = groups if kind == "stream" else []
        queues.append(
            Queue(
                database=number,
                name=key.decode("utf-8", "backslashreplace"),
                kind=kind,
                entries=int(entries),
                groups=len(of_stream),
                pending=sum(_pending(group) for group in of_stream),
            )
        )
    return queues


def _pending(group: list[Any]) -> int:
    """Of a consumer group, which comes as names and values in turn."""
    return int(dict(zip(group[::2], group[1::2], strict=True))[b"pending"])
