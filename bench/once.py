"""`python -m bench.once copy|restore` does one FlowForge copy or restore and prints what it took.

A process of its own, so that its memory is its own. Wall and CPU are counted from after the
imports; in service they are paid once, by the process that runs the flow.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time

import psutil
from pydantic import TypeAdapter

from bench.contenders import NAME, TARGET
from bench.sampling import proportional_bytes
from flowforge.engines.backup.dumping.dump import take_copy
from flowforge.engines.backup.loading import loading
from flowforge.engines.backup.proving import examining
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.store import Store, open_store
from flowforge.engines.postgres import installations
from flowforge.rules.addresses import PostgresAddress, StoreAddress


def cpu_seconds() -> float:
    """User and system time of this process and of the children it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def copy(address: PostgresAddress, store: Store, engine: str) -> dict[str, object]:
    """Take a copy, then read it back; the second is timed by itself."""
    began, used = time.monotonic(), cpu_seconds()
    manifest = take_copy(address, NAME, store, engine=engine)  # type: ignore[arg-type]
    wall, cpu = time.monotonic() - began, cpu_seconds() - used
    print(json.dumps({"wall_seconds": wall, "cpu_seconds": cpu}), flush=True)
    proof = examining.read_back(store, manifest)
    assert proof.verdict == "proven", proof.cause
    return {"read_back_seconds": proof.seconds}


def restore(address: PostgresAddress, store: Store) -> dict[str, object]:
    """Load the only copy of a store into an empty database."""
    (found,) = catalogue.list_copies(store, address.name, NAME)
    manifest = catalogue.load_manifest(store, found.server, found.database, found.name)
    began, used = time.monotonic(), cpu_seconds()
    tools = installations.for_server(manifest.server.major)
    loading.load(store, manifest, tools, address, TARGET)
    return {"wall_seconds": time.monotonic() - began, "cpu_seconds": cpu_seconds() - used}


def main() -> None:
    """Read the addresses of server and store from standard input."""
    wanted = json.load(sys.stdin)
    address = PostgresAddress.model_validate(wanted["address"])
    store = open_store(TypeAdapter(StoreAddress).validate_python(wanted["store"]))
    print(json.dumps({"own_bytes": proportional_bytes(psutil.Process(os.getpid()))}), flush=True)
    what, *rest = sys.argv[1:]
    taken = copy(address, store, *rest) if what == "copy" else restore(address, store)
    print(json.dumps(taken), flush=True)


if __name__ == "__main__":
    main()
