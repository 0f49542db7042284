"""Hand the living keys of a server that loaded a copy to another server.

The server of ours packs a batch itself, as the very commands that the target is sent, so a key
costs what DUMP and RESTORE cost and not what a client in between does: Python passes a batch on
unread. While the target takes one batch, the next is packed.
"""

from __future__ import annotations

from collections.abc import Iterator

from flowforge.engines.backup.steps import reached
from flowforge.engines.redis import connection
from flowforge.engines.redis.connection import Session
from flowforge.rules.redis_addresses import RedisAddress
from flowforge.rules.redis_restores import UNFINISHED_KEY

_BATCH_KEYS = 1000
_BATCH_BYTES = 4 * 1024 * 1024
"""A batch ends with the value that passes this; one value may be half a gigabyte."""

_PACK = r"""
local cursor, keys, limit = ARGV[1], KEYS, tonumber(ARGV[3])
if #keys == 0 then
  local said = redis.call('SCAN', cursor, 'COUNT', ARGV[2])
  cursor, keys = said[1], said[2]
end
local packed, count, size, left = {}, 0, 0, {}
for _, key in ipairs(keys) do
  if size > limit then
    left[#left + 1] = key
  elseif key ~= ARGV[4] then
    local value = redis.call('DUMP', key)
    local wait = value and redis.call('PTTL', key)
    if value and wait ~= 0 then
      local shown = string.format('%.0f', math.max(0, wait))
      packed[#packed + 1] = '*5\r\n$7\r\nRESTORE\r\n$' .. #key .. '\r\n' .. key .. '\r\n$' .. #shown
        .. '\r\n' .. shown .. '\r\n$' .. #value .. '\r\n'
      packed[#packed + 1] = value
      packed[#packed + 1] = '\r\n$7\r\nREPLACE\r\n'
      count, size = count + 1, size + #value
    end
  end
end
return {cursor, count, table.concat(packed), left}
"""
"""Packs the keys left over by the call before, or those of the next step of a scan.

A key whose time has passed has no value any more; a key without an end is restored with 0.
"""


def hand_over(source: RedisAddress, target: RedisAddress, number: int) -> int:
    """Give a target every living key of one database; how many keys it took.

    Args:
        source: A server that loaded a copy and that nobody changes.
        target: Where the keys go; one that is there already is replaced.
        number: The database, the same on both.

    Raises:
        Refused: The target does not take a key, for example because its memory is full.
        Unavailable: One of the two went away.
    """
    taken, sent = 0, 0
    with (
        connection.connect(source, database=number) as giver,
        connection.connect(target, database=number) as taker,
    ):
        for count, commands in _batches(giver, source):
            taken += _take_answers(taker, sent)
            taker.connection.send_packed_command([commands])
            sent = count
        return taken + _take_answers(taker, sent)


def _batches(giver: Session, source: RedisAddress) -> Iterator[tuple[int, bytes]]:
    """Every key once: how many commands, and the commands as they go over the wire."""
    cursor, left = b"0", list[bytes]()
    while True:
        settings = (cursor, _BATCH_KEYS, _BATCH_BYTES, UNFINISHED_KEY)
        with connection.explained(source):
            said = giver.execute_command("EVAL", _PACK, len(left), *left, *settings)
        cursor, count, commands, left = said
        if count:
            yield count, commands
        if cursor == b"0" and not left:
            return


def _take_answers(taker: Session, count: int) -> int:
    """Wait for the answers to commands that were sent; the first that is an error is raised."""
    for _ in range(count):
        taker.connection.read_response()
    if count:
        reached("redis-first-keys")
    return count
