"""The engine `pg_dump`: one session, one text, one gzip member.

The reference engine. It is what emergencies use, what the other engine is compared with, and what
takes over where the other one cannot.
"""

from __future__ import annotations

from collections.abc import Callable

from flowforge.engines.backup.dumping import pgdump
from flowforge.engines.backup.dumping.dumptext import DumpFacts, DumpScanner, trailer_line
from flowforge.engines.backup.dumping.packing import Assembly, Packer
from flowforge.engines.backup.dumping.progress import Progress
from flowforge.engines.backup.dumping.snapshot import Snapshot, counting
from flowforge.engines.backup.steps import reached
from flowforge.engines.postgres.installations import Installation
from flowforge.errors import Damaged
from flowforge.rules.addresses import PostgresAddress


def copy_into(
    assembly: Assembly,
    address: PostgresAddress,
    name: str,
    snapshot: Snapshot,
    tools: Installation,
    *,
    count_budget_seconds: float,
    on_progress: Callable[[Progress], None],
) -> DumpFacts:
    """Send a whole copy into an object and say what it holds.

    Raises:
        Refused: A right is missing.
        Unavailable: The server went away.
        Damaged: The dump ended well and yet is not whole.
    """
    packer = Packer(assembly)
    try:
        with counting(snapshot, count_budget_seconds):
            facts = _read_through(packer, address, snapshot, tools, on_progress)
        packer.put(trailer_line(name, facts).encode() + b"\n")
        packer.close()
    except BaseException:
        packer.abandon()
        raise
    return facts


def _read_through(
    packer: Packer,
    address: PostgresAddress,
    snapshot: Snapshot,
    tools: Installation,
    on_progress: Callable[[Progress], None],
) -> DumpFacts:
    """Pass the dump's text on to the packer, and read it on its way."""
    seen = snapshot.survey
    scanner = DumpScanner(seen.codec)
    for chunk in pgdump.stream_dump(
        tools,
        address,
        seen.database.name,
        survey=seen,
        snapshot=snapshot.token,
        switches=("--no-tablespaces",),  # another server has others; see `targets`
    ):
        packer.put(chunk)
        scanner.feed(chunk)
        reached("first-chunk")
        snapshot.check_not_lost()
        done, table = scanner.tables_done, scanner.current_table
        on_progress(Progress(table, done, scanner.raw_bytes, seen.database.size_bytes))
    reached("children-exit")
    facts = scanner.finish()
    if not facts.complete:
        raise Damaged(
            f"pg_dump ended well, but its text of {seen.database.name!r} has no end.",
            hint="Run the backup again; if it happens twice, look at the tools in the log.",
        )
    return facts
