"""The first part of the page for the worst day: FlowForge's programs without its server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest

from flowforge.engines.backup.dumping.dump import take_copy
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.rules.addresses import PostgresAddress
from tests.breakglass.test_commands import SCHEMA, count, url_of
from tests.breakglass.test_without_flowforge import commands

_EXPORT = re.compile(r"^export (\w+)=", re.MULTILINE)


def follow_page(**exported: str) -> subprocess.CompletedProcess[str]:
    """Run the page's block to the letter, with the values of its exports replaced."""
    block = commands("breakglass")
    assert _EXPORT.findall(block) == [
        "FLOWFORGE_STORE",
        "TARGET_URL",
        "FLOWFORGE_RECOVERY_KEY_FILE",
    ]
    words = re.sub(r"^export .*$", "", block, flags=re.MULTILINE)
    kept = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
    path = f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", words],
        env={**kept, **exported, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("sealed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_page_brings_a_copy_back_under_another_name(
    database: Callable[..., PostgresAddress], tmp_path: Path, sealed: bool
) -> None:
    app = database(SCHEMA)
    identities = [pyrage.x25519.Identity.generate() for _ in range(2)]
    recipients = tuple(str(identity.to_public()) for identity in identities) if sealed else ()
    store = FolderStore("store", tmp_path / "copies", recipients=recipients)
    take_copy(app, "app", store)
    key = tmp_path / "recovery.key"
    if sealed:
        key.write_text(f"{identities[1]}\n")
    done = follow_page(
        FLOWFORGE_STORE=str(store.folder),
        TARGET_URL=url_of(app),
        FLOWFORGE_RECOVERY_KEY_FILE=str(key),
    )
    assert done.returncode == 0, done.stderr
    assert "proven L3" in done.stdout
    assert count(app, "app_again") == 500
