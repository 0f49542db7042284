"""What a job leaves behind: patches, whole outputs, transcripts. Equal bytes are kept once."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from flowforge.errors import Damaged, Refused
from flowforge.ledger.journal.connection import fetch, run, transaction
from flowforge.ledger.journal.fragments import GUARD
from flowforge.ledger.journal.leases import Lease, guarded, lost
from flowforge.rules.jobs.records import Artifact

MAX_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024

# The row is locked even when it is there: whoever deletes unused content then waits, and looks.
_BLOB = """INSERT INTO flowforge.blobs AS b (sha256, size_bytes) {row}
  ON CONFLICT (sha256) DO UPDATE SET size_bytes = excluded.size_bytes
  RETURNING sha256, xmax = 0 AS new"""

_BEGIN = sa.text(_BLOB.format(row="VALUES (:sha256, :size)"))

_CHUNK = sa.text("""
INSERT INTO flowforge.blob_chunks (sha256, n, content) VALUES (:sha256, :n, :content)
""")

_PUT = sa.text(f"""
WITH {GUARD}, blob AS (
  {_BLOB.format(row="SELECT :sha256, :size FROM guard")}
), chunk AS (
  INSERT INTO flowforge.blob_chunks (sha256, n, content) SELECT sha256, 0, :first FROM blob
  ON CONFLICT DO NOTHING
), put AS (
  INSERT INTO flowforge.artifacts (job, name, kind, sha256)
  SELECT g.id, :name, :kind, b.sha256 FROM guard g, blob b
  ON CONFLICT (job, name) DO UPDATE
    SET kind = excluded.kind, sha256 = excluded.sha256, created_at = now()
  RETURNING name, kind, sha256, created_at
) SELECT put.*, (SELECT sha256 FROM flowforge.artifacts WHERE job = :job AND name = :name)
         AS replaced FROM put
""")

_LIST = sa.text("""
SELECT a.name, a.kind, a.sha256, b.size_bytes, a.created_at
  FROM flowforge.artifacts a JOIN flowforge.blobs b USING (sha256)
 WHERE a.job = :job ORDER BY a.created_at, a.name
""")

_CONTENT = sa.text("""
SELECT c.content FROM flowforge.artifacts a JOIN flowforge.blob_chunks c USING (sha256)
 WHERE a.job = :job AND a.name = :name ORDER BY c.n
""")

_KNOWN = sa.text("SELECT sha256 FROM flowforge.artifacts WHERE job = :job AND name = :name")

_CONTENTS = sa.text("SELECT DISTINCT sha256 FROM flowforge.artifacts WHERE job = :job")

_UNUSED = sa.text("""
SELECT sha256 FROM flowforge.blobs b
 WHERE NOT EXISTS (SELECT FROM flowforge.artifacts a WHERE a.sha256 = b.sha256)
""")

_HOLD = sa.text("""
SELECT sha256 FROM flowforge.blobs WHERE sha256 = ANY(CAST(:contents AS text[]))
 ORDER BY sha256 FOR UPDATE
""")

_DROP = sa.text("""
DELETE FROM flowforge.blobs b WHERE sha256 = ANY(CAST(:contents AS text[]))
   AND NOT EXISTS (SELECT FROM flowforge.artifacts a WHERE a.sha256 = b.sha256)
""")


async def put(
    engine: AsyncEngine, lease: Lease, name: str, kind: str, content: bytes | Path
) -> Artifact:
    """Keep bytes under a name, in place of what had it before.

    Args:
        engine: The ledger.
        lease: The attempt's.
        name: Unique in the job, such as `patch` or `turn-7-output`.
        kind: What it is, as a media type.
        content: The bytes, or a file of which never more than a part is in memory.

    Raises:
        Fenced: The job is no longer this attempt's.
        Refused: It is larger than `MAX_BYTES`.
    """
    is_small = isinstance(content, bytes) and len(content) <= _CHUNK_BYTES
    digest, size = _measure(content) if is_small else await asyncio.to_thread(_measure, content)
    if size > MAX_BYTES:
        raise Refused(
            f"{name} has {size:,} bytes; {MAX_BYTES:,} are the most that is kept.",
            hint="Let the job write less, or take the file from its workspace.",
        )
    blob = {"sha256": digest, "size": size, "first": next(_parts(content), b"")}
    bound = blob | {"job": lease.job, "fence": lease.fence, "name": name, "kind": kind}
    if size <= _CHUNK_BYTES:
        made = dict(await guarded(engine, lease, _PUT, bound))
    else:
        async with transaction(engine) as connection:
            await _keep_rest(connection, digest, size, content)
            # The job is held last: its lease is renewed meanwhile, however large the content is.
            rows = [dict(row) for row in await fetch(connection, _PUT, bound)]
            if not rows:
                raise lost(lease)
        made = rows[0]
    replaced = made.pop("replaced")
    if replaced not in (None, digest):
        async with transaction(engine) as connection:
            await drop_unused(connection, [replaced])
    return Artifact(**made, size_bytes=size)


async def get(engine: AsyncEngine, job: str, name: str) -> bytes:
    """The bytes of an artifact.

    Raises:
        Refused: The job has none of this name.
        Damaged: What is kept is not what was put.
    """
    named = {"job": job, "name": name}
    known = await run(engine, _KNOWN, named)
    if not known:
        raise Refused(f"{job} has no artifact {name}.", hint="List them with `flowforge job get`.")
    content = b"".join([bytes(row["content"]) for row in await run(engine, _CONTENT, named)])
    if hashlib.sha256(content).hexdigest() != known[0]["sha256"]:
        raise Damaged(
            f"Artifact {name} of {job} is not what was put there.",
            hint="Restore the ledger's database from a copy into a side database and compare.",
        )
    return content


async def list_artifacts(engine: AsyncEngine, job: str) -> list[Artifact]:
    """What a job left behind, oldest first."""
    return [Artifact(**row) for row in await run(engine, _LIST, {"job": job})]


async def sweep(engine: AsyncEngine) -> int:
    """Delete contents that were left behind by a kill; how many were looked at."""
    async with transaction(engine) as connection:
        unused = [str(row["sha256"]) for row in await fetch(connection, _UNUSED)]
        await drop_unused(connection, unused)
    return len(unused)


async def contents_of(connection: AsyncConnection, job: str) -> list[str]:
    """The digests of all that a job keeps."""
    return [str(row["sha256"]) for row in await fetch(connection, _CONTENTS, {"job": job})]


async def drop_unused(connection: AsyncConnection, contents: list[str]) -> None:
    """Delete those of the contents that no artifact names any more."""
    if contents:
        await fetch(connection, _HOLD, {"contents": contents})
        await fetch(connection, _DROP, {"contents": contents})


async def _keep_rest(
    connection: AsyncConnection, digest: str, size: int, content: bytes | Path
) -> None:
    """Keep all parts of a content but the first, unless they are there."""
    made = await fetch(connection, _BEGIN, {"sha256": digest, "size": size})
    if made[0]["new"]:
        for n, part in enumerate(_parts(content)):
            if n:
                await fetch(connection, _CHUNK, {"sha256": digest, "n": n, "content": part})


def _measure(content: bytes | Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    for part in _parts(content):
        digest.update(part)
        size += len(part)
    return digest.hexdigest(), size


def _parts(content: bytes | Path) -> Iterator[bytes]:
    with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as file:
        while part := file.read(_CHUNK_BYTES):
            yield part
