"""Peak memory of one FlowForge copy and restore, at several sizes: it must not grow with them."""

from __future__ import annotations

from collections.abc import Sequence

from bench import backup, contenders
from bench.database import parse_size
from bench.report import Table
from flowforge.engines.postgres import installations

SIZES = ("500M", "1G", "4G")


def measure(sizes: Sequence[str] = SIZES) -> Table:
    """Copy and restore a generated database of each size once."""
    server = installations.newest_server()
    ours, rows = contenders.ours(), []
    for size in sizes:
        with backup.open_bench(parse_size(size), server) as bench:
            copied = bench.copy(ours)
            restored = bench.restore(ours)
        rows.append(
            [
                size,
                backup.megabytes(copied["memory"]),
                backup.megabytes(restored["memory"]),
                backup.megabytes(copied["temporary"] + restored["temporary"]),
                f"{copied['read_back'] / copied['wall']:.2f}",
            ]
        )
    return Table(
        title="Memory of a copy and of its restore",
        columns=["size", "copy, MB", "restore, MB", "temp files, MB", "read back / copy"],
        rows=rows,
        notes=[
            "The process with all its children, above what it took at its own start.",
            "One copy and one restore of each size on this machine.",
        ],
    )
