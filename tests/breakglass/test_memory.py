"""A restore in an emergency fits into the memory its Job is given, whatever the database weighs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from bench.sampling import Sampler
from flowforge.engines.backup.dumping.dump import take_copy
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres.connection import connect
from flowforge.rules.addresses import PostgresAddress
from tests.breakglass.test_commands import url_of

MOST_BYTES = 150_000_000
ROWS = """
CREATE TABLE orders (id int PRIMARY KEY, note text);
INSERT INTO orders SELECT g, md5(g::text) || md5((g + 1)::text) FROM generate_series(1, 900000) g;
"""


@pytest.mark.slow
def test_a_restore_of_a_hundred_megabytes_takes_less_than_150_mb(
    database: Callable[..., PostgresAddress], store: FolderStore
) -> None:
    app = database(ROWS)
    with connect(app) as session:
        row = session.execute("SELECT pg_database_size('app')").fetchone()
    assert row is not None and row[0] > 100_000_000
    take_copy(app, "app", store)
    words = ["restore", "--store", str(store.folder), "--copy", "latest", "--yes"]
    process = subprocess.Popen(
        [sys.executable, "-m", "flowforge.breakglass", *words, "--url-env", "TARGET_URL"],
        env={**os.environ, "TARGET_URL": url_of(app)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with Sampler([process.pid]) as seen:
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert 0 < seen.peak_memory_bytes < MOST_BYTES
