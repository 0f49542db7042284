"""Rules for every test: what is missing on a person's machine is a skip, in CI it is a failure.

Several processes may share the tests. What starts a server once is kept together, so that it is
started once: the tests of a file, those of a folder that has a server, and all that ask Prefect's.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

HERE = Path(__file__).parent
PREFECT = "prefect"
_FOLDERS = {
    **dict.fromkeys(("automations", "blocks", "cli", "client", "deploy"), PREFECT),
    "server": "server",
    "flows": "flows",
}
_FILES = {"work_pools/test_pools.py": PREFECT}
# What takes longest begins first, so that no process is left alone with it at the end.
_FIRST = ("work_pools/test_warm.py", PREFECT, "engines/backup/test_faults.py", "server", "flows")


def group_of(place: PurePosixPath) -> str:
    """What the tests of a file are kept together with; the path is relative to this folder."""
    path = place.as_posix()
    return _FILES.get(path) or _FOLDERS.get(place.parts[0], path)


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each process one group after the other."""

    def _split_scope(self, nodeid: str) -> str:
        path = PurePosixPath(nodeid.partition("::")[0])
        return group_of(path.relative_to(HERE.name))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    config.option.loadscopereorder = False  # the order of collection is the better one
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        group = group_of(PurePosixPath(item.path.relative_to(HERE).as_posix()))
        return _FIRST.index(group) if group in _FIRST else len(_FIRST)

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    applies = "does not apply" not in str(report.longrepr)
    if report.skipped and applies and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, which is meant to have everything: {report.longrepr}"
    return report
