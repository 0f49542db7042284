"""`python -m bench [start|backup|jobs|memory] [--markdown FILE]` measures side by side, as ratios.

`BENCH_SIZE` says how large the generated database is: 1G by default, 10G if you have the time.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from bench import backup, jobs, memory, start
from bench.database import parse_size
from flowforge.errors import FlowForgeError


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "what", nargs="?", choices=("all", "start", "backup", "jobs", "memory"), default="all"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there, too")
    options = parser.parse_args()
    try:
        size_bytes = parse_size(os.environ.get("BENCH_SIZE", "1G"))
    except ValueError as error:
        parser.error(f"BENCH_SIZE: {error}")
    console, tables = Console(width=None if sys.stdout.isatty() else 120), []
    try:
        if options.what in ("all", "start"):
            tables.append(start.measure())
            tables[-1].show(console)
        if options.what in ("all", "backup"):
            for table in backup.measure(size_bytes):
                tables.append(table)
                table.show(console)
        if options.what in ("all", "jobs"):
            for table in jobs.measure():
                tables.append(table)
                table.show(console)
        if options.what == "memory":
            tables.append(memory.measure())
            tables[-1].show(console)
    except FlowForgeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if options.markdown:
        text = "# Benchmarks\n\n`make bench` prints these; only the ratios carry over.\n\n"
        options.markdown.write_text(text + "\n".join(table.markdown() for table in tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
