"""`python -m bench.copy_once` takes one FlowForge copy and prints what this process used for it.

A process of its own, so that its memory is its own. Wall and CPU are counted from after the
imports; in service they are paid once, by the process that runs the flow.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from flowforge.engines.backup.dump import take_copy
from flowforge.engines.backup.folder import FolderStore
from flowforge.rules.addresses import PostgresAddress


def cpu_seconds() -> float:
    """User and system time of this process and of the children it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    """Read the address and the folder from standard input."""
    wanted = json.load(sys.stdin)
    address = PostgresAddress.model_validate(wanted["address"])
    store = FolderStore("bench", Path(wanted["folder"]))
    began, used = time.monotonic(), cpu_seconds()
    manifest = take_copy(address, wanted["database"], store)
    print(
        json.dumps(
            {
                "wall_seconds": time.monotonic() - began,
                "cpu_seconds": cpu_seconds() - used,
                "tables": len(manifest.tables),
                "raw_bytes": manifest.data.raw_bytes,
            }
        )
    )


if __name__ == "__main__":
    main()
