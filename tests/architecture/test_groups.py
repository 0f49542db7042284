"""The processes that share the tests start Prefect's server in one of them only."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from tests import conftest

TESTS = Path(conftest.__file__).parent


def files_that_ask_prefect() -> list[PurePosixPath]:
    """Test files whose folder has the session's Prefect server among its fixtures."""
    found = []
    for plugin in TESTS.glob("*/conftest.py"):
        if "import prefect_url" in plugin.read_text():
            names = [path for path in plugin.parent.glob("test_*.py") if asks(path, plugin)]
            found += [PurePosixPath(path.relative_to(TESTS).as_posix()) for path in names]
    return found


def asks(path: Path, plugin: Path) -> bool:
    """Whether the tests of a file ask the server, themselves or by a fixture of their folder."""
    by_fixture = "prefect_url: " in plugin.read_text()
    return by_fixture or "prefect_url" in path.read_text()


def test_all_that_ask_prefects_server_are_kept_together() -> None:
    asking = files_that_ask_prefect()
    assert len(asking) > 5
    assert {path.as_posix(): conftest.group_of(path) for path in asking} == dict.fromkeys(
        map(str, asking), conftest.PREFECT
    )


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("server/test_guard.py", "server"),
        ("cli/test_usage.py", "prefect"),
        ("work_pools/test_pools.py", "prefect"),
        ("work_pools/test_warm.py", "work_pools/test_warm.py"),
        ("engines/backup/test_store.py", "engines/backup/test_store.py"),
    ],
)
def test_a_file_is_kept_with_those_that_share_its_server(path: str, group: str) -> None:
    assert conftest.group_of(PurePosixPath(path)) == group
